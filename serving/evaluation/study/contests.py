"""What is set against what: the losses of a model beside those of each baseline, row by row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.evaluation.held_out import HeldOut
from serving.evaluation.lstm import _LEVELS, _served
from serving.evaluation.metrics import brier, log_loss, pinball
from serving.evaluation.significance import compare_each
from serving.forecasting import LstmAnswers
from serving.training.config import HORIZON_BARS

__all__ = ["Contest", "lstm_contests", "patchtst_contests", "tested"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Contest:
    """One loss of a model and of a baseline; (n,) each, of forecasts that look ``horizon`` bars ahead."""

    loss: str
    baseline: str
    mine: Floats
    theirs: Floats
    horizon: int


def lstm_contests(answers: LstmAnswers, held: HeldOut) -> Iterator[Contest]:
    """Yield the contests of an LSTM bundle on the held-out rows."""
    quantiles, rolling = _served(answers, held), held.rolling[:, [0, 2, 4]]
    mine, other = pinball(quantiles, _LEVELS, held.change), pinball(rolling, _LEVELS, held.change)
    scale = held.atr / held.close
    yield Contest("pinball, next bar", "rolling", mine * scale, other * scale, 1)  # type: ignore[arg-type]
    either, direction = answers.touch_either[:, 0], answers.probability_up
    for baseline, theirs in (("climatology", held.climate_either), ("logistic", held.logistic_either)):
        mine, other = brier(either, held.either), brier(theirs, held.either)
        yield Contest("Brier, ±1 ATR on either side", baseline, mine, other, HORIZON_BARS)  # type: ignore[arg-type]
    touch = np.concatenate((answers.touch_up, answers.touch_down), axis=1)
    for baseline, theirs in (("climatology", held.climate_touch), ("base_rate", held.rate_touch)):
        mine, other = brier(touch, held.touch).sum(axis=1), brier(theirs, held.touch).sum(axis=1)
        yield Contest("Brier, all ten touches", baseline, mine, other, HORIZON_BARS)
    win = np.stack((answers.win_long, answers.win_short), axis=1)
    mine, other = brier(win, held.win).sum(axis=1), brier(held.climate_win, held.win).sum(axis=1)
    yield Contest("Brier, trade wins", "climatology", mine, other, HORIZON_BARS)
    for baseline, theirs in (("base_rate", held.rate_direction), ("logistic", held.logistic_direction)):
        mine, other = log_loss(direction, held.direction), log_loss(theirs, held.direction)
        yield Contest("log loss, direction", baseline, mine, other, 1)  # type: ignore[arg-type]


def patchtst_contests(probability: Floats, held: HeldOut) -> Iterator[Contest]:
    """Yield the contests of a PatchTST bundle: (n, 3) class probabilities against each baseline's."""
    mine = _class_loss(probability, held.classes)
    for baseline, theirs in (("base_rate", held.rate_classes), ("logistic", held.logistic_classes)):
        yield Contest("log loss, classes", baseline, mine, _class_loss(theirs, held.classes), HORIZON_BARS)


def tested(contests: Iterator[Contest], held: HeldOut, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return each contest's Diebold-Mariano tests, a series each, corrected over the series."""
    found = []
    for one in contests:
        tests = compare_each(one.mine, one.theirs, held.entry, held.place, names, horizon=one.horizon)
        by_symbol = {symbol: test.as_dict() for symbol, test in tests.items()}
        found.append({"loss": one.loss, "baseline": one.baseline, "by_symbol": by_symbol})
    return found


def _class_loss(probability: Floats, classes: NDArray[np.int64]) -> Floats:
    said = np.take_along_axis(probability, classes[:, None], axis=1)[:, 0]
    return np.asarray(-np.log(np.maximum(said, 1e-6)), np.float64)
