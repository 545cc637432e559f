"""Bars in Parquet files: columns ``timestamp`` (the bar's open, UTC), ``open, high, low, close`` and ``volume``.

The only module that knows pyarrow, which it imports when a file is first read: the cloud's functions do without it.
Columns come out as read-only numpy arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusiontrade.errors import BadCandles, ProviderUnavailable
from fusiontrade.market.candles import CandleFrame, Floats, Instants
from fusiontrade.market.timeframes import Timeframe

__all__ = ["Bars", "LongTable", "read_bars", "read_table"]

_TIME = "timestamp"
_PRICES = ("open", "high", "low", "close")
_VOLUME = "volume"
_SYMBOL = "symbol"


@dataclass(frozen=True, eq=False)
class Bars:
    """Columns as they stand in a file, not yet checked; ``volume`` is None where it was not asked for."""

    time: Instants
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats | None

    def frame(self, symbol: str, timeframe: Timeframe) -> CandleFrame:
        """Return them as a frame of ``symbol``."""
        return CandleFrame(symbol, timeframe, self.time, self.open, self.high, self.low, self.close, self.volume)


@dataclass(frozen=True, eq=False)
class LongTable:
    """The bars of many symbols, grouped: ``rows`` says which of ``bars``, in file order, are a symbol's."""

    bars: Bars
    rows: Mapping[str, slice]

    def bars_of(self, name: str) -> Bars:
        """Return the bars of the symbol the file calls ``name``."""
        chosen, bars = self.rows[name], self.bars
        volume = None if bars.volume is None else bars.volume[chosen]
        return Bars(
            bars.time[chosen], bars.open[chosen], bars.high[chosen], bars.low[chosen], bars.close[chosen], volume
        )


def read_bars(folder: Path, path: str, *, volume: bool) -> Bars:
    """Return the bars of ``folder / path``, with their volume if asked.

    Raises
    ------
    ProviderUnavailable
        If there is no such file or it is no Parquet.
    BadCandles
        If a column is missing, has another type, or has holes; names the file and the column.
    """
    table = _read(folder, path, [_TIME, *_PRICES, *([_VOLUME] if volume else [])])
    return _bars(table, path, volume=volume, order=None)


def read_table(folder: Path, path: str) -> LongTable:
    """Return the bars, volume included, of every symbol in ``folder / path``; raises like `read_bars`."""
    table = _read(folder, path, [_SYMBOL, _TIME, *_PRICES, _VOLUME])
    encoded = table[_SYMBOL].combine_chunks().dictionary_encode()
    if encoded.null_count:
        raise BadCandles([f"{path}: column {_SYMBOL} has empty rows"])
    names: list[str] = encoded.dictionary.to_pylist()
    codes: NDArray[np.int64] = encoded.indices.to_numpy().astype(np.int64)
    order = np.argsort(codes, kind="stable")
    edges = np.searchsorted(codes[order], np.arange(len(names) + 1))
    rows = {name: slice(int(edges[code]), int(edges[code + 1])) for code, name in enumerate(names)}
    return LongTable(_bars(table, path, volume=True, order=order), rows)


def _read(folder: Path, path: str, columns: Sequence[str]) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ProviderUnavailable("Parquet files need pyarrow, which is not installed: run make run again") from error
    try:
        with pyarrow.parquet.ParquetFile(folder / path, memory_map=True) as file:
            if missing := [name for name in columns if name not in file.schema_arrow.names]:
                raise BadCandles([f"{path}: no column {name}" for name in missing])
            return file.read(columns=list(columns))
    except FileNotFoundError as error:
        raise ProviderUnavailable(f"{path}, named by instruments.toml, is not in the data folder") from error
    except (pyarrow.ArrowException, OSError) as error:
        raise ProviderUnavailable(f"{path} cannot be read as Parquet: {error}") from error


def _bars(table: Any, path: str, *, volume: bool, order: NDArray[np.int64] | None) -> Bars:
    def ordered(column: NDArray[Any]) -> NDArray[Any]:
        arranged = np.array(column) if order is None else column[order]
        arranged.setflags(write=False)
        return arranged

    first, high, low, last = (ordered(_numbers(table, name, path)) for name in _PRICES)
    amounts = ordered(_numbers(table, _VOLUME, path)) if volume else None
    return Bars(ordered(_instants(table, path)), first, high, low, last, amounts)


def _instants(table: Any, path: str) -> Instants:
    import pyarrow

    column = table[_TIME]
    if column.null_count:
        raise BadCandles([f"{path}: column {_TIME} has {column.null_count} empty rows"])
    try:
        if not pyarrow.types.is_integer(column.type):
            column = column.cast(pyarrow.timestamp("ms", getattr(column.type, "tz", None)))
        return np.asarray(column.cast(pyarrow.int64()).to_numpy(), np.int64)
    except pyarrow.ArrowException as error:
        raise BadCandles([f"{path}: column {_TIME} is {column.type}, not a timestamp of whole ms"]) from error


def _numbers(table: Any, name: str, path: str) -> Floats:
    import pyarrow

    column = table[name]
    try:
        return np.asarray(column.cast(pyarrow.float64()).to_numpy(), np.float64)
    except pyarrow.ArrowException as error:
        raise BadCandles([f"{path}: column {name} is {column.type}, not numbers"]) from error
