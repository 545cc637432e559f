"""Ways to correct intervals, judged by how evenly they cover calm and wild bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.evaluation.coverage import (
    ROLLING,
    inside,
    lowest_rolling,
    quintile_spread,
    spread_by_chance,
    volatility_quintiles,
)
from serving.evaluation.held_out import taken
from serving.evaluation.lstm import SERVED_LEVELS
from serving.evaluation.metrics import pinball
from serving.evaluation.trials.regimes import regimes
from serving.evaluation.trials.slice import Lane, Slice
from serving.forecasting import widened

__all__ = ["interval_trials", "tracked"]

Floats = NDArray[np.float64]
_Way = Callable[[Lane], tuple[Floats, Floats]]
_LIMIT = 0.04
_SEED = 20240


def interval_trials(given: Slice) -> Iterator[dict[str, Any]]:
    """Yield the figures of each way to correct intervals on the later part of the slice."""
    for name, way in _WAYS.items():
        yield {"timeframe": given.timeframe, "way": name} | _judged(given, way)


def tracked(step: float, *, exponent: float = 0.0, parts: int = 1) -> _Way:
    """Return quantile tracking by ``step``, with sides of their own for each of ``parts`` regimes of volatility."""

    def way(lane: Lane) -> tuple[Floats, Floats]:
        held = lane.held
        low, high = widened(lane.quantiles[:, 0], lane.quantiles[:, -1], held.unrest, exponent)
        part = regimes(held.atr / held.close, parts) if parts > 1 else np.zeros(len(low), np.intp)
        return _walked(low, high, held.change, part, step)

    return way


def _walked(low: Floats, high: Floats, came: Floats, part: NDArray[np.intp], step: float) -> tuple[Floats, Floats]:
    lower, upper = np.zeros(part.max() + 1), np.zeros(part.max() + 1)
    ends = np.empty((2, len(low)))
    width = high - low
    for row, own in enumerate(part.tolist()):
        below, above = low[row] - lower[own] * width[row], high[row] + upper[own] * width[row]
        ends[:, row] = below, above
        lower[own] += step * (float(came[row] < below) - 0.05)
        upper[own] += step * (float(came[row] > above) - 0.05)
    return ends[0], ends[1]


def _judged(given: Slice, way: _Way) -> dict[str, Any]:
    spreads, excess, ratios, coverage, rolling = [], [], [], [], []
    for lane in given.lanes:
        ends = way(lane)
        low, high = (one[lane.late] for one in ends)
        held = taken(lane.held, lane.late)
        within = inside(low, high, held.change)
        spread = quintile_spread(within, volatility_quintiles(held.atr, held.close, np.zeros(len(held), np.intp)))
        spreads.append(spread)
        excess.append(spread > max(_LIMIT, spread_by_chance(len(held), float(within.mean()), _SEED)))
        coverage.append(float(within.mean()))
        if len(held) >= ROLLING:
            rolling.append(lowest_rolling(within, held.entry))
        served = np.stack((low, np.clip(lane.quantiles[lane.late, 2], low, high), high), axis=1)
        scale = held.atr / held.close
        mine = pinball(served, SERVED_LEVELS, held.change) * scale
        ratios.append(mine.sum() / (pinball(held.rolling_served, SERVED_LEVELS, held.change) * scale).sum())
    return {
        "series": len(spreads),
        "mean spread": round(float(np.mean(spreads)), 4),
        "largest": round(max(spreads), 4),
        "above 0.04": int(np.sum(np.array(spreads) > _LIMIT)),
        "above chance": int(np.sum(excess)),
        "coverage": f"{min(coverage):.3f} to {max(coverage):.3f}",
        "lowest of 500": round(min(rolling), 3) if rolling else None,
        "pinball ratio": round(float(np.mean(ratios)), 4),
    }


_WAYS: dict[str, _Way] = {
    "a step of 0.01, as it was": tracked(0.01),
    "a step of 0.02": tracked(0.02),
    "a step of 0.005": tracked(0.005),
    "a step of 0.0025": tracked(0.0025),
    "0.01, sides for three regimes of volatility": tracked(0.01, parts=3),
    "0.02, sides for five regimes": tracked(0.02, parts=5),
    "0.01, width by unrest to the power -0.1": tracked(0.01, exponent=-0.1),
    "0.005, to the power -0.05": tracked(0.005, exponent=-0.05),
    "0.005, to the power -0.1": tracked(0.005, exponent=-0.1),
    "0.005, to the power -0.15": tracked(0.005, exponent=-0.15),
}
