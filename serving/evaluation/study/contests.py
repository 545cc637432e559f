"""What is set against what: the losses of a model beside those of each baseline, row by row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusiontrade.journal.outcomes import HORIZON_BARS
from serving.evaluation.held_out import HeldOut
from serving.evaluation.lstm import SERVED_LEVELS, served_quantiles
from serving.evaluation.metrics import brier, log_loss, pinball
from serving.evaluation.patchtst import class_loss
from serving.evaluation.significance import compare_each
from serving.evaluation.study.rivals import Rivals
from serving.forecasting import LstmAnswers

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


def lstm_contests(answers: LstmAnswers, held: HeldOut, told: Rivals) -> Iterator[Contest]:
    """Yield the contests of an LSTM bundle on the held-out rows."""
    scale = held.atr / held.close

    def width(quantiles: Floats) -> Floats:
        return np.asarray(pinball(quantiles, SERVED_LEVELS, held.change) * scale)

    mine = width(served_quantiles(answers, held))
    for baseline, quantiles in ({"rolling": held.rolling_served} | told.quantiles).items():
        yield Contest("pinball, next bar", baseline, mine, width(quantiles), 1)
    either, direction = answers.touch_either[:, 0], answers.probability_up
    against = {"climatology": held.climate_either, "logistic": held.logistic_either, "lightgbm": told.either}
    for baseline, said in against.items():
        losses = _summed(brier(either, held.either)), _summed(brier(said, held.either))
        yield Contest("Brier, ±1 ATR on either side", baseline, *losses, HORIZON_BARS)
    touch = np.concatenate((answers.touch_up, answers.touch_down), axis=1)
    for baseline, said in (("climatology", held.climate_touch), ("base_rate", held.rate_touch)):
        losses = _summed(brier(touch, held.touch)), _summed(brier(said, held.touch))
        yield Contest("Brier, all ten touches", baseline, *losses, HORIZON_BARS)
    win = np.stack((answers.win_long, answers.win_short), axis=1)
    losses = _summed(brier(win, held.win)), _summed(brier(held.climate_win, held.win))
    yield Contest("Brier, trade wins", "climatology", *losses, HORIZON_BARS)
    against = {"base_rate": held.rate_direction, "logistic": held.logistic_direction, "lightgbm": told.direction}
    for baseline, said in against.items():
        losses = _summed(log_loss(direction, held.direction)), _summed(log_loss(said, held.direction))
        yield Contest("log loss, direction", baseline, *losses, 1)


def patchtst_contests(probability: Floats, held: HeldOut, told: Rivals) -> Iterator[Contest]:
    """Yield the contests of a PatchTST bundle: (n, 3) class probabilities against each baseline's."""
    mine = class_loss(probability, held.classes)
    by_baseline = {"base_rate": held.rate_classes, "logistic": held.logistic_classes, "lightgbm": told.classes}
    for baseline, said in by_baseline.items():
        yield Contest("log loss, classes", baseline, mine, class_loss(said, held.classes), HORIZON_BARS)


def tested(contests: Iterator[Contest], held: HeldOut, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return each contest's Diebold-Mariano tests, one a series the baseline answered, corrected over the series."""
    found = []
    for one in contests:
        rows = np.isfinite(one.theirs)
        tests = compare_each(
            one.mine[rows], one.theirs[rows], held.entry[rows], held.place[rows], names, horizon=one.horizon
        )
        by_symbol = {symbol: test.as_dict() for symbol, test in tests.items()}
        found.append({"loss": one.loss, "baseline": one.baseline, "by_symbol": by_symbol})
    return found


def _summed(losses: NDArray[np.floating]) -> Floats:
    """Return (n,) the loss of each row, the sum over its outcomes where it has several."""
    return np.asarray(losses.reshape(len(losses), -1).sum(axis=1), np.float64)
