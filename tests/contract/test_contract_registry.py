"""The registry from outside: what anybody signed in may see, and what an admin may let happen."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from fusiontrade.accounts.users import Users, seed_user
from fusiontrade.clock import system_clock
from fusiontrade.cloud.session import client
from fusiontrade.cloud.storage import Storage
from fusiontrade.cloud.tables import Table
from fusiontrade.forecasts.jobs import Jobs
from fusiontrade.journal.entries import PLATFORM
from fusiontrade.registry.bundles import Bundles
from fusiontrade.registry.versions import Registry
from fusiontrade.settings import Settings
from tests.contract.conftest import EMAIL, PASSWORD, Function, function
from tests.support.registry_desk import MODEL, bundle_files

ADMIN = "admin@fusiontrade.ai"
OLD, NEW = "aaaaaaaaaaaa", "bbbbbbbbbbbb"
TRAIN = {"symbol": "eurusd=x", "interval": "1h"}
LOAD = {"model_id": MODEL, "version": NEW}
BACKTEST = {"symbol": "BTC-USD", "interval": "1h", "from": "2025-05-01", "to": "2025-05-10T00:00:00Z"}
POSTS = {
    "/api/v1/ml/train": (TRAIN, "train"),
    "/api/v1/model/train": (TRAIN, "train"),
    "/api/v1/ml/model/load": (LOAD, "load"),
    "/api/v1/model/load": (LOAD, "load"),
    "/api/v1/ml/backtest/trigger": (BACKTEST, "backtest"),
    "/api/v1/fusion/finetune": ({"symbol": "EURUSD=X", "timeframe": "1h"}, "finetune"),
    "/api/v1/fusion/EURUSD%3DX/finetune": ({"timeframe": "1h"}, "finetune"),
}
ADMINS = [path for path, (_, kind) in POSTS.items() if kind in ("train", "load")]
GETS = ["/api/v1/ml/registry", "/api/v1/ml/model/info", "/api/v1/model/info", f"/api/v1/ml/registry/{MODEL}/report"]


@pytest.fixture
def settings(auth_settings: Settings, models_table_name: str) -> Settings:
    name = uuid.uuid4().hex[:8]
    client("s3").create_bucket(Bucket=f"artifacts-{name}")
    more = {
        "models_table": models_table_name,
        "training_queue_url": client("sqs").create_queue(QueueName=f"training-{name}")["QueueUrl"],
        "forecast_queue_url": "http://127.0.0.1:1/none",
        "artifacts_bucket": f"artifacts-{name}",
    }
    return auth_settings.model_copy(update=more)


@pytest.fixture
def ml(settings: Settings) -> Function:
    storage, registry = Storage(settings.need("artifacts_bucket")), registry_of(settings)
    bundles = Bundles(storage)
    for number, version in enumerate((OLD, NEW)):
        for name, content in bundle_files(version).items():
            storage.put(bundles.prefix(MODEL, version) + name, content)
        registry.register(bundles.take_in(bundles.prefix(MODEL, version), created_at=number))
    registry.promote(MODEL, OLD)
    return function("ml", settings)


def registry_of(settings: Settings) -> Registry:
    return Registry(Table(settings.need("models_table")), system_clock)


def token(auth: Function, email: str) -> dict[str, str]:
    answer = auth("POST", "/api/v1/auth/login", json_body={"email": email, "password": PASSWORD})
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


@pytest.fixture
def mine(auth: Function) -> dict[str, str]:
    return token(auth, EMAIL)


@pytest.fixture
def admins(auth: Function, users: Users) -> dict[str, str]:
    seed_user(users, email=ADMIN, password=PASSWORD, full_name="Admin", tier="admin")
    return token(auth, ADMIN)


def ordered(settings: Settings) -> list[dict[str, Any]]:
    got = client("sqs").receive_message(QueueUrl=settings.need("training_queue_url"), MaxNumberOfMessages=10)
    return [json.loads(each["Body"])["body"] for each in got.get("Messages", [])]


def test_every_version_is_listed_by_page_with_what_a_client_knows_it_by(ml: Function, mine: dict[str, str]) -> None:
    first = ml("GET", "/api/v1/ml/registry?limit=1", headers=mine)
    (old,) = first.json()["items"]
    assert {
        "model_id", "symbol", "interval", "model_type", "version", "status", "repo_id", "artifact_uri", "sha256",
        "win_rate", "profit_factor", "metrics", "trained_on", "created_at",
    } <= set(old)  # fmt: skip
    assert (old["version"], old["status"], old["symbol"], old["interval"]) == (OLD, "ACTIVE", "EURUSD=X", "1h")
    assert set(old["trained_on"]) == {"from", "to"}
    second = ml("GET", f"/api/v1/ml/registry?cursor={first.json()['next_cursor']}", headers=mine).json()
    assert [one["version"] for one in second["items"]] == [NEW]
    assert second["next_cursor"] is None
    assert ml("GET", "/api/v1/ml/registry?cursor=made-up", headers=mine).status == 422


@pytest.mark.parametrize("path", GETS)
def test_what_has_not_changed_is_a_304(ml: Function, mine: dict[str, str], path: str) -> None:
    answer = ml("GET", path, headers=mine)
    assert answer.status == 200
    again = ml("GET", path, headers={**mine, "If-None-Match": answer.headers["etag"]})
    assert (again.status, again.text) == (304, "")


def test_what_serves_and_what_has_become_worse_is_told(ml: Function, mine: dict[str, str], settings: Settings) -> None:
    told = ml("GET", "/api/v1/model/info", headers=mine).json()
    assert ([one["version"] for one in told["models"]], told["warnings"]) == ([OLD], [])
    registry_of(settings).degrade(MODEL, OLD, "its chances came true less well")
    told = ml("GET", "/api/v1/ml/model/info", headers=mine).json()
    assert told["models"][0]["status"] == "DEGRADED"
    assert told["warnings"] == [f"{MODEL}: its chances came true less well"]


def test_a_report_is_of_the_version_that_serves_unless_another_is_named(ml: Function, mine: dict[str, str]) -> None:
    where = f"/api/v1/ml/registry/{MODEL}/report"
    assert ml("GET", where, headers=mine).json()["version"] == OLD
    named = ml("GET", f"{where}?version={NEW}", headers=mine).json()
    assert (named["version"], named["status"], named["data_fingerprint"]) == (NEW, "CANDIDATE", "f")
    assert ml("GET", f"{where}?version=cccccccccccc", headers=mine).status == 404
    assert ml("GET", "/api/v1/ml/registry/gru-1h/report", headers=mine).status == 404
    assert ml("GET", "/api/v1/ml/registry/..%2F..%2Fx/report", headers=mine).status in (404, 422)


def test_a_report_shows_its_curves_and_null_where_an_older_training_kept_none(
    ml: Function, mine: dict[str, str], settings: Settings
) -> None:
    where, storage = f"/api/v1/ml/registry/{MODEL}/report", Storage(settings.need("artifacts_bucket"))
    assert ml("GET", where, headers=mine).json()["curves"] is None
    bundles = Bundles(storage)
    own = {**bundles.report(MODEL, OLD), "curves": {"heads": {"own": {}}}}
    storage.put(bundles.prefix(MODEL, OLD) + "report.json", json.dumps(own).encode())
    assert ml("GET", where, headers=mine).json()["curves"] == {"heads": {"own": {}}}


@pytest.mark.parametrize("path", POSTS)
def test_work_is_ordered_once_for_a_key_and_its_job_told(
    ml: Function, admins: dict[str, str], settings: Settings, path: str
) -> None:
    body, kind = POSTS[path]
    headers = {**admins, "Idempotency-Key": "the-same-key"}
    answer, again = (ml("POST", path, json_body=body, headers=headers) for _ in range(2))
    assert (answer.status, again.json()) == (202, answer.json())
    assert (answer.json()["kind"], answer.json()["status"]) == (kind, "QUEUED")
    assert ml("GET", answer.headers["location"], headers=admins).json() == answer.json()
    (order,) = ordered(settings)
    assert (order["id"], order["kind"]) == (answer.json()["id"], kind)
    assert order["request"].get("symbol") in ("EURUSD=X", "BTC-USD", None)


@pytest.mark.parametrize("path", [*POSTS, *GETS])
def test_without_a_token_it_is_a_401(ml: Function, path: str) -> None:
    method = "POST" if path in POSTS else "GET"
    answer = ml(method, path, json_body=POSTS[path][0]) if path in POSTS else ml(method, path)
    assert (answer.status, answer.json()["type"]) == (401, "/problems/unauthenticated")


@pytest.mark.parametrize("path", ADMINS)
def test_what_is_an_admins_is_a_403_to_others_and_nothing_happens(
    ml: Function, mine: dict[str, str], settings: Settings, path: str
) -> None:
    answer = ml("POST", path, json_body=POSTS[path][0], headers={**mine, "Idempotency-Key": "the-same-key"})
    assert (answer.status, answer.json()["type"]) == (403, "/problems/forbidden")
    assert ordered(settings) == []


@pytest.mark.parametrize(
    ("path", "changed", "pointer"),
    [
        ("/api/v1/ml/train", {"symbol": "!!"}, "/body/symbol"),
        ("/api/v1/ml/train", {"symbols": ["EURUSD=X", "!!"]}, "/body/symbols/1"),
        ("/api/v1/ml/train", {"epochs": 0}, "/body/epochs"),
        ("/api/v1/ml/train", {"bars": 10}, "/body/bars"),
        ("/api/v1/ml/train", {"learning_rate": 1}, "/body/learning_rate"),
        ("/api/v1/ml/model/load", {"version": "../x"}, "/body/version"),
        ("/api/v1/ml/backtest/trigger", {"from": "2025-05-11"}, "/body/to"),
        ("/api/v1/ml/backtest/trigger", {"from": "yesterday"}, "/body/from"),
        ("/api/v1/ml/backtest/trigger", {"from": "0001-01-01"}, "/body/from"),
        ("/api/v1/ml/backtest/trigger", {"to": "9999-12-31"}, "/body/to"),
        ("/api/v1/ml/backtest/trigger", {"costs_bps": -1}, "/body/costs_bps"),
        ("/api/v1/ml/backtest/trigger", {"costs_bps": True}, "/body/costs_bps"),
        ("/api/v1/fusion/finetune", {"timeframe": "1d"}, "/body/timeframe"),
    ],
)
def test_a_wrong_body_is_a_422_that_points_at_it(
    ml: Function, admins: dict[str, str], path: str, changed: dict[str, Any], pointer: str
) -> None:
    answer = ml("POST", path, json_body={**POSTS[path][0], **changed}, headers=admins)
    assert (answer.status, [fault["pointer"] for fault in answer.json()["errors"]]) == (422, [pointer])


def test_a_version_that_there_is_not_is_a_404_and_orders_nothing(
    ml: Function, admins: dict[str, str], settings: Settings
) -> None:
    answer = ml("POST", "/api/v1/ml/model/load", json_body={**LOAD, "version": "dddddddddddd"}, headers=admins)
    assert (answer.status, answer.json()["type"]) == (404, "/problems/not-found")
    assert ordered(settings) == []


def test_a_job_is_cancelled_by_its_owner_alone(ml: Function, admins: dict[str, str], mine: dict[str, str]) -> None:
    where = ml("POST", "/api/v1/ml/train", json_body=TRAIN, headers=admins).headers["location"]
    assert ml("DELETE", where, headers=mine).status == 404
    answer = ml("DELETE", where, headers=admins)
    assert (answer.status, answer.json()["status"]) == (202, "QUEUED")
    assert ml("DELETE", f"/api/v1/ml/jobs/{uuid.uuid4().hex}", headers=admins).status == 404


def test_an_admin_sees_and_ends_what_the_platform_asked_for_by_itself(
    ml: Function, admins: dict[str, str], mine: dict[str, str], settings: Settings
) -> None:
    jobs = Jobs(Table(settings.need("models_table")), system_clock)
    order = jobs.order(PLATFORM, "train", TRAIN)
    jobs.create(order)
    where = f"/api/v1/ml/jobs/{order.id}"
    assert ml("GET", where, headers=admins).json()["kind"] == "train"
    assert ml("DELETE", where, headers=admins).status == 202
    assert [ml(method, where, headers=mine).status for method in ("GET", "DELETE")] == [404, 404]


HOSTILE = [
    ("/api/v1/ml/train", {"bars": 10**12}, "/body/bars"),
    ("/api/v1/ml/train", {"bars": 2_000.5}, "/body/bars"),
    ("/api/v1/ml/train", {"seed": -1}, "/body/seed"),
    ("/api/v1/ml/train", {"symbols": ["EURUSD=X"] * 31}, "/body/symbols"),
    ("/api/v1/ml/train", {"model_type": "../lstm"}, "/body/model_type"),
    ("/api/v1/ml/model/load", {"model_id": "../../users"}, "/body/model_id"),
    ("/api/v1/ml/model/load", {"model_id": "lstm-1h/../x"}, "/body/model_id"),
    ("/api/v1/ml/model/load", {"version": "a" * 65}, "/body/version"),
    ("/api/v1/ml/backtest/trigger", {"from": "9999-12-31", "to": "0001-01-01"}, "/body/to"),
    ("/api/v1/ml/backtest/trigger", {"costs_bps": 1e300}, "/body/costs_bps"),
    ("/api/v1/fusion/finetune", {"epochs": 21}, "/body/epochs"),
]


@pytest.mark.parametrize(("path", "changed", "pointer"), HOSTILE)
def test_what_leads_elsewhere_or_has_no_end_is_a_422_and_orders_nothing(
    ml: Function, admins: dict[str, str], settings: Settings, path: str, changed: dict[str, Any], pointer: str
) -> None:
    answer = ml("POST", path, json_body={**POSTS[path][0], **changed}, headers=admins)
    assert (answer.status, [fault["pointer"] for fault in answer.json()["errors"]]) == (422, [pointer])
    assert ordered(settings) == []


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_a_number_that_is_none_is_a_problem_and_orders_nothing(
    ml: Function, admins: dict[str, str], settings: Settings, number: str
) -> None:
    body = json.dumps({**BACKTEST, "costs_bps": 0}).replace('"costs_bps": 0', f'"costs_bps": {number}')
    headers = {**admins, "content-type": "application/json"}
    answer = ml("POST", "/api/v1/ml/backtest/trigger", body=body.encode(), headers=headers)
    assert answer.status in (400, 422)
    assert answer.json()["type"].startswith("/problems/")
    assert ordered(settings) == []
