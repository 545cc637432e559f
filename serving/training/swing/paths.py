"""The ranker along combinatorial purged paths: every stretch of the past ranked by weights of the others.

Not a test of what would have been known, for weights learn from later years too, but of whether the skill stands on one
stretch: five histories out of one (`serving.evaluation.cross_section.purged`). Nothing that closes at ``until`` or
later is read, nor a session whose returns end there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.evaluation.cross_section import purged_paths
from serving.swing.ranking import scored
from serving.training.swing.config import PURGE_SESSIONS, RankerConfig
from serving.training.swing.daily import DailySeries
from serving.training.swing.ranker import fitted_on, rank_rows

__all__ = ["EVERY", "Paths", "ranked_paths"]

EVERY = 5
"""Every k-th session is ranked: neighbours say much the same, and cost as much."""
_FOLDS, _TESTED = 6, 2

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Paths:
    """Scores of S stocks on T sessions along each path.

    Parameters
    ----------
    closes
        (T,) instants, ms UTC.
    symbols
        Across.
    scores
        (paths, T, S), NaN where a stock is not ranked.
    """

    closes: NDArray[np.int64]
    symbols: tuple[str, ...]
    scores: Floats


def ranked_paths(
    series: Sequence[DailySeries], config: RankerConfig, until: int, every: int = EVERY
) -> dict[str, Paths]:
    """Return the paths by universe; empty where there are too few sessions for them.

    Parameters
    ----------
    until
        Instant, ms UTC: later bars are not read.
    every
        Every k-th session of all universes together.
    """
    known = [one.until(until - 1) for one in series if one.frame.close_time[0] < until]
    if not known:
        return {}
    days = np.unique(np.concatenate([one.frame.close_time for one in known]))[:-PURGE_SESSIONS]
    rows = rank_rows(known, config, until, days[::every])
    apart = -(-PURGE_SESSIONS // every)
    if not rows:
        return {}
    closes = np.unique(np.concatenate([one.closes[one.session] for one in rows.values()]))
    if len(closes) < _FOLDS * (2 * apart + 2):
        return {}
    at = {name: np.searchsorted(closes, one.closes[one.session]) for name, one in rows.items()}
    stocks = {name: tuple(one.symbol for one in known if one.universe == name) for name in rows}
    first = dict(zip(rows, np.cumsum([0, *(len(names) for names in stocks.values())]).tolist(), strict=False))

    def predicted(train: Rows, tested: Rows) -> Floats:
        weights = fitted_on(rows, config, {name: np.isin(place, train) for name, place in at.items()})
        out = np.full((len(closes), sum(map(len, stocks.values()))), np.nan)
        for name, one in rows.items():
            if name in weights:
                out[at[name], first[name] + one.stock] = scored(one.columns, weights[name])
        return out[tested]

    scores = purged_paths(len(closes), predicted, folds=_FOLDS, tested=_TESTED, purge=apart, embargo=apart)
    return {
        name: Paths(closes, names, scores[:, :, first[name] : first[name] + len(names)])
        for name, names in stocks.items()
    }
