"""Calibration on its slice, then one reading of the test slice: from raw outputs to a finished card and report.

The two are apart because choices that need a calibrated card, as the one of a precision, come between them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusiontrade.inference.contract import CHANCES
from fusiontrade.journal.outcomes import HORIZON_BARS
from serving.calibration import CalibrationMap
from serving.card import HEADS, Adjustment, Metric, ModelCard, Thresholds
from serving.evaluation import LSTM_HEADLINES, PATCHTST_HEADLINES, HeldOut, judge_lstm, judge_patchtst
from serving.evaluation.baselines import rates_by_series
from serving.evaluation.metrics import log_loss
from serving.evaluation.significance import Comparison, compare
from serving.features import unrest_of
from serving.forecasting import (
    Adjustments,
    LstmAnswers,
    Newest,
    Subject,
    chances_of,
    class_probabilities,
    leans_of,
    lstm_answers,
    widened,
)
from serving.markets import ANY, row_of
from serving.training.config import TrainingConfig
from serving.training.dataset import Pool
from serving.training.judging.calibrate import fit_binary, fit_temperature
from serving.training.judging.directions import Directions, direction_rules
from serving.training.judging.walking import STILL, Lived, averaged, starting, walked
from serving.training.judging.widths import Ranges, fitted_exponent
from serving.training.prepared import Prepared

__all__ = [
    "Answer",
    "calibrated_patchtst",
    "calibrated_sequence",
    "judged",
    "learned_adjustments",
    "subjects",
    "walked_answers",
    "walked_moves",
]

Rows = NDArray[np.intp]
_PROVEN = 0.01
_UP, _FLAT, _DOWN = 0, 1, 2
Answer = Callable[[Rows], Mapping[str, NDArray[np.float32]]]
"""Raw outputs of the exported graph for rows of the pool."""


def calibrated_sequence(
    known: Mapping[str, Any], prepared: Prepared, answer: Answer
) -> tuple[ModelCard, dict[str, Any]]:
    """Return the card of an LSTM, without metrics yet, and how it was calibrated."""
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
        centres=(0.0,) * CHANCES,
        adjustments={ANY: STILL},
        thresholds=Thresholds(change_scale=round(scale, 6)),
        metrics={},
    )
    centres = np.round(leans_of(card, chances_of(card, outputs)).mean(axis=0), 6)
    card = card.model_copy(update={"centres": tuple(centres.tolist())})
    exponent, spreads = fitted_exponent(list(_ranges(pool, rows, outputs).values()))
    card = card.model_copy(update={"unrest_exponent": exponent})
    card = card.model_copy(update={"adjustments": learned_adjustments(card, pool, rows, outputs)})
    widths = {"unrest_exponent": exponent, "spread_over_volatility": spreads}
    return card, {"calibration": tried, "direction": direction, "widths": widths}


def judged(
    card: ModelCard, prepared: Prepared, held: HeldOut, answer: Answer, config: TrainingConfig
) -> tuple[ModelCard, dict[str, Any]]:
    """Return the card with its metrics, and all figures of the test slice."""
    pool, outputs = prepared.pool, answer(prepared.slices.test)
    if card.is_sequence:
        answers = walked_answers(card, outputs, held, subjects(pool))
        figures = judge_lstm(answers, held, _names(pool), resamples=config.bootstrap, seed=config.seed)
        return _checked(card, _headlines(figures["pooled"], LSTM_HEADLINES)), figures
    probability = class_probabilities(card, outputs)
    figures = judge_patchtst(probability, held, _names(pool), resamples=config.bootstrap, seed=config.seed)
    return _checked(card, _headlines(figures["pooled"], PATCHTST_HEADLINES)), figures


def walked_answers(
    card: ModelCard, outputs: Mapping[str, NDArray[np.float32]], held: HeldOut, whose: Sequence[Subject]
) -> LstmAnswers:
    """Return calibrated answers, intervals and probabilities moved by the outcomes known before each forecast.

    Parameters
    ----------
    outputs
        Raw outputs of the held-out rows.
    whose
        Symbol and kind of market of each series number.
    """
    of_rows = [whose[place] for place in held.place]
    newest = Newest(held.close, held.atr, held.unrest)
    raw = lstm_answers(card, outputs, newest, of_rows)
    moves = walked_moves(raw, chances_of(card, outputs), held, [row_of(card.adjustments, *one) for one in whose])
    return lstm_answers(card, outputs, newest, of_rows, adjustments=moves)


def walked_moves(
    raw: LstmAnswers, chances: NDArray[np.float64], held: HeldOut, starts: Sequence[Adjustment]
) -> Adjustments:
    """Return what each held-out row is moved by, from the outcomes of its series known before it.

    Parameters
    ----------
    raw
        Answers of the rows; their raw intervals and leans count.
    chances
        (n, CHANCES) calibrated probabilities that nothing has moved.
    starts
        By series number, where its walk begins.
    """
    moves = Adjustments.of([STILL] * len(held))
    for place in np.unique(held.place):
        rows = np.flatnonzero(held.place == place)
        rows = rows[np.argsort(held.entry[rows], kind="stable")]
        lived = Lived(
            low=raw.raw_low[rows],
            high=raw.raw_high[rows],
            outcome=held.close[rows] + held.change[rows] * held.atr[rows],
            chances=chances[rows],
            leans=raw.leans[rows],
            came=held.came[rows],
            made_at=held.entry[rows],
            known_at=held.known_at[rows],
        )
        path = walked(lived, starts[place])
        for column in fields(Adjustments):
            getattr(moves, column.name)[rows] = getattr(path, column.name)
    return moves


def subjects(pool: Pool) -> list[Subject]:
    """Return symbol and kind of market of each series of the pool."""
    return [(one.symbol, one.market) for one in pool.series]


def calibrated_patchtst(
    known: Mapping[str, Any], prepared: Prepared, answer: Answer
) -> tuple[ModelCard, dict[str, Any]]:
    """Return the card of a PatchTST, without metrics yet, and how it was calibrated."""
    pool = prepared.pool
    rows = _in_time(pool, prepared.slices.calibration)
    logits = answer(rows)["classes"]
    temperature = fit_temperature(logits, pool.column(lambda one: one.labels.classes)[rows])
    proof = _lean_proof(temperature.apply(logits), prepared, rows)
    abstains = not proof.p_better < _PROVEN
    card = ModelCard(**known, calibration={"classes": temperature}, abstains=abstains, metrics={})
    return card, {
        "calibration": {"classes": {"chosen": "temperature", "t": temperature.t}},
        "direction": {"abstains": abstains, "up_or_down_against_base_rate": proof.as_dict()},
    }


def _lean_proof(probability: NDArray[np.float64], prepared: Prepared, rows: Rows) -> Comparison:
    """Return the test of up against down, where it was not flat, against the base rate of the training span.

    Flat bars are left out: they can be forecast, and a model that knows only when little happens has no direction.
    """
    pool, slices = prepared.pool, prepared.slices
    classes = pool.column(lambda one: one.labels.classes)
    span = np.concatenate((slices.train, slices.validation))
    span, moved = span[classes[span] != _FLAT], classes[rows] != _FLAT
    rows, up_or_down = rows[moved], probability[moved][:, [_UP, _DOWN]]
    came = (classes[rows] == _UP).astype(np.float64)
    rate = rates_by_series(
        pool.series_of(span), (classes[span] == _UP)[:, None].astype(np.float64), pool.series_of(rows)
    )
    said = up_or_down[:, 0] / up_or_down.sum(axis=1)
    return compare(log_loss(said, came), log_loss(rate[:, 0], came), pool.entry[rows], horizon=HORIZON_BARS)


def _maps(
    pool: Pool, rows: Rows, outputs: Mapping[str, NDArray[np.float32]]
) -> tuple[dict[str, CalibrationMap], dict[str, Any]]:
    """Return the map of each touch and win head, and what was tried."""
    truth = _came(pool, rows)
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


def learned_adjustments(
    card: ModelCard, pool: Pool, rows: Rows, outputs: Mapping[str, NDArray[np.float32]]
) -> dict[str, Adjustment]:
    """Return what outcomes teach about each series, each kind of market and all of them.

    Parameters
    ----------
    rows
        (n,) rows of the pool, those of a series in the order of time: its calibration slice.
    outputs
        Raw outputs for these rows.
    """
    chances, came = chances_of(card, outputs), _came(pool, rows)
    leans = leans_of(card, chances)
    known_at = pool.column(lambda one: one.labels.known_at)[rows]
    place = pool.series_of(rows)
    found = {}
    for number, ranges in _ranges(pool, rows, outputs).items():
        own = place == number
        low, high = widened(ranges.low, ranges.high, ranges.unrest, card.unrest_exponent)
        lived = Lived(
            low=low,
            high=high,
            outcome=ranges.outcome,
            chances=chances[own],
            leans=leans[own],
            came=came[own],
            made_at=pool.entry[rows][own],
            known_at=known_at[own],
        )
        found[pool.series[number].symbol] = starting(lived)
    return averaged(found, {one.symbol: one.market for one in pool.series})


def _ranges(pool: Pool, rows: Rows, outputs: Mapping[str, NDArray[np.float32]]) -> dict[int, Ranges]:
    """Return the raw intervals of rows and what came, by number of the series; of those that have rows."""
    quantiles = np.sort(outputs["quantiles"].astype(np.float64), axis=1)
    change = pool.column(lambda one: one.labels.change)[rows].astype(np.float64)
    unrest = pool.column(lambda one: unrest_of(one.lstm.features))[rows]
    volatility = (pool.column(lambda one: one.atr) / pool.column(lambda one: one.frame.close))[rows]
    place = pool.series_of(rows)
    return {
        number: Ranges(quantiles[own, 0], quantiles[own, -1], change[own], unrest[own], volatility[own])
        for number in np.unique(place).tolist()
        for own in (place == number,)
    }


def _came(pool: Pool, rows: Rows) -> NDArray[np.float64]:
    """Return (n, CHANCES) which touches and wins came true."""
    touched, win = (pool.column(lambda one, name=name: getattr(one.labels, name))[rows] for name in ("touched", "win"))  # type: ignore[misc]
    return np.concatenate((touched, win), axis=1).astype(np.float64)


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
