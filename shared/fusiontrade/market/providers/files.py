"""A folder of Parquet bars as a market: ``instruments.toml`` says which file serves what.

Always true: an answer for ``end`` is made of bars that were finished by then and would be the same if the files ended
there. A timeframe without a file of its own is put together from the nearest finer one; 4h always from 1h, on our own
grid, whatever the folder has. Every file is read once and kept; each later answer is a binary search.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fusiontrade.clock import iso
from fusiontrade.errors import BadCandles, UnknownSymbol
from fusiontrade.market.candles import CandleFrame, Instants
from fusiontrade.market.providers.base import HistoryUnavailable, TimeframeUnavailable
from fusiontrade.market.providers.instruments import Instruments, Table
from fusiontrade.market.providers.parquet import Bars, LongTable, read_bars, read_table
from fusiontrade.market.resampling import grid_of, resample
from fusiontrade.market.symbols import Symbol
from fusiontrade.market.timeframes import Timeframe

__all__ = ["FilesProvider"]


@dataclass(frozen=True, eq=False)
class _Series:
    """All bars of one symbol and timeframe, and (n,) the instant at which each was finished."""

    frame: CandleFrame
    ends: Instants


class FilesProvider:
    """Bars from a folder.

    Parameters
    ----------
    folder
        Holds ``instruments.toml`` and the files it names.
    as_of
        The instant, ms, that is now; None: the close of each symbol's own last bar.

    Raises
    ------
    InvalidInput
        If ``instruments.toml`` is missing or wrong. The bar files themselves are read when they are first needed.
    """

    name = "files"
    notice: str | None = None

    def __init__(self, folder: Path, *, as_of: int | None = None) -> None:
        self._folder = folder
        self._as_of = as_of
        self._instruments = Instruments.read(folder)
        self._series: dict[tuple[str, Timeframe], _Series] = {}
        self._tables: dict[str, LongTable] = {}
        self._loading = threading.RLock()

    def candles(self, symbol: Symbol, timeframe: Timeframe, *, end: int, count: int, timeout: float) -> CandleFrame:  # noqa: ARG002 - a local file answers or fails at once
        """Return the newest ``count`` bars finished by ``end``; see `fusiontrade.market.providers.base.Provider`."""
        series = self._known(symbol, timeframe)
        stop = int(np.searchsorted(series.ends, end, side="right"))
        if stop == 0:
            raise HistoryUnavailable(
                f"the data folder has no {timeframe} bars of {symbol} that were finished by {iso(end)}: "
                f"the first one closed at {iso(int(series.ends[0]))}"
            )
        return series.frame.rows(slice(max(0, stop - count), stop))

    def now(self, symbol: Symbol) -> int:
        """Return the configured instant, or the close of the symbol's last bar over the files it has, ms."""
        if self._as_of is not None:
            return self._as_of
        return max(int(self._known(symbol, timeframe).ends[-1]) for timeframe in self._listed(symbol))

    def stand_in(self, symbol: Symbol) -> str | None:
        """Return in words which other instrument's bars are served for ``symbol``, or None."""
        listing = self._instruments.symbols.get(symbol.code)
        return None if listing is None else listing.stands_in

    def symbols(self) -> tuple[str, ...]:
        """Return the codes of every symbol the folder has bars for; reads the long tables."""
        from_tables = [
            code
            for table in self._instruments.tables
            for name in self._table(table).rows
            if (code := f"{name}{table.suffix}") not in self._instruments.symbols
        ]
        return (*self._instruments.symbols, *from_tables)

    def timeframes(self, symbol: Symbol) -> tuple[Timeframe, ...]:
        """Return the timeframes this folder can answer for ``symbol``, shortest first."""
        listed = self._listed(symbol)
        return tuple(timeframe for timeframe in Timeframe if timeframe in listed or _finer(timeframe, listed))

    def history(self, symbol: Symbol, timeframe: Timeframe) -> CandleFrame:
        """Return every bar that was finished by the folder's end; raises like `candles`. Arrays are read-only."""
        series = self._known(symbol, timeframe)
        last = max(int(self._known(symbol, listed).ends[-1]) for listed in self._listed(symbol))
        return series.frame.rows(slice(0, int(np.searchsorted(series.ends, last, side="right"))))

    def _known(self, symbol: Symbol, timeframe: Timeframe) -> _Series:
        key = (symbol.code, timeframe)
        found = self._series.get(key)
        if found is not None:
            return found
        with self._loading:
            if key not in self._series:
                self._series[key] = self._load(symbol, timeframe)
            return self._series[key]

    def _load(self, symbol: Symbol, timeframe: Timeframe) -> _Series:
        listed = self._listed(symbol)
        if timeframe in listed:
            frame = self._own(symbol, timeframe)
            return _Series(frame, frame.close_time)
        source = _finer(timeframe, listed)
        if source is None:
            raise TimeframeUnavailable(
                f"the data folder has no {timeframe} bars of {symbol} and none shorter to make them from; "
                f"it has {', '.join(one for one in Timeframe if one in listed) or 'none that count'}"
            )
        grid = grid_of(symbol)
        frame = resample(self._known(symbol, source).frame, timeframe, grid)
        if not len(frame):
            raise HistoryUnavailable(f"the data folder has too few {source} bars of {symbol} for one of {timeframe}")
        return _Series(frame, grid.ends(frame.time, timeframe))

    def _listed(self, symbol: Symbol) -> dict[Timeframe, str | Table]:
        """Return what serves the symbol directly: a file's path or a long table by timeframe; never 4h."""
        listing = self._instruments.symbols.get(symbol.code)
        found: dict[Timeframe, str | Table] = {} if listing is None else dict(listing.files)
        if listing is None:
            for table in self._instruments.tables:
                name = _name_in(table, symbol)
                if name is not None and name in self._table(table).rows:
                    found.setdefault(table.timeframe, table)
        if not found:
            raise UnknownSymbol(symbol.code)
        return {timeframe: source for timeframe, source in found.items() if timeframe is not Timeframe.H4}

    def _own(self, symbol: Symbol, timeframe: Timeframe) -> CandleFrame:
        """Return the checked bars of the file that serves the symbol at this timeframe."""
        source = self._listed(symbol)[timeframe]
        if isinstance(source, Table):
            path, bars = source.path, self._table(source).bars_of(_name_in(source, symbol) or symbol.code)
        else:
            path, bars = source, read_bars(self._folder, source, volume=symbol.has_volume)
        return _checked(path, bars, symbol, timeframe)

    def _table(self, table: Table) -> LongTable:
        with self._loading:
            if table.path not in self._tables:
                self._tables[table.path] = read_table(self._folder, table.path)
            return self._tables[table.path]


def _name_in(table: Table, symbol: Symbol) -> str | None:
    """Return what the table's column would call the symbol, or None where its suffix says that it cannot have it."""
    return symbol.code.removesuffix(table.suffix) if symbol.code.endswith(table.suffix) else None


def _finer(timeframe: Timeframe, listed: dict[Timeframe, str | Table]) -> Timeframe | None:
    """Return the timeframe to put ``timeframe`` together from, itself possibly put together; None if there is none."""
    if timeframe is Timeframe.H4:
        return Timeframe.H1 if Timeframe.H1 in listed or _finer(Timeframe.H1, listed) else None
    shorter = [one for one in listed if one.milliseconds < timeframe.milliseconds]
    return max(shorter, key=lambda one: one.milliseconds, default=None)


def _checked(path: str, bars: Bars, symbol: Symbol, timeframe: Timeframe) -> CandleFrame:
    frame = bars.frame(symbol.code, timeframe)
    if not symbol.has_volume:
        frame = frame.without_volume()
    faults = frame.faults() if len(frame) else ["no bars"]
    if not faults and timeframe is not Timeframe.D1:
        off_grid = np.flatnonzero(grid_of(symbol).opens(frame.time, timeframe) != frame.time)
        faults = [f"bar opens off the grid of {timeframe} bars at {iso(int(frame.time[row]))}" for row in off_grid[:3]]
    if faults:
        raise BadCandles([f"{path}: {symbol} {timeframe}: {fault}" for fault in faults])
    return frame
