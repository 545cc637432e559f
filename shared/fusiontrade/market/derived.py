"""Bars that a provider does not keep, put together from shorter ones it does keep.

A longer bar counts only when every shorter bar that should be in it has arrived: a feed that is seconds late must not
make a bar of half its parts.
"""

from __future__ import annotations

from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.freshness import is_current
from fusiontrade.market.resampling import grid_of, resample
from fusiontrade.market.symbols import Symbol
from fusiontrade.market.timeframes import Timeframe

__all__ = ["bars_for", "derive"]


def bars_for(timeframe: Timeframe, base: Timeframe, count: int) -> int:
    """Return how many ``base`` bars make ``count`` bars of ``timeframe``, wherever the buckets begin and end."""
    ratio = timeframe.milliseconds // base.milliseconds
    return count if ratio == 1 else (count + 2) * ratio


def derive(base: CandleFrame, symbol: Symbol, timeframe: Timeframe, *, end: int) -> CandleFrame:
    """Return the bars of ``timeframe`` that were finished by ``end`` (ms) and whose parts are all in ``base``."""
    known = base.finished_by(end)
    if not len(known):
        return resample(known, timeframe, grid_of(symbol))
    complete_to = end if is_current(known, symbol, end) else int(known.close_time[-1])
    return resample(known, timeframe, grid_of(symbol), end=complete_to).finished_by(end)
