"""The source in front of the real Yahoo client, against a server that plays Yahoo."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from fusiontrade.errors import ProviderUnavailable, UnknownSymbol
from fusiontrade.market.breaker import BreakerState, CircuitBreaker
from fusiontrade.market.providers.yahoo import YahooProvider
from fusiontrade.market.retry import RetryPolicy
from fusiontrade.market.source import CandleAnswer, CandleSource
from fusiontrade.market.symbols import parse_symbol
from tests.support.markets import (
    HOUR,
    NOW,
    ask,
    many,
    together,
)
from tests.support.yahoo_server import Act, YahooServer

# ---------------------------------------------------------------- the real Yahoo client behind it


@pytest.fixture
def yahoo() -> Iterator[YahooServer]:
    import yfinance  # noqa: F401 - heavy: not on the clock of any test

    with YahooServer(NOW // 1000) as server:
        yield server


def over_yahoo(yahoo: YahooServer, clock: Callable[[], int] = lambda: NOW, **options) -> CandleSource:
    provider = YahooProvider(base_url=yahoo.url, clock=clock)
    options.setdefault("sleep", lambda _: None)
    return CandleSource(provider, clock=clock, random=lambda: 0.5, **options)


def test_four_timeframes_cost_yahoo_two_requests(yahoo: YahooServer) -> None:
    answers = many(over_yahoo(yahoo), count=660)
    assert [len(answer.frame) for answer in answers.values()] == [660] * 4
    assert not any(answer.stale for answer in answers.values())
    assert sorted(query["interval"] for query in yahoo.charts) == ["15m", "1h"]


def test_parallel_callers_cost_yahoo_one_request(yahoo: YahooServer) -> None:
    source = over_yahoo(yahoo)
    ask(source, parse_symbol("BTC-USD"))  # imports are behind us
    yahoo.always = Act(delay=0.3)
    answers = together(6, lambda: ask(source))
    assert all(isinstance(answer, CandleAnswer) for answer in answers)
    assert [query["symbol"] for query in yahoo.charts] == ["BTC-USD", "EURUSD=X"]


@pytest.mark.parametrize("act", [Act(500, b""), Act.html(), Act(429, b"", {"Retry-After": "1"})])
def test_a_yahoo_that_stumbles_once_is_asked_again(yahoo: YahooServer, act: Act) -> None:
    yahoo.plays(act)
    assert not ask(over_yahoo(yahoo)).stale


def test_a_yahoo_that_limits_us_for_longer_than_we_have_is_left_alone(yahoo: YahooServer) -> None:
    yahoo.always = Act(429, b"", {"Retry-After": "120"})
    slept: list[float] = []
    with pytest.raises(ProviderUnavailable, match="429") as raised:
        ask(over_yahoo(yahoo, sleep=slept.append))
    assert (raised.value.retry_after, slept) == (120, [])


def test_the_circuit_opens_on_a_failing_yahoo_and_closes_when_it_is_back(yahoo: YahooServer) -> None:
    watch = [1000.0]
    breaker = CircuitBreaker("yahoo", threshold=3, open_seconds=30, clock=lambda: watch[0])
    source = over_yahoo(yahoo, breaker=breaker, retry=RetryPolicy(attempts=3))
    yahoo.always = Act(503, b"")
    with pytest.raises(ProviderUnavailable, match="status 503"):
        ask(source)
    assert (breaker.state, len(yahoo.charts)) == (BreakerState.OPEN, 3)
    with pytest.raises(ProviderUnavailable, match="left alone"):
        ask(source)
    assert len(yahoo.charts) == 3
    yahoo.always = None
    watch[0] += 31
    assert not ask(source).stale
    assert breaker.state is BreakerState.CLOSED


def test_stale_candles_are_answered_while_yahoo_hangs_within_the_deadline(yahoo: YahooServer) -> None:
    present = [NOW]
    source = over_yahoo(yahoo, clock=lambda: present[0], attempt_seconds=0.3)
    ask(source)
    present[0] = NOW + 2 * HOUR
    yahoo.always = Act(hang=True)
    begun = time.monotonic()
    answer = ask(source, seconds=2.0)
    assert time.monotonic() - begun < 8
    assert answer.stale
    assert "Yahoo did not answer within" in answer.warnings[0]


def test_when_every_symbol_is_invalid_each_is_unknown_and_the_circuit_stays_closed(yahoo: YahooServer) -> None:
    yahoo.known.clear()
    breaker = CircuitBreaker("yahoo", threshold=2)
    source = over_yahoo(yahoo, breaker=breaker)
    for code in ("AAPL", "MSFT", "EURUSD=X", "BTC-USD"):
        with pytest.raises(UnknownSymbol):
            ask(source, parse_symbol(code))
    assert (breaker.state, len(yahoo.charts)) == (BreakerState.CLOSED, 4)


def nothing(result: dict) -> None:
    result.pop("timestamp", None)
    result["indicators"] = {"quote": [{}]}


def test_a_symbol_without_bars_leaves_the_market_open_to_the_others(yahoo: YahooServer) -> None:
    source = over_yahoo(yahoo)
    yahoo.always = Act(edit=nothing)
    for _ in range(3):
        with pytest.raises(ProviderUnavailable, match="Yahoo knows AAPL but sent no bars"):
            ask(source, parse_symbol("AAPL"))
    yahoo.always = None
    assert not ask(source).stale


def test_the_circuit_opens_on_a_yahoo_that_has_no_bars_of_anything(yahoo: YahooServer) -> None:
    breaker = CircuitBreaker("yahoo", threshold=3)
    source = over_yahoo(yahoo, breaker=breaker)
    yahoo.always = Act(edit=nothing)
    for code in ("AAPL", "EURUSD=X", "BTC-USD"):
        with pytest.raises(ProviderUnavailable, match="sent no bars"):
            ask(source, parse_symbol(code))
    assert breaker.state is BreakerState.OPEN


def test_a_torn_bar_is_an_honest_error(yahoo: YahooServer) -> None:
    def tear(result: dict) -> None:
        result["indicators"]["quote"][0]["open"][-5] = None

    yahoo.always = Act(edit=tear)
    with pytest.raises(ProviderUnavailable, match="a price is missing in 1 bars"):
        ask(over_yahoo(yahoo))
