"""How long a forecast lives and by which bars it is settled: weekends, holidays, sessions, moments within a bar."""

from __future__ import annotations

import pytest

from fusiontrade.clock import iso, parse_iso
from fusiontrade.journal.horizons import due, expiry, walked
from fusiontrade.market.symbols import parse_symbol
from fusiontrade.market.timeframes import Timeframe


@pytest.mark.parametrize(
    ("symbol", "interval", "opened_at", "expected"),
    [
        ("EURUSD=X", "1h", "2025-07-31T12:00:00Z", "2025-07-31T16:00:00Z"),
        ("EURUSD=X", "15m", "2025-07-31T12:15:00Z", "2025-07-31T13:15:00Z"),
        # Friday 17:00 New York is 21:00 UTC: the weekend does not count
        ("EURUSD=X", "1h", "2025-08-01T19:00:00Z", "2025-08-03T23:00:00Z"),
        ("EURUSD=X", "1h", "2025-08-01T21:00:00Z", "2025-08-04T01:00:00Z"),
        # Christmas Day ends at 17:00 New York, which is 22:00 UTC
        ("EURUSD=X", "1h", "2025-12-24T21:00:00Z", "2025-12-26T01:00:00Z"),
        ("BTC-USD", "1h", "2025-08-01T21:00:00Z", "2025-08-02T01:00:00Z"),
        # a quarter past, within a bar of four hours: the same moment four bars later
        ("EURUSD=X", "4h", "2025-07-30T12:15:00Z", "2025-07-31T04:15:00Z"),
        ("EURUSD=X", "4h", "2025-08-01T12:15:00Z", "2025-08-04T04:15:00Z"),
        # New York's session ends at 20:00 UTC; 4 July is a holiday, 3 July ends at 17:00 UTC
        ("AAPL", "1h", "2025-07-31T18:30:00Z", "2025-08-01T15:30:00Z"),
        ("AAPL", "1h", "2025-07-03T16:30:00Z", "2025-07-07T16:30:00Z"),
    ],
)  # fmt: skip
def test_a_horizon_of_four_bars_is_counted_in_trading_hours(
    symbol: str, interval: str, opened_at: str, expected: str
) -> None:
    assert iso(expiry(parse_symbol(symbol), Timeframe(interval), parse_iso(opened_at), 4)) == expected


@pytest.mark.parametrize(
    ("symbol", "interval", "opened_at", "expected"),
    [
        ("EURUSD=X", "4h", "2025-07-31T13:00:00Z", "4h"),
        ("EURUSD=X", "4h", "2025-07-31T14:00:00Z", "1h"),
        ("EURUSD=X", "4h", "2025-07-31T14:30:00Z", "30m"),
        ("EURUSD=X", "4h", "2025-07-31T14:45:00Z", "15m"),
        ("EURUSD=X", "1h", "2025-07-31T13:00:00Z", "1h"),
        ("EURUSD=X", "1h", "2025-07-31T13:07:00Z", "15m"),
        ("EURUSD=X", "5m", "2025-07-31T13:07:00Z", "5m"),
        ("AAPL", "1h", "2025-07-31T14:30:00Z", "1h"),
        ("AAPL", "1h", "2025-07-31T14:00:00Z", "30m"),
        ("RELIANCE.NS", "1h", "2025-07-31T04:45:00Z", "1h"),
        ("BTC-USD", "1d", "2025-07-31T00:00:00Z", "1d"),
    ],
)
def test_entries_are_walked_by_the_longest_bars_that_begin_with_them(
    symbol: str, interval: str, opened_at: str, expected: str
) -> None:
    assert walked(parse_symbol(symbol), Timeframe(interval), parse_iso(opened_at)).value == expected


@pytest.mark.parametrize(
    ("symbol", "opened_at", "expected"),
    [
        ("EURUSD=X", "2025-07-31T12:00:00Z", "2025-07-31T13:00:00Z"),
        ("EURUSD=X", "2025-08-01T21:00:00Z", "2025-08-03T22:00:00Z"),
        ("AAPL", "2025-07-31T19:30:00Z", "2025-07-31T20:30:00Z"),
        ("AAPL", "2025-07-31T20:30:00Z", "2025-08-01T14:30:00Z"),
    ],
)
def test_an_entry_is_due_when_its_first_bar_is_finished(symbol: str, opened_at: str, expected: str) -> None:
    assert iso(due(parse_symbol(symbol), Timeframe.H1, parse_iso(opened_at))) == expected


def test_a_horizon_has_at_least_one_bar() -> None:
    with pytest.raises(ValueError, match="at least one bar"):
        expiry(parse_symbol("EURUSD=X"), Timeframe.H1, parse_iso("2025-07-31T12:00:00Z"), 0)
