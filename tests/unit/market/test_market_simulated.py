"""The simulated market: one truth whatever is asked, looking like a market, and saying that it is none."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusiontrade.clock import iso, parse_iso
from fusiontrade.errors import UnknownSymbol
from fusiontrade.market.calendar import calendar_of
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.providers.base import HistoryUnavailable, Provider
from fusiontrade.market.providers.simulated import SimulatedProvider
from fusiontrade.market.resampling import grid_of, resample
from fusiontrade.market.symbols import listed_symbols, parse_symbol
from fusiontrade.market.timeframes import INTRADAY, Timeframe

END = parse_iso("2025-07-31T12:34:00Z")
DAY = 86_400_000
CODES = ("EURUSD=X", "USDJPY=X", "GC=F", "BTC-USD", "DOGE-USD", "AAPL", "RELIANCE.NS")
COLUMNS = ("time", "open", "high", "low", "close")

MARKET = SimulatedProvider()


def ask(code: str, timeframe: Timeframe, *, end: int = END, count: int = 660) -> CandleFrame:
    return MARKET.candles(parse_symbol(code), timeframe, end=end, count=count, timeout=1.0)


def same(one: CandleFrame, other: CandleFrame) -> bool:
    columns = COLUMNS if one.volume is None else (*COLUMNS, "volume")
    return all(np.array_equal(getattr(one, column), getattr(other, column)) for column in columns)


def log_returns(frame: CandleFrame) -> np.ndarray:
    return np.diff(np.log(frame.close))


def kurtosis(values: np.ndarray) -> float:
    centred = values - values.mean()
    return float((centred**4).mean() / (centred**2).mean() ** 2)


def correlation(values: np.ndarray, lag: int) -> float:
    return float(np.corrcoef(values[:-lag], values[lag:])[0, 1])


def test_simulated_provider_says_that_its_prices_are_invented() -> None:
    assert isinstance(MARKET, Provider)
    assert (MARKET.name, MARKET.notice) == ("simulated", "simulated market: invented prices, not a real one")
    assert MARKET.stand_in(parse_symbol("GC=F")) is None


def test_now_is_the_clock_it_was_given() -> None:
    assert SimulatedProvider(lambda: 1234).now(parse_symbol("EURUSD=X")) == 1234


@pytest.mark.parametrize("timeframe", list(Timeframe))
@pytest.mark.parametrize("code", CODES)
def test_answers_are_checked_bars_finished_by_end_as_many_as_asked(code: str, timeframe: Timeframe) -> None:
    frame = ask(code, timeframe, count=300).checked()
    symbol = parse_symbol(code)
    assert len(frame) == 300
    assert frame.close_time[-1] <= END
    assert (frame.volume is not None) is symbol.has_volume
    assert np.array_equal(grid_of(symbol).opens(frame.time, timeframe), frame.time)


@pytest.mark.parametrize("timeframe", list(Timeframe))
@pytest.mark.parametrize("code", CODES)
def test_bars_are_those_that_the_calendar_expects(code: str, timeframe: Timeframe) -> None:
    frame, market = ask(code, timeframe, count=200), calendar_of(parse_symbol(code))
    expected = market.bar_opens(timeframe, int(frame.time[0]), int(frame.time[-1]) + 1)
    assert frame.time.tolist() == expected.tolist()
    assert int(frame.close_time[-1]) == market.expected_last_close(timeframe, END)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(CODES),
    st.sampled_from(list(Timeframe)),
    st.integers(parse_iso("2020-01-01T00:00:00Z"), parse_iso("2026-01-01T00:00:00Z")),
    st.integers(1, 120),
    st.integers(0, 20 * DAY),
)
def test_overlapping_windows_agree_on_every_bar(
    code: str, timeframe: Timeframe, end: int, count: int, later: int
) -> None:
    early, late = ask(code, timeframe, end=end, count=count), ask(code, timeframe, end=end + later, count=400)
    common = np.intersect1d(early.time, late.time)
    assert same(early.rows(np.isin(early.time, common)), late.rows(np.isin(late.time, common)))


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(CODES),
    st.sampled_from([Timeframe.M5, Timeframe.M15, Timeframe.M30, Timeframe.H1, Timeframe.H4, Timeframe.D1]),
    st.integers(parse_iso("2020-01-01T00:00:00Z"), parse_iso("2026-01-01T00:00:00Z")),
)
def test_every_timeframe_is_the_same_market(code: str, timeframe: Timeframe, end: int) -> None:
    minutes = ask(code, Timeframe.M1, end=end, count=6000)
    made = resample(minutes, timeframe, grid_of(parse_symbol(code)), start=int(minutes.time[0]), end=end)
    asked = ask(code, timeframe, end=end, count=len(made))
    assert made.time.tolist() == asked.time.tolist()
    for column in COLUMNS[1:]:
        assert np.array_equal(getattr(made, column), getattr(asked, column)), column
    if made.volume is not None:
        assert asked.volume == pytest.approx(made.volume, rel=1e-9)


def test_another_process_gives_the_same_bars() -> None:
    program = (
        "import json\n"
        "from fusiontrade.market.providers.simulated import SimulatedProvider\n"
        "from fusiontrade.market.symbols import parse_symbol\n"
        "from fusiontrade.market.timeframes import Timeframe\n"
        f"frame = SimulatedProvider().candles(parse_symbol('BTC-USD'), Timeframe.H1, end={END}, count=50, timeout=1)\n"
        "print(json.dumps([frame.close.tolist(), frame.volume.tolist()]))\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, env={"PYTHONHASHSEED": "4711"}
    )
    here = ask("BTC-USD", Timeframe.H1, count=50)
    assert here.volume is not None
    assert json.loads(answer.stdout) == [here.close.tolist(), here.volume.tolist()]


def test_symbols_have_markets_of_their_own() -> None:
    moves = [log_returns(ask(code, Timeframe.H1, count=500)) for code in ("EURUSD=X", "USDJPY=X", "GBPUSD=X")]
    assert np.abs(np.corrcoef(moves) - np.eye(3)).max() < 0.2


@pytest.mark.parametrize(("code", "low", "high"), [("EURUSD=X", 0.8, 1.5), ("GC=F", 1200, 4800), ("BTC-USD", 1e4, 4e5)])
def test_prices_stay_within_familiar_bounds_over_ten_years(code: str, low: float, high: float) -> None:
    frame = ask(code, Timeframe.D1, count=2500)
    assert low < frame.low.min() < frame.high.max() < high


@pytest.mark.parametrize("code", ["EURUSD=X", "BTC-USD", "AAPL"])
def test_returns_cluster_have_fat_tails_and_no_direction(code: str) -> None:
    moves = log_returns(ask(code, Timeframe.M15, count=20_000))
    assert kurtosis(moves) > 5
    assert correlation(np.abs(moves), 1) > 0.1
    assert correlation(np.abs(moves), 8) > 0.05
    assert abs(correlation(moves, 1)) < 0.04
    assert abs(np.mean(moves > 0) / np.mean(moves != 0) - 0.5) < 0.02


def test_volatility_follows_the_sessions() -> None:
    frame = ask("EURUSD=X", Timeframe.H1, count=5000)
    hour, reach = frame.time // 3_600_000 % 24, np.log(frame.high / frame.low)
    assert reach[np.isin(hour, (13, 14))].mean() > 1.5 * reach[np.isin(hour, (21, 22))].mean()


def test_volume_follows_volatility_where_there_is_volume() -> None:
    frame = ask("BTC-USD", Timeframe.M15, count=10_000)
    assert frame.volume is not None
    assert np.corrcoef(frame.volume, np.log(frame.high / frame.low))[0, 1] > 0.4
    assert frame.volume.min() > 0


def test_crypto_weeks_join_without_a_gap_or_an_unusual_move() -> None:
    frame = ask("BTC-USD", Timeframe.M15, count=96 * 7 * 60)
    moves = log_returns(frame)
    seam = (frame.time[1:] - 4 * DAY) % (7 * DAY) == 0
    ordinary = (frame.time[1:] % DAY == 0) & ~seam
    assert seam.sum() >= 59
    assert np.array_equal(frame.open[1:][seam], frame.close[:-1][seam])
    assert 0.6 < np.abs(moves[seam]).mean() / np.abs(moves[ordinary]).mean() < 1.6
    last = np.roll(seam, -1)
    assert 0.5 < np.abs(moves[last]).mean() / np.abs(moves[np.roll(ordinary, -1)]).mean() < 1.6


def test_weekend_gaps_of_fx_are_small_beside_a_days_range() -> None:
    frame = ask("EURUSD=X", Timeframe.H1, count=120 * 50)
    weekend = np.diff(frame.time) > DAY
    gaps = np.abs(np.log(frame.open[1:] / frame.close[:-1]))
    assert weekend.sum() >= 49
    assert 0.0003 < gaps[weekend].mean() < 0.003
    assert np.array_equal(frame.open[1:][~weekend], frame.close[:-1][~weekend])


def test_weekly_moves_are_no_trend_across_the_widest_anchors() -> None:
    moves = np.concatenate([log_returns(ask(code, Timeframe.D1, count=2000)) for code in ("EURUSD=X", "BTC-USD")])
    assert abs(correlation(moves, 1)) < 0.06
    assert abs(correlation(moves, 5)) < 0.06


def test_every_listed_symbol_has_bars_with_its_own_decimals() -> None:
    for code in listed_symbols():
        frame = ask(code, Timeframe.H1, count=20).checked()
        assert len(frame) == 20
    assert np.array_equal(np.round(ask("USDJPY=X", Timeframe.H1).close, 3), ask("USDJPY=X", Timeframe.H1).close)
    rupiah = ask("IDRUSD=X", Timeframe.H1)
    assert len(np.unique(rupiah.close)) > 300


@pytest.mark.parametrize("code", ["ZZZZ", "NOSUCH.NS", "PEPE-USD", "BTC-EUR"])
def test_symbols_outside_the_catalogue_are_unknown(code: str) -> None:
    with pytest.raises(UnknownSymbol):
        ask(code, Timeframe.H1)


def test_before_the_beginning_there_is_no_history() -> None:
    with pytest.raises(HistoryUnavailable, match="it begins at 2005-01-03T00:00:00Z") as caught:
        ask("EURUSD=X", Timeframe.D1, end=parse_iso("2004-12-31T00:00:00Z"))
    assert caught.value.field == "query/as_of"


def test_near_the_beginning_there_are_fewer_bars_than_asked() -> None:
    frame = ask("BTC-USD", Timeframe.D1, end=parse_iso("2005-01-13T00:00:00Z"), count=100)
    assert iso(int(frame.time[0])) == "2005-01-03T00:00:00Z"
    assert len(frame) == 10


def test_the_four_timeframes_end_with_one_price_when_they_end_together() -> None:
    end = parse_iso("2025-07-31T13:00:00Z")
    closes = {ask("EURUSD=X", timeframe, end=end, count=1).close[0] for timeframe in INTRADAY}
    assert len(closes) == 1


def test_weeks_without_a_session_are_passed_over() -> None:
    frame = ask("AAPL", Timeframe.H1, end=parse_iso("2060-02-01T00:00:00Z"), count=5)  # sessions are known up to 2059
    assert iso(int(frame.close_time[-1])) == "2059-12-31T21:30:00Z"
    assert len(frame) == 5
