"""What sampled dropout says of a forecast: predictive mean, standard deviation and entropy of each probability.

Always true: every sample's logits go through the calibration of their head before they are averaged; the same window
and bundle give the same figures, alone or with others. Nothing here moves the forecast itself, which is the whole
network's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fusiontrade.inference.contract import SequenceForecast, Uncertainty
from serving.card import ModelCard
from serving.forecasting import Asking, Newest, Outputs, lstm_forecasts
from serving.markets import key_of

__all__ = ["sampled_probabilities", "sequence_forecasts", "uncertainties"]

Floats = NDArray[np.float64]
_DIGITS = 6


def sequence_forecasts(
    card: ModelCard, outputs: Outputs, newest: Newest, items: Sequence[Asking]
) -> list[SequenceForecast]:
    """Return the answers of `serving.forecasting.lstm_forecasts`, with their uncertainty where ``samples`` are given.

    Parameters
    ----------
    card, outputs, newest, items
        As there; ``outputs`` may hold samples (n, S, 18): logits of direction, touches and wins of S thinned networks.
    """
    forecasts = lstm_forecasts(card, outputs, newest, items)
    told: Sequence[Uncertainty | None] = [None] * len(forecasts)
    if "samples" in outputs:
        told = uncertainties(sampled_probabilities(card, outputs, items))
    return [SequenceForecast(**dict(forecast), uncertainty=own) for forecast, own in zip(forecasts, told, strict=True)]


def sampled_probabilities(card: ModelCard, outputs: Outputs, items: Sequence[Asking]) -> Floats:
    """Return (n, S, 18) calibrated probabilities of each sample: direction, touches, wins."""
    logits = np.asarray(outputs["samples"], np.float64)
    rows, samples, _ = logits.shape
    place = {key: number for number, key in enumerate(card.directions)}
    places = np.array([place[key_of(place, item.symbol, item.market)] for item in items], np.intp)
    direction = card.direction_maps[0].apply_each(logits[:, :, 0].ravel(), np.repeat(places, samples))
    chances = card.chance_maps[0].apply(logits[:, :, 1:].reshape(rows * samples, -1))
    return np.concatenate((direction[:, None], chances), axis=1).reshape(rows, samples, -1)


def uncertainties(probabilities: Floats) -> list[Uncertainty]:
    """Return the figures of (n, S, k) probabilities, one for each of n windows; entropy is that of the mean, nats."""
    mean, std = probabilities.mean(axis=1), probabilities.std(axis=1)
    sure = np.clip(mean, 1e-12, 1.0 - 1e-12)
    entropy = -(sure * np.log(sure) + (1.0 - sure) * np.log1p(-sure))
    rounded = (np.round(values, _DIGITS).tolist() for values in (mean, std, np.maximum(entropy, 0.0)))
    return [
        Uncertainty(samples=probabilities.shape[1], mean=tuple(one), std=tuple(other), entropy=tuple(last))
        for one, other, last in zip(*rounded, strict=True)
    ]
