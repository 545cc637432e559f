"""When markets are open, and which bars should therefore exist.

- FX trades from Sunday 17:00 to Friday 17:00 New York, metals the same week with an hour's break from 17:00 to 18:00
  every day. The trading days that end on Christmas Day and on New Year's Day are closed. Holidays of single centres and
  days that end early are not modelled: quotes are thin then, but there are some (``docs/decisions/014``).
- Crypto never closes.
- Equities trade in the sessions that ``exchange_calendars`` knows (since 2000). That package brings pandas with it and
  is imported only when an equity is asked about. Beyond the holidays it has recorded, every weekday counts as a session
  of usual hours.

A bar should exist when its market is open at some moment between the bar's open and its end.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from functools import cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fusiontrade.clock import iso
from fusiontrade.errors import InvalidInput
from fusiontrade.market.candles import Instants
from fusiontrade.market.grids import FX_GRID, NSE_GRID, NYSE_GRID, Grid
from fusiontrade.market.symbols import AssetClass, Symbol
from fusiontrade.market.timeframes import Timeframe
from fusiontrade.market.zones import NEW_YORK, to_utc, wall_clock

__all__ = ["MarketCalendar", "calendar_of"]

_MINUTE = 60_000
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
_WEEK = 7 * _DAY
_SUNDAY = 3 * _DAY  # 1970-01-04 was a Sunday
_LOOK_BACK = (3 * _DAY, 20 * _DAY)  # no market here has been closed for longer than the second
_FIRST_SESSION = "2000-01-01"
_LAST_ASSUMED_SESSION = np.datetime64("2060-01-01")

_EXCHANGES = {
    # our name: the package's calendar, grid, usual close on the exchange's wall clock (NSE keeps Bombay's holidays)
    "XNYS": ("XNYS", NYSE_GRID, 16 * _HOUR),
    "XNSE": ("XBOM", NSE_GRID, 15 * _HOUR + 30 * _MINUTE),
}


class MarketCalendar(Protocol):
    """The trading hours of one market; instants are ms since 1970-01-01 UTC.

    What looks for an opening, a closing or a bar raises `InvalidInput` outside the years whose sessions are known.
    """

    def is_open(self, instant: int) -> bool:
        """Whether the market trades at ``instant``; the moment it opens is open, the moment it closes is closed."""
        ...

    def next_open(self, instant: int) -> int | None:
        """Return the first moment after ``instant`` at which a closed market opens, or None where it never closes."""
        ...

    def next_close(self, instant: int) -> int | None:
        """Return the first moment after ``instant`` at which an open market closes, or None where it never does."""
        ...

    def sessions(self, start: int, end: int) -> tuple[Instants, Instants]:
        """Return the open and close times, (n,) each, of the sessions that overlap ``[start, end)``, uncut."""
        ...

    def bar_opens(self, timeframe: Timeframe, start: int, end: int) -> Instants:
        """Return (n,) the open times in ``[start, end)`` of the bars that should exist, in order."""
        ...

    def expected_last_close(self, timeframe: Timeframe, instant: int) -> int:
        """Return the close time of the newest bar that should be finished at ``instant``."""
        ...


def calendar_of(symbol: Symbol) -> MarketCalendar:
    """Return the calendar of the market that ``symbol`` trades on."""
    return _calendar("metal" if symbol.asset_class is AssetClass.METAL else symbol.calendar)


@cache
def _calendar(name: str) -> MarketCalendar:
    if name == "24/7":
        return _AlwaysOpen()
    if name in _EXCHANGES:
        return _Exchange(name)
    return _NewYorkWeek(daily_break=_HOUR if name == "metal" else 0)


def _last_close(calendar: MarketCalendar, timeframe: Timeframe, instant: int) -> int:
    length = timeframe.milliseconds
    for look_back in _LOOK_BACK:
        opens = calendar.bar_opens(timeframe, instant - look_back - length, instant - length + 1)
        if len(opens):
            return int(opens[-1]) + length
    raise _no_sessions(instant)


def _no_sessions(instant: int) -> InvalidInput:
    return InvalidInput(
        "query/as_of",
        f"the trading hours around {iso(instant)} are not known: use a moment after {_FIRST_SESSION} "
        f"and before {_LAST_ASSUMED_SESSION}",
    )


def _overlapping(opens: Instants, closes: Instants, starts: Instants, ends: Instants) -> NDArray[np.bool_]:
    """Whether each ``[open, close)`` overlaps any of the sorted, disjoint ``[start, end)``."""
    if not len(starts):
        return np.zeros(len(opens), np.bool_)
    candidate = np.searchsorted(ends, opens, side="right")  # the first session that ends after the bar opens
    return (candidate < len(starts)) & (starts[np.minimum(candidate, len(starts) - 1)] < closes)


def _first_after(edges: Instants, instant: int) -> int:
    later = edges[edges > instant]
    if not len(later):
        raise _no_sessions(instant)
    return int(later[0])


class _AlwaysOpen:
    def is_open(self, instant: int) -> bool:  # noqa: ARG002 - always
        return True

    def next_open(self, instant: int) -> int | None:  # noqa: ARG002 - never closed
        return None

    def next_close(self, instant: int) -> int | None:  # noqa: ARG002 - never closes
        return None

    def sessions(self, start: int, end: int) -> tuple[Instants, Instants]:
        span = np.array([[start], [end]], np.int64) if start < end else np.empty((2, 0), np.int64)
        return span[0], span[1]

    def bar_opens(self, timeframe: Timeframe, start: int, end: int) -> Instants:
        length = timeframe.milliseconds
        return np.arange(-(-start // length) * length, end, length, dtype=np.int64)

    def expected_last_close(self, timeframe: Timeframe, instant: int) -> int:
        return instant // timeframe.milliseconds * timeframe.milliseconds


class _Sessions(ABC):
    """A market with sessions; subclasses say when they are."""

    grid: Grid

    @abstractmethod
    def sessions(self, start: int, end: int) -> tuple[Instants, Instants]: ...

    def is_open(self, instant: int) -> bool:
        return len(self.sessions(instant, instant + 1)[0]) > 0

    def next_open(self, instant: int) -> int | None:
        opens, _ = self.sessions(instant, instant + _LOOK_BACK[-1])
        return _first_after(opens, instant)

    def next_close(self, instant: int) -> int | None:
        _, closes = self.sessions(instant, instant + _LOOK_BACK[-1])
        return _first_after(closes, instant)

    def bar_opens(self, timeframe: Timeframe, start: int, end: int) -> Instants:
        reach = 2 * timeframe.milliseconds + _HOUR  # past the end of the last bucket, whatever the clock does
        edges = self.grid.between(start, end + reach, timeframe)
        expected = _overlapping(edges[:-1], edges[1:], *self.sessions(start, end + reach))
        return edges[:-1][expected & (edges[:-1] < end)]

    def expected_last_close(self, timeframe: Timeframe, instant: int) -> int:
        return _last_close(self, timeframe, instant)


class _NewYorkWeek(_Sessions):
    """Sunday to Friday 17:00 New York but for two holidays, with a break of ``daily_break`` ms at each day's start."""

    grid = FX_GRID

    def __init__(self, daily_break: int) -> None:
        self._break = daily_break

    def sessions(self, start: int, end: int) -> tuple[Instants, Instants]:
        first, last = (int(wall_clock(NEW_YORK, np.array([edge]))[0]) for edge in (start, end))
        week_start = _SUNDAY + 17 * _HOUR
        weeks = np.arange((first - week_start) // _WEEK, (last - week_start) // _WEEK + 1, dtype=np.int64)
        days = (week_start + weeks[:, None] * _WEEK + np.arange(5, dtype=np.int64) * _DAY).ravel()
        opens, closes = self._walls(days[~_ends_on_a_holiday(days)])
        opens, closes = to_utc(NEW_YORK, opens, opens), to_utc(NEW_YORK, closes, closes)
        chosen = (closes > start) & (opens < end)
        return opens[chosen], closes[chosen]

    def _walls(self, days: Instants) -> tuple[Instants, Instants]:
        """Return when the sessions of these trading days open and close; days without a pause between them are one."""
        opens, closes = days + self._break, days + _DAY
        runs_on = opens[1:] == closes[:-1]
        return opens[np.append(True, ~runs_on)[: len(days)]], closes[np.append(~runs_on, True)[: len(days)]]


def _ends_on_a_holiday(days: Instants) -> NDArray[np.bool_]:
    """Whether each trading day, begun at 17:00 of the date before, is Christmas Day's or New Year's Day's."""
    dates = (days + _DAY).astype("datetime64[ms]").astype("datetime64[D]")
    months = dates.astype("datetime64[M]")
    month, day = months.astype(np.int64) % 12 + 1, (dates - months).astype(np.int64) + 1
    return np.asarray(((month == 12) & (day == 25)) | ((month == 1) & (day == 1)))


class _Exchange(_Sessions):
    """An exchange's regular sessions."""

    def __init__(self, name: str) -> None:
        self._package_name, self.grid, self._usual_close = _EXCHANGES[name]

    def sessions(self, start: int, end: int) -> tuple[Instants, Instants]:
        opens, closes = _exchange_sessions(self._package_name, self.grid, self._usual_close)
        chosen = slice(int(np.searchsorted(closes, start, side="right")), int(np.searchsorted(opens, end)))
        return opens[chosen], closes[chosen]


@cache
def _exchange_sessions(package_name: str, grid: Grid, usual_close: int) -> tuple[Instants, Instants]:
    """Return every session's open and close, ms: the recorded ones, then weekdays of usual hours."""
    import exchange_calendars

    with warnings.catch_warnings():
        # The package reads columns the way pandas 3 is about to drop.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        recorded = exchange_calendars.get_calendar(package_name, start=_FIRST_SESSION)
        opens = recorded.opens.to_numpy("datetime64[ms]").astype(np.int64)
        closes = recorded.closes.to_numpy("datetime64[ms]").astype(np.int64)
        last = recorded.last_session.to_numpy().astype("datetime64[D]")
    day = np.timedelta64(1, "D")
    days = np.arange(last + day, _LAST_ASSUMED_SESSION, day)
    days = days[np.is_busday(days)].astype("datetime64[ms]").astype(np.int64)
    later_opens, later_closes = (to_utc(grid.zone, days + edge, days + edge) for edge in (grid.anchor, usual_close))
    return np.concatenate([opens, later_opens]), np.concatenate([closes, later_closes])
