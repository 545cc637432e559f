"""What is decided from the raw outputs of the intraday models, and the held-out windows it is compared on.

Windows are those of the calibration slice. No weight was fitted to them, nor the moment at which fitting stopped; maps
and thresholds were, which are the same on both sides of the comparison. The judged slice stays unread until every
choice has been made, and this is one.

From an LSTM: the vote on direction, of symbols that may vote at all; how strong the verdict would be called if every
model agreed with it; which of 15 touches are likelier than not; which side is the likelier one to be touched at 1 ATR;
whether a long and a short are worth their risk, settlement's target against its stop. From a PatchTST: the likeliest
class, the vote where it may vote, and the strength.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusiontrade.fusion.agreement import AGREEMENT_POINTS, BASE_SCORE, MODERATE_FROM, STRONG_FROM, PatchTstView
from fusiontrade.inference.contract import CHANCES, SEQUENCE_KINDS, ModelKind
from fusiontrade.journal.settlement import STOP_ATR, TARGET_ATR
from serving.card import HEADS, ModelCard, Precision
from serving.forecasting import Adjustments, Newest, Outputs, Subject, class_probabilities, lstm_answers
from serving.graph import open_graph
from serving.instants import iso_of
from serving.markets import row_of
from serving.training.fit import Batches
from serving.training.precision.choosing import Choice, Inputs, Reader, Reading, choose
from serving.training.precision.settings import Setting
from serving.training.prepared import Prepared

__all__ = ["chosen_for", "held_out_rows", "inputs_of", "reader_of"]

_INPUTS: dict[ModelKind, tuple[str, ...]] = {
    **dict.fromkeys(SEQUENCE_KINDS, ("features", "calendar", "volatility")),
    "transformer": ("features", "calendar", "volatility", "masks"),
    "patchtst": ("candles", "calendar", "volatility"),
}
_MOST_WINDOWS = 8192

_WORTH = STOP_ATR / (STOP_ATR + TARGET_ATR)  # a target is worth its stop above this probability
_WINS = 2

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]


def held_out_rows(rows: Rows) -> Rows:
    """Return at most 8,192 of a slice's rows, evenly spread over its series."""
    if len(rows) <= _MOST_WINDOWS:
        return rows
    return rows[np.linspace(0, len(rows) - 1, _MOST_WINDOWS).astype(np.intp)]


def inputs_of(kind: ModelKind, batches: Batches, rows: Rows) -> dict[str, NDArray[np.float32]]:
    """Return what a graph of ``kind`` takes for rows of the pool, by name."""
    return dict(zip(_INPUTS[kind], batches.inputs(rows), strict=True))


def chosen_for(card: ModelCard, f32: bytes, prepared: Prepared, batches: Batches, setting: Setting) -> Choice:
    """Return the precision that ``f32``, the graph of ``card``, is served with; its report names slice and windows."""
    pool = prepared.pool
    rows = held_out_rows(prepared.slices.calibration)
    series = [(one.symbol, one.market) for one in pool.series]
    whose = [series[place] for place in pool.series_of(rows)]

    def accept(graph: bytes, precision: Precision) -> None:
        open_graph(graph, card.model_copy(update={"precision": precision}))

    windows: Inputs = inputs_of(card.kind, batches, rows)
    choice = choose(f32, windows, reader_of(card, whose), setting=setting, accept=accept)
    told: dict[str, Any] = {
        "slice": "calibration",
        "from": iso_of(int(pool.entry[rows].min())),
        "to": iso_of(int(pool.entry[rows].max())),
    }
    return Choice(choice.precision, choice.graph, told | choice.report, choice.graphs)


def reader_of(card: ModelCard, whose: Sequence[Subject]) -> Reader:
    """Return what reads raw outputs of a bundle for windows of ``whose``."""

    def lstm(outputs: Outputs) -> Reading:
        return _lstm(card, outputs, whose)

    def patchtst(outputs: Outputs) -> Reading:
        return _patchtst(card, outputs)

    return lstm if card.is_sequence else patchtst


def _lstm(card: ModelCard, outputs: Outputs, whose: Sequence[Subject]) -> Reading:
    if card.thresholds is None:
        raise ValueError(f"{card.model_id} is no lstm: its card has no thresholds")
    unit = np.ones(len(whose))
    newest = Newest(1000.0 * unit, unit, 0.0 * unit)
    adjustments = Adjustments.of([row_of(card.adjustments, *subject) for subject in whose])
    answers = lstm_answers(card, outputs, newest, whose, adjustments=adjustments)
    wins = np.stack((answers.win_long, answers.win_short), axis=1)
    touches = np.concatenate((answers.touch_up, answers.touch_down, answers.touch_either), axis=1)
    heads = HEADS["lstm"][: CHANCES - _WINS]
    decisions = {name: (touches[:, place] > 0.5).astype(np.int64) for place, name in enumerate(heads)}
    decisions |= {
        "win_long": (wins[:, 0] > _WORTH).astype(np.int64),
        "win_short": (wins[:, 1] > _WORTH).astype(np.int64),
        "likelier_side": (answers.touch_up[:, 0] > answers.touch_down[:, 0]).astype(np.int64),
        "strength": _strength(np.minimum(1.0, np.abs(answers.change) / card.thresholds.change_scale)),
    }
    may_vote = np.asarray([not row_of(card.directions, *subject).never_votes for subject in whose])
    if may_vote.any():
        decisions["vote"] = answers.vote[may_vote]
    probabilities = np.concatenate((answers.probability_up[:, None], touches, wins), axis=1)
    return Reading(decisions, {"probability": probabilities, "quantile_atr": answers.quantiles})


def _patchtst(card: ModelCard, outputs: Outputs) -> Reading:
    probabilities = class_probabilities(card, outputs)
    views = [PatchTstView(up, flat, down, card.abstains) for up, flat, down in probabilities.tolist()]
    decisions = {
        "likeliest_class": probabilities.argmax(axis=1).astype(np.int64),
        "strength": _strength(np.asarray([view.confidence for view in views])),
    }
    if not card.abstains:
        decisions["vote"] = np.asarray([view.vote for view in views], np.int64)
    return Reading(decisions, {"probability": probabilities})


def _strength(confidence: Floats) -> NDArray[np.int64]:
    """Return 0 weak, 1 moderate, 2 strong: what a verdict of this confidence is called where all agree with it."""
    score = BASE_SCORE + AGREEMENT_POINTS * confidence
    return np.digitize(score, (MODERATE_FROM, STRONG_FROM)).astype(np.int64)
