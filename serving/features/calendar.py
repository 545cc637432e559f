"""Calendar columns: what is known in advance about the bar that opens when a row's bar closes.

Everything is a function of that instant and the bar's length; no price enters. Sessions keep their own local time,
daylight saving included. A market or model without a calendar gets zeros, the neutral value of every column.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from fusiontrade.market.candles import Floats, Instants
from fusiontrade.market.timeframes import Timeframe

__all__ = ["CALENDAR", "calendar_columns", "newest_calendar", "offsets"]

CALENDAR: tuple[str, ...] = (
    "day_sin",
    "day_cos",
    "week_sin",
    "week_cos",
    "tokyo",
    "london",
    "new_york",
    "rollover",
)
"""Names of the columns: time of day and of week (UTC), then the share of the bar inside each session."""

_MINUTE = 60_000
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
_EPOCH_WEEKDAY = 3  # 1970-01-01 was a Thursday; Monday is 0

# name: zone, opening hour, closing hour (local), on weekdays only
_SESSIONS = (
    ("tokyo", "Asia/Tokyo", 9, 18, True),
    ("london", "Europe/London", 8, 17, True),
    ("new_york", "America/New_York", 8, 17, True),
    ("rollover", "America/New_York", 16, 19, False),
)

_BEGINS, _ENDS, _WORKING_DAYS = np.array(
    [(begins * _HOUR, ends * _HOUR, 5 if weekdays_only else 7) for *_, begins, ends, weekdays_only in _SESSIONS]
).T[..., None]


def calendar_columns(time: Instants, timeframe: Timeframe) -> NDArray[np.float32]:
    """Return the calendar of the bars that open at the close of the given ones.

    Parameters
    ----------
    time
        (n,) int64: the instant each bar opens, ms since 1970-01-01 UTC.
    timeframe
        Length of the bars.

    Returns
    -------
    (n, 8) float32 in [-1, 1], columns as in `CALENDAR`.
    """
    opens = np.asarray(time, np.int64) + timeframe.milliseconds
    day = 2.0 * np.pi * (opens % _DAY) / _DAY
    week = 2.0 * np.pi * ((opens + _EPOCH_WEEKDAY * _DAY) % (7 * _DAY)) / (7 * _DAY)
    columns = np.empty((len(CALENDAR), len(opens)), np.float32)
    columns[:4] = np.sin(day), np.cos(day), np.sin(week), np.cos(week)
    local = {zone: opens + offsets(opens, zone) for zone in {zone for _, zone, *_ in _SESSIONS}}
    columns[4:] = _shares(np.stack([local[zone] for _, zone, *_ in _SESSIONS]), timeframe.milliseconds)
    return np.ascontiguousarray(columns.T)


@lru_cache(maxsize=256)
def newest_calendar(time: bytes, timeframe: Timeframe) -> NDArray[np.float32]:
    """Return `calendar_columns` of bars that open at these instants (int64 as bytes); all symbols ask for the same."""
    columns = calendar_columns(np.frombuffer(time, np.int64), timeframe)
    columns.setflags(write=False)
    return columns


def _shares(local: Instants, length: int) -> Floats:
    """Return (sessions, n) how much of each bar lies in the session of the day it opens on or of the next day."""
    day = local // _DAY
    into_day = local - day * _DAY
    weekday = (day + _EPOCH_WEEKDAY) % 7
    inside = np.zeros(local.shape, np.int64)
    for ahead in (0, 1):
        start = into_day - ahead * _DAY
        overlap = np.minimum(start + length, _ENDS) - np.maximum(start, _BEGINS)
        working = (weekday + ahead) % 7 < _WORKING_DAYS
        inside += np.maximum(overlap, 0) * working
    return inside / length


def offsets(instants: Instants, zone: str) -> Instants:
    """Return (n,) local time less UTC at each instant, both in ms."""
    if not len(instants):
        return np.zeros(0, np.int64)
    since, offset = _table(zone, _year(instants.min()), _year(instants.max()))
    return np.asarray(offset[np.searchsorted(since, instants, side="right") - 1], np.int64)


def _year(instant: np.int64) -> int:
    return int(np.datetime64(int(instant), "ms").astype("datetime64[Y]").astype(np.int64)) + 1970


@lru_cache(maxsize=512)
def _table(zone: str, first_year: int, last_year: int) -> tuple[Instants, Instants]:
    """Return since when which offset holds, in ms, from the start of one year to the end of another."""
    table = [change for year in range(first_year, last_year + 1) for change in _changes(zone, year)]
    since, offset = np.array(table, np.int64).T
    return np.ascontiguousarray(since), np.ascontiguousarray(offset)


@lru_cache(maxsize=512)
def _changes(zone: str, year: int) -> tuple[tuple[int, int], ...]:
    """Return (since, offset) in ms for the start of the year and for each change of the clock within it."""
    starts = [_utc(year, month) for month in range(1, 13)] + [_utc(year + 1, 1)]
    changes = [(starts[0], _offset(zone, starts[0]))]
    for before, after in pairwise(starts):
        if _offset(zone, before) != _offset(zone, after):
            changes.append(_bisect(zone, before, after))
    return tuple(changes)


def _bisect(zone: str, before: int, after: int) -> tuple[int, int]:
    old = _offset(zone, before)
    while after - before > _MINUTE:
        middle = (before + after) // (2 * _MINUTE) * _MINUTE
        before, after = (middle, after) if _offset(zone, middle) == old else (before, middle)
    return after, _offset(zone, after)


def _utc(year: int, month: int) -> int:
    return round(datetime(year, month, 1, tzinfo=UTC).timestamp() * 1000)


def _offset(zone: str, instant: int) -> int:
    wall = datetime.fromtimestamp(instant / 1000, ZoneInfo(zone)).replace(tzinfo=UTC)
    return round(wall.timestamp() * 1000) - instant
