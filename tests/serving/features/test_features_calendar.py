"""Calendar columns at instants whose answer is known, daylight saving included."""

from __future__ import annotations

import numpy as np
import pytest

from fusiontrade.clock import parse_iso
from fusiontrade.market.timeframes import Timeframe
from serving.features import CALENDAR, calendar_columns


def at(next_open: str, timeframe: Timeframe = Timeframe.M15) -> dict[str, float]:
    """Return the columns of the row whose NEXT bar opens at ``next_open``."""
    time = np.array([parse_iso(next_open) - timeframe.milliseconds])
    (row,) = calendar_columns(time, timeframe).tolist()
    return dict(zip(CALENDAR, row, strict=True))


def sessions(next_open: str, timeframe: Timeframe = Timeframe.M15) -> set[str]:
    return {name for name in ("tokyo", "london", "new_york", "rollover") if at(next_open, timeframe)[name] == 1}


def test_time_of_day_and_of_week_turn_once_a_day_and_once_a_week() -> None:
    monday_midnight = at("2025-07-28T00:00:00Z")
    assert monday_midnight["day_sin"] == pytest.approx(0, abs=1e-6)
    assert monday_midnight["day_cos"] == pytest.approx(1)
    assert monday_midnight["week_sin"] == pytest.approx(0, abs=1e-6)
    assert monday_midnight["week_cos"] == pytest.approx(1)

    assert at("2025-07-29T06:00:00Z")["day_sin"] == pytest.approx(1)
    thursday_noon = at("2025-07-31T12:00:00Z")
    assert thursday_noon["day_cos"] == pytest.approx(-1)
    assert thursday_noon["week_cos"] == pytest.approx(-1)


@pytest.mark.parametrize(
    ("instant", "open_sessions"),
    [
        ("2025-07-31T00:00:00Z", {"tokyo"}),  # 09:00 in Tokyo
        ("2025-07-30T23:45:00Z", set()),  # 08:45 in Tokyo
        ("2025-07-31T07:00:00Z", {"tokyo", "london"}),  # 08:00 in London, summer time
        ("2025-01-30T07:00:00Z", {"tokyo"}),  # 07:00 in London, winter time
        ("2025-07-31T12:00:00Z", {"london", "new_york"}),  # 08:00 in New York
        ("2025-07-31T20:00:00Z", {"new_york", "rollover"}),  # 16:00 in New York
        ("2025-07-31T21:00:00Z", {"rollover"}),
        ("2025-07-31T22:45:00Z", {"rollover"}),
        ("2025-07-31T23:00:00Z", set()),  # 19:00 in New York
        ("2025-08-02T13:00:00Z", set()),  # Saturday
        ("2025-08-03T21:00:00Z", {"rollover"}),  # Sunday 17:00 in New York: the FX week opens
    ],
)
def test_sessions_keep_local_hours_on_weekdays(instant: str, open_sessions: set[str]) -> None:
    assert sessions(instant) == open_sessions


@pytest.mark.parametrize(
    ("instant", "is_rollover"),
    [
        ("2025-03-07T20:45:00Z", False),  # Friday before the switch: 15:45 EST
        ("2025-03-07T21:00:00Z", True),
        ("2025-03-10T20:00:00Z", True),  # Monday after it: 16:00 EDT
        ("2025-10-31T20:00:00Z", True),  # 16:00 EDT
        ("2025-11-03T20:00:00Z", False),  # 15:00 EST
        ("2025-11-03T23:45:00Z", True),
    ],
)
def test_rollover_follows_new_yorks_clock_changes(instant: str, is_rollover: bool) -> None:
    assert (at(instant)["rollover"] == 1) is is_rollover


@pytest.mark.parametrize(
    ("instant", "new_york_open"),
    [
        ("2025-03-09T06:45:00Z", 1.75),  # 01:45 EST
        ("2025-03-09T07:00:00Z", 3.0),  # 03:00 EDT: the clock jumped over 02:00
        ("2025-11-02T05:45:00Z", 1.75),  # 01:45 EDT
        ("2025-11-02T06:00:00Z", 1.0),  # 01:00 EST, once more
    ],
)
def test_the_clock_changes_at_its_very_hour(instant: str, new_york_open: float) -> None:
    from serving.features.calendar import offsets

    opens = np.array([parse_iso(instant)])
    local_hours = (opens + offsets(opens, "America/New_York")) % 86_400_000 / 3_600_000
    assert local_hours.tolist() == [new_york_open]


def test_offsets_equal_the_zone_database_at_every_hour_of_many_years() -> None:
    from datetime import UTC, datetime
    from zoneinfo import ZoneInfo

    from serving.features.calendar import offsets

    opens = np.arange(parse_iso("2015-12-01T00:00:00Z"), parse_iso("2027-02-01T00:00:00Z"), 7 * 3_600_000 + 60_000)
    for zone in ("Europe/London", "America/New_York", "Asia/Tokyo"):
        expected = [
            datetime.fromtimestamp(int(instant) / 1000, UTC).astimezone(ZoneInfo(zone)).utcoffset().total_seconds()
            for instant in opens
        ]
        np.testing.assert_array_equal(offsets(opens, zone) / 1000, expected)


def test_a_long_bar_counts_the_share_of_it_inside_a_session() -> None:
    assert at("2025-07-31T09:00:00Z", Timeframe.H4)["new_york"] == pytest.approx(0.25)  # 05:00 to 09:00 local
    assert at("2025-07-31T21:00:00Z", Timeframe.H4)["tokyo"] == pytest.approx(0.25)  # reaches Friday 10:00 in Tokyo
    assert at("2025-08-01T21:00:00Z", Timeframe.H4)["tokyo"] == 0  # Saturday there
    assert at("2025-07-31T00:00:00Z", Timeframe.D1)["london"] == pytest.approx(9 / 24)


def test_rows_are_alike_one_by_one_and_together() -> None:
    time = parse_iso("2024-10-20T00:00:00Z") + 900_000 * np.arange(3_000)
    together = calendar_columns(time, Timeframe.M15)

    assert together.shape == (3_000, 8)
    assert together.dtype == np.float32
    assert np.abs(together).max() <= 1
    for row in (0, 1_234, 2_999):
        np.testing.assert_array_equal(calendar_columns(time[row : row + 1], Timeframe.M15)[0], together[row])
    assert calendar_columns(time[:0], Timeframe.M15).shape == (0, 8)
