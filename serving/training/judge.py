"""Calibration on its slice, then one reading of the test slice: from raw outputs to a finished card and report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.calibration import CalibrationMap
from serving.card import HEADS, Metric, ModelCard, Thresholds
from serving.evaluation import LSTM_HEADLINES, PATCHTST_HEADLINES, HeldOut, judge_lstm, judge_patchtst
from serving.forecasting import class_probabilities, lstm_answers
from serving.training.calibrate import abstention_band, at_base_rate, fit_binary, fit_temperature, interval_shift
from serving.training.config import TrainingConfig
from serving.training.dataset import Pool
from serving.training.prepared import Prepared

__all__ = ["Answer", "finish_lstm", "finish_patchtst"]

Rows = NDArray[np.intp]
Answer = Callable[[Rows], Mapping[str, NDArray[np.float32]]]
"""Raw outputs of the exported graph for rows of the pool."""


def finish_lstm(
    known: Mapping[str, Any], prepared: Prepared, held: HeldOut, answer: Answer, config: TrainingConfig
) -> tuple[ModelCard, dict[str, Any]]:
    """Return the complete card of an LSTM and the rest of its report."""
    pool, slices = prepared.pool, prepared.slices
    rows = _in_time(pool, slices.calibration)
    outputs = answer(rows)
    truth = _lstm_truth(pool, rows)
    logits = np.concatenate((outputs["direction"][:, None], outputs["touch"], outputs["win"]), axis=1)
    maps: dict[str, CalibrationMap] = {}
    tried: dict[str, dict[str, Any]] = {}
    for column, head in enumerate(HEADS["lstm"]):
        maps[head], losses = fit_binary(logits[:, column], truth[:, column])
        tried[head] = {"chosen": maps[head].kind, "held_log_loss": {k: round(v, 6) for k, v in losses.items()}}
    span = np.concatenate((slices.train, slices.validation))
    base_rate = float(pool.column(lambda one: one.labels.direction)[span].mean(dtype=np.float64))
    maps["direction"] = at_base_rate(maps["direction"], logits[:, 0], base_rate)
    tried["direction"]["moved_to_base_rate"] = round(base_rate, 6)
    change = pool.column(lambda one: one.labels.change)[rows].astype(np.float64)
    shift = interval_shift(np.sort(outputs["quantiles"].astype(np.float64), axis=1), change)
    band, chosen_by = abstention_band(maps["direction"].apply(outputs["direction"]), truth[:, 0])
    scale = max(float(np.quantile(np.abs(outputs["change"]), 0.95)), 1e-6)
    thresholds = Thresholds(abstain_below=band[0], abstain_above=band[1], change_scale=round(scale, 6))
    card = ModelCard(**known, calibration=maps, interval=shift, thresholds=thresholds, metrics={})
    answers = lstm_answers(card, answer(slices.test), held.close, held.atr)
    figures = judge_lstm(answers, band, held, _names(pool), resamples=config.bootstrap, seed=config.seed)
    report = {"calibration": tried, "abstention_band": {"band": band, **chosen_by}, "figures": figures}
    return _checked(card, _headlines(figures["pooled"], LSTM_HEADLINES)), report


def finish_patchtst(
    known: Mapping[str, Any], prepared: Prepared, held: HeldOut, answer: Answer, config: TrainingConfig
) -> tuple[ModelCard, dict[str, Any]]:
    """Return the complete card of a PatchTST and the rest of its report."""
    pool, slices = prepared.pool, prepared.slices
    rows = _in_time(pool, slices.calibration)
    temperature = fit_temperature(answer(rows)["classes"], pool.column(lambda one: one.labels.classes)[rows])
    card = ModelCard(**known, calibration={"classes": temperature}, metrics={})
    probability = class_probabilities(card, answer(slices.test))
    figures = judge_patchtst(probability, held, _names(pool), resamples=config.bootstrap, seed=config.seed)
    report = {"calibration": {"classes": {"chosen": "temperature", "t": temperature.t}}, "figures": figures}
    return _checked(card, _headlines(figures["pooled"], PATCHTST_HEADLINES)), report


def _lstm_truth(pool: Pool, rows: Rows) -> NDArray[np.float64]:
    """Return (k, 13) what came true for each head of one logit, in the order of the card's heads."""
    labels = [
        pool.column(lambda one: one.labels.direction)[rows][:, None],
        pool.column(lambda one: one.labels.touch)[rows],
        pool.column(lambda one: one.labels.win)[rows],
    ]
    return np.concatenate(labels, axis=1).astype(np.float64)


def _in_time(pool: Pool, rows: Rows) -> Rows:
    """Return the rows of all series in the order of their instants."""
    return rows[np.argsort(pool.entry[rows], kind="stable")]


def _names(pool: Pool) -> list[str]:
    return [one.symbol for one in pool.series]


def _headlines(pooled: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Metric]:
    kept = ("value", "low", "high", "n")
    return {
        name: Metric(**{key: value for key, value in pooled[name].items() if key in kept})
        for name in names
        if name in pooled
    }


def _checked(card: ModelCard, metrics: dict[str, Metric]) -> ModelCard:
    """Return the card with its metrics, validated as a whole."""
    return ModelCard.model_validate(card.model_copy(update={"metrics": metrics}).model_dump())
