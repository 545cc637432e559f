"""Ways to move probabilities by what came of earlier ones, judged by their calibration errors."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusiontrade.inference.contract import TOUCH_LEVELS
from fusiontrade.inference.probabilities import FARTHEST, SHARPEST, STEEPEST, logits
from serving.calibration import sigmoid
from serving.evaluation.metrics import brier, calibration_error, log_loss
from serving.evaluation.trials.regimes import regimes
from serving.evaluation.trials.slice import Lane, Slice
from serving.forecasting import consistent

__all__ = ["Refitted", "Stepped", "chance_trials"]

Floats = NDArray[np.float64]
_Way = Callable[[Lane], Floats]
_SIDE = len(TOUCH_LEVELS)
_UP, _DOWN, _EITHER, _LONG, _SHORT = 0, _SIDE, 2 * _SIDE, 3 * _SIDE, 3 * _SIDE + 1
_HEADS = (_UP, _DOWN, _EITHER, _LONG, _SHORT)
_LIMIT = 0.01
_SEED = 20240
_EVERY = 100  # bars between two fits
_PULL = 20.0  # weight of the penalty on a fit's offset and slope, in rows
_NEWTON = 8


def chance_trials(given: Slice) -> Iterator[dict[str, Any]]:
    """Yield the figures of each way to move probabilities on the later part of the slice."""
    for name, way in _WAYS.items():
        yield {"timeframe": given.timeframe, "way": name} | _judged(given, way)


@dataclass(frozen=True)
class Stepped:
    """A gradient step of the log loss for each outcome: of an offset, of a slope, of a bend.

    Parameters
    ----------
    offset, slope, bend
        Steps; 0: there is none.
    curve
        What a bend multiplies, of (n, CHANCES) leans and (CHANCES,) their usual squares.
    parts
        Regimes of volatility with moves of their own.
    """

    offset: float
    slope: float
    bend: float = 0.0
    curve: Callable[[Floats, Floats], Floats] = lambda leans, _usual: np.minimum(np.square(leans), 4.0) - 1.0
    parts: int = 1

    def __call__(self, lane: Lane) -> Floats:
        held, leans = lane.held, lane.leans
        z, curves, told = logits(lane.chances), self.curve(leans, lane.usual_square), np.empty_like(leans)
        part = regimes(held.atr / held.close, self.parts) if self.parts > 1 else np.zeros(len(z), np.intp)
        offset, slope, bend = np.zeros((3, self.parts, z.shape[1]))
        waiting: deque[int] = deque()
        for row, own in enumerate(part.tolist()):
            while waiting and held.known_at[waiting[0]] <= held.entry[row]:
                before = waiting.popleft()
                group, missed = part[before], held.came[before] - told[before]
                offset[group] = np.clip(offset[group] + self.offset * missed, -FARTHEST, FARTHEST)
                slope[group] = np.clip(slope[group] + self.slope * missed * leans[before], -STEEPEST, STEEPEST)
                bend[group] = np.clip(bend[group] + self.bend * missed * curves[before], -SHARPEST, SHARPEST)
            moved = sigmoid(z[row] + offset[own] + slope[own] * leans[row] + bend[own] * curves[row])
            told[row] = consistent(moved[None])[0]
            waiting.append(row)
        return told


@dataclass(frozen=True)
class Refitted:
    """An offset and a slope fitted anew every hundred bars to the newest ``rows`` outcomes, drawn towards none."""

    rows: int

    def __call__(self, lane: Lane) -> Floats:
        held, told, z = lane.held, lane.chances.copy(), logits(lane.chances)
        for first in range(0, len(z), _EVERY):
            known = np.flatnonzero(held.known_at <= held.entry[first])[-self.rows :]
            if len(known) < 3 * _EVERY:
                continue
            part = slice(first, first + _EVERY)
            for head in _HEADS:
                offset, slope = _fitted(z[known, head], lane.leans[known, head], held.came[known, head])
                told[part, head] = sigmoid(z[part, head] + offset + slope * lane.leans[part, head])
        return told


def _fitted(z: Floats, lean: Floats, came: Floats) -> tuple[float, float]:
    """Return the offset and slope of greatest penalised likelihood, by Newton's method."""
    move = np.zeros(2)
    columns = np.stack((np.ones(len(lean)), lean))
    for _ in range(_NEWTON):
        said = sigmoid(z + move @ columns)
        gradient = columns @ (came - said) - _PULL * move
        curvature = (columns * (said * (1.0 - said))) @ columns.T + _PULL * np.eye(2)
        move = move + np.linalg.solve(curvature, gradient)
    return float(move[0]), float(move[1])


def _judged(given: Slice, way: _Way) -> dict[str, Any]:
    excess, losses, squares = [], [], []
    for lane in given.lanes:
        told, came = way(lane)[lane.late], lane.held.came[lane.late]
        for head in _HEADS:
            error, floor = calibration_error(told[:, head], came[:, head], _SEED)
            excess.append(error - floor)
            losses.append(float(log_loss(told[:, head], came[:, head]).mean()))
        squares.append(float(brier(told[:, _EITHER], came[:, _EITHER]).mean()))
    return {
        "heads": len(excess),
        "above 0.01": int(np.sum(np.array(excess) > _LIMIT)),
        "mean ECE less floor": round(float(np.mean(excess)), 4),
        "largest": round(max(excess), 4),
        "log loss": round(float(np.mean(losses)), 5),
        "Brier ±1 either": round(float(np.mean(squares)), 5),
    }


_WAYS: dict[str, _Way] = {
    "maps of the earlier part alone": lambda lane: lane.chances,
    "offset and slope by 0.0025, as it was": Stepped(0.0025, 0.0025),
    "both by 0.005": Stepped(0.005, 0.005),
    "both by 0.01": Stepped(0.01, 0.01),
    "0.0025, moves for three regimes of volatility": Stepped(0.0025, 0.0025, parts=3),
    "0.01, for three regimes": Stepped(0.01, 0.01, parts=3),
    "fitted every 100 bars to 500 outcomes": Refitted(500),
    "… to 2000": Refitted(2000),
    "0.0025, a bend by 0.0025": Stepped(0.0025, 0.0025, 0.0025),
    "0.0035, a bend by 0.0035": Stepped(0.0035, 0.0035, 0.0035),
    "0.005, a bend by 0.0025": Stepped(0.005, 0.005, 0.0025),
    "0.005, a bend by 0.0025, of squares less their mean": Stepped(
        0.005, 0.005, 0.0025, lambda leans, usual: np.minimum(np.square(leans), 4.0) - usual
    ),
}
