"""What the source answers, and what it makes of a provider in trouble."""

from __future__ import annotations

import numpy as np
import pytest

from fusiontrade.clock import iso, parse_iso
from fusiontrade.errors import BadCandles, InvalidInput, ProviderUnavailable, UnknownSymbol
from fusiontrade.market.breaker import BreakerState, CircuitBreaker
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.providers.base import HistoryUnavailable
from fusiontrade.market.retry import RetryPolicy
from fusiontrade.market.source import CandleSource
from fusiontrade.market.timeframes import Timeframe
from tests.support.markets import (
    DAY,
    DOWN,
    EURUSD,
    HOUR,
    NOW,
    Market,
    ask,
    bars,
    failing,
    source_of,
)

H1 = Timeframe.H1


# ---------------------------------------------------------------- answers and the memory


def test_an_answer_says_what_it_is(market: Market, source: CandleSource) -> None:
    answer = ask(source)
    assert (len(answer.frame), answer.source, answer.stale, answer.warnings) == (50, "market", False, ())
    assert (answer.market_open, answer.as_of) == (True, NOW)
    assert iso(int(answer.frame.close_time[-1])) == "2025-07-23T15:00:00Z"
    assert source.provider is market


def test_a_bar_that_is_still_being_made_is_cut_off_and_never_kept(market: Market, source: CandleSource) -> None:
    def with_the_running_bar(frame: CandleFrame) -> CandleFrame:
        return bars(EURUSD, H1, NOW + HOUR, len(frame))

    market.script.append(with_the_running_bar)
    answer = ask(source)
    assert (len(answer.frame), iso(int(answer.frame.close_time[-1]))) == (49, "2025-07-23T15:00:00Z")
    market.clock = NOW + HOUR
    assert iso(int(ask(source).frame.close_time[-1])) == "2025-07-23T16:00:00Z"
    assert len(market.asked) == 2


def test_what_a_provider_has_to_say_goes_to_every_reader(market: Market, source: CandleSource) -> None:
    market.notice = "an invented market"
    market.stand_in = lambda symbol: f"spot for {symbol.code}"  # type: ignore[method-assign]
    assert ask(source).warnings == ("an invented market", "spot for EURUSD=X")


def test_within_one_bar_the_provider_is_asked_once(market: Market, source: CandleSource) -> None:
    first = ask(source)
    market.clock = parse_iso("2025-07-23T15:59:59Z")
    again = ask(source, count=20)
    assert len(market.asked) == 1
    np.testing.assert_array_equal(again.frame.time, first.frame.time[-20:])


def test_when_the_next_bar_closes_the_provider_is_asked_again(market: Market, source: CandleSource) -> None:
    ask(source)
    market.clock = parse_iso("2025-07-23T16:00:00Z")
    assert iso(int(ask(source).frame.close_time[-1])) == "2025-07-23T16:00:00Z"
    assert len(market.asked) == 2


def test_over_a_weekend_the_provider_is_asked_once(market: Market, source: CandleSource) -> None:
    market.clock = parse_iso("2025-07-25T21:00:01Z")
    friday = ask(source)
    market.clock = parse_iso("2025-07-27T21:59:59Z")
    sunday = ask(source)
    assert len(market.asked) == 1
    assert (friday.stale, sunday.stale, sunday.market_open) == (False, False, True)
    market.clock = parse_iso("2025-07-27T22:00:00Z")
    ask(source)
    assert len(market.asked) == 2


def test_more_bars_than_are_kept_are_fetched(market: Market, source: CandleSource) -> None:
    ask(source, count=10)
    assert len(ask(source, count=60).frame) == 60
    assert [count for *_, count in market.asked] == [10, 60]


def test_a_short_history_is_not_fetched_twice(market: Market, source: CandleSource) -> None:
    market.history_begins = parse_iso("2025-07-23T10:00:00Z")
    assert len(ask(source).frame) == 5
    assert len(ask(source).frame) == 5
    assert len(market.asked) == 1


def test_a_bar_that_is_seconds_late_is_asked_for_again_soon(market: Market, source: CandleSource) -> None:
    market.script.append(lambda frame: frame.rows(slice(0, -1)))
    late = ask(source)
    assert iso(int(late.frame.close_time[-1])) == "2025-07-23T14:00:00Z"
    assert not late.stale  # within a feed's usual delay
    market.clock += 31_000
    assert iso(int(ask(source).frame.close_time[-1])) == "2025-07-23T15:00:00Z"


# ---------------------------------------------------------------- past moments


def test_a_past_moment_within_what_is_kept_costs_no_request(market: Market, source: CandleSource) -> None:
    ask(source, count=60)
    end = parse_iso("2025-07-23T09:30:00Z")
    answer = ask(source, count=20, as_of=end)
    assert len(market.asked) == 1
    assert (iso(int(answer.frame.close_time[-1])), answer.as_of) == ("2025-07-23T09:00:00Z", end)
    np.testing.assert_array_equal(answer.frame.close, bars(EURUSD, H1, end, 20).close)


def test_a_past_moment_never_moves_the_present(market: Market, source: CandleSource) -> None:
    ask(source, as_of=parse_iso("2025-06-11T09:30:00Z"))
    assert iso(int(ask(source).frame.close_time[-1])) == "2025-07-23T15:00:00Z"


def test_a_moment_in_the_future_is_refused(source: CandleSource) -> None:
    with pytest.raises(InvalidInput, match="lies in the future") as raised:
        ask(source, as_of=NOW + DAY + 1)
    assert raised.value.field == "query/as_of"


def test_bars_of_after_the_moment_are_cut_whoever_sends_them(market: Market, source: CandleSource) -> None:
    end = parse_iso("2025-07-16T09:30:00Z")
    market.script.append(lambda _: bars(EURUSD, H1, end + 12 * HOUR, 50))
    assert iso(int(ask(source, as_of=end).frame.close_time[-1])) == "2025-07-16T09:00:00Z"


def test_no_bars_at_all_is_no_question(source: CandleSource) -> None:
    with pytest.raises(InvalidInput, match="at least one bar"):
        ask(source, count=0)


# ---------------------------------------------------------------- trouble


def test_an_unavailable_provider_is_tried_again_and_the_deadline_goes_down_to_it(market: Market) -> None:
    slept: list[float] = []
    source = CandleSource(market, clock=lambda: NOW, random=lambda: 0.5, sleep=slept.append)
    market.script.extend([DOWN, DOWN])
    assert not ask(source, seconds=4.0).stale
    assert len(market.asked) == 3
    assert slept == [0.15, 0.3]
    assert all(0 < timeout <= 4.0 for timeout in market.timeouts)


def test_an_unknown_symbol_is_not_tried_again_and_never_opens_the_circuit(market: Market) -> None:
    breaker = CircuitBreaker("market", threshold=2)
    source = source_of(market, breaker=breaker, retry=RetryPolicy(attempts=3))
    market.always = failing(UnknownSymbol("EURUSD=X"))
    for _ in range(4):
        with pytest.raises(UnknownSymbol):
            ask(source)
    assert (len(market.asked), breaker.state) == (4, BreakerState.CLOSED)


def test_no_history_goes_to_the_caller(market: Market, source: CandleSource) -> None:
    market.always = failing(HistoryUnavailable("kept for 60 days"))
    with pytest.raises(HistoryUnavailable, match="60 days"):
        ask(source)


def test_bars_that_cannot_be_true_are_an_unavailable_provider_that_names_the_faults(
    market: Market, source: CandleSource
) -> None:
    def upside_down(frame: CandleFrame) -> CandleFrame:
        high, low = frame.low.copy(), frame.high.copy()
        return CandleFrame(frame.symbol, frame.timeframe, frame.time, frame.open, high, low, frame.close)

    market.always = upside_down
    with pytest.raises(ProviderUnavailable, match="cannot be true: EURUSD=X 1h: high below low at") as raised:
        ask(source)
    assert isinstance(raised.value.__cause__, BadCandles)


def test_bars_too_few_for_one_longer_bar_are_no_history(market: Market) -> None:
    market.derived = {Timeframe.H4: H1}  # type: ignore[attr-defined]
    market.always = lambda frame: frame.tail(1)
    with pytest.raises(HistoryUnavailable, match="market has no finished 4h bar of EURUSD=X by then"):
        ask(source_of(market), timeframe=Timeframe.H4)


def test_an_empty_answer_is_never_a_success(market: Market, source: CandleSource) -> None:
    market.always = lambda frame: frame.rows(slice(0, 0))
    with pytest.raises(ProviderUnavailable, match="sent no finished 1h bar of EURUSD=X"):
        ask(source)


def test_while_the_provider_is_down_what_is_left_is_answered_and_marked(market: Market, source: CandleSource) -> None:
    ask(source)
    market.clock, market.always = NOW + 3 * HOUR, DOWN
    answer = ask(source)
    assert answer.stale
    assert answer.warnings == (
        "stale candles: the newest finished 1h bar of EURUSD=X closed at 2025-07-23T15:00:00Z (the market is down)",
    )
    market.always = None
    assert not ask(source).stale


def test_what_is_left_is_not_answered_when_it_is_a_week_old(market: Market, source: CandleSource) -> None:
    ask(source)
    market.clock, market.always = NOW + 8 * DAY, DOWN
    with pytest.raises(ProviderUnavailable, match="the market is down"):
        ask(source)


def test_what_is_left_holds_nothing_of_after_a_past_moment(market: Market, source: CandleSource) -> None:
    ask(source, count=30)
    market.always = DOWN
    end = parse_iso("2025-07-23T02:00:00Z")
    answer = ask(source, count=50, as_of=end)
    assert answer.stale
    assert int(answer.frame.close_time[-1]) == end


def test_a_feed_that_stands_still_is_marked_though_it_answers(market: Market, source: CandleSource) -> None:
    market.always = lambda frame: frame.rows(slice(0, -4))
    answer = ask(source)
    assert answer.stale
    assert answer.warnings == ("stale candles: the newest finished 1h bar of EURUSD=X closed at 2025-07-23T11:00:00Z",)


def test_a_bug_is_not_dressed_up_as_an_outage(market: Market, source: CandleSource) -> None:
    market.always = failing(ZeroDivisionError("ours"))
    with pytest.raises(ZeroDivisionError):
        ask(source)
    market.always = None
    assert len(ask(source).frame) == 50


def test_a_deadline_that_has_passed_costs_no_request(market: Market, source: CandleSource) -> None:
    with pytest.raises(ProviderUnavailable, match="market did not answer for EURUSD=X 1h in time"):
        ask(source, seconds=0.0)
    assert market.asked == []


# ---------------------------------------------------------------- the archive


class Objects(dict[str, bytes]):
    def get(self, key: str) -> bytes | None:  # type: ignore[override]
        return super().get(key)

    def put(self, key: str, body: bytes) -> None:
        self[key] = body


def test_another_instance_finds_the_candles_in_the_archive(market: Market) -> None:
    objects = Objects()
    first = ask(source_of(market, storage=objects))
    assert list(objects) == ["candles/market/EURUSD=X/1h/2025-07.npz"]
    again = ask(source_of(market, storage=objects))
    assert len(market.asked) == 1
    np.testing.assert_array_equal(again.frame.close, first.frame.close)


def test_an_archive_without_the_newest_bar_is_not_enough(market: Market) -> None:
    objects = Objects()
    ask(source_of(market, storage=objects))
    market.clock += HOUR
    assert iso(int(ask(source_of(market, storage=objects)).frame.close_time[-1])) == "2025-07-23T16:00:00Z"
    assert len(market.asked) == 2


def test_while_the_provider_is_down_another_instance_answers_from_the_archive(market: Market) -> None:
    objects = Objects()
    ask(source_of(market, storage=objects))
    market.clock, market.always = NOW + 3 * HOUR, DOWN
    answer = ask(source_of(market, storage=objects))
    assert (answer.stale, len(answer.frame)) == (True, 50)


@pytest.mark.parametrize(("as_of", "kind"), [(None, ProviderUnavailable), (NOW, HistoryUnavailable)])
def test_bars_a_week_older_than_the_moment_are_no_answer_about_it(
    market: Market, source: CandleSource, as_of: int | None, kind: type[Exception]
) -> None:
    market.always = lambda _: bars(EURUSD, H1, NOW - 8 * DAY, 60)
    with pytest.raises(kind, match="too old to say anything about"):
        ask(source, as_of=as_of)
