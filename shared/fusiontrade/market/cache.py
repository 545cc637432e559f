"""Finished candles in memory: a bounded table of what was fetched last.

Finished bars never change, so an entry answers for every instant up to the one at which a newer bar may exist
(``fresh_until``), and for past instants by leaving out what was not finished then. An entry that is no longer fresh
is kept: it is what can be answered, marked stale, while the provider is down.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe

__all__ = ["CacheKey", "CachedCandles", "CandleCache"]


@dataclass(frozen=True)
class CacheKey:
    """What an entry is for; ``moment`` is None for the present and a bar number for a past moment."""

    symbol: str
    timeframe: Timeframe
    moment: int | None = None


@dataclass(frozen=True, eq=False)
class CachedCandles:
    """Bars as they were fetched.

    Parameters
    ----------
    frame
        Checked, finished bars; never empty.
    end
        The instant (ms) they were fetched for.
    fresh_until
        From this instant (ms) on a newer finished bar may exist.
    exhausted
        Whether the history begins with the first bar: asking for more bars gives no more.
    """

    frame: CandleFrame
    end: int
    fresh_until: int
    exhausted: bool

    def answer(self, end: int, count: int) -> CandleFrame | None:
        """Return the newest ``count`` bars finished by ``end``, or None where these bars cannot tell."""
        if end >= self.fresh_until:
            return None
        rows = self.frame.finished_by(end)
        if len(rows) >= count or (self.exhausted and len(rows)):
            return rows.tail(count)
        return None

    def leftovers(self, end: int, count: int) -> CandleFrame | None:
        """Return what is there of the newest ``count`` bars finished by ``end``, however old, or None."""
        rows = self.frame.finished_by(end).tail(count)
        return rows if len(rows) else None


class CandleCache:
    """The newest ``size`` entries by last use; safe to share between threads."""

    def __init__(self, size: int = 256) -> None:
        if size < 1:
            raise ValueError(f"size is {size}: a cache holds at least one entry")
        self._size = size
        self._entries: OrderedDict[CacheKey, CachedCandles] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: CacheKey) -> CachedCandles | None:
        """Return the entry of ``key``, fresh or not, or None."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                self._entries.move_to_end(key)
            return entry

    def put(self, key: CacheKey, entry: CachedCandles) -> None:
        """Keep ``entry`` unless one for a later instant is there; the least recently used entry makes room."""
        with self._lock:
            present = self._entries.get(key)
            if present is not None and present.end > entry.end:
                return
            self._entries[key] = entry
            self._entries.move_to_end(key)
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)
