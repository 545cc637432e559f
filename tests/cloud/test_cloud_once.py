"""Idempotency keys over HTTP and the emulated tables, with parallel callers and killed processes."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fusiontrade.accounts.admission.tokens import SigningKeys
from fusiontrade.accounts.claims import CLAIM_SECONDS, KEEP_SECONDS
from fusiontrade.clock import system_clock
from fusiontrade.cloud.session import forget_clients
from fusiontrade.cloud.tables import Table
from fusiontrade.settings import Settings
from fusiontrade.web.asking.authentication import tokens_of
from tests.support import things_app
from tests.support.asgi_client import AsgiClient
from tests.support.emulator import free_port
from tests.support.things_app import bearer, identity

KEY = "7f0c2a5e-2c5b-4f0e-9a41"


@pytest.fixture
def settings(
    accounts_table_name: str, models_table_name: str, signing_keys_arn: str, derivation_secret_arn: str
) -> Settings:
    return Settings.from_environment(
        {
            "STAGE": "local",
            "LOG_LEVEL": "ERROR",
            "ACCOUNTS_TABLE": accounts_table_name,
            "MODELS_TABLE": models_table_name,
            "SIGNING_KEYS_SECRET_ARN": signing_keys_arn,
            "DERIVATION_SECRET_ARN": derivation_secret_arn,
        }
    )


class Desk:
    """A client of the things function, signed in as ``u1`` where nothing else is said."""

    def __init__(self, settings: Settings, keys: SigningKeys) -> None:
        self.app = things_app.app_of(settings)
        self.now = 0
        self.app.state.clock = lambda: system_clock() + self.now
        self.client = AsgiClient(self.app)
        self.settings, self.keys = settings, keys

    def post(self, body: Any = None, *, key: str | None = KEY, user: str = "u1", path: str = "/things") -> Any:
        headers = bearer(self.keys, self.settings, identity(user_id=user))
        if key is not None:
            headers["Idempotency-Key"] = key
        return self.client.post(path, json=body or {"name": "a"}, headers=headers)

    def made(self, user: str = "u1") -> int:
        """How often the effect happened."""
        item = Table(self.settings.need("models_table")).get({"pk": f"COUNT#{user}", "sk": "COUNT"})
        return 0 if item is None else int(item["made"])

    def records(self) -> list[Any]:
        items = Table(self.settings.need("accounts_table")).scan().items
        return [item for item in items if item["pk"].startswith("ONCE#")]


@pytest.fixture
def desk(settings: Settings, signing_keys: SigningKeys) -> Desk:
    return Desk(settings, signing_keys)


def test_the_second_request_gets_the_first_answer_and_has_no_effect(desk: Desk) -> None:
    first, second = desk.post(), desk.post()
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.content == second.content
    assert first.headers["location"] == second.headers["location"]
    assert first.headers["content-type"] == second.headers["content-type"] == "application/json"
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert second.headers["cache-control"] == "no-store"
    assert desk.made() == 1


def test_without_a_key_each_request_is_its_own(desk: Desk) -> None:
    first, second = desk.post(key=None), desk.post(key=None)
    assert first.json()["id"] != second.json()["id"]
    assert (desk.made(), desk.records()) == (2, [])


def test_the_same_key_five_times_at_once_has_one_effect(desk: Desk) -> None:
    for round_ in range(4):
        together = threading.Barrier(5)

        def send(_: int, key: str = f"{KEY}-{round_}", at: threading.Barrier = together) -> Any:
            at.wait()
            return desk.post(key=key)

        with ThreadPoolExecutor(5) as pool:
            answers = list(pool.map(send, range(5)))
        done = [answer for answer in answers if answer.status_code == 201]
        assert {answer.status_code for answer in answers} <= {201, 409}
        assert len({answer.content for answer in done}) == 1
        assert sum("idempotent-replayed" not in answer.headers for answer in done) == 1
        assert desk.made() == round_ + 1


@pytest.mark.parametrize("other", [{"name": "b"}, {"name": "a", "fault": "raise"}])
def test_the_same_key_with_another_body_is_refused(desk: Desk, other: dict[str, str]) -> None:
    desk.post()
    answer = desk.post(other)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid-input")
    assert answer.json()["errors"][0]["pointer"] == "/header/Idempotency-Key"
    assert desk.made() == 1


def test_a_key_means_nothing_for_another_user_or_another_path(desk: Desk) -> None:
    mine = desk.post()
    theirs = desk.post(user="u2")
    assert mine.json()["id"] != theirs.json()["id"]
    assert "idempotent-replayed" not in theirs.headers
    elsewhere = desk.post(path="/things/late")
    assert elsewhere.status_code == 204


def test_a_route_that_fails_may_be_repeated_at_once(desk: Desk) -> None:
    body = {"name": "a", "fault": "raise"}
    assert [desk.post(body).status_code for _ in range(2)] == [409, 409]
    assert desk.records() == []
    assert desk.post().status_code == 201


def test_a_body_that_is_refused_takes_no_key(desk: Desk) -> None:
    assert desk.post({"fault": "none"}).status_code == 422
    assert desk.post().status_code == 201


def test_a_route_that_kept_no_answer_gives_its_key_back(desk: Desk) -> None:
    assert desk.post(path="/things/late").status_code == 204
    assert desk.records() == []


@pytest.mark.parametrize("key", ["", "x" * 256, "with space in it", "schlüssel".encode().decode("latin-1")])
def test_a_key_that_cannot_be_one_is_refused(desk: Desk, key: str) -> None:
    headers = [
        *bearer(desk.keys, desk.settings).items(),
        ("Idempotency-Key", key.encode("latin-1")),
    ]
    answer = desk.client.post(
        "/things",
        json={"name": "a"},
        headers=[(k.encode(), v if isinstance(v, bytes) else v.encode()) for k, v in headers],
    )
    assert answer.status_code == 422
    assert desk.made() == 0


def _send_and_die(settings: Settings, headers: dict[str, str], fault: str) -> None:
    AsgiClient(things_app.app_of(settings)).post("/things", json={"name": "a", "fault": fault}, headers=headers)


def killed(desk: Desk, fault: str) -> None:
    """Serve one request in a process that is killed at ``fault``."""
    headers = {**bearer(desk.keys, desk.settings), "Idempotency-Key": KEY}
    process = multiprocessing.get_context("spawn").Process(target=_send_and_die, args=(desk.settings, headers, fault))
    process.start()
    process.join(timeout=60)
    assert process.exitcode == -signal.SIGKILL


def test_a_process_killed_after_the_effect_leaves_its_answer(desk: Desk) -> None:
    killed(desk, "kill after")
    assert desk.made() == 1
    answer = desk.post({"name": "a", "fault": "kill after"})
    assert (answer.status_code, answer.json()["name"]) == (201, "a")
    assert answer.headers["idempotent-replayed"] == "true"
    assert desk.made() == 1


def test_a_process_killed_before_the_effect_leaves_a_claim_that_runs_out(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(desk, "kill before")
    assert desk.made() == 0
    body = {"name": "a", "fault": "kill before"}
    assert desk.post(body).status_code == 409
    desk.now += CLAIM_SECONDS * 1000 + 1000
    monkeypatch.setattr(things_app, "_die", lambda: None)
    again = desk.post(body)
    assert (again.status_code, desk.made()) == (201, 1)
    assert "idempotent-replayed" not in again.headers
    assert desk.post(body).headers["idempotent-replayed"] == "true"


def test_who_lost_the_claim_does_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that took longer than its claim: a second one ran meanwhile, and the first one's effect is dropped."""
    paused, go_on = threading.Event(), threading.Event()

    def pause() -> None:
        monkeypatch.setattr(things_app, "_die", lambda: None)
        paused.set()
        assert go_on.wait(30)

    monkeypatch.setattr(things_app, "_die", pause)
    body = {"name": "a", "fault": "kill before"}
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(desk.post, body)
        assert paused.wait(30)
        desk.now += CLAIM_SECONDS * 1000 + 1000
        quick = desk.post(body)
        go_on.set()
        assert (quick.status_code, slow.result().status_code) == (201, 409)
    assert desk.made() == 1
    assert desk.post(body).content == quick.content


def test_the_answer_is_kept_for_a_day(desk: Desk) -> None:
    desk.post()
    (record,) = desk.records()
    assert record["expires_at"] == pytest.approx(system_clock() // 1000 + KEEP_SECONDS, abs=60)
    desk.now += (KEEP_SECONDS - 60) * 1000
    assert desk.post().headers["idempotent-replayed"] == "true"


def test_a_record_past_its_time_counts_as_gone_before_the_table_drops_it(desk: Desk) -> None:
    desk.post(path="/things/anonymous")
    desk.now += (KEEP_SECONDS + 60) * 1000
    answer = desk.post(path="/things/anonymous")
    assert (answer.status_code, "idempotent-replayed" in answer.headers) == (200, False)
    assert desk.made("") == 2


def test_nothing_of_the_key_the_body_or_the_answer_can_be_read_in_the_table(desk: Desk) -> None:
    made = desk.post({"name": "a very private name"}).json()
    (record,) = desk.records()
    for secret in (KEY, "private", made["id"], "u1", "/things"):
        assert secret not in repr(record)


@pytest.mark.parametrize("key", ["1", "x" * 255, '"quoted;key"'])
def test_any_visible_characters_make_a_key(desk: Desk, key: str) -> None:
    assert [desk.post(key=key).status_code for _ in range(2)] == [201, 201]
    assert desk.made() == 1


def test_a_caller_without_a_token_is_told_apart_by_address(desk: Desk) -> None:
    first, second = desk.post(path="/things/anonymous"), desk.post(path="/things/anonymous", user="u2")
    assert first.content == second.content
    assert desk.made("") == 1


def test_a_database_that_does_not_answer_keeps_nothing_and_may_be_asked_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.post(key="another-key-first")
    with monkeypatch.context() as broken:
        broken.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
        forget_clients()
        assert desk.post().status_code == 503
    forget_clients()
    assert (desk.post().status_code, desk.made()) == (201, 2)


@pytest.fixture(autouse=True)
def _forget_keys() -> Any:
    yield
    tokens_of.cache_clear()
