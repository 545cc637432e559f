"""Candles from Yahoo Finance, through yfinance.

Always true of an answer: prices are adjusted for splits (daily ones for dividends too) or there is no answer; the bar
that is still being made is left out; a row is dropped only when all its prices are missing or it is no bar but a live
price, which Yahoo adds at the moment of the last trade and which lies off the grid. 30m and 4h bars are put
together here from 15m and 1h bars: Yahoo has no 4h bars, and its 30m bars are not reliable (yfinance makes them from
15m bars as well, but counts half a bar as a whole one).

yfinance parses, adjusts and mends the answers; `fusiontrade.market.providers.yahoo_http` fetches them. yfinance brings
pandas and curl_cffi with it and is imported with the first request.
"""

from __future__ import annotations

import os
import stat
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fusiontrade.clock import Clock, iso, system_clock
from fusiontrade.deadline import Deadline
from fusiontrade.errors import BadCandles, FusionTradeError, ProviderUnavailable
from fusiontrade.market.calendar import calendar_of
from fusiontrade.market.candles import CandleFrame, Floats, Instants
from fusiontrade.market.derived import bars_for, derive
from fusiontrade.market.grids import grid_of
from fusiontrade.market.providers.base import HistoryUnavailable
from fusiontrade.market.providers.yahoo_http import ChartRequest, YahooHosts, YahooSession
from fusiontrade.market.retry import NothingSent
from fusiontrade.market.symbols import AssetClass, Symbol
from fusiontrade.market.timeframes import Timeframe

if TYPE_CHECKING:
    import pandas

__all__ = ["YahooProvider", "frame_of", "own_folder"]

_MINUTE = 60_000
_DAY = 1440 * _MINUTE
_INTERVALS = {Timeframe.M1: "1m", Timeframe.M5: "5m", Timeframe.M15: "15m", Timeframe.H1: "1h", Timeframe.D1: "1d"}
_DERIVED = MappingProxyType({Timeframe.M30: Timeframe.M15, Timeframe.H4: Timeframe.H1})
_KEPT_DAYS = {Timeframe.M1: 7, Timeframe.M5: 59, Timeframe.M15: 59, Timeframe.H1: 729, Timeframe.D1: 20_000}
_PRICES = ("Open", "High", "Low", "Close")
_ROUNDING = 1e-9  # relative: adjusting rounds each price by itself, so a close may leave its bar by this much


class YahooProvider:
    """Yahoo Finance as a `fusiontrade.market.providers.base.Provider`.

    Parameters
    ----------
    base_url
        A server that plays Yahoo; default: Yahoo.
    cache_folder
        A writable folder for what yfinance keeps on disk; default: one of this user's in the temporary folder
        (``/tmp`` is the only writable place of a Lambda function).
    clock
        The present, ms.
    """

    name = "yahoo"
    notice = None
    derived: Mapping[Timeframe, Timeframe] = _DERIVED
    """Timeframes that are put together from another one: whoever wants both fetches once."""

    def __init__(
        self, *, base_url: str | None = None, cache_folder: Path | None = None, clock: Clock = system_clock
    ) -> None:
        self._session = YahooSession(YahooHosts.at(base_url))
        self._cache_folder = cache_folder
        self._clock = clock

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def now(self, symbol: Symbol) -> int:  # noqa: ARG002 - one clock for all
        """Return the present, ms."""
        return self._clock()

    def stand_in(self, symbol: Symbol) -> str | None:  # noqa: ARG002 - Yahoo has each instrument itself
        """Return None: nothing stands in for anything."""
        return None

    def candles(self, symbol: Symbol, timeframe: Timeframe, *, end: int, count: int, timeout: float) -> CandleFrame:
        """Return the newest ``count`` bars finished by ``end``; see `Provider.candles`."""
        deadline = Deadline.after(timeout)
        known_to = min(end, self._clock())
        base = _DERIVED.get(timeframe, timeframe)
        bars = self._native(symbol, base, known_to, bars_for(timeframe, base, count), deadline)
        frame = derive(bars, symbol, timeframe, end=known_to).tail(count)
        if not len(frame):
            raise HistoryUnavailable(f"Yahoo has no {timeframe} bar of {symbol.code} finished by {iso(end)}")
        return frame

    def _native(self, symbol: Symbol, timeframe: Timeframe, end: int, count: int, deadline: Deadline) -> CandleFrame:
        kept_from = self._clock() - _KEPT_DAYS[timeframe] * _DAY
        if end - timeframe.milliseconds < kept_from:
            raise HistoryUnavailable(
                f"Yahoo keeps {timeframe} bars for {_KEPT_DAYS[timeframe]} days: ask for {iso(kept_from)} or later"
            )
        start = max(_start(symbol, timeframe, end, count), kept_from)
        request = ChartRequest(self._session, symbol.code, daily=timeframe is Timeframe.D1, deadline=deadline)
        with _read(symbol):
            table = self._history(request, symbol, timeframe, start, end)
            _refuse_broken_rows(request.result, symbol, timeframe, end)
            return frame_of(table, symbol, timeframe).finished_by(end).checked()

    def _history(
        self, request: ChartRequest, symbol: Symbol, timeframe: Timeframe, start: int, end: int
    ) -> pandas.DataFrame:
        _prepare_yfinance(self._cache_folder)
        from yfinance.scrapers.history import PriceHistory

        _hush_yfinance()
        # The zone only tells yfinance how to read dates; ours are instants, which saves its request for the zone.
        table: pandas.DataFrame | None = PriceHistory(request, symbol.code, "UTC", session=self._session).history(
            interval=_INTERVALS[timeframe],
            start=datetime.fromtimestamp(start // 1000, UTC),
            end=datetime.fromtimestamp(-(-end // 1000), UTC),
            prepost=False,
            actions=False,
            auto_adjust=True,
        )
        if table is None or table.empty:
            raise NothingSent(f"Yahoo knows {symbol.code} but sent no bars for the time asked about")
        return table


@contextmanager
def _read(symbol: Symbol) -> Iterator[None]:
    """Make an error of ours of whatever reading Yahoo's answer trips over: it tripped over what Yahoo sent."""
    try:
        yield
    except FusionTradeError:
        raise
    except KeyError as error:
        raise ProviderUnavailable(f"Yahoo's answer for {symbol.code} lacks {error}") from error
    except Exception as error:
        raise ProviderUnavailable(
            f"Yahoo's answer for {symbol.code} cannot be read ({type(error).__name__}: {error})"
        ) from error


def frame_of(table: pandas.DataFrame, symbol: Symbol, timeframe: Timeframe) -> CandleFrame:
    """Return yfinance's table as candles, in order; the bars are not checked yet.

    Parameters
    ----------
    table
        Indexed by aware times, with the columns Open, High, Low, Close and Volume, adjusted; or with two levels of
        columns (as ``yfinance.download`` makes them), one of which holds symbols.

    Raises
    ------
    ProviderUnavailable
        If a column is missing, prices are not adjusted, or times have no zone.
    """
    columns = _of_symbol(table, symbol)
    wanted = (*_PRICES, "Volume") if symbol.has_volume else _PRICES
    if missing := [name for name in wanted if name not in columns]:
        present = ", ".join(map(str, columns.columns))
        raise ProviderUnavailable(f"yfinance's table for {symbol.code} lacks {', '.join(missing)} (it has {present})")
    if "Adj Close" in columns:
        raise ProviderUnavailable(
            f"yfinance's prices for {symbol.code} are not adjusted: the column Adj Close is there"
        )
    index: Any = columns.index
    if getattr(index, "tz", None) is None:
        raise ProviderUnavailable(f"yfinance's times for {symbol.code} have no zone")
    if timeframe is Timeframe.D1 and symbol.asset_class is AssetClass.EQUITY:
        index = index.tz_localize(None).tz_localize("UTC")  # our daily bars of equities carry the session's date
    instants = index.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[ms]").astype(np.int64)
    prices = columns[list(_PRICES)].to_numpy(dtype=np.float64)
    volume = columns["Volume"].to_numpy(dtype=np.float64) if symbol.has_volume else None
    rows = _chosen(instants, _is_bar(instants, symbol, timeframe) & ~np.isnan(prices).all(axis=1))
    opened, high, low, close = prices[rows].T
    high, low = _closed_by_rounding(opened, high, low, close)
    traded = None if volume is None else _traded(volume[rows])
    return CandleFrame(symbol.code, timeframe, instants[rows], opened, high, low, close, traded)


def _traded(volume: Floats) -> Floats | None:
    """Return the volume, a gap being a bar without trades (decision 016); None where there is none at all."""
    return None if np.isnan(volume).all() else np.nan_to_num(volume, nan=0.0)


def _of_symbol(table: pandas.DataFrame, symbol: Symbol) -> pandas.DataFrame:
    """Return the table with one level of columns: those of ``symbol``."""
    if table.columns.nlevels == 1:
        return table
    levels = [set(table.columns.get_level_values(level)) for level in range(table.columns.nlevels)]
    named = [level for level, names in enumerate(levels) if symbol.code in names]
    if table.columns.nlevels != 2 or not named:
        raise ProviderUnavailable(f"yfinance's table has no columns for {symbol.code}")
    return table.loc[:, table.columns.get_level_values(named[0]) == symbol.code].droplevel(named[0], axis=1)


def _is_bar(instants: Instants, symbol: Symbol, timeframe: Timeframe) -> NDArray[np.bool_]:
    """Whether each row can be a bar: Yahoo's days open at midnights of its own, shorter bars on the market's grid."""
    if timeframe is Timeframe.D1:
        return np.equal(instants % _MINUTE, 0)
    return np.equal(grid_of(symbol).opens(instants, timeframe), instants)


def _chosen(instants: Instants, usable: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the usable rows by time, of equal times the last."""
    rows = np.flatnonzero(usable)
    rows = rows[np.argsort(instants[rows], kind="stable")]
    last = np.append(np.diff(instants[rows]) > 0, True)[: len(rows)]
    return np.asarray(rows[last], np.intp)


def _closed_by_rounding(opened: Floats, high: Floats, low: Floats, close: Floats) -> tuple[Floats, Floats]:
    """Return highs and lows that hold the open and close where only rounding keeps them apart."""
    top, bottom = np.maximum(opened, close), np.minimum(opened, close)
    raised = np.where((top > high) & (top <= high * (1 + _ROUNDING)), top, high)
    lowered = np.where((bottom < low) & (bottom >= low * (1 - _ROUNDING)), bottom, low)
    return raised, lowered


def _refuse_broken_rows(result: Mapping[str, Any], symbol: Symbol, timeframe: Timeframe, end: int) -> None:
    """Refuse finished bars that lack some prices and not others, or have one of 0: yfinance drops both silently."""
    quotes = result["indicators"]["quote"][0]
    columns = [quotes[name] for name in ("open", "high", "low", "close")]
    if timeframe is Timeframe.D1:
        columns.append(result["indicators"]["adjclose"][0]["adjclose"])
    prices = np.array(columns, dtype=np.float64)
    missing = np.isnan(prices)
    times = np.array(result["timestamp"], dtype=np.int64) * 1000
    if timeframe is Timeframe.D1:
        times -= times % _DAY
    finished = times + timeframe.milliseconds <= end
    broken = {
        "is missing": finished & missing.any(axis=0) & ~missing.all(axis=0),
        "is zero": finished & (prices == 0).any(axis=0),
    }
    faults = [
        f"{symbol.code} {timeframe}: a price {what} in {int(rows.sum())} bars, "
        f"e.g. at {', '.join(iso(int(instant)) for instant in times[rows][:3])}"
        for what, rows in broken.items()
        if rows.any()
    ]
    if faults:
        raise BadCandles(faults)


def _start(symbol: Symbol, timeframe: Timeframe, end: int, count: int) -> int:
    """Return an instant from which on the market made ``count`` bars by ``end``, and some to spare for its gaps."""
    wanted = count + count // 20 + 12
    span = wanted * timeframe.milliseconds + 4 * _DAY
    while True:
        opens = calendar_of(symbol).bar_opens(timeframe, end - span, end)
        if len(opens) >= wanted:
            return int(opens[-wanted])
        if span > _KEPT_DAYS[timeframe] * _DAY:
            return end - span
        span *= 2


@cache
def _prepare_yfinance(cache_folder: Path | None) -> None:
    """Have yfinance raise what it would log, and keep its files where it may write."""
    import yfinance

    yfinance.set_tz_cache_location(str(cache_folder or own_folder()))
    yfinance.config.debug.hide_exceptions = False


def load_ahead() -> None:
    """Import what the first request for bars imports; nothing is asked for and no folder is made."""
    import curl_cffi.requests  # noqa: F401
    import exchange_calendars  # noqa: F401
    import yfinance.scrapers.history  # noqa: F401


def _hush_yfinance() -> None:
    """Keep yfinance's use of what pandas is about to drop out of the log (again each time: filters get reset)."""
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"yfinance\.")


def own_folder() -> Path:
    """Return a folder in the temporary one that nobody else can have put files into: yfinance unpickles its files."""
    folder = Path(tempfile.gettempdir()) / f"fusiontrade-yfinance-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        about = folder.stat(follow_symlinks=False)
        ours = stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid() and not about.st_mode & 0o022
    except OSError:
        ours = False
    return folder if ours else Path(tempfile.mkdtemp(prefix="fusiontrade-yfinance-"))
