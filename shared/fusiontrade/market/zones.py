"""Wall clocks of market places, for whole columns of instants at once.

Offsets come from the operating system's (or the ``tzdata`` package's) zone tables through `zoneinfo`; the moments at
which a zone changes its offset are found once per zone, after which a column costs one binary search.
Covers 1970 to 2060; outside it the offset of the nearest covered moment is used.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from fusiontrade.market.candles import Instants

__all__ = ["INDIA", "NEW_YORK", "offsets", "to_utc", "wall_clock"]

NEW_YORK = "America/New_York"
INDIA = "Asia/Kolkata"

_PROBE_STEP = 14 * 86_400  # seconds: no zone here switched twice within two weeks
_FIRST, _LAST = 0, int(datetime(2060, 1, 1, tzinfo=UTC).timestamp())


def offsets(zone: str, instants: Instants) -> Instants:
    """Return (n,) int64: what to add to each UTC instant (ms) to read the wall clock of ``zone``."""
    if zone == "UTC":
        return np.zeros_like(instants)
    switches, values = _switches(zone)
    return values[np.searchsorted(switches, instants, side="right")]


def wall_clock(zone: str, instants: Instants) -> Instants:
    """Return (n,) int64: the wall clock of ``zone`` at each instant, as ms since 1970-01-01 00:00 of that clock."""
    return instants + offsets(zone, instants)


def to_utc(zone: str, wall: Instants, near: Instants) -> Instants:
    """Return (n,) int64: the instants at which ``zone``'s wall clock shows ``wall``.

    ``near`` (n,) are instants close by: where the clock shows a time twice (the hour that is repeated in autumn), the
    reading with the offset in force at ``near`` is meant.
    """
    first_try = wall - offsets(zone, near)
    return wall - offsets(zone, first_try)


@cache
def _switches(zone: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the instants (k,) at which the offset changes, and the offsets (k + 1,) before, between and after, ms."""
    rules = ZoneInfo(zone)
    switches: list[int] = []
    values = [_offset(rules, _FIRST)]
    for probe in range(_FIRST, _LAST, _PROBE_STEP):
        after = _offset(rules, probe + _PROBE_STEP)
        if after != values[-1]:
            switches.append(_first_with(rules, after, probe, probe + _PROBE_STEP))
            values.append(after)
    return np.array(switches, np.int64) * 1000, np.array(values, np.int64) * 1000


def _first_with(rules: ZoneInfo, wanted: int, before: int, after: int) -> int:
    while after - before > 1:
        middle = (before + after) // 2
        before, after = (before, middle) if _offset(rules, middle) == wanted else (middle, after)
    return after


def _offset(rules: ZoneInfo, seconds: int) -> int:
    difference = datetime.fromtimestamp(seconds, rules).utcoffset()
    return int(difference.total_seconds()) if difference is not None else 0
