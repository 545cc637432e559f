"""Where bars open: the grid of each market.

FX and metals count from 17:00 New York, the end of their trading day, so 4h bars open at 17, 21, 01, 05, 09 and 13 New
York all year; crypto counts from 00:00 UTC; equities count from their session's opening (09:30 New York, 09:15 India)
while their daily bars carry the session's date at 00:00 UTC.

New York changes its clock on Sundays at 02:00, when FX and metals are closed, so no bucket of theirs with bars in it is
ever cut or stretched. Where a source quotes through it all the same, the bucket of that night that opens at 01:00 lasts
three hours in spring, and in autumn 01:00 comes twice: an hour's bucket, then one of four.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fusiontrade.market.candles import Instants
from fusiontrade.market.symbols import AssetClass, Symbol
from fusiontrade.market.timeframes import Timeframe
from fusiontrade.market.zones import INDIA, NEW_YORK, to_utc, wall_clock

__all__ = ["FX_GRID", "NSE_GRID", "NYSE_GRID", "UTC_GRID", "Grid", "grid_of"]

_HOUR = 3_600_000


@dataclass(frozen=True)
class Grid:
    """Bars open at ``anchor`` on the wall clock of ``zone``, and every bar length before and after it.

    Parameters
    ----------
    zone, anchor
        Of bars shorter than a day; ``anchor`` in ms after midnight.
    day_zone, day_anchor
        Of daily bars.
    """

    zone: str
    anchor: int
    day_zone: str
    day_anchor: int

    def opens(self, instants: Instants, timeframe: Timeframe) -> Instants:
        """Return (n,) int64: the open time of the bucket each instant falls into, ms."""
        zone, anchor = self._clock(timeframe)
        wall = wall_clock(zone, instants)
        start = wall - (wall - anchor) % timeframe.milliseconds
        return to_utc(zone, start, instants)

    def ends(self, opens: Instants, timeframe: Timeframe) -> Instants:
        """Return (n,) int64: when each bucket can hold no more bars, never before its nominal length has passed, ms."""
        zone, _ = self._clock(timeframe)
        length = timeframe.milliseconds
        after = to_utc(zone, wall_clock(zone, opens) + length, opens + length)
        return np.maximum(after, opens + length)

    def between(self, start: int, end: int, timeframe: Timeframe) -> Instants:
        """Return (n,) int64: every bucket's open time in ``[start, end)``, ms, whether the market is open or not."""
        if end <= start:
            return np.empty(0, np.int64)
        step = min(timeframe.milliseconds, _HOUR)
        opens = np.unique(self.opens(np.arange(start, end + step, step, dtype=np.int64), timeframe))
        return opens[(opens >= start) & (opens < end)]

    def _clock(self, timeframe: Timeframe) -> tuple[str, int]:
        return (self.day_zone, self.day_anchor) if timeframe is Timeframe.D1 else (self.zone, self.anchor)


FX_GRID = Grid(NEW_YORK, 17 * _HOUR, NEW_YORK, 17 * _HOUR)
UTC_GRID = Grid("UTC", 0, "UTC", 0)
NYSE_GRID = Grid(NEW_YORK, 9 * _HOUR + _HOUR // 2, "UTC", 0)
NSE_GRID = Grid(INDIA, 9 * _HOUR + _HOUR // 4, "UTC", 0)


def grid_of(symbol: Symbol) -> Grid:
    """Return the grid the symbol's bars open on."""
    if symbol.asset_class is AssetClass.EQUITY:
        return NSE_GRID if symbol.calendar == "XNSE" else NYSE_GRID
    return UTC_GRID if symbol.calendar == "24/7" else FX_GRID
