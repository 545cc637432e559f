"""Time comes in as an argument; this is the type it comes in as.

Instants inside the product are integers: milliseconds since 1970-01-01 UTC. Text and `datetime` stand at the edges.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

__all__ = ["Clock", "iso", "parse_iso", "system_clock"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

Clock = Callable[[], int]
"""Returns the present instant in milliseconds since 1970-01-01 UTC."""


def system_clock() -> int:
    """Return the machine's present instant, ms since 1970-01-01 UTC."""
    return time.time_ns() // 1_000_000


def iso(milliseconds: int) -> str:
    """Return the instant as ISO-8601 UTC with ``Z``; milliseconds only where there are any."""
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    precision = "milliseconds" if milliseconds % 1000 else "seconds"
    return moment.isoformat(timespec=precision).replace("+00:00", "Z")


def parse_iso(text: str) -> int:
    """Return the instant ``text`` names, ms since 1970-01-01 UTC, cut to the millisecond and never rounded up.

    A bar that closes at noon is not finished a tenth of a millisecond before.

    Raises
    ------
    ValueError
        If the text is no ISO-8601 date-time, or has no zone (an instant without a zone is ambiguous).
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone: add Z or an offset, e.g. 2025-07-31T12:00:00Z")
    return (moment - _EPOCH) // _MILLISECOND
