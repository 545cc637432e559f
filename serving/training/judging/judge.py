"""Calibration on its slice, then one reading of the test slice: from raw outputs to a finished card and report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusiontrade.inference.intervals import walk
from serving.calibration import CalibrationMap
from serving.card import HEADS, Metric, ModelCard, Sides, Thresholds
from serving.evaluation import LSTM_HEADLINES, PATCHTST_HEADLINES, HeldOut, judge_lstm, judge_patchtst
from serving.evaluation.baselines import rates_by_series
from serving.forecasting import LstmAnswers, Subject, class_probabilities, lstm_answers
from serving.markets import ANY, row_of
from serving.training.config import TrainingConfig
from serving.training.dataset import Pool
from serving.training.judging.calibrate import fit_binary, fit_temperature, interval_sides
from serving.training.judging.directions import Directions, direction_rules
from serving.training.prepared import Prepared

__all__ = ["Answer", "finish_lstm", "finish_patchtst", "subjects", "walked_answers"]

Rows = NDArray[np.intp]
Answer = Callable[[Rows], Mapping[str, NDArray[np.float32]]]
"""Raw outputs of the exported graph for rows of the pool."""


def finish_lstm(
    known: Mapping[str, Any], prepared: Prepared, held: HeldOut, answer: Answer, config: TrainingConfig
) -> tuple[ModelCard, dict[str, Any]]:
    """Return the complete card of an LSTM and the rest of its report."""
    pool = prepared.pool
    rows = _in_time(pool, prepared.slices.calibration)
    outputs = answer(rows)
    maps, tried = _maps(pool, rows, outputs)
    rules, direction = direction_rules(_directions(prepared, rows, outputs))
    scale = max(float(np.quantile(np.abs(outputs["change"]), 0.95)), 1e-6)
    card = ModelCard(
        **known,
        calibration=maps,
        directions=rules,
        intervals=_intervals(pool, rows, outputs),
        thresholds=Thresholds(change_scale=round(scale, 6)),
        metrics={},
    )
    answers = walked_answers(card, answer(prepared.slices.test), held, subjects(pool))
    figures = judge_lstm(answers, held, _names(pool), resamples=config.bootstrap, seed=config.seed)
    report = {"calibration": tried, "direction": direction, "figures": figures}
    return _checked(card, _headlines(figures["pooled"], LSTM_HEADLINES)), report


def walked_answers(
    card: ModelCard, outputs: Mapping[str, NDArray[np.float32]], held: HeldOut, whose: Sequence[Subject]
) -> LstmAnswers:
    """Return calibrated answers with each series' interval corrected by the outcomes before each forecast alone.

    Parameters
    ----------
    outputs
        Raw outputs of the held-out rows.
    whose
        Symbol and kind of market of each series number.
    """
    of_rows = [whose[place] for place in held.place]
    raw = lstm_answers(card, outputs, held.close, held.atr, of_rows)
    outcome = held.close + held.change * held.atr
    lower, upper = np.empty(len(held)), np.empty(len(held))
    for place in np.unique(held.place):
        rows = np.flatnonzero(held.place == place)
        rows = rows[np.argsort(held.entry[rows], kind="stable")]
        start = row_of(card.intervals, *whose[place])
        lower[rows], upper[rows], _, _ = walk(
            raw.raw_low[rows], raw.raw_high[rows], outcome[rows], start.lower, start.upper
        )
    return lstm_answers(card, outputs, held.close, held.atr, of_rows, sides=(lower, upper))


def subjects(pool: Pool) -> list[Subject]:
    """Return symbol and kind of market of each series of the pool."""
    return [(one.symbol, one.market) for one in pool.series]


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


def _maps(
    pool: Pool, rows: Rows, outputs: Mapping[str, NDArray[np.float32]]
) -> tuple[dict[str, CalibrationMap], dict[str, Any]]:
    """Return the map of each touch and win head, and what was tried."""
    truth = np.concatenate(
        (pool.column(lambda one: one.labels.touched)[rows], pool.column(lambda one: one.labels.win)[rows]), axis=1
    ).astype(np.float64)
    logits = np.concatenate((outputs["touch"], outputs["win"]), axis=1)
    maps: dict[str, CalibrationMap] = {}
    tried: dict[str, Any] = {}
    for column, head in enumerate(HEADS["lstm"]):
        maps[head], losses = fit_binary(logits[:, column], truth[:, column])
        tried[head] = {"chosen": maps[head].kind, "held_log_loss": {k: round(v, 6) for k, v in losses.items()}}
    return maps, tried


def _directions(prepared: Prepared, rows: Rows, outputs: Mapping[str, NDArray[np.float32]]) -> Directions:
    """Return the direction head's rows with the base rates of the training span, each drawn towards that of all."""
    pool, slices = prepared.pool, prepared.slices
    span = np.concatenate((slices.train, slices.validation))
    up = pool.column(lambda one: one.labels.direction).astype(np.float64)
    symbol = np.asarray([one.symbol for one in pool.series])
    market = np.asarray([one.market for one in pool.series])
    seen = pool.series_of(span)
    by_series = rates_by_series(seen, up[span][:, None], np.arange(len(pool.series), dtype=np.intp))[:, 0]
    rates = {ANY: float(up[span].mean())}
    rates |= {kind: float(up[span][market[seen] == kind].mean()) for kind in sorted(set(market[seen]))}
    rates |= {str(name): float(by_series[place]) for place, name in enumerate(symbol)}
    place = pool.series_of(rows)
    return Directions(
        logits=outputs["direction"].astype(np.float64),
        truth=up[rows],
        instants=pool.entry[rows],
        symbol=symbol[place],
        market=market[place],
        rates=rates,
    )


def _intervals(pool: Pool, rows: Rows, outputs: Mapping[str, NDArray[np.float32]]) -> dict[str, Sides]:
    """Return the sides of each series after the calibration slice, and the means of each kind of market and of all."""
    quantiles = np.sort(outputs["quantiles"].astype(np.float64), axis=1)
    change = pool.column(lambda one: one.labels.change)[rows].astype(np.float64)
    place = pool.series_of(rows)
    found = {
        one.symbol: interval_sides(quantiles[own, 0], quantiles[own, -1], change[own])
        for number, one in enumerate(pool.series)
        if (own := place == number).any()
    }
    kinds = {one.symbol: one.market for one in pool.series if one.symbol in found}
    table = {ANY: list(found.values())}
    for symbol, kind in kinds.items():
        table.setdefault(kind, []).append(found[symbol])
    means = {
        name: Sides(
            lower=round(float(np.mean([side.lower for side in sides])), 6),
            upper=round(float(np.mean([side.upper for side in sides])), 6),
        )
        for name, sides in table.items()
    }
    return means | found


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
