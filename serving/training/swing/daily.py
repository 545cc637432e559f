"""Daily bars of many stocks: the long tables of a folder, with what its adjusted closes and flagged days say.

Features see the bars as serving does, split-adjusted; returns count dividends where the table has ``adj_close``, and
end at a day that ``jump_flag`` marks: its move may be a demerger that nobody adjusted for.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusiontrade.errors import InvalidInput
from fusiontrade.market.candles import CandleFrame, Floats
from fusiontrade.market.timeframes import Timeframe
from serving.models.swing import HORIZONS
from serving.swing.card import ANY

__all__ = ["DailySeries", "apart", "has_daily", "read_daily", "returns_ahead"]

_PRICES = ("open", "high", "low", "close")


@dataclass(frozen=True, eq=False)
class DailySeries:
    """One stock; n bars.

    Parameters
    ----------
    universe
        Name of the table it stands in: the stocks it is ranked against.
    frame
        Its bars, checked.
    factor
        (n,) what a price is multiplied by so that dividends count; 1 where they do already.
    jumps
        (n,) bool: days whose move is no return.
    """

    universe: str
    frame: CandleFrame
    factor: Floats
    jumps: NDArray[np.bool_]

    @property
    def symbol(self) -> str:
        """Yahoo's code."""
        return self.frame.symbol

    def until(self, instant: int) -> DailySeries:
        """Return the bars that had closed by ``instant`` (ms UTC)."""
        rows = slice(0, int(np.searchsorted(self.frame.close_time, instant, side="right")))
        return replace(self, frame=self.frame.rows(rows), factor=self.factor[rows], jumps=self.jumps[rows])


def read_daily(folder: Path, universes: tuple[str, ...] = (), symbols: tuple[str, ...] = ()) -> list[DailySeries]:
    """Return the stocks of every daily table of the folder, by universe and symbol.

    Parameters
    ----------
    folder
        Holds ``instruments.toml`` with ``[[tables]]`` and the Parquet files they name.
    universes, symbols
        Names to keep; empty: all. A universe is called as its file is, without ``_1d``.

    Raises
    ------
    InvalidInput
        If there is no such table.
    BadCandles
        If bars break their own rules.
    """
    found: list[DailySeries] = []
    for table in _tables(folder):
        name = Path(table["path"]).stem.removesuffix("_1d")
        if not universes or name in universes:
            found += _stocks(folder / table["path"], name, table.get("suffix", ""), symbols)
    if not found:
        asked = f" of {', '.join(universes + symbols)}" if universes or symbols else ""
        raise InvalidInput("data", f"{folder} has no daily table{asked}")
    return sorted(found, key=lambda one: (one.universe, one.symbol))


def has_daily(folder: Path) -> bool:
    """Tell whether the folder names a daily table; raises `InvalidInput` where it names nothing that can be read."""
    return bool(_tables(folder))


def apart(series: Sequence[DailySeries]) -> None:
    """Check that a card can name every stock: each stands in one universe, once.

    Raises
    ------
    InvalidInput
        If a symbol stands twice, or a universe has the name that is kept for stocks of none.
    """
    found: dict[str, str] = {}
    for one in series:
        if one.universe == ANY:
            raise InvalidInput("universes", f"universe {ANY!r} is that of stocks of none: give its table another name")
        if (first := found.setdefault(one.symbol, one.universe)) != one.universe:
            raise InvalidInput(
                "universes",
                f"symbol {one.symbol} stands in the universes {first} and {one.universe}: take it out of one table, or "
                "learn from one of both (--universes)",
            )
    if len(found) < len(series):
        ((twice, _),) = Counter(one.symbol for one in series).most_common(1)
        raise InvalidInput("universes", f"symbol {twice} stands twice in {found[twice]}: name its table once")


def returns_ahead(series: DailySeries) -> Floats:
    """Return (n, 3) returns from the next open to the close of the 3rd, 5th and 10th session, as fractions.

    NaN where the session is not in the data, or a flagged day lies between.
    """
    frame, bars = series.frame, len(series.frame)
    opened, closed = frame.open * series.factor, frame.close * series.factor
    flagged = np.concatenate(([0], np.cumsum(series.jumps)))
    found = np.full((bars, len(HORIZONS)), np.nan)
    for place, days in enumerate(HORIZONS):
        if bars > days:
            rows = np.arange(bars - days)
            clean = flagged[rows + days + 1] == flagged[rows + 1]
            found[rows, place] = np.where(clean, closed[rows + days] / opened[rows + 1] - 1.0, np.nan)
    return found


def _tables(folder: Path) -> list[dict[str, Any]]:
    try:
        tables = tomllib.loads((folder / "instruments.toml").read_text("utf-8")).get("tables", [])
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput("data", f"instruments.toml of {folder} cannot be read: {error}") from None
    return [table for table in tables if table.get("timeframe") == "1d"]


def _stocks(path: Path, universe: str, suffix: str, symbols: tuple[str, ...]) -> list[DailySeries]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise InvalidInput("data", f"{path.name} cannot be read: {error}") from None
    columns = {name: table[name].to_numpy() for name in table.column_names if name != "symbol"}
    codes = np.asarray(table["symbol"].to_pylist())
    time = columns["timestamp"].astype("datetime64[ms]").astype(np.int64)
    order = np.lexsort((time, codes))
    names, starts = np.unique(codes[order], return_index=True)
    found = []
    for name, rows in zip(names.tolist(), np.split(order, starts[1:]), strict=True):
        symbol = f"{name}{suffix}"
        if not symbols or symbol in symbols:
            found.append(_stock(symbol, universe, time[rows], {key: values[rows] for key, values in columns.items()}))
    return found


def _stock(symbol: str, universe: str, time: NDArray[np.int64], columns: dict[str, NDArray[Any]]) -> DailySeries:
    values = {name: columns[name].astype(np.float64) for name in (*_PRICES, "volume")}
    frame = CandleFrame(symbol=symbol, timeframe=Timeframe.D1, time=time, **values).checked()
    factor, jumps = np.ones(len(frame)), np.zeros(len(frame), np.bool_)
    if "adj_close" in columns:
        factor = columns["adj_close"].astype(np.float64) / frame.close
    if "jump_flag" in columns:
        jumps = columns["jump_flag"].astype(np.bool_)
    return DailySeries(universe, frame, factor, jumps)
