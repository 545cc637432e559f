"""``/api/v1/ml`` from outside: a forecast that is asked for and worked off later, and the job that tells of it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from fusiontrade.accounts.claims import CLAIM_SECONDS
from fusiontrade.accounts.users import Users, seed_user
from fusiontrade.clock import system_clock
from fusiontrade.cloud.batches import work_through
from fusiontrade.cloud.session import client
from fusiontrade.settings import Settings
from tests.contract import test_contract_problems as generated
from tests.contract.conftest import EMAIL, PASSWORD, Function, function
from tests.support import emulator
from tests.support.emulator import free_port
from tests.support.forecast_desk import *  # noqa: F403 - pytest finds fixtures by name in this module
from tests.support.forecast_desk import Desk, Tables
from tests.support.http_api import Answer

TRIGGER = "/api/v1/ml/predict/trigger"
WANTED = {"symbol": "EURUSD=X", "interval": "1h"}
OTHER = "other@fusiontrade.ai"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def training_queue(aws: None) -> str:
    return str(client("sqs").create_queue(QueueName=f"training-{uuid.uuid4().hex[:8]}")["QueueUrl"])


@pytest.fixture
def settings(auth_settings: Settings, tables: Tables, forecast_queue: str, training_queue: str) -> Settings:
    more = {
        "models_table": tables.models,
        "forecast_queue_url": forecast_queue,
        "training_queue_url": training_queue,
        "artifacts_bucket": "no-such-bucket",
    }
    return auth_settings.model_copy(update=more)


@pytest.fixture
def ml(settings: Settings) -> Function:
    return function("ml", settings)


def token(auth: Function, email: str = EMAIL) -> dict[str, str]:
    answer = auth("POST", "/api/v1/auth/login", json_body={"email": email, "password": PASSWORD})
    assert answer.status == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


@pytest.fixture
def mine(auth: Function) -> dict[str, str]:
    return token(auth)


@pytest.fixture
def theirs(auth: Function, users: Users) -> dict[str, str]:
    seed_user(users, email=OTHER, password=PASSWORD, full_name="Other", tier="free")
    return token(auth, OTHER)


def trigger(ml: Function, who: dict[str, str], key: str | None = None, **changed: Any) -> Answer:
    headers = who if key is None else {**who, "Idempotency-Key": key}
    return ml("POST", TRIGGER, json_body={**WANTED, **changed}, headers=headers)


def messages(queue: str) -> list[dict[str, Any]]:
    """What waits in the queue, as Lambda would hand it over; it is taken out."""
    found: list[dict[str, Any]] = []
    sqs = client("sqs")
    while got := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, AttributeNames=["All"]).get("Messages"):
        for each in got:
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=each["ReceiptHandle"])
            found.append({"messageId": each["MessageId"], "body": each["Body"], "attributes": each["Attributes"]})
    return found


def test_a_prediction_is_accepted_worked_off_and_its_job_tells_the_result(
    ml: Function, mine: dict[str, str], forecast_queue: str, desk: Desk
) -> None:
    answer = trigger(ml, mine)
    assert answer.status == 202
    job = answer.json()
    assert set(job) == {"id", "kind", "status", "progress", "step", "result", "error", "created_at", "finished_at"}
    assert (job["kind"], job["status"], job["progress"], job["result"]) == ("predict", "QUEUED", 0.0, None)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z", job["created_at"])
    where = answer.headers["location"]
    assert where == f"/api/v1/ml/jobs/{job['id']}"
    assert ml("GET", where, headers=mine).json() == job
    event = {"Records": messages(forecast_queue)}
    assert json.loads(event["Records"][0]["body"])["request_id"] == answer.headers["x-request-id"]
    assert work_through(event, desk.worker) == {"batchItemFailures": []}
    done = ml("GET", where + "/", headers=mine)
    assert (done.status, done.json()["status"], done.json()["progress"]) == (200, "SUCCEEDED", 1.0)
    assert done.json()["result"]["verdict"] == "STRONG BUY"
    assert done.headers["cache-control"] == "no-store"
    assert len(desk.entries()) == 1


def test_another_users_job_is_not_there(ml: Function, mine: dict[str, str], theirs: dict[str, str]) -> None:
    where = trigger(ml, mine).headers["location"]
    told = ml("GET", where, headers=theirs)
    unknown = ml("GET", f"/api/v1/ml/jobs/{uuid.uuid4().hex}", headers=theirs)
    assert (told.status, unknown.status) == (404, 404)
    assert told.json()["detail"] == unknown.json()["detail"]


def test_the_same_key_and_body_is_one_job_and_one_forecast(
    ml: Function, mine: dict[str, str], forecast_queue: str, desk: Desk
) -> None:
    first, second = trigger(ml, mine, "the-same-key"), trigger(ml, mine, "the-same-key")
    assert (first.status, second.status, second.json()) == (202, 202, first.json())
    assert second.headers["location"] == first.headers["location"]
    waiting = messages(forecast_queue)
    assert len(waiting) == 1
    work_through({"Records": waiting}, desk.worker)
    assert len(desk.endpoint.requests) == 1


def test_the_same_key_with_another_body_is_refused(
    ml: Function, mine: dict[str, str], theirs: dict[str, str], forecast_queue: str
) -> None:
    first = trigger(ml, mine, "the-same-key")
    assert trigger(ml, mine, "the-same-key", interval="4h").status == 422
    assert len(messages(forecast_queue)) == 1
    assert trigger(ml, theirs, "the-same-key").json()["id"] != first.json()["id"]


def test_without_a_key_each_request_is_a_job_of_its_own(ml: Function, mine: dict[str, str]) -> None:
    assert trigger(ml, mine).json()["id"] != trigger(ml, mine).json()["id"]


def test_a_worker_that_is_quicker_than_the_answer_makes_the_job_and_the_answer_tells_of_it(
    ml: Function, mine: dict[str, str], forecast_queue: str, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fusiontrade.cloud.queues import Queue

    sent = Queue.send

    def send_and_be_overtaken(self: Queue, body: Any, **more: Any) -> None:
        sent(self, body, **more)
        work_through({"Records": messages(forecast_queue)}, desk.worker)

    monkeypatch.setattr(Queue, "send", send_and_be_overtaken)
    answer = trigger(ml, mine, "the-same-key")
    assert (answer.status, answer.json()["status"]) == (202, "SUCCEEDED")
    assert trigger(ml, mine, "the-same-key").json() == answer.json()


def test_a_request_that_was_killed_after_sending_is_made_up_for_by_its_repetition(
    ml: Function, mine: dict[str, str], forecast_queue: str, desk: Desk, settings: Settings, emulator_port: int
) -> None:
    headers = {**mine, "Idempotency-Key": "the-same-key"}
    told = {
        "settings": {name.upper(): value for name, value in settings.model_dump().items() if isinstance(value, str)},
        "target": TRIGGER,
        "request": {"json_body": WANTED, "headers": headers},
    }
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.support.ml_process", json.dumps(told)],
        cwd=ROOT,
        env={**emulator.aws_environment(emulator_port), "PYTHONPATH": f"{ROOT}:{ROOT / 'shared'}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    with child.stdout:
        assert child.stdout.readline().strip() == "sent"
        child.send_signal(signal.SIGKILL)
    child.wait(timeout=30)
    assert trigger(ml, mine, "the-same-key").status == 409  # nobody knows yet that it will not answer
    ml.app.state.clock = lambda: system_clock() + (CLAIM_SECONDS + 1) * 1000
    answer = trigger(ml, mine, "the-same-key")
    assert answer.status == 202
    waiting = messages(forecast_queue)
    assert [json.loads(each["body"])["body"]["id"] for each in waiting] == [answer.json()["id"]] * 2
    work_through({"Records": waiting}, desk.worker)
    assert len(desk.endpoint.requests) == 1
    assert ml("GET", answer.headers["location"], headers=mine).json()["status"] == "SUCCEEDED"


def test_a_queue_that_does_not_answer_is_a_503_and_no_job(
    ml: Function, mine: dict[str, str], settings: Settings, tables: Tables
) -> None:
    gone = function("ml", settings.model_copy(update={"forecast_queue_url": f"http://127.0.0.1:{free_port()}/gone"}))
    answer = trigger(gone, mine, "the-same-key")
    assert (answer.status, answer.json()["type"]) == (503, "/problems/state-unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    assert client("dynamodb").scan(TableName=tables.models)["Count"] == 0
    assert trigger(ml, mine, "the-same-key").status == 202


@pytest.mark.parametrize(
    ("changed", "pointer"),
    [
        ({"symbol": "!!"}, "/body/symbol"),
        ({"symbol": 7}, "/body/symbol"),
        ({"interval": "5m"}, "/body/interval"),
        ({"interval": None}, "/body/interval"),
        ({"more": 1}, "/body/more"),
    ],
)
def test_a_wrong_body_is_a_422_that_points_at_it(
    ml: Function, mine: dict[str, str], forecast_queue: str, changed: dict[str, Any], pointer: str
) -> None:
    answer = trigger(ml, mine, **changed)
    assert (answer.status, [fault["pointer"] for fault in answer.json()["errors"]]) == (422, [pointer])
    assert messages(forecast_queue) == []


@pytest.mark.parametrize(("method", "path"), [("POST", TRIGGER), ("GET", "/api/v1/ml/jobs/1")])
def test_without_a_token_it_is_a_401(ml: Function, method: str, path: str) -> None:
    assert ml(method, path, json_body=WANTED if method == "POST" else None).status == 401


def test_who_asks_for_too_many_is_slowed_down(ml: Function, mine: dict[str, str]) -> None:
    now = system_clock()
    ml.app.state.clock = lambda: now  # no minute ends in between
    answers = [trigger(ml, mine) for _ in range(21)]
    assert [answer.status for answer in answers] == [202] * 20 + [429]
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert '"heavy"' in answers[-1].headers["ratelimit"]


def test_every_status_seen_here_is_documented(ml: Function) -> None:
    paths = ml.app.openapi()["paths"]
    post, get = paths[TRIGGER]["post"], paths["/api/v1/ml/jobs/{job_id}"]["get"]
    assert {"202", "400", "401", "403", "409", "413", "415", "422", "429", "500", "503"} <= set(post["responses"])
    assert {"200", "401", "403", "404", "422", "429", "500", "503"} <= set(get["responses"])
    assert post["responses"]["202"]["content"]["application/json"]["schema"]["$ref"].endswith("/Job")
    assert post["security"] == get["security"] == [{"bearer": []}]


@generated.needs_schemathesis
def test_generated_requests_find_no_fault_and_nothing_of_another_user(
    ml: Function, mine: dict[str, str], theirs: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # not every text is a symbol, an instant or a cursor
    ruled = {"triggerPrediction", "triggerBacktest", "finetune", "finetuneSymbol", "listModelVersions"}
    monkeypatch.setattr(generated, "RULED", ruled)
    ml.app.state.limits = {}
    first = trigger(ml, mine).headers["location"]
    assert generated.attack(ml.app, lambda: theirs) >= 2 * generated.EXAMPLES
    assert ml("GET", first, headers=theirs).status == 404
