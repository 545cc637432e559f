"""When schedules fire: each expected moment is written down by hand or checked against the calendar."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.local.expressions import ExpressionError, parse

SUNDAY = datetime(2026, 11, 22, 5, 59, 30, tzinfo=UTC)


def firings(text: str, start: datetime, count: int) -> list[str]:
    schedule, moment, found = parse(text), start, []
    for _ in range(count):
        following = schedule.after(moment)
        assert following is not None
        found.append(following.strftime("%Y-%m-%d %H:%M"))
        moment = following
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rate(5 minutes)", ["2026-11-22 06:00", "2026-11-22 06:05"]),
        ("rate(15 minutes)", ["2026-11-22 06:00", "2026-11-22 06:15"]),
        ("rate(1 hour)", ["2026-11-22 06:00", "2026-11-22 07:00"]),
        ("rate(1 day)", ["2026-11-23 00:00", "2026-11-24 00:00"]),
        ("cron(0 6 * * ? *)", ["2026-11-22 06:00", "2026-11-23 06:00"]),
        ("cron(0/15 * * * ? *)", ["2026-11-22 06:00", "2026-11-22 06:15"]),
        ("cron(*/20 7-8 ? * MON-FRI *)", ["2026-11-23 07:00", "2026-11-23 07:20", "2026-11-23 07:40"]),
        ("cron(30 22 ? * 2,FRI *)", ["2026-11-23 22:30", "2026-11-27 22:30"]),
        ("cron(0 3 1 * ? *)", ["2026-12-01 03:00", "2027-01-01 03:00"]),
        ("cron(0 0 L * ? *)", ["2026-11-30 00:00", "2026-12-31 00:00", "2027-01-31 00:00", "2027-02-28 00:00"]),
        ("cron(0 0 1W * ? *)", ["2026-12-01 00:00", "2027-01-01 00:00", "2027-02-01 00:00"]),
        # 15 August 2026 and 15 May 2027 are Saturdays, 15 November 2026 was a Sunday
        ("cron(0 0 15W 5 ? *)", ["2027-05-14 00:00", "2028-05-15 00:00"]),
        ("cron(0 0 31W * ? *)", ["2026-12-31 00:00", "2027-01-29 00:00", "2027-03-31 00:00"]),
        ("cron(0 9 ? * 6L *)", ["2026-11-27 09:00", "2026-12-25 09:00"]),
        ("cron(0 9 ? * L *)", ["2026-11-28 09:00", "2026-12-05 09:00"]),
        ("cron(0 9 ? * TUE#2 *)", ["2026-12-08 09:00", "2027-01-12 09:00"]),
        ("cron(0 9 ? * 1#5 *)", ["2026-11-29 09:00", "2027-01-31 09:00"]),
        ("cron(0 12 29 FEB ? *)", ["2028-02-29 12:00", "2032-02-29 12:00"]),
        ("cron(59 5 22 11 ? 2026-2028/2)", ["2028-11-22 05:59"]),
    ],
)
def test_expression_fires_when_aws_says(text: str, expected: list[str]) -> None:
    assert firings(text, SUNDAY, len(expected)) == expected


def test_nothing_fires_after_its_last_year() -> None:
    assert parse("cron(0 6 * * ? 2025)").after(SUNDAY) is None


def test_moment_that_is_a_firing_is_followed_by_the_next_one() -> None:
    exactly = datetime(2026, 11, 22, 6, 0, tzinfo=UTC)
    assert parse("cron(0 6 * * ? *)").after(exactly) == exactly + timedelta(days=1)
    assert parse("rate(15 minutes)").after(exactly) == exactly + timedelta(minutes=15)


@given(st.integers(0, 40 * 366 * 86_400), st.integers(0, 59), st.integers(0, 23), st.integers(1, 7))
def test_weekly_schedule_fires_within_a_week_on_its_day(seconds: int, minute: int, hour: int, weekday: int) -> None:
    moment = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    fires = parse(f"cron({minute} {hour} ? * {weekday} *)").after(moment)
    assert fires is not None
    assert timedelta(0) < fires - moment <= timedelta(days=7)
    assert (fires.minute, fires.hour, fires.isoweekday() % 7 + 1) == (minute, hour, weekday)


@pytest.mark.parametrize(
    "text",
    [
        "", "every day", "rate()", "rate(0 minutes)", "rate(-5 minutes)", "rate(1.5 hours)", "rate(5 seconds)",
        "rate(2 weeks)", "at(2026-11-22T06:00:00)", "cron(0 6 * * *)", "cron(0 6 * * * *)", "cron(0 6 ? * ? *)",
        "cron(60 6 * * ? *)", "cron(0 24 * * ? *)", "cron(0 6 0 * ? *)", "cron(0 6 32 * ? *)", "cron(0 6 * 13 ? *)",
        "cron(0 6 ? * 8 *)", "cron(0 6 ? * MON#6 *)", "cron(0 6 * * ? 1969)", "cron(5-1 6 * * ? *)",
        "cron(0/0 6 * * ? *)", "cron(x 6 * * ? *)", "cron(0 6 LW * ? *)", "cron(0, 6 * * ? *)",
    ],
)  # fmt: skip
def test_what_aws_would_refuse_or_is_not_known_here_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError, match="rate" if not text.startswith("cron") else "cron"):
        parse(text)
