"""The product's client through the SageMaker runtime client to the program: the whole way of one request."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tiny_bundles import TIMEFRAMES, Program, candles, wait_for

from fusiontrade.cloud.endpoint import SageMakerEndpoint
from fusiontrade.cloud.session import forget_clients
from fusiontrade.errors import InferenceUnavailable
from fusiontrade.inference.client import InferenceClient
from fusiontrade.inference.contract import ForecastItem, ForecastRequest
from fusiontrade.inference.wire import NPY, columns_of


@pytest.fixture
def endpoint(program: Program, monkeypatch: pytest.MonkeyPatch) -> Iterator[SageMakerEndpoint]:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", program.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    forget_clients()
    yield SageMakerEndpoint("fusiontrade-local")
    forget_clients()


def request(*, volume: bool) -> ForecastRequest:
    frames = [candles(timeframe=timeframe, volume=volume) for timeframe in TIMEFRAMES]
    return ForecastRequest(
        items=[
            ForecastItem(symbol=frame.symbol, timeframe=frame.timeframe, candles=columns_of(frame)) for frame in frames
        ]
    )


@pytest.mark.parametrize("volume", [True, False])
def test_four_timeframes_are_asked_in_binary_and_answered(endpoint: SageMakerEndpoint, volume: bool) -> None:
    asked = request(volume=volume)
    response = InferenceClient(endpoint).forecast(asked, timeout=20)
    assert [item.timeframe for item in response.items] == list(TIMEFRAMES)
    for item, wanted in zip(response.items, asked.items, strict=True):
        assert item.error is None
        assert item.current_price == wanted.candles.close[-1]
        assert item.lstm is not None
        assert item.patchtst is not None


def test_a_body_the_program_refuses_is_unavailable_and_nothing_else_is_tried(
    endpoint: SageMakerEndpoint, program: Program
) -> None:
    def seen() -> list[int]:
        path = "/endpoints/fusiontrade-local/invocations"
        return [line["status"] for line in program.lines() if line.get("path") == path]

    before = len(seen())
    with pytest.raises(InferenceUnavailable, match="do not answer now"):
        endpoint.invoke(b"nonsense", content_type=NPY, timeout=5)
    wait_for(lambda: 400 in seen()[before:])  # the log is written after the answer
    assert seen()[before:].count(400) == 1
