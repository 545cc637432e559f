"""Callers at once, and timeframes at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from fusiontrade.clock import iso
from fusiontrade.errors import ProviderUnavailable
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.source import CandleAnswer, CandleSource
from fusiontrade.market.symbols import Symbol
from fusiontrade.market.timeframes import INTRADAY, Timeframe
from tests.support.markets import (
    DOWN,
    NOW,
    Market,
    Meeting,
    ask,
    many,
    source_of,
    together,
)

H1 = Timeframe.H1


# ---------------------------------------------------------------- one request in flight


def held_until(done: threading.Event) -> Meeting:
    def hold(frame: CandleFrame) -> CandleFrame:
        done.wait(10)
        return frame

    return hold


def slowly(then: Callable[[CandleFrame], CandleFrame] | None = None) -> Callable[[CandleFrame], CandleFrame]:
    def wait(frame: CandleFrame) -> CandleFrame:
        time.sleep(0.3)
        return frame if then is None else then(frame)

    return wait


def test_callers_at_once_share_one_request(market: Market, source: CandleSource) -> None:
    market.always = slowly()
    answers = together(8, lambda: ask(source))
    assert len(market.asked) == 1
    assert all(isinstance(answer, CandleAnswer) and len(answer.frame) == 50 for answer in answers)


def test_callers_at_once_share_an_error_and_nobody_after_them_does(market: Market, source: CandleSource) -> None:
    market.script.append(slowly(DOWN))
    errors = together(4, lambda: ask(source))
    assert len(market.asked) == 1
    assert all(isinstance(error, ProviderUnavailable) for error in errors)
    assert len(ask(source).frame) == 50


def test_who_wants_more_bars_than_the_one_under_way_goes_after_it(market: Market, source: CandleSource) -> None:
    market.always = slowly()
    counts = iter((20, 80))
    answers = together(2, lambda: ask(source, count=next(counts)))
    assert sorted(len(answer.frame) for answer in answers if isinstance(answer, CandleAnswer)) == [20, 80]


def test_who_waits_waits_no_longer_than_its_own_deadline(market: Market, source: CandleSource) -> None:
    done = threading.Event()
    market.script.append(held_until(done))
    leader = threading.Thread(target=ask, args=(source,))
    leader.start()
    while not market.asked:
        time.sleep(0.01)
    begun = time.monotonic()
    with pytest.raises(ProviderUnavailable, match="in time"):
        ask(source, seconds=0.2)
    assert time.monotonic() - begun < 5
    done.set()
    leader.join()


def test_a_leader_without_time_does_not_take_its_followers_down(market: Market, source: CandleSource) -> None:
    def too_slow(frame: CandleFrame) -> CandleFrame:
        time.sleep(0.4)
        raise ProviderUnavailable("no answer within 0.2 s")

    market.script.append(too_slow)
    leader = threading.Thread(target=together, args=(1, lambda: ask(source, seconds=0.2)))
    leader.start()
    while not market.asked:
        time.sleep(0.01)
    assert len(ask(source, seconds=10).frame) == 50
    leader.join()


# ---------------------------------------------------------------- many timeframes


def test_many_answers_every_timeframe_as_of_one_instant(market: Market, source: CandleSource) -> None:
    answers = many(source)
    assert list(answers) == list(INTRADAY)
    assert {answer.as_of for answer in answers.values()} == {NOW}
    assert [iso(int(answer.frame.close_time[-1]))[11:16] for answer in answers.values()] == [
        "15:00",
        "15:00",
        "15:00",
        "13:00",
    ]


def test_many_asks_for_all_at_the_same_time(market: Market, source: CandleSource) -> None:
    all_there = threading.Barrier(4, timeout=10)

    def meet(frame: CandleFrame) -> CandleFrame:
        all_there.wait()
        return frame

    market.always = meet
    assert all(isinstance(answer, CandleAnswer) for answer in many(source).values())


def test_many_hands_errors_over_as_values(market: Market, source: CandleSource) -> None:
    original = market.candles

    def no_hours(symbol: Symbol, timeframe: Timeframe, **options) -> CandleFrame:
        if timeframe is H1:
            raise ProviderUnavailable("no hours today")
        return original(symbol, timeframe, **options)

    market.candles = no_hours  # type: ignore[method-assign]
    answers = many(source)
    assert isinstance(answers[H1], ProviderUnavailable)
    assert sum(isinstance(answer, CandleAnswer) for answer in answers.values()) == 3


def test_many_ends_with_its_deadline_whatever_hangs(market: Market, source: CandleSource) -> None:
    done = threading.Event()
    market.always = held_until(done)
    begun = time.monotonic()
    answers = many(source, seconds=0.3)
    assert time.monotonic() - begun < 5
    done.set()
    assert all(isinstance(answer, ProviderUnavailable) for answer in answers.values())


def test_timeframes_that_the_provider_derives_share_a_request(market: Market) -> None:
    market.derived = {Timeframe.H4: H1, Timeframe.M30: Timeframe.M15}  # type: ignore[attr-defined]
    source = source_of(market)
    shared = many(source)
    plain = many(source_of(Market()))
    assert sorted((timeframe, count) for _, timeframe, _, count in market.asked) == [(Timeframe.M15, 84), (H1, 168)]
    for timeframe in INTRADAY:
        np.testing.assert_array_equal(shared[timeframe].frame.time, plain[timeframe].frame.time)
    assert shared[H1].frame.close[-1] == plain[H1].frame.close[-1]
