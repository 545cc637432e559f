"""What scores are worth, learned on a slice that fitted no weight: returns, their spread, who may be traded, the veto.

Returns are compared with the mean of their day and universe: a score says who does better than the others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from serving.evaluation.cross_section.ranks import mean_test, rank_correlations
from serving.models.swing import HORIZONS
from serving.swing.card import ReturnMap
from serving.swing.forecasting import Outputs, units_of
from serving.training.swing.table import SwingTable

__all__ = ["RankSkill", "map_of", "proven", "rank_skill", "within"]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
_LEAST = 1e-6
_TAIL = 0.1
_FEWEST_DAYS = 3
_SURE = 1.96  # errors of a 95 % interval


@dataclass(frozen=True, slots=True)
class RankSkill:
    """The daily rank correlation of scores with what came.

    Parameters
    ----------
    mean, low, high
        Mean over the days and its 95 % interval by Newey-West errors.
    t
        The mean over its error.
    ratio
        The mean over the standard deviation of the days (information ratio of a day).

    All are NaN of fewer than three days, and all but the mean where no day differs from another.
    days, rows
        How many of each.
    """

    mean: float
    low: float
    high: float
    t: float
    ratio: float
    days: int
    rows: int

    def as_dict(self) -> dict[str, float | int | None]:
        """Return the figures for JSON; null where there were too few days to tell."""
        told = {name: getattr(self, name) for name in ("mean", "low", "high", "t", "ratio")}
        numbers = {name: round(value, 6) if math.isfinite(value) else None for name, value in told.items()}
        return {**numbers, "days": self.days, "rows": self.rows}


def within(values: Floats, group: NDArray[np.intp]) -> Floats:
    """Return (k, ...) values less the mean of their group (k,)."""
    sums = np.zeros((int(group.max(initial=-1)) + 1, *values.shape[1:]))
    np.add.at(sums, group, values)
    counts = np.bincount(group).reshape(-1, *([1] * (values.ndim - 1)))
    return np.asarray(values - (sums / counts)[group], np.float64)


def map_of(kind: str, outputs: Outputs, table: SwingTable, rows: Rows) -> ReturnMap:
    """Return what the scores of a model are worth on ``rows``.

    Parameters
    ----------
    kind
        ``stockformer`` or ``tft``: where its spread stands.
    outputs
        Raw outputs for ``rows``.
    """
    scores = np.asarray(outputs["returns"], np.float64)
    group, came = table.groups(rows), table.returns[rows]
    apart, moved = within(scores, group), within(came, group)
    slope = np.maximum((apart * moved).sum(axis=0) / np.maximum((apart**2).sum(axis=0), _LEAST), 0.0)
    slope = np.round(slope, 9)
    centre = np.round(scores.mean(axis=0), 9)
    said = (scores - centre) * slope
    if kind == "stockformer":
        down = up = np.asarray(outputs["uncertainty"], np.float64)
    else:
        quantiles = np.asarray(outputs["quantiles"], np.float64)
        down, up = quantiles[:, :, 1] - quantiles[:, :, 0], quantiles[:, :, 2] - quantiles[:, :, 1]
    units = units_of(table.context[rows])
    down, up = down * units, up * units
    below = np.quantile((said - came) / np.maximum(down, _LEAST), 1 - _TAIL, axis=0)
    above = np.quantile((came - said) / np.maximum(up, _LEAST), 1 - _TAIL, axis=0)
    return ReturnMap(
        centre=tuple(centre.tolist()),
        slope=tuple(slope.tolist()),
        below=tuple(np.maximum(np.round(below, 9), _LEAST).tolist()),
        above=tuple(np.maximum(np.round(above, 9), _LEAST).tolist()),
    )


def rank_skill(scores: Floats, table: SwingTable, rows: Rows, stride: int) -> list[RankSkill]:
    """Return the skill of (k, 3) scores, NaN where there is none, for ``rows`` of one universe, for each horizon.

    Parameters
    ----------
    stride
        Sessions between two days of ``rows``: horizons overlap over fewer of them.
    """
    group = table.groups(rows)
    edges = np.searchsorted(group, np.arange(group[-1] + 2)) if len(group) else np.zeros(1, np.intp)
    found = []
    for place, days in enumerate(HORIZONS):
        daily = np.array(
            [
                rank_correlations(scores[first:last, place][None], table.returns[rows[first:last], place][None], 3)[0]
                for first, last in pairwise(edges)
            ]
        )
        test = mean_test(daily, horizon=days, lags=-(-days // stride), fewest=_FEWEST_DAYS)
        mean = test.mean if test.n >= _FEWEST_DAYS else math.nan
        low, high = mean - _SURE * test.error, mean + _SURE * test.error
        ranked = int(np.isfinite(scores[:, place]).sum())
        found.append(RankSkill(mean, low, high, test.statistic, test.ratio, test.n, ranked))
    return found


def proven(skills: Mapping[str, list[RankSkill]], least: float = 1.645) -> dict[str, bool]:
    """Tell for each universe whether the 3-day rank is forecast beyond doubt, one-sided at 5 %."""
    return {name: found[0].t >= least for name, found in skills.items()}
