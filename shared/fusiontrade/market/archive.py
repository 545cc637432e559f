"""Finished candles in an object store: what one instance fetched, no other has to fetch again.

One ``.npz`` per provider, symbol, timeframe and month (``candles/yahoo/EURUSD=X/1h/2025-07.npz``) holds the bars that
open in that month and ``covered``: the spans of time for which the provider's bars are complete in the file. Bars
outside a span are never answered, so a gap between two fetches can never pass for a quiet market. Where new bars
disagree with kept ones (a split or a dividend re-adjusts the past), the kept ones are dropped; two fetches that share
no bar are not put together.

The archive only saves time: an object that cannot be read is a miss with a warning, an object that cannot be written
is a warning.
"""

from __future__ import annotations

import io
import logging
import zipfile
from datetime import UTC, datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fusiontrade.errors import BadCandles, FusionTradeError
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe

__all__ = ["CandleArchive", "CandleStore"]

_log = logging.getLogger(__name__)

_COLUMNS = ("open", "high", "low", "close")
_MOST_MONTHS = 24
_AGREEMENT = 1e-6  # relative difference of closes above which the past was re-adjusted

Spans = NDArray[np.int64]
_Month = tuple[CandleFrame, Spans]


class CandleStore(Protocol):
    """Objects by key; `fusiontrade.cloud.storage` implements it."""

    def get(self, key: str) -> bytes | None:
        """Return the object, or None where there is none."""
        ...

    def put(self, key: str, body: bytes) -> None:
        """Write the object, replacing one that is there."""
        ...


class CandleArchive:
    """The monthly files of one provider.

    Parameters
    ----------
    store
        Where the objects are.
    provider
        The provider's name, part of every key.
    """

    def __init__(self, store: CandleStore, provider: str) -> None:
        self._store = store
        self._provider = provider

    def load(self, symbol: str, timeframe: Timeframe, *, end: int, count: int) -> CandleFrame | None:
        """Return up to ``count`` bars without a hole among them, the newest that are kept and finished by ``end`` (ms).

        None where nothing is kept. How old the newest bar is, is for the caller to judge.
        """
        parts: list[CandleFrame] = []
        reach: int | None = None  # the parts are complete from this instant on
        month = _month_of(end - 1)
        for _ in range(_MOST_MONTHS):
            kept = self._read(symbol, timeframe, month)
            if kept is None and (reach is not None or month != _month_of(end - 1)):
                break
            if kept is not None:
                found = _covered_until(kept, end if reach is None else reach, touching=reach is not None)
                if found is None:
                    break
                part, reach = found
                parts.insert(0, part)
                if reach > _begins(month) or sum(map(len, parts)) >= count:
                    break
            month = _previous(month)
        bars = _joined(parts)
        return None if bars is None or not len(bars) else bars.tail(count)

    def save(self, frame: CandleFrame) -> None:
        """Keep the bars of ``frame``, which are complete from its first bar's open to its last bar's close."""
        span = (int(frame.time[0]), int(frame.close_time[-1]))
        month = _month_of(span[0])
        while _begins(month) <= int(frame.time[-1]):
            self._save_month(frame, month, span)
            month = _following(month)

    def _save_month(self, frame: CandleFrame, month: str, span: tuple[int, int]) -> None:
        begins, ends = _begins(month), _begins(_following(month))
        rows = frame.rows((frame.time >= begins) & (frame.time < ends))
        # What begins with a month's first bar shares none with the month before and must not be joined to it.
        first = begins + 1 if span[0] == begins else max(span[0], begins)
        spans = np.array([[first, min(span[1], ends)]], dtype=np.int64)
        kept = self._read(frame.symbol, frame.timeframe, month)
        merged = (rows, spans) if kept is None else _merged(kept, (rows, spans))
        if kept is not None and len(merged[0]) == len(kept[0]) and np.array_equal(merged[1], kept[1]):
            return
        key = self._key(frame.symbol, frame.timeframe, month)
        try:
            self._store.put(key, _packed(*merged))
        except FusionTradeError as error:
            _log.warning("candles are not archived: %s: %s", key, error)

    def _read(self, symbol: str, timeframe: Timeframe, month: str) -> _Month | None:
        key = self._key(symbol, timeframe, month)
        try:
            body = self._store.get(key)
            return None if body is None else _unpacked(body, symbol, timeframe)
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, BadCandles) as error:
            _log.warning("archived candles are damaged and ignored: %s: %s", key, error)
        except FusionTradeError as error:
            _log.warning("archived candles cannot be read: %s: %s", key, error)
        return None

    def _key(self, symbol: str, timeframe: Timeframe, month: str) -> str:
        return f"candles/{self._provider}/{symbol}/{timeframe}/{month}.npz"


def _covered_until(kept: _Month, instant: int, *, touching: bool) -> tuple[CandleFrame, int] | None:
    """Return the bars of the newest span that begins before ``instant``, and where that span begins.

    ``touching``: the span has to reach ``instant`` itself (the start of the next month), else there is a hole.
    """
    frame, spans = kept
    before = spans[spans[:, 0] < instant]
    if not len(before) or (touching and before[-1, 1] < instant):
        return None
    begins, ends = int(before[-1, 0]), int(before[-1, 1])
    rows = frame.rows((frame.time >= begins) & (frame.time < ends))
    return rows if touching else rows.finished_by(instant), begins


def _merged(kept: _Month, new: _Month) -> _Month:
    """Return both months' bars and spans; the new bars win, alone where the two disagree."""
    both, old_rows, new_rows = np.intersect1d(kept[0].time, new[0].time, assume_unique=True, return_indices=True)
    if len(both) and not np.allclose(kept[0].close[old_rows], new[0].close[new_rows], rtol=_AGREEMENT, atol=0.0):
        return new
    older = kept[0].rows(~np.isin(kept[0].time, new[0].time))
    joined = _joined([older, new[0]])
    return (new[0] if joined is None else joined), _united(np.concatenate([kept[1], new[1]]))


def _joined(parts: list[CandleFrame]) -> CandleFrame | None:
    """Return the parts' bars as one frame ordered by time, or None where there are no parts."""
    if not parts:
        return None
    first = parts[0]
    time = np.concatenate([part.time for part in parts])
    order = np.argsort(time, kind="stable")
    prices = {name: np.concatenate([getattr(part, name) for part in parts])[order] for name in _COLUMNS}
    volumes = [part.volume for part in parts if part.volume is not None]
    volume = np.concatenate(volumes)[order] if len(volumes) == len(parts) else None
    return CandleFrame(first.symbol, first.timeframe, time[order], **prices, volume=volume)


def _united(spans: Spans) -> Spans:
    """Return the spans ordered, with those that overlap made one.

    Two that only touch share no bar that would show whether prices were adjusted anew in between.
    """
    united: list[list[int]] = []
    for begins, ends in sorted(spans.tolist()):
        if united and begins < united[-1][1]:
            united[-1][1] = max(united[-1][1], ends)
        else:
            united.append([begins, ends])
    return np.array(united, dtype=np.int64)


def _packed(frame: CandleFrame, spans: Spans) -> bytes:
    columns = {name: getattr(frame, name) for name in ("time", *_COLUMNS)}
    if frame.volume is not None:
        columns["volume"] = frame.volume
    buffer = io.BytesIO()
    np.savez_compressed(buffer, covered=spans, **columns)
    return buffer.getvalue()


def _unpacked(body: bytes, symbol: str, timeframe: Timeframe) -> _Month:
    with np.load(io.BytesIO(body), allow_pickle=False) as file:
        prices = {name: file[name].astype(np.float64) for name in _COLUMNS}
        volume = file["volume"].astype(np.float64) if "volume" in file.files else None
        frame = CandleFrame(symbol, timeframe, file["time"].astype(np.int64), **prices, volume=volume).checked()
        spans = file["covered"].astype(np.int64)
    if spans.ndim != 2 or spans.shape[1] != 2:
        raise ValueError(f"covered has the shape {spans.shape}, not (n, 2)")
    return frame, spans


def _month_of(instant: int) -> str:
    return datetime.fromtimestamp(instant / 1000, UTC).strftime("%Y-%m")


def _begins(month: str) -> int:
    year, number = map(int, month.split("-"))
    return round(datetime(year, number, 1, tzinfo=UTC).timestamp() * 1000)


def _previous(month: str) -> str:
    return _month_of(_begins(month) - 1)


def _following(month: str) -> str:
    return _month_of(_begins(month) + 32 * 86_400_000)
