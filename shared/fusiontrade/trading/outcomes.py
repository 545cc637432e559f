"""Many trades at once, each by itself: when and at which price it is left, and what it returns net of costs.

The same rules as `fusiontrade.trading.account`, held equal to them by test; without an account, so without limits that
one trade sets to another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusiontrade.market.candles import Floats
from fusiontrade.trading.costs import Costs

__all__ = ["Outcomes", "outcomes"]


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What becomes of n trades.

    Parameters
    ----------
    filled
        (n,) whether the order was filled: the bar did not open beyond one of its levels.
    bars
        (n,) place in the path of the bar it was left in; -1 where it was not filled.
    exit
        (n,) price it was left at, costs included; NaN where it was not filled.
    part
        (n,) profit net of spread, slippage and commission over the value put in; NaN where it was not filled.
    """

    filled: NDArray[np.bool_]
    bars: NDArray[np.intp]
    exit: Floats
    part: Floats


def outcomes(side: NDArray[np.intp], stop: Floats, target: Floats, paths: Sequence[Floats], costs: Costs) -> Outcomes:
    """Return the outcomes of orders that are filled at the first open of their path and over at the last one's.

    Parameters
    ----------
    side
        (n,) +1 or -1.
    stop, target
        (n,) prices; NaN for none.
    paths
        ``(open, high, low)``, each (n, hold + 1) prices: the bars from the fill on, oldest first; of the last bar only
        the open counts, where the time is over.
    costs
        Of the market.

    Raises
    ------
    ValueError
        If a side is neither +1 nor -1.
    """
    if not np.isin(side, (-1, 1)).all():
        raise ValueError("side must be +1 or -1: a HOLD is no trade")
    sign = side[:, None].astype(np.float64)
    opened, high, low = (np.asarray(path, np.float64) for path in paths)
    best, worst = np.where(sign > 0, high, low) * sign, np.where(sign > 0, low, high) * sign
    lower, upper = (one[:, None] * sign for one in (stop, target))
    beyond = (opened * sign <= lower) | (opened * sign >= upper)  # NaN compares as False: no such level
    stopped, reached = worst <= lower, best >= upper
    filled = ~beyond[:, 0]
    at_open = beyond.copy()
    at_open[:, -1] = True
    rows = np.arange(len(side))
    bar = (at_open | stopped | reached).argmax(axis=1)
    level = np.where(stopped, stop[:, None], target[:, None])
    price = np.where(at_open[rows, bar], opened[rows, bar], level[rows, bar])
    move = (costs.spread / 2.0 + costs.slippage) * 1e-4
    entry, left = opened[:, 0] * (1.0 + side * move), price * (1.0 - side * move)
    paid = (1.0 + left / entry) * costs.commission * 1e-4
    part = side * (left / entry - 1.0) - paid
    return Outcomes(filled, np.where(filled, bar, -1), np.where(filled, left, np.nan), np.where(filled, part, np.nan))
