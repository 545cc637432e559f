"""``Prefer: respond-async`` of a forecast: a job instead of an answer, at once or where the answer takes too long."""

from __future__ import annotations

import importlib
import json
from typing import Any

import pytest

from fusiontrade.cloud.batches import work_through
from fusiontrade.cloud.session import client
from fusiontrade.forecasts.fusing import Patience, patience_of
from fusiontrade.fusion.response import FusionResponse
from fusiontrade.settings import Settings
from tests.contract.conftest import EMAIL, PASSWORD, Function, function
from tests.support.emulator import free_port
from tests.support.forecast_desk import *  # noqa: F403 - pytest finds fixtures by name in this module
from tests.support.forecast_desk import Desk, Tables
from tests.support.http_api import Answer
from tests.support.yahoo_server import Act, YahooServer

EURUSD = "/api/v1/fusion/EURUSD%3DX"
LATER = {"Prefer": "respond-async"}


@pytest.fixture
def settings(auth_settings: Settings, tables: Tables, forecast_queue: str) -> Settings:
    return auth_settings.model_copy(update={"models_table": tables.models, "forecast_queue_url": forecast_queue})


@pytest.fixture
def mine(auth: Function) -> dict[str, str]:
    answer = auth("POST", "/api/v1/auth/login", json_body={"email": EMAIL, "password": PASSWORD})
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


def fusion_of(settings: Settings, desk: Desk) -> Function:
    made = function("fusion", settings)
    module = importlib.import_module("functions.fusion.app")
    made.app.dependency_overrides = {module.fusion_service_of: lambda: desk.service}
    return made


@pytest.fixture
def fusion(settings: Settings, desk: Desk) -> Function:
    return fusion_of(settings, desk)


@pytest.fixture
def ml(settings: Settings) -> Function:
    return function("ml", settings)


def work(queue: str, desk: Desk) -> int:
    """Let the worker do what waits in the queue; return how many messages that were."""
    sqs, done = client("sqs"), 0
    while got := sqs.receive_message(QueueUrl=queue, AttributeNames=["All"]).get("Messages"):
        for each in got:
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=each["ReceiptHandle"])
            record = {"messageId": each["MessageId"], "body": each["Body"], "attributes": each["Attributes"]}
            assert work_through({"Records": [record]}, desk.worker) == {"batchItemFailures": []}
            done += 1
    return done


def test_who_prefers_a_job_gets_one_whose_result_is_the_forecast(
    fusion: Function, ml: Function, mine: dict[str, str], forecast_queue: str, desk: Desk
) -> None:
    accepted = fusion("GET", EURUSD + "?journal=true", headers={**mine, **LATER})
    assert (accepted.status, accepted.headers["preference-applied"]) == (202, "respond-async")
    job = accepted.json()
    assert (job["kind"], job["status"], job["result"]) == ("fusion", "QUEUED", None)
    assert accepted.headers["location"] == f"/api/v1/ml/jobs/{job['id']}"
    assert ml("GET", accepted.headers["location"], headers=mine).json() == job
    assert (desk.entries(), work(forecast_queue, desk)) == ([], 1)
    done = ml("GET", accepted.headers["location"], headers=mine).json()
    assert (done["status"], done["error"]) == ("SUCCEEDED", None)
    now = fusion("GET", EURUSD, headers=mine)
    assert FusionResponse.model_validate(done["result"]) == FusionResponse.model_validate(now.json())
    (entry,) = desk.entries()
    (own,) = desk.entries(_user(fusion, mine))
    assert own.id == entry.id


def _user(fusion: Function, who: dict[str, str]) -> str:
    from fusiontrade.web.asking.authentication import tokens_of

    return tokens_of(fusion.app.state.settings).verify(who["Authorization"].removeprefix("Bearer ")).user_id


def test_who_prefers_an_answer_gets_it_where_it_is_there_in_time(
    fusion: Function, mine: dict[str, str], forecast_queue: str, desk: Desk
) -> None:
    for prefer in ("return=minimal", "respond-async, wait=20", "", "wait=0", "respond-asynchronously"):
        answer = fusion("GET", EURUSD, headers={**mine, "Prefer": prefer})
        assert (answer.status, answer.json()["verdict"]) == (200, "STRONG BUY"), prefer
    assert work(forecast_queue, desk) == 0


def test_what_does_not_fit_the_wait_becomes_a_job_and_without_the_preference_an_outage(
    fusion: Function, ml: Function, mine: dict[str, str], forecast_queue: str, desk: Desk, yahoo: YahooServer
) -> None:
    yahoo.always = Act(hang=True)
    later = fusion("GET", EURUSD, headers={**mine, "Prefer": "Respond-Async; x=y, wait=1"})
    assert (later.status, later.json()["kind"]) == (202, "fusion")
    yahoo.always = Act(500, b"oops")
    assert fusion("GET", "/api/v1/fusion/GC%3DF", headers=mine).status == 503
    yahoo.always = None
    assert work(forecast_queue, desk) == 1
    told = ml("GET", later.headers["location"], headers=mine).json()
    assert (told["status"], told["result"]["symbol"]) == ("SUCCEEDED", "EURUSD=X")


def test_what_can_never_be_forecast_is_refused_at_the_door_and_makes_no_job(
    fusion: Function, mine: dict[str, str], tables: Tables
) -> None:
    for target in ("/api/v1/fusion/%21%21", EURUSD + "?as_of=tomorrow", EURUSD + "?as_of=2999-01-01T00%3A00%3A00Z"):
        assert fusion("GET", target, headers={**mine, **LATER}).status == 422, target
    assert fusion("GET", EURUSD, headers=LATER).status == 401
    assert client("dynamodb").scan(TableName=tables.models)["Count"] == 0


def test_a_queue_that_does_not_answer_is_a_503_and_no_job(
    settings: Settings, mine: dict[str, str], desk: Desk, tables: Tables
) -> None:
    gone = settings.model_copy(update={"forecast_queue_url": f"http://127.0.0.1:{free_port()}/gone"})
    answer: Answer = fusion_of(gone, desk)("GET", EURUSD, headers={**mine, **LATER})
    assert (answer.status, answer.json()["type"]) == (503, "/problems/state-unavailable")
    assert client("dynamodb").scan(TableName=tables.models)["Count"] == 0


def test_the_document_says_what_the_preference_leads_to(fusion: Function) -> None:
    operation: dict[str, Any] = fusion.app.openapi()["paths"]["/api/v1/fusion/{symbol}"]["get"]
    assert json.dumps(operation["responses"]["202"]).count("/Job") == 1
    assert [each["name"] for each in operation["parameters"] if each["in"] == "header"] == ["prefer"]


@pytest.mark.parametrize(
    ("prefer", "patience"),
    [
        (None, Patience()),
        ("respond-async", Patience(True)),
        ("wait=10, respond-async", Patience(True, 10.0)),
        ('respond-async, wait="7"', Patience(True, 7.0)),
        ("respond-async, wait=soon", Patience(True)),
        ("wait=10", Patience()),
        ("respond-async, wait=-1", Patience(True)),
        (", ,respond-async;a=b,wait=3,wait=9", Patience(True, 3.0)),
    ],
)
def test_preferences_are_read_and_unknown_ones_are_no_faults(prefer: str | None, patience: Patience) -> None:
    assert patience_of(prefer) == patience
