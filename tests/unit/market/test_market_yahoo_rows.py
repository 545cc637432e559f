"""Rows and bars that Yahoo should not have sent, by the real client: refused with the reason, or no bars at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fusiontrade.errors import BadCandles, ProviderUnavailable
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.providers.yahoo import YahooProvider
from fusiontrade.market.symbols import parse_symbol
from fusiontrade.market.timeframes import Timeframe
from tests.support.yahoo_server import NOW, Act, YahooServer


def ask(provider: YahooProvider, count: int = 50) -> CandleFrame:
    return provider.candles(parse_symbol("EURUSD=X"), Timeframe.H1, end=NOW, count=count, timeout=10.0)


def quotes(result: dict[str, Any]) -> dict[str, Any]:
    return result["indicators"]["quote"][0]


def test_a_row_without_any_price_is_dropped(yahoo: YahooServer, provider: YahooProvider) -> None:
    def blank(result: dict[str, Any]) -> None:
        for values in quotes(result).values():
            values[-5] = None

    whole = ask(provider, count=20)
    yahoo.plays(Act(edit=blank))
    frame = ask(provider, count=20)
    assert len(np.setdiff1d(whole.time, frame.time)) == 1
    assert frame.faults() == []


def test_a_row_with_some_prices_missing_is_refused(yahoo: YahooServer, provider: YahooProvider) -> None:
    def tear(result: dict[str, Any]) -> None:
        quotes(result)["close"][-5] = None

    yahoo.plays(Act(edit=tear))
    with pytest.raises(BadCandles, match=r"EURUSD=X 1h: a price is missing in 1 bars, e.g. at 2025-07-23T11:00:00Z"):
        ask(provider)


@pytest.mark.parametrize("name", ["low", "close"])
def test_a_zero_price_is_refused(yahoo: YahooServer, provider: YahooProvider, name: str) -> None:
    """yfinance would leave out a bar that closed at 0, and say nothing."""

    def zero(result: dict[str, Any]) -> None:
        quotes(result)[name][-5] = 0.0

    yahoo.plays(Act(edit=zero))
    with pytest.raises(BadCandles, match=r"EURUSD=X 1h: a price is zero in 1 bars, e.g. at 2025-07-23T11:00:00Z"):
        ask(provider)


def test_a_negative_price_is_refused(yahoo: YahooServer, provider: YahooProvider) -> None:
    def turn(result: dict[str, Any]) -> None:
        quotes(result)["low"][-5] *= -1

    yahoo.plays(Act(edit=turn))
    with pytest.raises(BadCandles, match="price is zero or negative at 2025-07-23T11:00:00"):
        ask(provider)


def test_bars_of_another_length_than_asked_for_are_refused(yahoo: YahooServer, provider: YahooProvider) -> None:
    """Yahoo sometimes sends longer bars than it was asked for, and says so in its ``meta`` alone."""

    def daily(result: dict[str, Any]) -> None:
        result["meta"]["dataGranularity"] = "1d"
        result["timestamp"] = result["timestamp"][::24]
        for name, column in quotes(result).items():
            quotes(result)[name] = column[::24]

    yahoo.plays(Act(edit=daily))
    with pytest.raises(ProviderUnavailable, match="1d bars of EURUSD=X instead of 1h"):
        ask(provider)


@pytest.mark.parametrize("name", ["60m", None])
def test_an_hour_by_another_name_is_an_hour(yahoo: YahooServer, provider: YahooProvider, name: str | None) -> None:
    def called(result: dict[str, Any]) -> None:
        result["meta"]["dataGranularity"] = name

    yahoo.plays(Act(edit=called))
    assert len(ask(provider)) == 50
