"""How much a market usually moves in each slot of the week: what EWMA and GARCH take out of returns and put back.

A slot is a bar's place in the week (`serving.features.slots`); everything here is learned from the bars before an
index and applied to all.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["one_bar_returns", "seasonal_sizes", "slots_to_come"]

Floats = NDArray[np.floating]
Slots = NDArray[np.intp]

_LEVEL_DAYS = 5
_MOST = 8.0  # times the level: one crash shall not make an hour of the week
_DAY_PRIOR, _WEEK_PRIOR = 30.0, 60.0


def one_bar_returns(close: Floats) -> NDArray[np.float64]:
    """Return (n,) the return that each bar's close ended, relative to the close before; 0 for the first."""
    values = np.asarray(close, np.float64)
    return np.diff(values, prepend=values[:1]) / np.concatenate((values[:1], values[:-1]))


def seasonal_sizes(returns: Floats, slot: Slots, week: int, end: int) -> NDArray[np.float64]:
    """Return (week,) the usual size of a return in each slot, 1 being an ordinary one.

    The mean of |return| over its mean in the five days before, by slot, as Andersen and Bollerslev (1997) take the
    intraday pattern out of volatility. A slot is drawn towards its time of day by the weight of sixty bars, a time of
    day towards 1 by thirty.

    Parameters
    ----------
    returns, slot
        (n,) returns and slots of all bars.
    week
        Slots of a week, a multiple of 7.
    end
        Bars before it are learned from.
    """
    length = _LEVEL_DAYS * week // 7
    size = np.abs(returns[:end])
    total = np.concatenate(([0.0], np.cumsum(size)))
    level = (total[length:-1] - total[: -length - 1]) / length
    known = np.flatnonzero(level > 0) + length
    activity = np.minimum(size[known] / level[known - length], _MOST)
    sums, counts = np.bincount(slot[known], activity, week), np.bincount(slot[known], minlength=week)
    ordinary = sums.sum() / max(counts.sum(), 1) if counts.any() else 1.0
    of_day, bars = sums.reshape(7, -1).sum(axis=0), counts.reshape(7, -1).sum(axis=0)
    usual = np.tile((of_day + _DAY_PRIOR * ordinary) / (bars + _DAY_PRIOR), 7)
    return np.asarray((sums + _WEEK_PRIOR * usual) / (counts + _WEEK_PRIOR), np.float64)


def slots_to_come(slot: Slots, week: int, end: int) -> Slots:
    """Return (n,) the slot in which the next bar is expected: the one that mostly followed, among bars before ``end``.

    The opening instant of the next bar is not asked for: a gap in the data is not known in advance.
    """
    pairs = np.bincount(slot[: end - 1] * week + slot[1:end], minlength=week * week).reshape(week, week)
    following = np.where(pairs.any(axis=1), pairs.argmax(axis=1), (np.arange(week) + 1) % week)
    return np.asarray(following[slot], np.intp)
