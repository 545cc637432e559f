"""Candle frames name every fault; timeframes name every bar length."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fusiontrade.clock import parse_iso
from fusiontrade.errors import BadCandles, InvalidInput
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import INTRADAY, Timeframe

START = parse_iso("2025-07-31T12:00:00Z")
HOUR = 3_600_000


def frame(count: int = 4) -> CandleFrame:
    ones = np.ones(count)
    time = START + np.arange(count, dtype=np.int64) * HOUR
    return CandleFrame("X", Timeframe.H1, time, ones * 10, ones * 12, ones * 9, ones * 11, ones * 5)


def changed(column: str, row: int, value: float) -> CandleFrame:
    good = frame()
    altered = getattr(good, column).copy()
    altered[row] = value
    return replace(good, **{column: altered})


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        (changed("time", 1, START), "duplicate open time at 2025-07-31T13:00:00.000Z"),
        (changed("time", 2, START - HOUR), "open time out of order"),
        (changed("close", 1, np.nan), "price is NaN or infinite at 2025-07-31T13:00:00.000Z"),
        (changed("high", 1, np.inf), "price is NaN or infinite"),
        (changed("low", 0, 0.0), "price is zero or negative at 2025-07-31T12:00:00.000Z"),
        (changed("open", 0, -1.0), "price is zero or negative"),
        (changed("high", 3, 8.0), "high below low at 2025-07-31T15:00:00.000Z"),
        (changed("open", 2, 12.5), "open or close outside high and low"),
        (changed("close", 2, 8.5), "open or close outside high and low"),
        (changed("volume", 2, -1.0), "volume is NaN, infinite or negative"),
        (changed("volume", 2, np.nan), "volume is NaN, infinite or negative"),
    ],
)
def test_checked_names_the_fault_and_its_bar(bad: CandleFrame, fault: str) -> None:
    if "duplicate" in fault:
        bad = replace(bad, time=np.array([START + HOUR, START + HOUR, START + 2 * HOUR, START + 3 * HOUR]))
    with pytest.raises(BadCandles, match="X 1h: " + fault):
        bad.checked()


def test_checked_names_all_faults_and_counts_the_bars_it_does_not_show() -> None:
    good = frame(8)
    bad = replace(good, close=np.full(8, np.nan), volume=np.full(8, -1.0))
    with pytest.raises(BadCandles) as caught:
        bad.checked()
    assert len(caught.value.faults) == 2
    assert caught.value.faults[0].endswith("and 5 more")


def test_checked_refuses_columns_of_different_length() -> None:
    with pytest.raises(BadCandles, match=r"columns differ in length: \[3, 4\]"):
        replace(frame(), close=np.ones(3)).checked()


def test_checked_returns_good_bars_themselves_and_accepts_none() -> None:
    good = frame()
    assert good.checked() is good
    assert len(frame(0).checked()) == 0
    assert good.without_volume().checked().volume is None


def test_finished_by_keeps_bars_that_closed_by_the_instant() -> None:
    assert len(frame().finished_by(START + HOUR)) == 1
    assert len(frame().finished_by(START + HOUR - 1)) == 0
    assert len(frame().finished_by(START + 100 * HOUR)) == 4


def test_tail_and_rows_cut_every_column_alike() -> None:
    last = frame().tail(2)
    assert last.time.tolist() == [START + 2 * HOUR, START + 3 * HOUR]
    assert {len(column) for column in (last.open, last.high, last.low, last.close)} == {2}
    assert last.volume is not None
    assert len(last.volume) == 2
    assert len(frame().tail(9)) == 4
    assert len(frame().rows(np.array([True, False, False, True]))) == 2


@pytest.mark.parametrize(("text", "timeframe"), [("15m", Timeframe.M15), ("60min", Timeframe.H1), ("1d", Timeframe.D1)])
def test_timeframe_parse_accepts_names_and_aliases(text: str, timeframe: Timeframe) -> None:
    assert Timeframe.parse(text) is timeframe


@pytest.mark.parametrize("text", ["", "2h", "15M", "1 h"])
def test_timeframe_parse_refuses_anything_else_naming_the_field(text: str) -> None:
    with pytest.raises(InvalidInput, match="use one of 1m, 5m, 15m, 30m, 1h, 4h, 1d") as caught:
        Timeframe.parse(text, field="query/timeframe")
    assert caught.value.field == "query/timeframe"


def test_intraday_timeframes_are_the_four_of_the_fusion() -> None:
    assert [str(timeframe) for timeframe in INTRADAY] == ["15m", "30m", "1h", "4h"]
    assert [timeframe.milliseconds // 60_000 for timeframe in INTRADAY] == [15, 30, 60, 240]
