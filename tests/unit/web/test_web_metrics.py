"""Figures of requests, as the log service reads them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fusiontrade.settings import Settings
from fusiontrade.web import create_app, handler_of
from fusiontrade.web.framework import APIRouter, FastAPI
from tests.support.http_api import call

router = APIRouter(tags=["t"])


@router.get("/symbols/{symbol}", operation_id="symbol")
def symbol(symbol: str) -> str:
    return symbol


@router.get("/broken", operation_id="broken")
def broken() -> str:
    raise RuntimeError("on purpose")


def app_of(**variables: str) -> FastAPI:
    return create_app("metrics", [router], Settings.from_environment({"STAGE": "dev", **variables}))


def written(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The lines in the embedded metric format that came out since the last look."""
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    return [line for line in lines if "_aws" in line]


def test_a_request_is_counted_under_its_route_and_never_its_path(capsys: pytest.CaptureFixture[str]) -> None:
    handler = handler_of(app_of())
    call(handler, "GET", "/symbols/EURUSD=X")
    written(capsys)
    call(handler, "GET", "/symbols/GC=F")
    (line,) = written(capsys)
    (told,) = line["_aws"]["CloudWatchMetrics"]
    assert told["Namespace"] == "FusionTrade/dev"
    assert sorted(told["Dimensions"][0]) == ["route", "service"]
    assert {one["Name"]: one["Unit"] for one in told["Metrics"]} == {
        "Requests": "Count",
        "Errors": "Count",
        "Latency": "Milliseconds",
    }
    assert (line["service"], line["route"]) == ("metrics", "/symbols/{symbol}")
    assert (line["Requests"], line["Errors"]) == ([1], [0])
    assert 0 <= line["Latency"][0] < 60_000
    assert "GC=F" not in json.dumps(line)


@pytest.mark.parametrize(("path", "route", "errors"), [("/broken", "/broken", 1), ("/no/such/path", "none", 0)])
def test_an_error_is_one_of_ours(path: str, route: str, errors: int, capsys: pytest.CaptureFixture[str]) -> None:
    call(handler_of(app_of()), "GET", path)
    line = written(capsys)[-1]
    assert (line["route"], line["Errors"]) == (route, [errors])


def test_the_first_request_of_a_process_is_a_cold_start_and_so_is_the_first_after_a_restore(
    capsys: pytest.CaptureFixture[str],
) -> None:
    app = app_of()
    handler = handler_of(app)
    seen = []
    for _ in range(2):
        app.state.metrics.start_cold()
        for _ in range(2):
            call(handler, "GET", "/symbols/A")
            seen.append([line["ColdStarts"] for line in written(capsys) if "ColdStarts" in line])
    assert seen == [[[1]], [], [[1]], []]


def test_figures_go_out_whatever_the_level_of_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    call(handler_of(app_of(LOG_LEVEL="ERROR")), "GET", "/symbols/A")
    assert len(written(capsys)) == 2


def test_a_laptop_writes_none(capsys: pytest.CaptureFixture[str]) -> None:
    call(handler_of(app_of(STAGE="local")), "GET", "/symbols/A")
    assert written(capsys) == []
