"""From raw outputs of a graph to calibrated answers: the single place where that happens, at rest and in evaluation.

Always true of what leaves here: probabilities lie in [0, 1]; touch probabilities never rise with distance; quantiles
are sorted; ``0 < low < high``; class probabilities sum to 1. Pure numpy: no I/O, no clock, no session.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusiontrade.inference.contract import TOUCH_LEVELS, LstmForecast, PatchTstForecast
from serving.card import HEADS, ModelCard

__all__ = ["LstmAnswers", "Outputs", "class_probabilities", "lstm_answers", "lstm_forecasts", "patchtst_forecasts"]

Floats = NDArray[np.float64]
Outputs = Mapping[str, NDArray[np.float32]]
"""Raw outputs by name, batch axis first, as the graph contract of `serving.bundle` lists them."""

_LEAST = 1e-8  # of the close: least price, and least width of an interval
_WIDEST_LOG_RANGE = 10.0


@dataclass(frozen=True, eq=False)
class LstmAnswers:
    """Calibrated answers of n windows; (n,) float64 unless said otherwise.

    Parameters
    ----------
    probability_up, win_long, win_short
        Probabilities.
    change
        Next-bar change of the close in ATR.
    quantiles
        (n, 5) of that change in ATR at 5, 25, 50, 75, 95 %, sorted, before the conformal shift.
    predicted_price, low, high
        Next close and its 90 % interval, in the quote currency.
    expected_range
        High minus low over the horizon, in the quote currency.
    touch_up, touch_down
        (n, 5) probabilities to touch ``TOUCH_LEVELS`` ATR within the horizon.
    """

    probability_up: Floats
    change: Floats
    quantiles: Floats
    predicted_price: Floats
    low: Floats
    high: Floats
    expected_range: Floats
    touch_up: Floats
    touch_down: Floats
    win_long: Floats
    win_short: Floats


def lstm_answers(card: ModelCard, outputs: Outputs, close: ArrayLike, atr: ArrayLike) -> LstmAnswers:
    """Return the calibrated answers of n windows.

    Parameters
    ----------
    card
        Of an LSTM bundle.
    outputs
        Finite raw outputs: direction (n,), change (n,), quantiles (n, 5), touch (n, 10), win (n, 2), log_range (n,).
    close, atr
        (n,) last close and its ATR(14) in the quote currency; ``atr`` is positive.
    """
    if card.interval is None:
        raise ValueError(f"{card.model_id} is no lstm: its card has no interval")
    price, unit = np.asarray(close, np.float64), np.asarray(atr, np.float64)
    raw = {name: np.asarray(values, np.float64) for name, values in outputs.items()}
    levels = len(TOUCH_LEVELS)
    touch = _calibrated(card, HEADS["lstm"][1 : 1 + 2 * levels], raw["touch"])
    win = _calibrated(card, ("win_long", "win_short"), raw["win"])
    quantiles = np.sort(raw["quantiles"], axis=1)
    low, high = _interval(
        price + (quantiles[:, 0] - card.interval.lower_shift) * unit,
        price + (quantiles[:, -1] + card.interval.upper_shift) * unit,
        price * _LEAST,
    )
    return LstmAnswers(
        probability_up=_calibrated(card, ("direction",), raw["direction"][:, None])[:, 0],
        change=raw["change"],
        quantiles=quantiles,
        predicted_price=np.maximum(price + raw["change"] * unit, price * _LEAST),
        low=low,
        high=high,
        expected_range=np.exp(np.clip(raw["log_range"], -_WIDEST_LOG_RANGE, _WIDEST_LOG_RANGE)) * unit,
        touch_up=np.minimum.accumulate(touch[:, :levels], axis=1),
        touch_down=np.minimum.accumulate(touch[:, levels:], axis=1),
        win_long=win[:, 0],
        win_short=win[:, 1],
    )


def lstm_forecasts(card: ModelCard, outputs: Outputs, close: ArrayLike, atr: ArrayLike) -> list[LstmForecast]:
    """Return one answer per window, as it goes over the wire; arguments as for `lstm_answers`."""
    if card.thresholds is None:
        raise ValueError(f"{card.model_id} is no lstm: its card has no thresholds")
    answers, thresholds = lstm_answers(card, outputs, close, atr), card.thresholds
    accuracy = card.metrics.get("direction_accuracy")
    return [
        LstmForecast(
            model=card.reference,
            probability_up=float(answers.probability_up[row]),
            abstain_below=thresholds.abstain_below,
            abstain_above=thresholds.abstain_above,
            direction_accuracy=None if accuracy is None else 100.0 * accuracy.value,
            change=float(answers.change[row]),
            change_scale=thresholds.change_scale,
            predicted_price=float(answers.predicted_price[row]),
            interval_90=(float(answers.low[row]), float(answers.high[row])),
            horizon_bars=card.horizon_bars,
            expected_range=float(answers.expected_range[row]),
            touch_up=answers.touch_up[row].tolist(),
            touch_down=answers.touch_down[row].tolist(),
            win_long=float(answers.win_long[row]),
            win_short=float(answers.win_short[row]),
        )
        for row in range(len(answers.change))
    ]


def class_probabilities(card: ModelCard, outputs: Outputs) -> Floats:
    """Return (n, 3) calibrated probabilities of up, flat, down from ``classes`` (n, 3) logits."""
    return np.asarray(card.calibration["classes"].apply(outputs["classes"]), np.float64)


def patchtst_forecasts(card: ModelCard, outputs: Outputs) -> list[PatchTstForecast]:
    """Return one answer per window, as it goes over the wire."""
    return [
        PatchTstForecast(model=card.reference, up=up, flat=flat, down=down)
        for up, flat, down in class_probabilities(card, outputs).tolist()
    ]


def _calibrated(card: ModelCard, heads: tuple[str, ...], logits: Floats) -> Floats:
    """Return (n, len(heads)) probabilities, each column through the map of its own head."""
    columns = [card.calibration[head].apply(logits[:, column]) for column, head in enumerate(heads)]
    return np.clip(np.stack(columns, axis=1), 0.0, 1.0)


def _interval(low: Floats, high: Floats, least: Floats) -> tuple[Floats, Floats]:
    """Return the bounds made positive and at least ``least`` apart (a negative conformal shift may cross them)."""
    middle, half = (low + high) / 2.0, np.maximum((high - low) / 2.0, least / 2.0)
    positive = np.maximum(middle - half, least)
    return positive, np.maximum(middle + half, positive + least)
