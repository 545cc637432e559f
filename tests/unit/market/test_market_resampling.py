"""Longer bars from shorter ones: the grids, what is complete, and that nothing looks ahead."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusiontrade.clock import iso, parse_iso
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.resampling import FX_GRID, NSE_GRID, NYSE_GRID, UTC_GRID, Grid, grid_of, resample
from fusiontrade.market.symbols import parse_symbol
from fusiontrade.market.timeframes import Timeframe

HOUR = 3_600_000


def frame_at(times: Sequence[int], timeframe: Timeframe = Timeframe.H1, *, volume: bool = True) -> CandleFrame:
    """Bars at the given open times whose prices are a random walk of the bar's own time."""
    time = np.asarray(times, np.int64)
    generator = np.random.default_rng(7)
    close = 100 + np.cumsum(generator.normal(size=len(time)))
    first = close + generator.normal(size=len(time))
    reach = generator.uniform(0, 2, (2, len(time)))
    high, low = np.maximum(first, close) + reach[0], np.minimum(first, close) - reach[1]
    amount = np.round(generator.uniform(1, 100, len(time))) if volume else None
    return CandleFrame("X", timeframe, time, first, high, low, close, amount)


def hours(start: str, count: int) -> list[int]:
    return [parse_iso(start) + n * HOUR for n in range(count)]


def opens(frame: CandleFrame) -> list[str]:
    return [iso(int(moment)) for moment in frame.time]


@pytest.mark.parametrize(
    ("code", "grid"), [("EURUSD=X", FX_GRID), ("GC=F", FX_GRID), ("BTC-USD", UTC_GRID), ("AAPL", NYSE_GRID)]
)
def test_grid_of_each_market(code: str, grid: Grid) -> None:
    assert grid_of(parse_symbol(code)) is grid


def test_grid_of_indian_equities_counts_from_quarter_past_nine() -> None:
    grid = grid_of(parse_symbol("TCS.NS"))
    assert grid is NSE_GRID
    bucket = grid.opens(np.array([parse_iso("2025-07-31T07:46:00Z")]), Timeframe.H4)
    assert iso(int(bucket[0])) == "2025-07-31T07:45:00Z"


def test_fx_four_hour_bars_open_at_17_new_york_in_summer_and_winter() -> None:
    summer = resample(frame_at(hours("2025-07-30T21:00:00Z", 24)), Timeframe.H4, FX_GRID)
    winter = resample(frame_at(hours("2025-01-29T22:00:00Z", 24)), Timeframe.H4, FX_GRID)
    assert [text[11:16] for text in opens(summer)] == ["21:00", "01:00", "05:00", "09:00", "13:00", "17:00"]
    assert [text[11:16] for text in opens(winter)] == ["22:00", "02:00", "06:00", "10:00", "14:00", "18:00"]


def test_utc_four_hour_bars_open_at_midnight() -> None:
    frame = resample(frame_at(hours("2025-07-30T22:00:00Z", 10)), Timeframe.H4, UTC_GRID)
    assert opens(frame) == ["2025-07-31T00:00:00Z", "2025-07-31T04:00:00Z"]


def test_resample_takes_first_open_extremes_last_close_and_summed_volume() -> None:
    frame = frame_at(hours("2025-07-31T00:00:00Z", 4))
    bar = resample(frame, Timeframe.H4, UTC_GRID)
    assert bar.volume is not None
    assert frame.volume is not None
    assert (bar.open[0], bar.close[0]) == (frame.open[0], frame.close[3])
    assert (bar.high[0], bar.low[0]) == (frame.high.max(), frame.low.min())
    assert bar.volume[0] == frame.volume.sum()


def test_resample_leaves_absent_volume_absent() -> None:
    assert resample(frame_at(hours("2025-07-31T00:00:00Z", 4), volume=False), Timeframe.H4, UTC_GRID).volume is None


def test_last_bucket_counts_only_when_its_end_is_reached() -> None:
    frame = frame_at(hours("2025-07-31T00:00:00Z", 7))
    assert opens(resample(frame, Timeframe.H4, UTC_GRID)) == ["2025-07-31T00:00:00Z"]
    at_end = resample(frame, Timeframe.H4, UTC_GRID, end=parse_iso("2025-07-31T08:00:00Z"))
    assert opens(at_end) == ["2025-07-31T00:00:00Z", "2025-07-31T04:00:00Z"]
    assert at_end.close[-1] == frame.close[-1]
    just_before = resample(frame, Timeframe.H4, UTC_GRID, end=parse_iso("2025-07-31T08:00:00Z") - 1)
    assert len(just_before) == 1


def test_first_bucket_counts_only_when_its_beginning_is_known() -> None:
    frame = frame_at(hours("2025-07-31T01:00:00Z", 7))
    assert opens(resample(frame, Timeframe.H4, UTC_GRID)) == ["2025-07-31T04:00:00Z"]
    known = resample(frame, Timeframe.H4, UTC_GRID, start=parse_iso("2025-07-31T00:00:00Z"))
    assert opens(known) == ["2025-07-31T00:00:00Z", "2025-07-31T04:00:00Z"]


def test_buckets_without_bars_are_left_out_not_filled() -> None:
    times = hours("2025-07-31T00:00:00Z", 4) + hours("2025-07-31T12:00:00Z", 4)
    assert opens(resample(frame_at(times), Timeframe.H4, UTC_GRID)) == ["2025-07-31T00:00:00Z", "2025-07-31T12:00:00Z"]


def test_a_market_that_closed_early_completes_its_bucket_when_its_end_passes() -> None:
    frame = frame_at(hours("2025-07-31T00:00:00Z", 2))
    assert len(resample(frame, Timeframe.H4, UTC_GRID)) == 0
    assert len(resample(frame, Timeframe.H4, UTC_GRID, end=parse_iso("2025-07-31T04:00:00Z"))) == 1


def test_night_of_the_clock_change_has_its_documented_buckets() -> None:
    spring = resample(frame_at(hours("2025-03-09T02:00:00Z", 14)), Timeframe.H4, FX_GRID)
    autumn = resample(frame_at(hours("2025-11-02T01:00:00Z", 14)), Timeframe.H4, FX_GRID)
    assert [text[11:16] for text in opens(spring)] == ["02:00", "06:00", "09:00"]
    assert [text[11:16] for text in opens(autumn)] == ["01:00", "05:00", "06:00", "10:00"]


def test_daily_fx_bar_spans_17_to_17_new_york() -> None:
    frame = resample(frame_at(hours("2025-07-30T21:00:00Z", 24)), Timeframe.D1, FX_GRID)
    assert opens(frame) == ["2025-07-30T21:00:00Z"]


def test_daily_equity_bar_carries_the_date_of_its_session() -> None:
    session = [parse_iso("2025-07-31T13:30:00Z") + n * HOUR for n in range(7)]
    day = resample(
        frame_at(session),
        Timeframe.D1,
        NYSE_GRID,
        start=parse_iso("2025-07-31T00:00:00Z"),
        end=parse_iso("2025-08-01T00:00:00Z"),
    )
    assert opens(day) == ["2025-07-31T00:00:00Z"]


def test_resample_to_its_own_timeframe_is_the_frame_itself() -> None:
    frame = frame_at(hours("2025-07-31T00:00:00Z", 3))
    assert resample(frame, Timeframe.H1, UTC_GRID) is frame


def test_resample_of_no_bars_is_no_bars() -> None:
    empty = resample(frame_at([]), Timeframe.H4, FX_GRID)
    assert len(empty) == 0
    assert empty.timeframe is Timeframe.H4


@pytest.mark.parametrize(("source", "target"), [(Timeframe.H1, Timeframe.M30), (Timeframe.D1, Timeframe.H4)])
def test_resample_refuses_a_shorter_timeframe(source: Timeframe, target: Timeframe) -> None:
    with pytest.raises(ValueError, match=f"bars of {source} cannot be put together to bars of {target}"):
        resample(frame_at([0], source), target, UTC_GRID)


STEPS = {Timeframe.M15: (Timeframe.M30, Timeframe.H1, Timeframe.H4, Timeframe.D1), Timeframe.H1: (Timeframe.H4,)}


@st.composite
def gapped_frames(draw: st.DrawFn) -> tuple[CandleFrame, Timeframe, Grid]:
    source = draw(st.sampled_from(list(STEPS)))
    start = draw(st.integers(parse_iso("2016-01-01T00:00:00Z") // HOUR, parse_iso("2025-12-01T00:00:00Z") // HOUR))
    kept = draw(st.lists(st.booleans(), min_size=1, max_size=150))
    times = [start * HOUR + n * source.milliseconds for n, keep in enumerate(kept) if keep]
    if not times:
        times = [start * HOUR]
    return frame_at(times, source), draw(st.sampled_from(STEPS[source])), draw(st.sampled_from([FX_GRID, UTC_GRID]))


@settings(max_examples=150, deadline=None)
@given(gapped_frames())
def test_resampled_bars_keep_the_rules_of_candles_and_the_sums_of_volume(
    case: tuple[CandleFrame, Timeframe, Grid],
) -> None:
    frame, timeframe, grid = case
    everything = resample(frame, timeframe, grid, start=0, end=2**60).checked()
    assert everything.volume is not None
    assert frame.volume is not None
    assert everything.volume.sum() == pytest.approx(frame.volume.sum(), rel=1e-12)
    assert (everything.high.max(), everything.low.min()) == (frame.high.max(), frame.low.min())
    assert (everything.open[0], everything.close[-1]) == (frame.open[0], frame.close[-1])
    assert np.array_equal(grid.opens(everything.time, timeframe), everything.time)


@settings(max_examples=150, deadline=None)
@given(gapped_frames(), st.integers(0, 160))
def test_what_comes_later_changes_nothing_that_was_complete(
    case: tuple[CandleFrame, Timeframe, Grid], cut: int
) -> None:
    frame, timeframe, grid = case
    end = int(frame.time[0]) + cut * frame.timeframe.milliseconds
    past = frame.finished_by(end)
    then = resample(past, timeframe, grid, start=0, end=end)
    whole = resample(frame, timeframe, grid, start=0, end=2**60)
    known = whole.rows(grid.ends(whole.time, timeframe) <= end)
    for column in ("time", "open", "high", "low", "close", "volume"):
        assert np.array_equal(getattr(then, column), getattr(known, column)), column


@settings(max_examples=100, deadline=None)
@given(gapped_frames())
def test_in_steps_or_at_once_gives_the_same_bars(case: tuple[CandleFrame, Timeframe, Grid]) -> None:
    frame, _, grid = case
    if frame.timeframe is Timeframe.H1:
        return
    once = resample(frame, Timeframe.H4, grid, start=0, end=2**60)
    steps = resample(resample(frame, Timeframe.H1, grid, start=0, end=2**60), Timeframe.H4, grid, start=0, end=2**60)
    assert np.array_equal(once.time, steps.time)
    assert np.array_equal(once.close, steps.close)
    assert np.array_equal(once.high, steps.high)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, parse_iso("2059-01-01T00:00:00Z")),
    st.sampled_from(list(Timeframe)),
    st.sampled_from([FX_GRID, UTC_GRID, NYSE_GRID, NSE_GRID]),
)
def test_every_instant_lies_in_its_bucket(instant: int, timeframe: Timeframe, grid: Grid) -> None:
    start = grid.opens(np.array([instant]), timeframe)
    assert start[0] <= instant < grid.ends(start, timeframe)[0]
    assert instant - start[0] <= timeframe.milliseconds + HOUR
    assert grid.opens(start, timeframe)[0] == start[0]
