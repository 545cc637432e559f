"""The busy hours of the week: slots on New York's clock, activity of a bar, and what is usual in a slot."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from fusiontrade.clock import parse_iso
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from serving.features import activity, slots, slots_a_week, usual_activity, usual_week
from serving.features.season import Week

HOUR = 3_600_000
NEW_YORK = ZoneInfo("America/New_York")


def slot_at(instant: str, timeframe: Timeframe = Timeframe.H1) -> int:
    return int(slots(np.array([parse_iso(instant)]), timeframe)[0])


def test_a_week_has_a_slot_for_every_bar_around_the_clock() -> None:
    lengths = {Timeframe.M15: 672, Timeframe.M30: 336, Timeframe.H1: 168, Timeframe.H4: 42, Timeframe.D1: 7}
    assert {timeframe: slots_a_week(timeframe) for timeframe in lengths} == lengths


@pytest.mark.parametrize(
    ("instant", "slot"),
    [
        ("2025-01-06T05:00:00Z", 0),  # Monday 00:00 EST
        ("2025-01-06T04:00:00Z", 167),  # the hour before it
        ("2025-07-07T04:00:00Z", 0),  # Monday 00:00 EDT
        ("2025-01-10T21:00:00Z", 4 * 24 + 16),  # Friday 16:00 EST: the last hour of FX
        ("2025-01-12T22:00:00Z", 6 * 24 + 17),  # Sunday 17:00 EST: its first
        ("2025-03-07T22:00:00Z", 4 * 24 + 17),  # the Friday before the clock jumps ahead
        ("2025-03-09T06:00:00Z", 6 * 24 + 1),  # Sunday 01:00 EST
        ("2025-03-09T07:00:00Z", 6 * 24 + 3),  # Sunday 03:00 EDT: there was no 02:00
        ("2025-03-14T21:00:00Z", 4 * 24 + 17),
        ("2025-11-02T05:00:00Z", 6 * 24 + 1),  # Sunday 01:00 EDT
        ("2025-11-02T06:00:00Z", 6 * 24 + 1),  # Sunday 01:00 EST, once more
        ("2025-11-02T07:00:00Z", 6 * 24 + 2),
    ],
)
def test_a_slot_is_the_hour_of_new_yorks_week(instant: str, slot: int) -> None:
    assert slot_at(instant) == slot


@pytest.mark.parametrize("timeframe", [Timeframe.M15, Timeframe.H1, Timeframe.H4])
@pytest.mark.parametrize("week", ["2025-03-05T00:00:00Z", "2025-10-29T00:00:00Z"])
def test_slots_follow_the_zone_database_through_both_changes_of_the_clock(timeframe: Timeframe, week: str) -> None:
    opens = parse_iso(week) + timeframe.milliseconds * np.arange(slots_a_week(timeframe) * 2)
    wall = [datetime.fromtimestamp(int(one) / 1000, UTC).astimezone(NEW_YORK) for one in opens]
    minutes = np.array([one.weekday() * 1440 + one.hour * 60 + one.minute for one in wall])
    np.testing.assert_array_equal(slots(opens, timeframe), minutes * 60_000 // timeframe.milliseconds)


def test_four_hour_bars_of_fx_keep_their_six_slots_in_winter_and_summer() -> None:
    winter = [slot_at(f"2025-01-07T{hour:02d}:00:00Z", Timeframe.H4) for hour in (2, 6, 10, 14, 18, 22)]
    summer = [slot_at(f"2025-07-08T{hour:02d}:00:00Z", Timeframe.H4) for hour in (1, 5, 9, 13, 17, 21)]
    assert winter == summer == [5, 6, 7, 8, 9, 10]


def fx_week() -> np.ndarray:
    """Usual activity of a market that trades from Sunday 17:00 to Friday 17:00, hourly."""
    usual = np.ones(168)
    usual[4 * 24 + 17 : 6 * 24 + 17] = 0.0
    return usual


def test_following_slots_skip_the_hours_in_which_the_market_rests() -> None:
    friday = 4 * 24 + 16
    found = Week(fx_week()).following(np.array([0, friday - 2, friday, 167]), 4)
    sunday = 6 * 24 + 17
    assert found.tolist() == [
        [1, 2, 3, 4],
        [friday - 1, friday, sunday, sunday + 1],
        [sunday, sunday + 1, sunday + 2, sunday + 3],
        [0, 1, 2, 3],
    ]


def test_a_bar_in_a_slot_that_usually_rests_is_followed_by_the_opening() -> None:
    saturday = 5 * 24 + 12
    assert Week(fx_week()).following(np.array([saturday]), 2).tolist() == [[6 * 24 + 17, 6 * 24 + 18]]


def test_with_no_known_activity_or_one_traded_slot_the_week_still_goes_round() -> None:
    assert Week(np.zeros(168)).following(np.array([166]), 3).tolist() == [[167, 0, 1]]
    one = np.zeros(168)
    one[7] = 1.0
    assert Week(one).following(np.array([7, 100]), 3).tolist() == [[7, 7, 7], [7, 7, 7]]


def test_activity_is_the_true_range_relative_to_the_five_days_before(make_frame) -> None:
    frame = make_frame(rows=400)
    found = activity(frame)
    size = np.zeros(400)
    for row in range(1, 400):
        before = frame.close[row - 1]
        top, bottom = max(frame.high[row], before), min(frame.low[row], before)
        size[row] = (top - bottom) / frame.close[row]
    assert np.isnan(found[:120]).all()
    for row in (120, 121, 250, 399):
        assert found[row] == pytest.approx(min(size[row] / size[row - 120 : row].mean(), 6.0), rel=1e-12)
    assert np.nanmax(found) <= 6.0


def test_activity_of_a_market_that_stood_still_for_five_days_is_unknown(make_frame) -> None:
    found = activity(make_frame(rows=600, flat=(100, 400)))
    assert (found[120:220] == 0).all()
    assert np.isnan(found[220:401]).all()
    assert found[401] == 6.0
    assert np.isfinite(found[401:]).all()


@pytest.mark.parametrize("cut", [130, 400, 1_999])
def test_activity_knows_neither_the_future_nor_more_than_five_days(make_frame, cut: int) -> None:
    frame = make_frame()
    whole = activity(frame)
    np.testing.assert_allclose(activity(frame.rows(slice(0, cut))), whole[:cut], atol=1e-9)
    tail = activity(frame.rows(slice(cut - 130, None)))
    np.testing.assert_allclose(tail[121:], whole[cut - 130 + 121 :], atol=1e-9)


@pytest.mark.parametrize("factor", [7e-7, 1.1, 9.7e5])
def test_activity_ignores_the_scale_of_prices(make_frame, factor: float) -> None:
    frame = make_frame()
    prices = {name: getattr(frame, name) * factor for name in ("open", "high", "low", "close")}
    np.testing.assert_allclose(activity(replace(frame, **prices)), activity(frame), rtol=1e-9)


def test_usual_activity_is_drawn_to_the_kind_and_the_kind_to_its_time_of_day_by_hand() -> None:
    """Daily bars: one time of day, seven slots."""
    mondays, tuesdays = np.zeros(40, np.intp), np.ones(20, np.intp)
    series = [
        ("A", "fx", np.concatenate((mondays, tuesdays)), np.concatenate((np.full(40, 2.0), np.full(20, 1.0)))),
        ("B", "fx", mondays, np.full(40, 3.0)),
        ("C", "crypto", tuesdays, np.full(20, 0.5)),
    ]
    found = usual_activity(series, Timeframe.D1)
    assert set(found) == {"A", "B", "C", "fx", "crypto", "any"}

    day = (40 * 2 + 20 * 1 + 40 * 3) / 100
    monday = (40 * 2 + 40 * 3 + 30 * day) / (80 + 30)
    tuesday = (20 * 1 + 30 * day) / (20 + 30)
    assert found["fx"].tolist() == [round(monday, 4), round(tuesday, 4), 0, 0, 0, 0, 0]
    own = [(40 * 2 + 60 * monday) / (40 + 60), (20 * 1 + 60 * tuesday) / (20 + 60)]
    assert found["A"][:2] == pytest.approx(own, abs=1e-4)
    assert found["B"].tolist() == [pytest.approx((40 * 3 + 60 * monday) / 100, abs=1e-4), 0, 0, 0, 0, 0, 0]
    assert found["crypto"][1] == pytest.approx(0.5)
    everyone = (40 * 2 + 20 * 1 + 40 * 3 + 20 * 0.5) / 120
    assert found["any"][1] == pytest.approx((20 * 1 + 20 * 0.5 + 30 * everyone) / (40 + 30), abs=1e-4)


def test_the_times_of_day_that_a_kind_is_drawn_to_are_its_own_over_all_weekdays() -> None:
    """12-hour slots do not exist; 4-hour bars: six times of day, 42 slots."""
    slot = np.array([0, 6, 12, 1], np.intp)  # Monday, Tuesday, Wednesday at 00:00; Monday at 04:00
    found = usual_activity([("A", "fx", slot, np.array([1.0, 2.0, 3.0, 5.0]))], Timeframe.H4)["fx"]
    assert found[[0, 6, 12]] == pytest.approx([(value + 30 * 2.0) / 31 for value in (1, 2, 3)], abs=1e-4)
    assert found[1] == pytest.approx(5.0)
    assert found[[18, 2, 7]].tolist() == [0.0, 0.0, 0.0]


def test_a_symbol_with_much_history_speaks_for_itself_and_a_new_one_for_its_kind() -> None:
    many, few = 60_000, 1
    series = [
        ("LONG", "fx", np.zeros(many, np.intp), np.full(many, 1.0)),
        ("NEW", "fx", np.zeros(few, np.intp), np.full(few, 4.0)),
    ]
    found = usual_activity(series, Timeframe.D1)
    assert found["LONG"][0] == pytest.approx(1.0, abs=1e-3)
    assert found["NEW"][0] == pytest.approx((4 + 60) / 61, abs=1e-3)


def busy_at(hours: set[int], bars: int = 720, seed: int = 5) -> CandleFrame:
    """Hourly bars of a market that moves five times as far in some hours of the New York day."""
    time = parse_iso("2025-01-06T05:00:00Z") + HOUR * np.arange(bars)
    local = slots(time, Timeframe.H1) % 24
    step = np.where(np.isin(local, sorted(hours)), 5e-3, 1e-3) * np.random.default_rng(seed).uniform(0.8, 1.2, bars)
    close = 100.0 * np.exp(np.cumsum(step * np.where(np.arange(bars) % 2, 1.0, -1.0)))
    open_ = np.concatenate((close[:1], close[:-1]))
    high, low = np.maximum(open_, close), np.minimum(open_, close)
    return CandleFrame("NEW-USD", Timeframe.H1, time, open_, high, low, close, None)


def test_a_symbol_without_a_row_of_its_own_learns_its_times_of_day_from_its_window() -> None:
    frame = busy_at({9, 10})
    season = {"any": np.full(168, 2.0), "crypto": np.ones(168), "OLD-USD": np.full(168, 3.0)}
    usual = usual_week(season, frame, "crypto")
    by_hour = usual.reshape(7, 24)
    np.testing.assert_array_equal(by_hour, np.broadcast_to(by_hour[0], (7, 24)))
    assert set(np.argsort(by_hour[0])[-2:]) == {9, 10}
    quiet = np.delete(by_hour[0], [8, 9, 10, 11])
    assert by_hour[0, 9] / quiet.mean() > 2.5
    assert quiet.max() / quiet.min() < 1.1

    # by hand: 25 bars of each hour and half of its neighbours' against five ordinary bars
    size = np.where(np.isin(slots(frame.time[-599:], Timeframe.H1) % 24, [9, 10]), 5e-3, 1e-3)
    expected = (25 * 5e-3 / size.mean() * 1.5 + 25 * 0.5 * 1e-3 / size.mean() + 5) / (25 * 2 + 5)
    assert by_hour[0, 9] == pytest.approx(expected, rel=0.05)


def test_a_symbol_with_a_row_of_its_own_keeps_it_whatever_its_window_shows() -> None:
    season = {"any": np.ones(168), "NEW-USD": np.linspace(0.5, 1.5, 168)}
    np.testing.assert_array_equal(usual_week(season, busy_at({9}), "crypto"), season["NEW-USD"])


def test_hours_in_which_the_kind_rests_stay_closed_and_a_still_market_is_ordinary() -> None:
    kind = np.ones(168)
    kind[120:160] = 0.0
    usual = usual_week({"any": kind}, busy_at({3}), None)
    np.testing.assert_array_equal(usual == 0, kind == 0)
    frame = busy_at({3})
    flat = np.full(len(frame), 100.0)
    still = replace(frame, open=flat, high=flat, low=flat, close=flat)
    np.testing.assert_allclose(usual_week({"any": np.ones(168)}, still, None), 1.0)


def test_what_an_unseen_symbols_week_is_taken_from_ends_600_bars_back() -> None:
    frame = busy_at({9, 10}, bars=700)
    season = {"any": np.ones(168)}
    np.testing.assert_array_equal(usual_week(season, frame, None), usual_week(season, frame.tail(600), None))
