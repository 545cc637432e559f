"""The fusion function from outside: Lambda events in, HTTP answers out, the endpoint a program on the loopback.

Candles come from a fake of our port; everything behind the handler is the real thing: routing, authentication,
problems, the fusion service, the SageMaker runtime client.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pytest

from fusiontrade.accounts.admission.tokens import Identity
from fusiontrade.cloud.endpoint import SageMakerEndpoint
from fusiontrade.errors import ProviderUnavailable, UnknownSymbol
from fusiontrade.fusion.response import FusionResponse
from fusiontrade.fusion.service import FusionService
from fusiontrade.inference.client import InferenceClient
from fusiontrade.market.timeframes import INTRADAY, Timeframe
from fusiontrade.web.asking.authentication import current_user
from tests.support.fusion_fakes import NOON, FakeCandles
from tests.support.serving_program import Program, served

APP = Path(__file__).resolve().parents[2] / "functions" / "fusion" / "app.py"
TRADER = Identity("u1", "trader@example.com", "free", "s1", is_verified=True)


@pytest.fixture
def program() -> Iterator[Program]:
    with served() as playing:
        yield playing


@pytest.fixture
def function(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.setenv("STAGE", "local")
    monkeypatch.setenv("LOG_LEVEL", "ERROR")
    spec = importlib.util.spec_from_file_location("fusion_function_app", APP)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    yield module
    module.service_of.cache_clear()


@dataclass
class Client:
    """Calls the handler as the HTTP API does."""

    handler: Callable[[dict[str, Any], Any], dict[str, Any]]
    headers: dict[str, str] = field(default_factory=dict)
    milliseconds: int = 30_000

    def get(self, path: str, query: str = "") -> tuple[int, Any, dict[str, str]]:
        return self._call("GET", path, query, None)

    def post(self, path: str, body: Any) -> tuple[int, Any, dict[str, str]]:
        return self._call("POST", path, "", json.dumps(body))

    def _call(self, method: str, path: str, query: str, body: str | None) -> tuple[int, Any, dict[str, str]]:
        headers = {"host": "api.example.com", **self.headers}
        if body is not None:
            headers |= {"content-type": "application/json", "content-length": str(len(body))}
        event = {
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": unquote(path),
            "rawQueryString": query,
            "headers": headers,
            "requestContext": {
                "http": {"method": method, "path": unquote(path), "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1"},
                "requestId": "r",
                "stage": "$default",
            },
            "body": body,
            "isBase64Encoded": False,
        }
        context = SimpleNamespace(aws_request_id="a", get_remaining_time_in_millis=lambda: self.milliseconds)
        answer = self.handler(event, context)
        return answer["statusCode"], json.loads(answer["body"]), {k.lower(): v for k, v in answer["headers"].items()}


@dataclass
class Desk:
    client: Client
    candles: FakeCandles
    program: Program


@pytest.fixture
def desk(function: ModuleType, program: Program) -> Desk:
    candles = FakeCandles()
    service = FusionService(candles, InferenceClient(SageMakerEndpoint("fusiontrade")), clock=lambda: NOON)
    function.app.dependency_overrides = {
        function.fusion_service_of: lambda: service,
        current_user: lambda: TRADER,
    }
    return Desk(Client(function.handler), candles, program)


@pytest.mark.parametrize(
    "path",
    ["/api/v1/fusion/EURUSD=X", "/api/v1/fusion/EURUSD%3DX", "/api/v1/fusion/EURUSD=X/", "/api/v1/fusion/eurusd"],
)
def test_forecast_is_complete_however_the_symbol_is_written(desk: Desk, path: str) -> None:
    status, body, headers = desk.client.get(path)
    assert status == 200
    assert FusionResponse.model_validate(body).verdict == "STRONG BUY"
    assert (body["symbol"], list(body["timeframes"])) == ("EURUSD=X", ["15m", "30m", "1h", "4h"])
    assert headers["cache-control"] == "no-store"
    assert desk.program.paths == ["/endpoints/fusiontrade/invocations"]


def test_exchange_names_are_mapped(desk: Desk) -> None:
    status, body, _ = desk.client.get("/api/v1/fusion/BTCUSDT")
    assert (status, body["symbol"]) == (200, "BTC-USD")


def test_post_gives_the_same_answer_as_get(desk: Desk) -> None:
    status, body, _ = desk.client.post("/api/v1/fusion/analyze", {"symbol": "EURUSD=X", "include_llm": True})
    assert status == 200
    assert body == desk.client.get("/api/v1/fusion/EURUSD=X", "include_llm=true")[1]


def test_as_of_reaches_the_candles_and_the_answer(desk: Desk) -> None:
    status, body, _ = desk.client.get("/api/v1/fusion/EURUSD=X", "as_of=2025-07-30T12:00:00%2B00:00")
    assert (status, body["as_of"]) == (200, "2025-07-30T12:00:00Z")
    assert desk.candles.asked[0]["as_of"] == NOON - 86_400_000


def test_journal_where_there_is_none_is_said_to_have_had_no_effect(desk: Desk) -> None:
    _, body, _ = desk.client.get("/api/v1/fusion/EURUSD=X", "journal=true&include_sentiment=false")
    assert body["warnings"] == ["journal=true had no effect: no journal is configured"]


@pytest.mark.parametrize(
    ("path", "query", "pointer"),
    [
        ("/api/v1/fusion/%21%21", "", "/path/symbol"),
        ("/api/v1/fusion/EURUSD=X", "as_of=yesterday", "/query/as_of"),
        ("/api/v1/fusion/EURUSD=X", "as_of=2025-07-31T13:00:00Z", "/query/as_of"),
        ("/api/v1/fusion/EURUSD=X", "journal=perhaps", "/query/journal"),
    ],
)
def test_a_wrong_value_is_a_422_that_points_at_it(desk: Desk, path: str, query: str, pointer: str) -> None:
    status, body, headers = desk.client.get(path, query)
    assert (status, body["status"], body["type"]) == (422, 422, "/problems/invalid-input")
    assert [fault["pointer"] for fault in body["errors"]] == [pointer]
    assert headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(("body", "pointer"), [({"symbol": "!!"}, "/body/symbol"), ({}, "/body/symbol")])
def test_a_wrong_body_is_a_422_that_points_at_it(desk: Desk, body: dict[str, Any], pointer: str) -> None:
    status, answer, _ = desk.client.post("/api/v1/fusion/analyze", body)
    assert (status, answer["errors"][0]["pointer"]) == (422, pointer)


def test_a_symbol_nobody_knows_is_a_404(desk: Desk) -> None:
    assert desk.client.get("/api/v1/fusion/XXXYYY=X")[0] == 404
    desk.candles.replies = dict.fromkeys(INTRADAY, UnknownSymbol("NOSUCH"))
    status, body, _ = desk.client.get("/api/v1/fusion/AAPL")
    assert (status, body["type"]) == (404, "/problems/unknown-symbol")


def test_a_provider_that_is_down_is_a_503_with_retry_after(desk: Desk) -> None:
    desk.candles.replies = dict.fromkeys(INTRADAY, ProviderUnavailable("yahoo did not answer in time", retry_after=42))
    status, body, headers = desk.client.get("/api/v1/fusion/EURUSD=X")
    assert (status, body["type"], headers["retry-after"]) == (503, "/problems/market-data-unavailable", "42")


def test_one_timeframe_down_is_a_partial_answer(desk: Desk) -> None:
    desk.candles.replies = {Timeframe.H4: ProviderUnavailable("yahoo did not answer in time")}
    status, body, _ = desk.client.get("/api/v1/fusion/EURUSD=X")
    assert (status, body["timeframes"]["4h"]["lstm"], body["timeframes"]["1h"]["lstm"]) == (200, "N/A", "BUY")


@pytest.mark.parametrize(
    "answer",
    [(500, b'{"message": "model"}'), (503, b"busy"), (200, b"<html>"), (200, b'{"items": []}')],
    ids=["fails", "busy", "html", "empty"],
)
def test_models_that_fail_are_a_503(desk: Desk, answer: tuple[int, bytes]) -> None:
    desk.program.answer = lambda body: answer
    status, body, headers = desk.client.get("/api/v1/fusion/EURUSD=X")
    assert (status, body["type"]) == (503, "/problems/inference-unavailable")
    assert int(headers["retry-after"]) >= 1
    assert len(desk.program.paths) == 1


def test_models_that_hang_are_a_503_before_the_function_ends(desk: Desk) -> None:
    released = threading.Event()

    def hang(body: bytes) -> tuple[int, bytes]:
        released.wait(20)
        return 200, b"{}"

    desk.program.answer = hang
    desk.client.milliseconds = 2_700
    began = time.monotonic()
    status, body, _ = desk.client.get("/api/v1/fusion/EURUSD=X")
    elapsed = time.monotonic() - began
    released.set()
    assert (status, body["type"]) == (503, "/problems/inference-unavailable")
    assert elapsed < 10


@pytest.mark.parametrize("authorization", [None, "Basic dTpw", "Bearer"])
def test_without_credentials_it_is_a_401(desk: Desk, function: ModuleType, authorization: str | None) -> None:
    del function.app.dependency_overrides[current_user]
    desk.client.headers = {"authorization": authorization} if authorization else {}
    status, body, headers = desk.client.get("/api/v1/fusion/EURUSD=X")
    assert (status, body["type"]) == (401, "/problems/unauthenticated")
    assert headers["www-authenticate"].startswith("Bearer")
    assert desk.candles.asked == []


def test_an_unverified_user_reaches_no_forecast(desk: Desk, function: ModuleType) -> None:
    unverified = Identity("u2", "new@example.com", "free", "s2", is_verified=False)
    function.app.dependency_overrides[current_user] = lambda: unverified
    assert desk.client.get("/api/v1/fusion/EURUSD=X")[0] == 403


def test_every_status_seen_here_is_documented(function: ModuleType) -> None:
    paths = function.app.openapi()["paths"]
    get, post = paths["/api/v1/fusion/{symbol}"]["get"], paths["/api/v1/fusion/analyze"]["post"]
    assert set(get["responses"]) == {"200", "202", "401", "403", "404", "422", "429", "500", "503"}
    assert set(post["responses"]) == {"200", "400", "401", "403", "404", "413", "415", "422", "429", "500", "503"}
    assert (get["operationId"], post["operationId"]) == ("getFusion", "analyzeFusion")
    assert get["security"] == [{"bearer": []}]


def test_importing_the_handler_loads_nothing_that_only_a_forecast_needs(function: ModuleType) -> None:
    heavy = {"numpy", "pandas", "botocore.session", "yfinance", "exchange_calendars"}
    code = f"import sys, runpy; runpy.run_path({str(APP)!r}); print(sorted({heavy!r} & set(sys.modules)))"
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"STAGE": "local"}
    )
    assert told.stdout.strip().splitlines()[-1] == "[]"
