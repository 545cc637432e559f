"""The walk of a market's adjustments over its outcomes: each forecast is moved by what was known when it was made.

Always true: the next close teaches the interval before the next forecast is made, as bars follow each other; touches
and wins teach once their whole horizon has closed, so forecasts in between were made without them. The product walks
the same steps over the forecasts it made (`fusiontrade.fusion.calibration_states`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from fusiontrade.inference.contract import CHANCES
from fusiontrade.inference.intervals import walk
from fusiontrade.inference.probabilities import advance, moved
from serving.card import Adjustment
from serving.forecasting import Adjustments, consistent
from serving.markets import ANY

__all__ = ["STILL", "Lived", "averaged", "starting", "walked"]

Floats = NDArray[np.float64]
_DIGITS = 6

_NONE = (0.0,) * CHANCES
STILL = Adjustment(lower=0.0, upper=0.0, offsets=_NONE, slopes=_NONE, bends=_NONE)
"""What moves nothing."""


@dataclass(frozen=True, eq=False)
class Lived:
    """n forecasts of one series in the order of time, and what became of them.

    Parameters
    ----------
    low, high, outcome
        (n,) raw 90 % intervals of the next close and that close, in one unit of price.
    chances, leans, came
        (n, CHANCES) calibrated probabilities that nothing has moved yet, their leans, and what came true, 0 or 1.
    made_at, known_at
        (n,) instants of the forecast and of the end of its horizon, ms UTC.
    """

    low: Floats
    high: Floats
    outcome: Floats
    chances: Floats
    leans: Floats
    came: Floats
    made_at: NDArray[np.int64]
    known_at: NDArray[np.int64]


def walked(lived: Lived, start: Adjustment) -> Adjustments:
    """Return what each of the n forecasts was moved by, beginning with ``start``."""
    lower, upper, _, _ = walk(lived.low, lived.high, lived.outcome, start.lower, start.upper)
    return Adjustments(lower, upper, *_steps(lived, start))


def starting(lived: Lived) -> Adjustment:
    """Return the mean over the later half of the way: an end point still carries its last outcomes' noise."""
    path = walked(lived, STILL)
    half = len(lived.low) // 2
    return _mean(Adjustments(*(getattr(path, column.name)[half:] for column in fields(path))))


def averaged(found: Mapping[str, Adjustment], kinds: Mapping[str, str]) -> dict[str, Adjustment]:
    """Return the table of a card: ``any`` and each kind of market as the mean of its symbols, and the symbols.

    Parameters
    ----------
    found
        By symbol; empty, nothing is moved.
    kinds
        Kind of market of each symbol.
    """
    members: dict[str, list[Adjustment]] = {ANY: list(found.values())}
    for symbol, adjustment in found.items():
        members.setdefault(kinds[symbol], []).append(adjustment)
    means = {name: _mean(Adjustments.of(several)) if several else STILL for name, several in members.items()}
    return means | dict(found)


def _mean(rows: Adjustments) -> Adjustment:
    """Return the mean of one row or more, rounded as a card keeps it."""
    return Adjustment(
        lower=round(float(rows.lower.mean()), _DIGITS),
        upper=round(float(rows.upper.mean()), _DIGITS),
        offsets=tuple(np.round(rows.offsets.mean(axis=0), _DIGITS).tolist()),
        slopes=tuple(np.round(rows.slopes.mean(axis=0), _DIGITS).tolist()),
        bends=tuple(np.round(rows.bends.mean(axis=0), _DIGITS).tolist()),
    )


def _steps(lived: Lived, start: Adjustment) -> tuple[Floats, Floats, Floats]:
    """Return (n, CHANCES) each: the offsets, the slopes and the bends in force at each forecast."""
    steps = np.asarray(start.offsets), np.asarray(start.slopes), np.asarray(start.bends)
    path = np.empty((len(steps), *lived.chances.shape))
    waiting: deque[tuple[int, int, Floats]] = deque()
    for row, (made_at, known_at) in enumerate(zip(lived.made_at.tolist(), lived.known_at.tolist(), strict=True)):
        while waiting and waiting[0][0] <= made_at:
            _, earlier, told = waiting.popleft()
            steps = advance(*steps, lean=lived.leans[earlier], probability=told, came=lived.came[earlier])
        path[:, row] = steps
        told = consistent(moved(lived.chances[row], lived.leans[row], *steps)[None])[0]
        waiting.append((known_at, row, told))
    return path[0], path[1], path[2]
