"""Finished candles in memory: a bounded table of what was fetched last.

Finished bars never change, so an entry answers for every instant up to the one at which a newer bar may exist
(``fresh_until``), and for past instants by leaving out what was not finished then. An entry that is no longer fresh
is kept: it is what can be answered, marked stale, while the provider is down.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace

import numpy as np

from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe

__all__ = ["MOST_BYTES", "CacheKey", "CachedCandles", "CandleCache"]

MOST_BYTES = 48 * 2**20
"""What all entries of a process hold: four timeframes of 720 bars are 141 kB a symbol, so these are 350 symbols."""
_BESIDE = 1024  # bytes of an entry beside its bars


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

    @property
    def nbytes(self) -> int:
        """Bytes of its bars, and a little for what is around them."""
        frame = self.frame
        columns = (frame.time, frame.open, frame.high, frame.low, frame.close, frame.volume)
        return _BESIDE + sum(column.nbytes for column in columns if column is not None)

    def on_its_own(self) -> CachedCandles:
        """Return this entry with bars that keep no longer history alive, of which they are a part."""
        whole = self.frame.time.base
        if whole is None or whole.nbytes <= self.frame.time.nbytes:
            return self
        return replace(self, frame=self.frame.rows(np.ones(len(self.frame), np.bool_)))

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
    """The newest entries by last use that ``most_bytes`` hold; safe to share between threads."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        if most_bytes < 1:
            raise ValueError(f"most_bytes is {most_bytes}: a cache holds at least one entry")
        self._most_bytes = most_bytes
        self._nbytes = 0
        self._entries: OrderedDict[CacheKey, CachedCandles] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes that the entries hold now."""
        return self._nbytes

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
        """Keep ``entry`` unless one for a later instant is there; the least recently used entries make room.

        The newest entry is kept however large it is.
        """
        entry = entry.on_its_own()
        with self._lock:
            present = self._entries.get(key)
            if present is not None and present.end > entry.end:
                return
            self._nbytes += entry.nbytes - (0 if present is None else present.nbytes)
            self._entries[key] = entry
            self._entries.move_to_end(key)
            while self._nbytes > self._most_bytes and len(self._entries) > 1:
                _, gone = self._entries.popitem(last=False)
                self._nbytes -= gone.nbytes
