"""Extra checks on a user's folder of real candles; the project's own tests do without it."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from fusiontrade.market.calendar import calendar_of
from fusiontrade.market.providers.files import FilesProvider
from fusiontrade.market.symbols import listed_symbols, parse_symbol
from fusiontrade.market.timeframes import INTRADAY, Timeframe

FOLDER = Path(os.environ.get("FUSIONTRADE_REAL_DATA", str(Path(__file__).parents[4] / "shared" / "data")))

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(
        not (FOLDER / "instruments.toml").exists(), reason=f"no real candles in {FOLDER} (FUSIONTRADE_REAL_DATA)"
    ),
]


@cache
def provider() -> FilesProvider:
    return FilesProvider(FOLDER)


def test_every_symbol_of_the_folder_loads_at_every_timeframe_it_offers() -> None:
    codes = provider().symbols()
    assert len(codes) > 200
    for code in codes:
        symbol = parse_symbol(code)
        assert symbol.code == code
        assert code in listed_symbols() or symbol.calendar == "FX"
        for timeframe in provider().timeframes(symbol):
            assert len(provider().history(symbol, timeframe).checked()) > 300


@pytest.mark.parametrize(("code", "vendor"), [("EURUSD=X", "fx/EURUSD_4h"), ("GC=F", "fx/XAUUSD_4h")])
def test_four_hour_bars_equal_the_brokers_own_where_its_day_ends_at_17_new_york(code: str, vendor: str) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(FOLDER / f"{vendor}.parquet")
    times = table["timestamp"].to_numpy().astype("datetime64[ms]").astype(np.int64)
    ours = provider().history(parse_symbol(code), Timeframe.H4)
    _, here, there = np.intersect1d(ours.time, times, return_indices=True)
    assert len(here) >= len(times) - 1  # the file's first bar may begin before its first hour
    for column in ("open", "high", "low", "close"):
        assert np.array_equal(getattr(ours, column)[here], table[column].to_numpy()[there].astype(np.float64)), column


@pytest.mark.parametrize("code", ["EURUSD=X", "USDJPY=X", "GC=F", "BTC-USD"])
def test_two_hundred_moments_at_four_timeframes_are_the_bars_finished_then(code: str) -> None:
    symbol = parse_symbol(code)
    now = provider().now(symbol)
    for days in range(200):
        end = now - days * 86_400_000 - 1_234_567
        for timeframe in INTRADAY:
            frame = provider().candles(symbol, timeframe, end=end, count=660, timeout=1.0)
            whole = provider().history(symbol, timeframe).finished_by(end).tail(660)
            assert len(frame) == 660
            assert np.array_equal(frame.time, whole.time)
            assert np.array_equal(frame.close, whole.close)
            assert frame.close_time[-1] <= end


@pytest.mark.parametrize("code", ["EURUSD=X", "GC=F", "BTC-USD"])
def test_real_bars_lie_in_the_hours_of_the_calendar(code: str) -> None:
    symbol = parse_symbol(code)
    real = provider().history(symbol, Timeframe.H1).time
    expected = calendar_of(symbol).bar_opens(Timeframe.H1, int(real[0]), int(real[-1]) + 1)
    assert np.isin(real, expected).mean() > 0.998
    assert np.isin(expected, real).mean() > 0.97
