"""How long a forecast lives and by which bars it is settled, by its market's calendar.

Always true here: a horizon is a number of bars of the market's trading hours, so a weekend or a holiday never eats it;
entries are settled by bars that open at or after they were made and of which none was cut by it.
"""

from __future__ import annotations

import numpy as np

from fusiontrade.market.calendar import calendar_of
from fusiontrade.market.grids import grid_of
from fusiontrade.market.symbols import Symbol
from fusiontrade.market.timeframes import Timeframe

__all__ = ["due", "expiry", "walked"]

_LONGEST_CLOSURE = 4 * Timeframe.D1.milliseconds
_STEPS = (Timeframe.H4, Timeframe.H1, Timeframe.M30, Timeframe.M15)


def walked(symbol: Symbol, interval: Timeframe, opened_at: int) -> Timeframe:
    """Return the longest bars, ``interval`` at most, of which one begins at ``opened_at`` (ms).

    A forecast of the 4h bars that is made at a quarter past is settled by quarters of an hour: the first whole 4h bar
    after it would hide what happened until then. Moments that no quarter begins at are settled by quarters too (by
    ``interval`` where that is shorter).
    """
    grid = grid_of(symbol)
    instant = np.array([opened_at], np.int64)
    steps = [step for step in (interval, *_STEPS) if step.milliseconds <= interval.milliseconds]
    fits = (step for step in steps if int(grid.opens(instant, step)[0]) == opened_at)
    return next(fits, min(steps, key=lambda step: step.milliseconds))


def expiry(symbol: Symbol, interval: Timeframe, opened_at: int, horizon_bars: int) -> int:
    """Return when (ms) a horizon of ``horizon_bars`` bars of ``interval`` from ``opened_at`` ends.

    That is the close of the last of so many bars that open from then on; for a moment within a bar, the same moment
    within the bar that is so many bars later.

    Raises
    ------
    ValueError
        If ``horizon_bars`` is not positive.
    InvalidInput
        If the market's hours are not known that far.
    """
    if horizon_bars < 1:
        raise ValueError(f"horizon_bars is {horizon_bars}: a horizon has at least one bar")
    began = int(grid_of(symbol).opens(np.array([opened_at], np.int64), interval)[0])
    opens = _opens_from(symbol, interval, began, horizon_bars + 1)
    if began < opened_at and opens[0] == began:
        return opens[horizon_bars] + opened_at - began
    return _close_of(symbol, interval, opened_at, horizon_bars)


def due(symbol: Symbol, interval: Timeframe, opened_at: int) -> int:
    """Return when (ms) the first bar that may settle a forecast of ``opened_at`` is finished."""
    return _close_of(symbol, walked(symbol, interval, opened_at), opened_at, 1)


def _close_of(symbol: Symbol, step: Timeframe, start: int, count: int) -> int:
    """Return the close of the ``count``-th bar of ``step`` that opens at or after ``start``."""
    return _opens_from(symbol, step, start, count)[-1] + step.milliseconds


def _opens_from(symbol: Symbol, step: Timeframe, start: int, count: int) -> list[int]:
    """Return when the first ``count`` bars of ``step`` open that do so at or after ``start``."""
    calendar = calendar_of(symbol)
    reach = count * step.milliseconds + _LONGEST_CLOSURE
    while True:
        opens = calendar.bar_opens(step, start, start + reach)
        if len(opens) >= count:
            return [int(each) for each in opens[:count]]
        reach *= 2
