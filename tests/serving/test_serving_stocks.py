"""Requests of daily stocks: answered in parts that take turns, each stock apart, and ended when nobody waits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import pytest

from fusiontrade.errors import BundleRefused
from fusiontrade.inference.contract import CandleColumns, ModelReference
from fusiontrade.inference.swing import DailyItem, SwingRequest, SwingResponse
from fusiontrade.market.candles import CandleFrame
from serving.batching import Overloaded
from serving.stocks import PLACES, Stocks
from serving.swing.bundle import SwingAnswers
from serving.swing.forecasting import SwingForecast

THREE = (0.1, 0.2, 0.3)


class Bundle:
    """Answers each stock with its newest close as return, once it may; breaks on a close of 13."""

    def __init__(self, *, may: bool = True, refuses: bool = False) -> None:
        self.card = SimpleNamespace(
            encoder=None, ranker=None, reference=ModelReference(id="swing", version="1"), model_id="swing"
        )
        self.bars_needed = 2
        self.sessions = ()
        self.parts: list[list[str]] = []
        self.may = threading.Event()
        self._refuses = refuses
        if may:
            self.may.set()

    def check(self, encoder: object) -> None:
        if self._refuses:
            raise BundleRefused("swing learned from another encoder")

    def answer(self, frames: Mapping[str, CandleFrame], *_: object) -> SwingAnswers:
        self.parts.append([frame.symbol for frame in frames.values()])
        self.may.wait(10)
        if any(frame.close[-1] == 13 for frame in frames.values()):
            raise BundleRefused("swing answered something that is not a finite number")
        return SwingAnswers({key: forecast(frame) for key, frame in frames.items()}, {})


def forecast(frame: CandleFrame) -> SwingForecast:
    told: dict[str, Any] = dict.fromkeys(("stockformer", "tft", "uncertainty", "p10", "p50", "p90"), THREE)
    told |= {"symbol": frame.symbol, "bar_close": 1, "signal": "HOLD", "confidence": 0.0, "veto": 0.5}
    told |= {"abstains": False, "returns": (float(frame.close[-1]),) * 3, "attention": ()}
    return SwingForecast(**{one.name: told.get(one.name) for one in fields(SwingForecast)})


def request(closes: Sequence[float], name: str = "S") -> SwingRequest:
    items = []
    for place, close in enumerate(closes):
        both = [close, close]
        columns = CandleColumns(time=[0, 86_400_000], open=both, high=both, low=both, close=both)
        items.append(DailyItem(symbol=f"{name}{place}", candles=columns))
    return SwingRequest(items=items)


def asking(stocks: Stocks, bundle: Bundle, wanted: SwingRequest, seconds: float = 10) -> asyncio.Task[SwingResponse]:
    return asyncio.ensure_future(stocks.answer(wanted, bundle, None, seconds=seconds))  # type: ignore[arg-type]


async def until(condition: Any) -> None:
    for _ in range(5000):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("waited in vain")


def test_every_stock_is_answered_in_its_place_in_parts_of_sixteen() -> None:
    async def scenario() -> None:
        stocks, bundle = Stocks(), Bundle()
        answer = await asking(stocks, bundle, request(range(100, 140)))
        assert [one.symbol for one in answer.items] == [f"S{place}" for place in range(40)]
        assert [one.returns and one.returns[0] for one in answer.items] == list(range(100, 140))
        assert [len(part) for part in bundle.parts] == [16, 16, 8]
        assert stocks.unanswered == 0
        stocks.close()

    asyncio.run(scenario())


def test_a_stock_that_breaks_the_graphs_is_the_only_one_without_an_answer() -> None:
    async def scenario() -> None:
        stocks, bundle = Stocks(), Bundle()
        answer = await asking(stocks, bundle, request([1, 13, 2]))
        assert [one.returns and one.returns[0] for one in answer.items] == [1.0, None, 2.0]
        assert answer.items[1].error is not None
        assert answer.items[1].error.code == "model_failed"
        assert bundle.parts == [["S0", "S1", "S2"], ["S0"], ["S1"], ["S2"]]
        stocks.close()

    asyncio.run(scenario())


def test_requests_take_turns_so_a_small_one_does_not_wait_for_a_large_one() -> None:
    async def scenario() -> None:
        stocks, bundle = Stocks(), Bundle(may=False)
        large = asking(stocks, bundle, request([1] * 64, "L"))
        await until(lambda: bundle.parts)
        small = asking(stocks, bundle, request([2], "X"))
        await until(lambda: stocks.unanswered == 65)
        bundle.may.set()
        await asyncio.gather(large, small)
        assert bundle.parts.index(["X0"]) <= 2
        assert len(bundle.parts) == 5
        stocks.close()

    asyncio.run(scenario())


def test_each_part_lets_the_urgent_go_first() -> None:
    said = iter([True, True, False, True, True, False, True, False])  # before ranking, the first part, the second
    begun: list[int] = []
    bundle = Bundle()

    def urgent() -> bool:
        begun.append(len(bundle.parts))
        return next(said)

    async def scenario() -> None:
        stocks = Stocks(urgent)
        answer = await asking(stocks, bundle, request([1] * 20))
        assert [one.error for one in answer.items] == [None] * 20
        stocks.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("serving.stocks._GIVING_WAY", 3600.0)
        asyncio.run(scenario())
    assert begun == [0, 0, 0, 0, 0, 0, 1, 1]
    assert next(said, None) is None


def test_who_gives_way_keeps_its_turn_before_those_that_came_later() -> None:
    async def scenario() -> None:
        waits = True
        stocks, bundle = Stocks(lambda: waits), Bundle()
        first = asking(stocks, bundle, request([1] * 2, "F"))
        second = asking(stocks, bundle, request([1] * 2, "G"))
        for _ in range(20):
            await asyncio.sleep(0)
        assert (bundle.parts, stocks.unanswered) == ([], 4)
        waits = False
        await asyncio.gather(first, second)
        assert bundle.parts == [["F0", "F1"], ["G0", "G1"]]
        stocks.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("serving.stocks._GIVING_WAY", 3600.0)
        asyncio.run(scenario())


def test_stocks_are_answered_beside_urgent_work_without_end() -> None:
    async def scenario() -> None:
        stocks, bundle = Stocks(lambda: True), Bundle()
        answer = await asking(stocks, bundle, request([1] * 40))
        assert [one.error for one in answer.items] == [None] * 40
        stocks.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("serving.stocks._GIVING_WAY", 0.001)
        asyncio.run(scenario())


def test_a_drain_that_is_over_ends_whoever_gives_way() -> None:
    async def scenario() -> None:
        stocks, bundle = Stocks(lambda: True), Bundle()
        asked = asking(stocks, bundle, request([1] * 3))
        await asyncio.sleep(0)
        stocks.give_up()
        answer = await asyncio.wait_for(asked, 60)
        assert {one.error and one.error.code for one in answer.items} == {"timed_out"}
        assert bundle.parts == []
        stocks.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("serving.stocks._GIVING_WAY", 3600.0)
        asyncio.run(scenario())


def test_what_has_no_answer_when_its_time_is_up_says_so() -> None:
    async def scenario() -> None:
        stocks, bundle = Stocks(), Bundle(may=False)
        asked = asking(stocks, bundle, request([1] * 20), seconds=10)
        await until(lambda: bundle.parts)
        loop = asyncio.get_running_loop()
        now = loop.time
        with pytest.MonkeyPatch.context() as later:
            later.setattr(loop, "time", lambda: now() + 60)
            bundle.may.set()
            answer = await asked
        assert [one.error and one.error.code for one in answer.items] == [None] * 16 + ["timed_out"] * 4
        assert len(bundle.parts) == 1
        stocks.close()

    asyncio.run(scenario())


def test_a_drain_that_is_over_ends_a_request_with_what_it_has() -> None:
    async def scenario() -> None:
        stocks, bundle = Stocks(), Bundle(may=False)
        asked = asking(stocks, bundle, request([1] * 17))
        await until(lambda: bundle.parts)
        stocks.give_up()
        bundle.may.set()
        last = (await asked).items[16].error
        assert last is not None
        assert last.detail == "the program had to end before the answer"
        stocks.close()

    asyncio.run(scenario())


def test_a_request_whose_client_is_gone_ends_with_the_part_at_work() -> None:
    async def scenario() -> None:
        stocks, bundle = Stocks(), Bundle(may=False)
        asked = asking(stocks, bundle, request([1] * 64))
        await until(lambda: bundle.parts)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert stocks.unanswered == 0
        bundle.may.set()
        await asking(stocks, bundle, request([2]))
        assert [len(part) for part in bundle.parts] == [16, 1]
        stocks.close()

    asyncio.run(scenario())


def test_more_than_may_wait_are_sent_away_but_never_by_an_idle_program() -> None:
    async def scenario() -> None:
        stocks, bundle = Stocks(), Bundle(may=False)
        first = asking(stocks, bundle, request([1] * 256))
        second = asking(stocks, bundle, request([1] * 256))
        await until(lambda: stocks.unanswered == PLACES)
        with pytest.raises(Overloaded):
            await asking(stocks, bundle, request([1]))
        bundle.may.set()
        await asyncio.gather(first, second)
        stocks.close()

    asyncio.run(scenario())


def test_a_bundle_of_another_encoder_is_refused_as_a_whole() -> None:
    async def scenario() -> None:
        stocks, bundle = Stocks(), Bundle(refuses=True)
        with pytest.raises(BundleRefused, match="another encoder"):
            await asking(stocks, bundle, request([1]))
        assert bundle.parts == []
        stocks.close()

    asyncio.run(scenario())
