"""Opening hours against published ones, and the bars that follow from them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusiontrade.clock import iso, parse_iso
from fusiontrade.errors import InvalidInput
from fusiontrade.market.calendar import MarketCalendar, calendar_of
from fusiontrade.market.symbols import parse_symbol
from fusiontrade.market.timeframes import Timeframe

INSTANTS = st.integers(parse_iso("2005-01-01T00:00:00Z"), parse_iso("2026-12-01T00:00:00Z"))
DAY = 86_400_000


def calendar(code: str) -> MarketCalendar:
    return calendar_of(parse_symbol(code))


@pytest.mark.parametrize(
    ("code", "instant", "is_open", "next_open", "next_close"),
    [
        # New York is at UTC-4 in July and at UTC-5 in January.
        ("EURUSD=X", "2025-07-31T12:00:00Z", True, "2025-08-03T21:00:00Z", "2025-08-01T21:00:00Z"),
        ("EURUSD=X", "2025-01-31T21:59:59Z", True, "2025-02-02T22:00:00Z", "2025-01-31T22:00:00Z"),
        ("EURUSD=X", "2025-01-31T22:00:00Z", False, "2025-02-02T22:00:00Z", "2025-02-07T22:00:00Z"),
        ("EURUSD=X", "2025-02-02T22:00:00Z", True, "2025-02-09T22:00:00Z", "2025-02-07T22:00:00Z"),
        # The clock changes inside the closed weekend of 8 and 9 March.
        ("EURUSD=X", "2025-03-08T12:00:00Z", False, "2025-03-09T21:00:00Z", "2025-03-14T21:00:00Z"),
        ("GC=F", "2025-07-31T21:30:00Z", False, "2025-07-31T22:00:00Z", "2025-08-01T21:00:00Z"),
        ("GC=F", "2025-07-31T12:00:00Z", True, "2025-07-31T22:00:00Z", "2025-07-31T21:00:00Z"),
        ("GC=F", "2025-08-02T12:00:00Z", False, "2025-08-03T22:00:00Z", "2025-08-04T21:00:00Z"),
        # Nobody trades from the evening before Christmas Day and New Year's Day to 17:00 New York of that day.
        ("EURUSD=X", "2024-12-24T21:59:59Z", True, "2024-12-25T22:00:00Z", "2024-12-24T22:00:00Z"),
        ("EURUSD=X", "2024-12-25T12:00:00Z", False, "2024-12-25T22:00:00Z", "2024-12-27T22:00:00Z"),
        ("EURUSD=X", "2023-12-24T23:00:00Z", False, "2023-12-25T22:00:00Z", "2023-12-29T22:00:00Z"),  # a Monday
        ("EURUSD=X", "2022-12-25T23:00:00Z", True, "2023-01-01T22:00:00Z", "2022-12-30T22:00:00Z"),  # a Sunday
        ("GC=F", "2025-01-01T12:00:00Z", False, "2025-01-01T23:00:00Z", "2025-01-02T22:00:00Z"),
        ("BTC-USD", "2024-12-25T12:00:00Z", True, None, None),
        ("BTC-USD", "2025-08-02T12:00:00Z", True, None, None),
        ("AAPL", "2025-07-31T13:29:59Z", False, "2025-07-31T13:30:00Z", "2025-07-31T20:00:00Z"),
        ("AAPL", "2025-07-31T20:00:00Z", False, "2025-08-01T13:30:00Z", "2025-08-01T20:00:00Z"),
        ("AAPL", "2025-07-04T15:00:00Z", False, "2025-07-07T13:30:00Z", "2025-07-07T20:00:00Z"),  # Independence Day
        ("AAPL", "2024-11-29T15:00:00Z", True, "2024-12-02T14:30:00Z", "2024-11-29T18:00:00Z"),  # closes early
        ("RELIANCE.NS", "2025-07-31T09:59:00Z", True, "2025-08-01T03:45:00Z", "2025-07-31T10:00:00Z"),
        ("RELIANCE.NS", "2025-08-15T06:00:00Z", False, "2025-08-18T03:45:00Z", "2025-08-18T10:00:00Z"),  # a holiday
        # Holidays are recorded for a year or two ahead: later, any weekday counts.
        ("RELIANCE.NS", "2031-01-01T06:00:00Z", True, "2031-01-02T03:45:00Z", "2031-01-01T10:00:00Z"),
        ("AAPL", "2051-07-14T14:00:00Z", True, "2051-07-17T13:30:00Z", "2051-07-14T20:00:00Z"),
    ],
)
def test_calendar_knows_when_each_market_trades(
    code: str, instant: str, is_open: bool, next_open: str | None, next_close: str | None
) -> None:
    market, moment = calendar(code), parse_iso(instant)
    assert market.is_open(moment) is is_open
    assert market.next_open(moment) == (next_open and parse_iso(next_open))
    assert market.next_close(moment) == (next_close and parse_iso(next_close))


@pytest.mark.parametrize(
    ("code", "timeframe", "instant", "expected"),
    [
        ("EURUSD=X", Timeframe.M15, "2025-07-31T12:07:00Z", "2025-07-31T12:00:00Z"),
        ("EURUSD=X", Timeframe.M15, "2025-07-31T12:15:00Z", "2025-07-31T12:15:00Z"),
        ("EURUSD=X", Timeframe.H4, "2025-07-31T12:59:00Z", "2025-07-31T09:00:00Z"),
        ("EURUSD=X", Timeframe.H4, "2025-01-30T14:00:00Z", "2025-01-30T14:00:00Z"),
        ("EURUSD=X", Timeframe.H1, "2025-08-03T20:59:00Z", "2025-08-01T21:00:00Z"),
        ("EURUSD=X", Timeframe.H1, "2025-08-03T21:59:00Z", "2025-08-01T21:00:00Z"),
        ("EURUSD=X", Timeframe.D1, "2025-08-03T12:00:00Z", "2025-08-01T21:00:00Z"),
        ("GC=F", Timeframe.H1, "2025-07-31T22:30:00Z", "2025-07-31T21:00:00Z"),
        ("BTC-USD", Timeframe.H4, "2025-08-03T23:59:00Z", "2025-08-03T20:00:00Z"),
        ("EURUSD=X", Timeframe.H1, "2024-12-25T12:00:00Z", "2024-12-24T22:00:00Z"),
        ("GC=F", Timeframe.H4, "2025-01-01T12:00:00Z", "2024-12-31T22:00:00Z"),
        ("AAPL", Timeframe.M30, "2025-08-03T12:00:00Z", "2025-08-01T20:00:00Z"),
        ("AAPL", Timeframe.D1, "2025-08-04T12:00:00Z", "2025-08-02T00:00:00Z"),
        ("RELIANCE.NS", Timeframe.M15, "2025-08-03T12:00:00Z", "2025-08-01T10:00:00Z"),
    ],
)
def test_expected_last_close_is_the_newest_bar_that_should_exist(
    code: str, timeframe: Timeframe, instant: str, expected: str
) -> None:
    assert iso(calendar(code).expected_last_close(timeframe, parse_iso(instant))) == expected


def test_bar_opens_of_fx_week_are_120_hours_and_30_four_hour_bars() -> None:
    start, end = parse_iso("2025-07-26T00:00:00Z"), parse_iso("2025-08-02T00:00:00Z")
    fx, metal = calendar("EURUSD=X"), calendar("GC=F")
    assert len(fx.bar_opens(Timeframe.H1, start, end)) == 120
    assert len(metal.bar_opens(Timeframe.H1, start, end)) == 115
    assert len(fx.bar_opens(Timeframe.H4, start, end)) == 30
    assert len(metal.bar_opens(Timeframe.H4, start, end)) == 30
    assert len(fx.bar_opens(Timeframe.D1, start, end)) == 5
    assert len(fx.bar_opens(Timeframe.M1, start, end)) == 7200


@pytest.mark.parametrize("sunday", ["2025-03-09T00:00:00Z", "2025-11-02T00:00:00Z"])
def test_bar_opens_of_a_weekend_with_a_clock_change_are_none_before_sunday_evening(sunday: str) -> None:
    fx, noon = calendar("EURUSD=X"), parse_iso(sunday) + DAY // 2
    evening = fx.next_open(noon)
    for timeframe in Timeframe:
        opens = fx.bar_opens(timeframe, noon - DAY, noon + DAY)
        assert opens[0] == evening, timeframe


def test_bar_opens_of_an_exchange_count_from_the_opening_bell() -> None:
    opens = calendar("AAPL").bar_opens(
        Timeframe.H1, parse_iso("2025-07-31T00:00:00Z"), parse_iso("2025-08-01T00:00:00Z")
    )
    assert [iso(int(moment))[11:16] for moment in opens] == [
        "13:30",
        "14:30",
        "15:30",
        "16:30",
        "17:30",
        "18:30",
        "19:30",
    ]


def test_bar_opens_of_an_empty_window_are_none() -> None:
    for code in ("EURUSD=X", "BTC-USD", "AAPL"):
        assert len(calendar(code).bar_opens(Timeframe.M15, DAY, DAY)) == 0


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["EURUSD=X", "GC=F", "AAPL", "RELIANCE.NS"]), INSTANTS)
def test_openings_and_closings_follow_each_other(code: str, instant: int) -> None:
    market = calendar(code)
    opening, closing = market.next_open(instant), market.next_close(instant)
    assert opening is not None
    assert closing is not None
    assert opening > instant
    assert closing > instant
    assert market.is_open(instant) is (closing < opening)
    assert market.is_open(opening)
    assert not market.is_open(opening - 1)
    assert not market.is_open(closing)
    assert market.is_open(closing - 1)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["EURUSD=X", "GC=F", "BTC-USD", "AAPL"]), st.sampled_from(list(Timeframe)), INSTANTS)
def test_expected_last_close_never_lies_ahead_and_never_goes_back(
    code: str, timeframe: Timeframe, instant: int
) -> None:
    market = calendar(code)
    last = market.expected_last_close(timeframe, instant)
    assert last <= instant
    assert market.expected_last_close(timeframe, last) == last
    assert market.expected_last_close(timeframe, last - 1) < last
    later = market.expected_last_close(timeframe, instant + timeframe.milliseconds)
    assert later >= last


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["EURUSD=X", "GC=F", "BTC-USD", "AAPL"]), st.sampled_from(list(Timeframe)), INSTANTS)
def test_bar_opens_of_two_windows_are_those_of_the_whole(code: str, timeframe: Timeframe, instant: int) -> None:
    market = calendar(code)
    parts = [market.bar_opens(timeframe, instant + days * DAY, instant + (days + 4) * DAY) for days in (0, 4)]
    assert np.array_equal(np.concatenate(parts), market.bar_opens(timeframe, instant, instant + 8 * DAY))


def test_fx_and_crypto_calendars_import_no_pandas() -> None:
    program = (
        "import sys\n"
        "from fusiontrade.market.calendar import calendar_of\n"
        "from fusiontrade.market.symbols import parse_symbol\n"
        "for code in ('EURUSD=X', 'GC=F', 'BTC-USD'):\n"
        "    calendar_of(parse_symbol(code)).is_open(0)\n"
        "assert not {'pandas', 'exchange_calendars', 'pyarrow'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("instant", ["1999-06-01T00:00:00Z", "0001-01-02T00:00:00Z", "2061-01-01T00:00:00Z"])
def test_equity_hours_outside_the_known_years_are_the_callers_error(instant: str) -> None:
    market, moment = calendar("AAPL"), parse_iso(instant)
    assert not market.is_open(moment)
    for question in (
        market.next_open,
        market.next_close,
        lambda when: market.expected_last_close(Timeframe.H1, when),
    ):
        with pytest.raises(InvalidInput, match="use a moment after 2000-01-01 and before 2060-01-01") as caught:
            question(moment)
        assert caught.value.field == "query/as_of"


@pytest.mark.parametrize("code", ["EURUSD=X", "GC=F", "BTC-USD"])
@pytest.mark.parametrize("instant", ["0001-01-02T00:00:00Z", "9999-12-01T00:00:00Z"])
def test_fx_and_crypto_hours_hold_at_any_date(code: str, instant: str) -> None:
    market, moment = calendar(code), parse_iso(instant)
    assert moment - 5 * DAY < market.expected_last_close(Timeframe.H4, moment) <= moment
