"""Batching: many requests at once, each answered as if it were alone; places, times, and faults of single items."""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tiny_bundles import TIMEFRAMES, build_bundle, candles

from fusiontrade.inference.contract import ForecastResponse, ItemError, ItemForecast, ModelReference
from fusiontrade.inference.swing import StockForecast
from serving.asked import Asked
from serving.engine import Engine, load_engine, run
from serving.features import NewestInputs
from serving.preparing import opened
from serving.running import Overloaded, Running, start
from serving.settings import ServingSettings
from serving.windows import told


def asked(symbol: str = "EURUSD=X", timeframe: str = "1h", **how: Any) -> Asked:
    frame = candles(symbol, timeframe, **how)
    return Asked(symbol, frame.timeframe, frame)


RISING = {"drift": 2.0}


@contextmanager
def running(bundles: Path, **settings: Any) -> Iterator[Running]:
    given: dict[str, Any] = {"workers": 2, "device": "cpu", "model_seconds": 60}  # the slow model on a busy machine
    engine = start(ServingSettings(bundles=bundles, **given | settings))
    try:
        yield engine
    finally:
        engine.close()


def together(engine: Running, requests: Sequence[Sequence[Asked]], seconds: float = 30.0) -> list[Any]:
    """Ask everything at once; an exception stands for the answer it replaced."""

    async def all_of_them() -> list[Any]:
        calls = [engine.answer(items, seconds=seconds) for items in requests]
        return list(await asyncio.gather(*calls, return_exceptions=True))

    return asyncio.run(all_of_them())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


def alone(engine: Engine, one: Asked) -> ItemForecast:
    windows = opened([one])
    for bundle, riding in engine.riders(windows):
        run(bundle, riding)
    return told(windows[0])


def assert_same(found: ItemForecast, expected: ItemForecast) -> None:
    def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict):
            for name, part in value.items():
                yield from flat(part, f"{path}.{name}")
        else:
            yield path, value

    for (name, one), (_, other) in zip(flat(found.model_dump()), flat(expected.model_dump()), strict=True):
        numeric = isinstance(one, float | tuple | list) and name != ".warnings"
        assert np.allclose(one, other, rtol=1e-5, atol=1e-5) if numeric else one == other, name


def sample(engine: Running, name: str, **labels: str) -> float:
    text = engine.metrics.exposition()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def fully_answered(item: ItemForecast) -> bool:
    return item.error is None and item.lstm is not None and item.patchtst is not None


@pytest.fixture(scope="module")
def engine(bundles: Path) -> Iterator[Running]:
    with running(bundles) as found:
        yield found


@pytest.fixture(scope="module")
def slow_bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An LSTM of 1h that takes half a second or more over rising candles; quick models of 15m, and a PatchTST."""
    folder = tmp_path_factory.mktemp("slow")
    build_bundle(folder, "lstm", "1h", behaviour="slow")
    build_bundle(folder, "patchtst", "1h")
    build_bundle(folder, "lstm", "15m")
    return folder


def test_random_requests_at_once_are_answered_as_each_item_is_alone(engine: Running) -> None:
    chance = random.Random(11)
    symbols = ["EURUSD=X", "BTC-USD", "DOGE-USD"]
    items = [
        asked(chance.choice(symbols), timeframe, seed=seed, volume=bool(seed % 2), bars=bars)
        for seed, (timeframe, bars) in enumerate([(t, b) for t in TIMEFRAMES for b in (720, 659, 640, 1000, 720)])
    ]
    expected = {id(one): alone(engine.engine, one) for one in items}
    requests = [[chance.choice(items) for _ in range(chance.choice([1, 1, 1, 2, 4, 9]))] for _ in range(120)]
    answers = together(engine, requests)
    for request, answer in zip(requests, answers, strict=True):
        assert isinstance(answer, ForecastResponse), answer
        for one, found in zip(request, answer.items, strict=True):
            assert_same(found, expected[id(one)])


def test_requests_that_wait_ride_together_and_a_lone_one_rides_alone(bundles: Path) -> None:
    with running(bundles, workers=1, batch=8) as engine:
        assert fully_answered(together(engine, [[asked()]])[0].items[0])
        assert sample(engine, "serving_batch_items_count", model="lstm-1h") == 1
        answers = together(engine, [[asked(seed=seed)] for seed in range(17)])
        assert all(fully_answered(answer.items[0]) for answer in answers)
        assert sample(engine, "serving_batch_items_sum", model="lstm-1h") == 18
        assert sample(engine, "serving_batch_items_bucket", model="lstm-1h", le="8.0") == sample(
            engine, "serving_batch_items_count", model="lstm-1h"
        )
        assert sample(engine, "serving_batch_items_count", model="lstm-1h") < 1 + 17
        assert sample(engine, "serving_items_total", outcome="answered") == 18
        assert sample(engine, "serving_unanswered_items") == 0


def test_a_request_without_a_place_is_refused_at_once_and_admitted_when_there_is_room(slow_bundles: Path) -> None:
    with running(slow_bundles, workers=1, queue=1) as engine:
        first, second, third, fourth = together(engine, [[asked(**RISING)], [asked()], [asked()], [asked(), asked()]])
        assert all(fully_answered(one.items[0]) for one in (first, second))
        for refused in (third, fourth):
            assert isinstance(refused, Overloaded)
            assert 1 <= refused.retry_after <= 30
        assert sample(engine, "serving_overloads_total") == 2
        assert fully_answered(together(engine, [[asked()]])[0].items[0])


def test_an_idle_engine_admits_a_request_larger_than_its_places(engine: Running, bundles: Path) -> None:
    with running(bundles, workers=1, queue=0) as small:
        small.admit(500)
        (answer,) = together(small, [[asked(seed=seed) for seed in range(40)]])
        assert all(fully_answered(item) for item in answer.items)


def test_an_item_that_misses_its_deadline_keeps_what_it_has_and_frees_its_place(slow_bundles: Path) -> None:
    with running(slow_bundles, workers=2) as engine:
        slow, quick = asked(**RISING), asked(timeframe="15m")

        async def ask() -> ForecastResponse:
            answer = await engine.answer([slow, quick], seconds=0.2)
            assert sample(engine, "serving_unanswered_items") == 0
            return answer

        late, in_time = asyncio.run(ask()).items
        assert in_time.lstm is not None
        assert late.lstm is None
        assert late.patchtst is not None
        assert late.warnings == ["no answer within 0.2 s"]
        assert fully_answered(together(engine, [[asked(seed=3)]])[0].items[0])


def test_an_item_that_nobody_answered_in_time_says_so_with_a_code_of_its_own(tmp_path: Path) -> None:
    build_bundle(tmp_path, "lstm", behaviour="slow")
    with running(tmp_path, workers=1) as engine:
        first, second = together(engine, [[asked(**RISING)], [asked(seed=3)]], seconds=0.1)
        for answer in (first, second):
            assert answer.items[0].error == ItemError(code="timed_out", detail="no answer within 0.1 s")


def test_a_cancelled_request_frees_its_places_and_the_others_are_answered(slow_bundles: Path) -> None:
    with running(slow_bundles, workers=1, queue=3) as engine:

        async def go_away() -> ForecastResponse:
            first = asyncio.create_task(engine.answer([asked(**RISING)], seconds=30))
            await until(lambda: sample(engine, "serving_wait_seconds_count") == 1)
            gone = [asyncio.create_task(engine.answer([asked(seed=seed)], seconds=30)) for seed in range(3)]
            await until(lambda: sample(engine, "serving_unanswered_items") == 4)
            with pytest.raises(Overloaded):
                await engine.answer([asked()], seconds=30)
            for task in gone:
                task.cancel()
            await asyncio.gather(*gone, return_exceptions=True)
            assert sample(engine, "serving_unanswered_items") == 1
            last = await engine.answer([asked()], seconds=30)
            assert fully_answered((await first).items[0])
            return last

        assert fully_answered(asyncio.run(go_away()).items[0])
        assert sample(engine, "serving_items_total", outcome="answered") == 2


def test_daily_stocks_wait_for_bars_that_are_being_answered(
    slow_bundles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside: list[float] = []
    card = SimpleNamespace(encoder=None, reference=ModelReference(id="swing", version="1"))
    daily: Any = SimpleNamespace(items=[SimpleNamespace(symbol="A")]), SimpleNamespace(card=card), None

    async def both(engine: Running) -> None:
        bars = asyncio.create_task(engine.answer([asked(**RISING)], seconds=30))
        await until(lambda: sample(engine, "serving_unanswered_items") == 1)
        await engine.stocks.answer(*daily, seconds=30)
        await bars

    with running(slow_bundles) as engine:

        def ranked(*_: object) -> list[None]:
            beside.append(sample(engine, "serving_unanswered_items"))
            return [None]

        monkeypatch.setattr("serving.stocks._GIVING_WAY", 3600.0)
        monkeypatch.setattr("serving.stocks._made_ready", ranked)
        monkeypatch.setattr("serving.stocks._part_answered", lambda *_: [StockForecast(symbol="A")])
        asyncio.run(both(engine))
    assert beside == [0.0]


def test_a_request_that_is_being_computed_is_withdrawn_without_writing_out_its_arrays(
    slow_bundles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error message of CPython's deque holds the repr of what it does not hold: milliseconds for each request."""

    def too_long(_: Asked) -> str:
        raise AssertionError

    monkeypatch.setattr(Asked, "__repr__", too_long)
    with running(slow_bundles, workers=1) as engine:

        async def go_away() -> None:
            task = asyncio.create_task(engine.answer([asked(**RISING)], seconds=30))
            await until(lambda: sample(engine, "serving_wait_seconds_count") == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert sample(engine, "serving_unanswered_items") == 0

        asyncio.run(go_away())


@pytest.mark.parametrize(("behaviour", "why"), [("nan", "is not a finite number"), ("raises", "lstm-1h failed: ")])
def test_a_model_that_breaks_on_one_item_costs_the_others_in_its_batch_nothing(
    tmp_path: Path, behaviour: Any, why: str
) -> None:
    build_bundle(tmp_path, "lstm", behaviour=behaviour)
    with running(tmp_path, workers=1) as engine:
        requests = [[asked(seed=seed, **(RISING if seed % 5 == 0 else {}))] for seed in range(20)]
        for seed, answer in enumerate(together(engine, requests)):
            (item,) = answer.items
            if seed % 5 == 0:
                assert item.error is not None
                assert item.error.code == "model_failed"
                assert why in item.error.detail
            else:
                assert item.lstm is not None
        assert sample(engine, "serving_items_total", outcome="model_failed") == 4


def test_a_run_that_takes_too_long_is_ended_and_only_the_guilty_item_fails(slow_bundles: Path) -> None:
    with running(slow_bundles, workers=1, model_seconds=0.1) as engine:
        requests = [[asked(seed=1)], [asked(seed=2, **RISING)], [asked(seed=3)]]
        before, guilty, after = (answer.items[0] for answer in together(engine, requests))
        assert fully_answered(before)
        assert fully_answered(after)
        assert guilty.lstm is None
        assert guilty.warnings == ["lstm-1h failed: took longer than 0.1 s"]


def test_a_slow_model_holds_those_who_ask_for_it_alone(slow_bundles: Path) -> None:
    with running(slow_bundles, workers=2) as engine:

        async def ask() -> None:
            slow = asyncio.create_task(engine.answer([asked(**RISING)], seconds=30))
            await until(lambda: sample(engine, "serving_wait_seconds_count") == 1)
            for seed in range(5):
                answer = await engine.answer([asked(timeframe="15m", seed=seed)], seconds=30)
                assert answer.items[0].lstm is not None
            assert not slow.done()
            assert fully_answered((await slow).items[0])

        asyncio.run(ask())


def test_a_small_request_does_not_wait_for_all_of_a_large_one(bundles: Path) -> None:
    with running(bundles, workers=1, batch=4) as engine:

        async def ask() -> list[str]:
            order: list[str] = []

            async def one(name: str, items: list[Asked]) -> None:
                await engine.answer(items, seconds=30)
                order.append(name)

            waits: list[Awaitable[None]] = [one("large", [asked(seed=seed) for seed in range(60)])]
            waits += [one(name, [asked(seed=9)]) for name in ("small", "smaller")]
            await asyncio.gather(*waits)
            return order

        assert asyncio.run(ask()) == ["small", "smaller", "large"]


def test_items_that_cannot_be_read_are_answered_without_any_model(engine: Running) -> None:
    broken = Asked("X", candles().timeframe, ItemError(code="bad_candles", detail="no columns"))
    (answer,) = together(engine, [[broken, asked(bars=10), asked(timeframe="1d"), asked()]])
    codes = [item.error and item.error.code for item in answer.items]
    assert codes == ["bad_candles", "too_few_bars", "no_model", None]


def test_bars_that_break_the_features_of_their_group_cost_their_item_alone(
    engine: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = NewestInputs.volatility

    def fails_over_bitcoin(self: NewestInputs, usual: Any) -> Any:
        if any(frame.symbol == "BTC-USD" for frame in self._frames):
            raise FloatingPointError
        return compute(self, usual)

    monkeypatch.setattr(NewestInputs, "volatility", fails_over_bitcoin)
    requests = [[asked(symbol, seed=seed)] for seed, symbol in enumerate(["EURUSD=X", "BTC-USD", "EURUSD=X"])]
    before, broken, after = (answer.items[0] for answer in together(engine, requests))
    assert fully_answered(before)
    assert fully_answered(after)
    assert broken.error == ItemError(code="model_failed", detail="lstm-1h failed: FloatingPointError")


def test_a_request_keeps_the_bundles_it_was_admitted_with(slow_bundles: Path, tmp_path: Path) -> None:
    newer = load_engine(build_bundle(tmp_path, "lstm", "1h", horizon_bars=8).parent)
    with running(slow_bundles, workers=1) as engine:
        old, new = (found.bundles["lstm", asked().timeframe].card.version for found in (engine.engine, newer))
        assert old != new

        async def ask() -> list[ForecastResponse]:
            first = asyncio.create_task(engine.answer([asked(**RISING)], seconds=30))
            second = asyncio.create_task(engine.answer([asked(seed=1), asked(seed=2)], seconds=30))
            await until(lambda: sample(engine, "serving_wait_seconds_count") >= 1)
            engine._batcher.install(newer)
            third = asyncio.create_task(engine.answer([asked(seed=3)], seconds=30))
            return [await first, await second, await third]

        answers = asyncio.run(ask())
        versions = [{item.lstm.model.version for item in answer.items if item.lstm} for answer in answers]
        assert versions == [{old}, {old}, {new}]


@pytest.mark.parametrize("seconds", [30.0, 0.05], ids=["answered", "too late"])
def test_nothing_of_a_request_is_held_when_it_is_over(slow_bundles: Path, seconds: float) -> None:
    """Without the help of the collector of cycles: it would let megabytes wait for it."""
    with running(slow_bundles, workers=2) as engine:
        gc.disable()
        try:
            one = asked(**(RISING if seconds < 1 else {}))
            frame = weakref.ref(one.frame)
            together(engine, [[one]], seconds=seconds)
            del one
            asyncio.run(until(lambda: frame() is None))
        finally:
            gc.enable()


def test_an_answer_that_cannot_be_told_is_its_items_error(engine: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def told_unless_second(window: Any) -> ItemForecast:
        if window.asked.symbol == "BTC-USD":
            raise ZeroDivisionError
        return told(window)

    monkeypatch.setattr("serving.tickets.told", told_unless_second)
    monkeypatch.setattr("serving.tickets.cut_off", lambda seat, missing: told_error(seat.asked, missing))
    fine, broken = together(engine, [[asked()], [asked("BTC-USD")]])
    assert fully_answered(fine.items[0])
    assert broken.items[0].error.detail.startswith("something went wrong inside")


def told_error(one: Asked, error: ItemError) -> ItemForecast:
    return ItemForecast(symbol=one.symbol, timeframe=one.timeframe, error=error)
