"""Functions under Python 3.13 and the real runtime client, with the packages of their own layers and no other."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent

import pytest

from infra.local.template import Function, Template
from tests.support.lambda_runtime import (
    BROUGHT_BY_LAMBDA,
    ROOT,
    function_called,
    invoke,
    link_packages,
    pinned,
    request,
    run_python,
)

LAYERS = {"ApiLayer": "api", "MarketLayer": "market"}
NOT_IN_LAMBDA = [
    "pyarrow",
    "torch",
    "transformers",
    "onnxruntime",
    "talib",
    "typer",
    "rich",
    "httpx",
    "serving",
    "pytest",
]

FORECAST = dedent(
    """
    import sys

    import app
    from fusiontrade.deadline import Deadline
    from fusiontrade.errors import InferenceUnavailable
    from fusiontrade.market.providers.yahoo import YahooProvider

    service = app.service_of(app.app.state.settings)
    for symbol in ("EURUSD=X", "AAPL"):
        try:
            service.fused(symbol, include_sentiment=True, include_llm=True, deadline=Deadline.after(25))
        except InferenceUnavailable:
            print(symbol, "was sent to the models")
    import yfinance
    YahooProvider()
    print([name for name in NOT_IN_LAMBDA if name in sys.modules])
    """
)


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each layer's packages, and of what Lambda brings itself."""
    folder = tmp_path_factory.mktemp("layers")
    for layer, name in LAYERS.items():
        wanted = pinned(ROOT / "layers" / name / "requirements.txt")
        assert link_packages(list(wanted), folder / layer) == wanted
    link_packages(BROUGHT_BY_LAMBDA, folder / "runtime")
    return {**{layer: folder / layer for layer in LAYERS}, "runtime": folder / "runtime"}


def paths_of(function: Function, packages: dict[str, Path]) -> list[Path]:
    """What a function finds in the cloud: its own folder, its layers, then what the runtime brings."""
    layers = [ROOT / "shared" if layer == "SharedLayer" else packages[layer] for layer in function.layers]
    return [function.code, *layers, packages["runtime"]]


def test_health_is_answered_and_the_request_id_comes_back(template: Template, packages: dict[str, Path]) -> None:
    docs = function_called("docs", template)
    answer = request(docs, "GET", "/api/health", paths_of(docs, packages), X_Request_Id="health-check-0001")
    assert answer["statusCode"] == 200
    assert answer["headers"]["x-request-id"] == "health-check-0001"
    body = json.loads(answer["body"])
    assert (body["status"], body["service"]) == ("healthy", "FusionTrade AI")


def test_unknown_path_is_a_problem(template: Template, packages: dict[str, Path]) -> None:
    docs = function_called("docs", template)
    answer = request(docs, "GET", "/nowhere", paths_of(docs, packages))
    assert answer["statusCode"] == 404
    assert answer["headers"]["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("title", "target"),
    [
        ("auth", "/api/v1/auth/me"),
        ("fusion", "/api/v1/fusion/EURUSD=X"),
        ("journal", "/api/v1/journal"),
        ("ml", "/api/v1/ml/jobs/0123"),
    ],
)
def test_request_without_a_token_is_a_problem_with_its_request_id(
    template: Template, packages: dict[str, Path], title: str, target: str
) -> None:
    function = function_called(title, template)
    answer = request(function, "GET", target, paths_of(function, packages), X_Request_Id="no-token-0001")
    assert answer["statusCode"] == 401
    assert answer["headers"]["content-type"] == "application/problem+json"
    problem = json.loads(answer["body"])
    assert (problem["status"], problem["request_id"]) == (401, "no-token-0001")
    assert answer["headers"]["x-request-id"] == "no-token-0001"


def test_forecast_needs_nothing_but_its_layers(template: Template, packages: dict[str, Path]) -> None:
    fusion = function_called("fusion", template)
    said = run_python(
        FORECAST.replace("NOT_IN_LAMBDA", repr(NOT_IN_LAMBDA)),
        fusion,
        paths_of(fusion, packages),
        AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME="http://127.0.0.1:9",
        ARTIFACTS_BUCKET="",
    )
    answers = [line for line in said.splitlines() if not line.startswith("{")]
    assert answers == ["EURUSD=X was sent to the models", "AAPL was sent to the models", "[]"]


TELLS_WHAT_IT_GETS = """
import os
import sys
from typing import Annotated

from fastapi import APIRouter, Depends

from fusiontrade.settings import Settings
from fusiontrade.web import create_app, handler_of, seconds_left

router = APIRouter()


@router.get("/seconds", operation_id="seconds", summary="s", tags=["t"])
def seconds(left: Annotated[float, Depends(seconds_left)]) -> dict[str, float]:
    return {"left": left}


answer = handler_of(create_app("told", [router], Settings.from_environment(os.environ)))


def handler(event, context):
    told = answer(event, context)
    told["headers"]["python"] = "{}.{}".format(*sys.version_info)
    told["headers"]["invocation"] = context.aws_request_id
    told["headers"]["memory"] = context.memory_limit_in_mb
    return told
"""


def test_deadline_of_the_real_context_bounds_the_work(
    template: Template, packages: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(TELLS_WHAT_IT_GETS)
    auth = function_called("auth", template)
    function = Function("Told", "told", tmp_path, "app.handler", timeout=7, memory=256, environment=auth.environment)
    paths = [tmp_path, ROOT / "shared", packages["ApiLayer"], packages["runtime"]]
    answer = request(function, "GET", "/seconds", paths)
    assert 0 < json.loads(answer["body"])["left"] <= 6.5
    assert answer["headers"]["python"] == "3.13"
    assert answer["headers"]["memory"] == "256"
    assert len(answer["headers"]["invocation"]) == 36


def test_package_that_no_layer_brings_is_missed(template: Template, packages: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import pyarrow\n")
    function = Function("Heavy", "heavy", tmp_path, "app.handler", timeout=7, memory=256, environment={})
    with pytest.raises(AssertionError, match="No module named 'pyarrow'"):
        invoke(function, {}, [tmp_path, *packages.values()])
