"""Alignment: weeks and months count when they are over, finer bars of the same day only."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from serving.features import WINDOW
from serving.features.swing import ALIGNMENT, alignment

DAY, HOUR = 86_400_000, 3_600_000
MONDAY = round(datetime(2020, 1, 6, tzinfo=UTC).timestamp() * 1000)


def sessions(closes: np.ndarray, start: int = MONDAY) -> CandleFrame:
    """Bars of weekdays."""
    days = np.arange(2 * len(closes))
    days = days[days % 7 < 5][: len(closes)]
    return CandleFrame("TEST-USD", Timeframe.D1, start + DAY * days, closes, closes, closes, closes).checked()


def average(values: list[float], bars: int) -> float:
    weights = (1 - 2 / (bars + 1)) ** np.arange(len(values))[::-1]
    return float(weights @ np.asarray(values) / weights.sum())


def vote(values: list[float]) -> int:
    if len(values) < 9:
        return 0
    fast, slow = average(values, 9), average(values, 21)
    return int(values[-1] > fast > slow) - int(values[-1] < fast < slow)


def by_hand(frame: CandleFrame, row: int) -> tuple[int, int, int]:
    """Months, weeks and days of the newest 600 bars, put together with the calendar of the standard library."""
    first = max(0, row - WINDOW + 1)
    opens = [datetime.fromtimestamp(one / 1000, UTC) for one in frame.time[first : row + 1].tolist()]
    closes, now = frame.close[first : row + 1].tolist(), opens[-1] + timedelta(days=1)
    months: dict = {}
    weeks: dict = {}
    for opened, close in zip(opens, closes, strict=True):
        months[(opened.year, opened.month)] = close
        weeks[(opened - timedelta(days=opened.weekday())).date()] = close
    this_month = (now.year, now.month)
    this_week = (now - timedelta(days=now.weekday())).date()
    return (
        vote([close for month, close in months.items() if month < this_month]),
        vote([close for week, close in weeks.items() if week < this_week]),
        vote(frame.close[: row + 1].tolist()),
    )


def test_months_weeks_and_days_are_those_of_a_calculation_by_hand() -> None:
    random = np.random.default_rng(4)
    frame = sessions(100 * np.exp(np.cumsum(0.01 * random.standard_t(4, 1_100))))
    found = alignment(frame)
    for row in range(WINDOW - 1, 1_100, 7):
        assert found[row, :3].tolist() == list(by_hand(frame, row)), row
    assert {-1, 0, 1} == set(found[WINDOW - 1 :, 1].tolist()) == set(found[WINDOW - 1 :, 2].tolist())


def test_a_steady_rise_points_up_and_a_steady_fall_down() -> None:
    rise = np.exp(0.001 * np.arange(700))
    assert alignment(sessions(rise))[-1].tolist() == [1, 1, 1, 0, 0]
    assert alignment(sessions(1 / rise))[-1].tolist() == [-1, -1, -1, 0, 0]
    assert alignment(sessions(np.full(700, 7.0)))[-1].tolist() == [0, 0, 0, 0, 0]


def test_a_week_counts_from_the_bar_that_closes_after_it() -> None:
    closes = np.full(700, 100.0)
    crash = 655  # a Monday: the week from row 655 to 659
    closes[crash:] = 50.0
    weekly = alignment(sessions(closes))[:, ALIGNMENT.index("alignment_1W")]
    assert weekly[crash : crash + 5].tolist() == [0] * 5  # Friday's bar closes on Saturday: the week goes on
    assert weekly[crash + 5] == -1


def test_the_newest_finer_bar_finished_with_the_day_counts() -> None:
    frame = sessions(np.full(620, 100.0))
    opens = np.concatenate([day + HOUR * np.arange(4, 10) for day in frame.time[300:].tolist()])
    closes = 100 + 0.01 * np.arange(len(opens))
    hourly = CandleFrame("TEST-USD", Timeframe.H1, opens, closes, closes, closes, closes).checked()
    column = ALIGNMENT.index("alignment_1H")
    assert alignment(frame, {Timeframe.H1: hourly})[WINDOW - 1 :, column].tolist() == [1.0] * 21

    gone = hourly.rows((hourly.time < frame.time[610]) | (hourly.time >= frame.time[611]))
    without = alignment(frame, {Timeframe.H1: gone})[WINDOW - 1 :, column]
    assert np.flatnonzero(without == 0).tolist() == [610 - WINDOW + 1]  # no bar of another day stands in

    fallen = replace(hourly, **{name: np.where(opens > frame.time[610], 1.0, closes) for name in ("open", "close")})
    fallen = replace(fallen, high=closes, low=np.ones(len(closes)))
    later = alignment(frame, {Timeframe.H1: fallen})[WINDOW - 1 :, column]
    np.testing.assert_array_equal(later[: 610 - WINDOW + 1], 1.0)
    assert later[610 - WINDOW + 1] == -1


@pytest.mark.parametrize("summer", [0, HOUR], ids=["one clock", "summer time"])
def test_no_timeframe_knows_a_bar_before_its_close(summer: int) -> None:
    """Days that open at 00:00 UTC, or at 17:00 New York with its summer time; 4h and 1h bars of their own prices."""
    random = np.random.default_rng(12)
    walk = 100 * np.exp(np.cumsum(random.normal(0, 0.01, 800)))
    there = random.random(800) < 0.95
    daily = sessions(walk, MONDAY - 3 * summer).rows(there)
    daily = replace(daily, time=daily.time + summer * (daily.time // (182 * DAY) % 2)).checked()
    finer = {}
    for timeframe in (Timeframe.H4, Timeframe.H1):
        opens = np.concatenate([np.arange(one, one + 22 * HOUR, timeframe.milliseconds) for one in daily.time.tolist()])
        close = 100 * np.exp(np.cumsum(random.normal(0, 0.004, len(opens))))
        finer[timeframe] = CandleFrame("TEST-USD", timeframe, opens, close, close, close, close).checked()

    def otherwise(frame: CandleFrame, now: int) -> CandleFrame:
        factor = np.where(frame.close_time > now, random.uniform(0.3, 3.0, len(frame)), 1.0)
        return replace(frame, **{name: factor * getattr(frame, name) for name in ("open", "high", "low", "close")})

    found = alignment(daily, finer)
    assert (found[WINDOW - 1 :].std(axis=0) > 0).all()
    for row in random.choice(np.arange(WINDOW, len(daily) - 1), 12, replace=False).tolist():
        now = int(daily.close_time[row])
        cut = alignment(daily.finished_by(now), {key: one.finished_by(now) for key, one in finer.items()})
        other = alignment(otherwise(daily, now), {key: otherwise(one, now) for key, one in finer.items()})
        assert cut[-1].tolist() == other[row].tolist() == found[row].tolist()


@pytest.mark.parametrize("finer", [None, {}])
def test_without_finer_bars_their_columns_are_neutral(finer) -> None:
    found = alignment(sessions(np.exp(0.001 * np.arange(610))), finer)
    assert (found[WINDOW - 1 :, 3:] == 0).all()
