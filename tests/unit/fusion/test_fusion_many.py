"""Many symbols at once: the forecasts of one at a time, one question to the container, each trouble its symbol's."""

from __future__ import annotations

from dataclasses import replace
from threading import Barrier
from typing import Any

import pytest

from fusiontrade.deadline import Deadline
from fusiontrade.errors import FusionTradeError, InferenceUnavailable, InvalidInput, ProviderUnavailable, UnknownSymbol
from fusiontrade.fusion.ports import Forecast
from fusiontrade.fusion.service import MOST_SYMBOLS, FusionService
from fusiontrade.inference.client import InferenceClient
from fusiontrade.inference.contract import ItemError
from fusiontrade.market.timeframes import INTRADAY, Timeframe
from tests.support.fusion_fakes import NOON, FakeCalibrationStates, FakeCandles, FakeEndpoint, answer, bars

SYMBOLS = ("EURUSD=X", "GC=F", "BTC-USD")


class PerSymbol(FakeCandles):
    """Answers with what ``troubles`` says of a symbol, else well."""

    def __init__(self, troubles: dict[str, Any]) -> None:
        super().__init__()
        self.troubles = troubles

    def many(self, symbol: Any, timeframes: Any, **more: Any) -> Any:
        trouble = self.troubles.get(symbol.code)
        if isinstance(trouble, FusionTradeError):
            return dict.fromkeys(timeframes, trouble)
        if isinstance(trouble, Exception):
            raise trouble
        if trouble is not None:
            return trouble
        return super().many(symbol, timeframes, **more)


def service(candles: FakeCandles | None = None, endpoint: FakeEndpoint | None = None, **more: Any) -> FusionService:
    made = InferenceClient(endpoint or FakeEndpoint())
    return FusionService(candles or FakeCandles(), made, clock=lambda: NOON, **more)


def soon() -> Deadline:
    return Deadline.after(20)


def test_each_forecast_is_the_one_that_asking_for_it_alone_gives() -> None:
    endpoint = FakeEndpoint()
    found = service(endpoint=endpoint).many(SYMBOLS, deadline=soon())
    assert len(endpoint.requests) == 1
    for symbol in SYMBOLS:
        forecast = found[symbol]
        assert isinstance(forecast, Forecast)
        assert forecast.response == service().fused(symbol, include_sentiment=False)
        assert not forecast.is_stale


def test_one_request_holds_the_timeframes_of_all_symbols_in_order() -> None:
    endpoint = FakeEndpoint()
    missing = {timeframe: answer(bars("GC=F", timeframe)) for timeframe in INTRADAY}
    missing[Timeframe.H4] = ProviderUnavailable("late")  # type: ignore[assignment]
    service(PerSymbol({"GC=F": missing}), endpoint).many(SYMBOLS, deadline=soon())
    assert [(item.symbol, item.timeframe) for item in endpoint.requests[0].items] == [
        (symbol, timeframe) for symbol in SYMBOLS for timeframe in (INTRADAY[:3] if symbol == "GC=F" else INTRADAY)
    ]


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        (ProviderUnavailable("down"), ProviderUnavailable),
        (UnknownSymbol("GC=F"), UnknownSymbol),
        (ZeroDivisionError(), FusionTradeError),
    ],
)
def test_a_symbol_without_candles_is_its_own_error_and_not_asked_about(trouble: Exception, told: type) -> None:
    endpoint = FakeEndpoint()
    found = service(PerSymbol({"GC=F": trouble}), endpoint).many(SYMBOLS, deadline=soon())
    assert isinstance(found["GC=F"], told)
    assert "division" not in str(found["GC=F"])
    assert {item.symbol for item in endpoint.requests[0].items} == {"EURUSD=X", "BTC-USD"}
    assert all(isinstance(found[symbol], Forecast) for symbol in ("EURUSD=X", "BTC-USD"))


def test_a_text_that_is_no_symbol_is_its_own_error() -> None:
    found = service().many(["EURUSD=X", "!!"], deadline=soon())
    assert isinstance(found["!!"], InvalidInput)
    assert isinstance(found["EURUSD=X"], Forecast)


def test_no_symbol_with_candles_asks_the_container_nothing() -> None:
    endpoint = FakeEndpoint()
    found = service(PerSymbol({"GC=F": ProviderUnavailable("down")}), endpoint).many(["GC=F"], deadline=soon())
    assert isinstance(found["GC=F"], ProviderUnavailable)
    assert endpoint.requests == []
    assert service(endpoint=endpoint).many([], deadline=soon()) == {}


def test_a_container_that_does_not_answer_is_everybodys_error_who_got_as_far() -> None:
    endpoint = FakeEndpoint(change=lambda body: b"<html>")
    found = service(PerSymbol({"GC=F": UnknownSymbol("GC=F")}), endpoint).many(SYMBOLS, deadline=soon())
    assert isinstance(found["GC=F"], UnknownSymbol)
    assert isinstance(found["EURUSD=X"], InferenceUnavailable)
    assert isinstance(found["BTC-USD"], InferenceUnavailable)


def test_a_symbol_that_the_container_refuses_is_its_own_error() -> None:
    endpoint = FakeEndpoint()
    answered = endpoint._item
    refused = ItemError(code="model_failed", detail="lstm raised")
    endpoint._item = lambda item: (  # type: ignore[method-assign]
        answered(item).model_copy(update={"error": refused}) if item.symbol == "GC=F" else answered(item)
    )
    found = service(endpoint=endpoint).many(SYMBOLS, deadline=soon())
    assert isinstance(found["GC=F"], InferenceUnavailable)
    assert isinstance(found["BTC-USD"], Forecast)


def test_symbols_are_fetched_at_the_same_time() -> None:
    together = Barrier(3, timeout=10)  # broken, and an error of each, where one is fetched after the other

    class Meeting(FakeCandles):
        def many(self, *asked: Any, **more: Any) -> Any:
            together.wait()
            return super().many(*asked, **more)

    found = service(Meeting()).many(SYMBOLS, deadline=soon())
    assert all(isinstance(each, Forecast) for each in found.values())


def test_states_are_learned_of_each_symbol() -> None:
    states = FakeCalibrationStates()
    service(calibration=states).many(SYMBOLS, deadline=soon())
    assert (set(states.items), states.reads, states.writes) == (set(SYMBOLS), 3, 3)


def test_stale_candles_are_said_of_the_forecast() -> None:
    late = {
        timeframe: answer(bars("EURUSD=X", timeframe)).__class__(
            bars("EURUSD=X", timeframe), "files", True, (), True, NOON
        )
        for timeframe in INTRADAY
    }
    found = service(PerSymbol({"EURUSD=X": late})).many(["EURUSD=X"], deadline=soon())["EURUSD=X"]
    assert isinstance(found, Forecast)
    assert found.is_stale


@pytest.mark.parametrize(
    ("left", "minutes", "expected"),
    [
        ((Timeframe.H1, Timeframe.H4), 34, False),  # the quarter of an hour at 12:15 may still be on its way
        ((Timeframe.H1, Timeframe.H4), 36, True),
        ((Timeframe.H4,), 59, True),
        (INTRADAY[1:], 20, False),
    ],
)
def test_a_forecast_without_short_bars_is_stale_once_newer_short_ones_should_be_there(
    left: tuple[Timeframe, ...], minutes: int, expected: bool
) -> None:
    now = NOON + minutes * 60_000
    late = ProviderUnavailable("the market is down")
    found = dict.fromkeys(INTRADAY, late) | {
        timeframe: replace(answer(bars("EURUSD=X", timeframe)), as_of=now) for timeframe in left
    }
    forecast = service(PerSymbol({"EURUSD=X": found})).many(["EURUSD=X"], deadline=soon())["EURUSD=X"]
    assert isinstance(forecast, Forecast)
    assert forecast.is_stale is expected


def test_more_symbols_than_fit_a_request_are_refused() -> None:
    with pytest.raises(ValueError, match="ask for 40 at a time"):
        service().many([f"S{number}" for number in range(MOST_SYMBOLS + 1)], deadline=soon())


def test_as_many_symbols_as_are_allowed_fit_a_request() -> None:
    symbols = [f"{chr(65 + n // 26)}{chr(65 + n % 26)}C-USD" for n in range(MOST_SYMBOLS)]  # crypto: with volume
    found = service().many(symbols, deadline=soon())
    assert all(isinstance(each, Forecast) for each in found.values())
