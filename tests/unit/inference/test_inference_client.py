"""The client of the serving container: what fits is returned, everything else is unavailable."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fusiontrade.errors import InferenceUnavailable, InvalidInput
from fusiontrade.inference.client import MOST_BYTES, InferenceClient
from fusiontrade.inference.contract import CandleColumns, ForecastItem, ForecastRequest, ForecastResponse
from fusiontrade.market.timeframes import Timeframe
from tests.support.fusion_fakes import NOON, FakeEndpoint, bars


def request() -> ForecastRequest:
    return ForecastRequest(
        items=[
            ForecastItem(symbol="EURUSD=X", timeframe=timeframe, candles=CandleColumns.of(bars("EURUSD=X", timeframe)))
            for timeframe in (Timeframe.H1, Timeframe.H4)
        ]
    )


def test_answer_comes_item_by_item_in_the_order_asked() -> None:
    endpoint = FakeEndpoint()
    response = InferenceClient(endpoint).forecast(request(), timeout=3.0)
    assert [item.timeframe for item in response.items] == [Timeframe.H1, Timeframe.H4]
    assert endpoint.timeouts == [3.0]


def test_candles_arrive_bit_for_bit() -> None:
    endpoint = FakeEndpoint()
    InferenceClient(endpoint).forecast(request(), timeout=3.0)
    assert endpoint.requests == [request()]


def reordered(body: bytes) -> bytes:
    response = ForecastResponse.model_validate_json(body)
    return response.model_copy(update={"items": response.items[::-1]}).model_dump_json().encode()


def shortened(body: bytes) -> bytes:
    response = ForecastResponse.model_validate_json(body)
    return response.model_copy(update={"items": response.items[:1]}).model_dump_json().encode()


def of_another_bar(**changes: float | None) -> Callable[[bytes], bytes]:
    def change(body: bytes) -> bytes:
        response = ForecastResponse.model_validate_json(body)
        items = [response.items[0], response.items[1].model_copy(update=changes)]
        return response.model_copy(update={"items": items}).model_dump_json().encode()

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (of_another_bar(bar_close=NOON + 14_400_000), "something other than what was asked"),
        (of_another_bar(bar_close=None), "something other than what was asked"),
        (of_another_bar(current_price=4.9), "something other than what was asked"),
        (of_another_bar(current_price=None), "something other than what was asked"),
        (of_another_bar(atr=None), "something other than what was asked"),
        (of_another_bar(atr=0.0), "something other than what was asked"),
        (reordered, "something other than what was asked"),
        (shortened, "something other than what was asked"),
        (lambda body: b"<html>502</html>", "could not be read"),
        (lambda body: b"", "could not be read"),
        (lambda body: body[: len(body) // 2], "could not be read"),
        (lambda body: b'{"items": null}', "could not be read"),
        (lambda body: body.replace(b'"change":0.25', b'"change":NaN'), "could not be read"),
        (lambda body: body.replace(b'"change":0.25', b'"change":Infinity'), "could not be read"),
        (lambda body: body.replace(b'"win_long":0.42', b'"win_long":1.42'), "could not be read"),
    ],
)
def test_nonsense_is_unavailable(change: Callable[[bytes], bytes], told: str) -> None:
    with pytest.raises(InferenceUnavailable, match=told):
        InferenceClient(FakeEndpoint(change=change)).forecast(request(), timeout=3.0)


@pytest.mark.parametrize("timeout", [0.0, -1.0])
def test_nothing_is_sent_without_time(timeout: float) -> None:
    endpoint = FakeEndpoint()
    with pytest.raises(InferenceUnavailable, match="no time is left"):
        InferenceClient(endpoint).forecast(request(), timeout=timeout)
    assert endpoint.requests == []


def test_a_request_larger_than_sagemaker_takes_is_not_sent_and_told_how_many_items_fit() -> None:
    columns = CandleColumns.of(bars("EURUSD=X", Timeframe.H1, count=1000))
    item = ForecastItem(symbol="EURUSD=X", timeframe=Timeframe.H1, candles=columns)
    endpoint = FakeEndpoint()
    with pytest.raises(InvalidInput, match=r"150 items make \d+ bytes.* ask for about 130 at a time") as caught:
        InferenceClient(endpoint).forecast(ForecastRequest(items=[item] * 150), timeout=3.0)
    assert caught.value.field == "items"
    assert endpoint.requests == []
    assert MOST_BYTES == 6_291_456
    response = InferenceClient(endpoint).forecast(ForecastRequest(items=[item] * 130), timeout=3.0)
    assert len(response.items) == 130
