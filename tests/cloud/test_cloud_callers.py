"""Who is let in over HTTP: the gate behind each token, keys, limits by user and by address, and what answers say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fusiontrade.accounts.admission.gate import Gate
from fusiontrade.accounts.admission.limits import LIMITS, Limit
from fusiontrade.accounts.admission.sessions import Device, Sessions
from fusiontrade.accounts.admission.tokens import SigningKeys
from fusiontrade.accounts.credentials.api_keys import ApiKeys
from fusiontrade.accounts.credentials.passwords import Passwords
from fusiontrade.accounts.users import Users
from fusiontrade.clock import system_clock
from fusiontrade.cloud.session import forget_clients
from fusiontrade.cloud.tables import Table, Update
from fusiontrade.settings import Settings
from fusiontrade.web import handler_of
from fusiontrade.web.asking.authentication import tokens_of
from fusiontrade.web.asking.derived import derivation_of
from tests.support import things_app
from tests.support.asgi_client import AsgiClient
from tests.support.emulator import free_port
from tests.support.http_api import Context, event
from tests.support.round_trips import round_trips
from tests.support.things_app import bearer, identity

USER = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def settings(accounts_table_name: str, signing_keys_arn: str, derivation_secret_arn: str) -> Iterator[Settings]:
    yield Settings.from_environment(
        {
            "STAGE": "local",
            "LOG_LEVEL": "ERROR",
            "ALLOWED_ORIGINS": "https://app.example.com",
            "ACCOUNTS_TABLE": accounts_table_name,
            "SIGNING_KEYS_SECRET_ARN": signing_keys_arn,
            "DERIVATION_SECRET_ARN": derivation_secret_arn,
        }
    )
    tokens_of.cache_clear()


class Desk:
    def __init__(self, settings: Settings, keys: SigningKeys) -> None:
        self.settings, self.keys = settings, keys
        self.app = things_app.app_of(settings)
        self.table = Table(settings.need("accounts_table"))
        self.gate = Gate(self.table, system_clock)

    def headers(self, **changed: Any) -> dict[str, str]:
        return bearer(self.keys, self.settings, identity(**changed))

    def get(self, path: str = "/things/mine", **changed: Any) -> Any:
        return AsgiClient(self.app).get(path, headers=self.headers(**changed))

    def key(self, *scopes: Any, tier: str = "free", verified: bool = True) -> dict[str, str]:
        """The header of a new API key."""
        profile = {
            "id": USER, "email": "a@x", "full_name": "A", "is_verified": verified, "subscription_tier": tier,
            "segment": None, "created_at": 0,
        }  # fmt: skip
        self.table.put({"pk": f"USER#{USER}", "sk": "PROFILE", **profile})
        keys = ApiKeys(self.table, derivation_of(self.settings), system_clock)
        made, writes = keys.new(USER, "mine", scopes, "a nonce")
        self.table.transact(*writes)
        return {"X-API-Token": made.text}


@pytest.fixture
def desk(settings: Settings, signing_keys: SigningKeys) -> Desk:
    return Desk(settings, signing_keys)


def test_a_signed_in_request_costs_one_round_trip_and_says_what_is_left(desk: Desk) -> None:
    desk.get()
    with round_trips() as sent:
        answer = desk.get()
    assert (answer.status_code, answer.json(), sent) == (200, "u1", ["UpdateItem"])
    left, window = answer.headers["ratelimit"].removeprefix('"things";r=').split(";t=")
    assert (left, 1 <= int(window) <= 60) == ("598", True)
    assert answer.headers["ratelimit-policy"] == '"things";q=600;w=60'


def test_a_token_dies_at_once_with_its_session(desk: Desk) -> None:
    sessions = Sessions(desk.table, derivation_of(desk.settings), system_clock, desk.gate)
    opened, writes = sessions.writes_to_open("u1", Device("a", "b"))
    desk.table.transact(*writes)
    assert desk.get(session_id=opened.session_id).status_code == 200
    sessions.close("u1", opened.session_id)
    answer = desk.get(session_id=opened.session_id)
    assert (answer.status_code, answer.json()["type"]) == (401, "/problems/unauthenticated")
    assert "ratelimit" not in answer.headers


def test_a_token_dies_at_once_when_all_sessions_end(desk: Desk) -> None:
    token = desk.headers(session_id="old")
    desk.table.update(Gate(desk.table, lambda: system_clock() + 1000).revocation_of_all("u1"))
    assert AsgiClient(desk.app).get("/things/mine", headers=token).status_code == 401


def test_a_new_tier_counts_from_the_next_request_on_whatever_the_token_says(desk: Desk) -> None:
    users = Users(desk.table, Passwords(memory_kib=8, iterations=1), system_clock)
    made = users.create("ada@example.com", "correct horse battery", "Ada", verified=True)
    assert desk.get("/things/pro", user_id=made.id).status_code == 403
    users.set_tier(made.email, "pro")
    assert desk.get("/things/pro", user_id=made.id).status_code == 200
    users.set_tier(made.email, "free")
    assert desk.get("/things/pro", user_id=made.id, tier="admin").status_code == 403


def test_a_key_made_beside_a_reset_opens_nothing(desk: Desk) -> None:
    key = desk.key("predict")
    desk.table.update(Gate(desk.table, lambda: system_clock() + 1000).revocation_of_all(USER, keys=True))
    assert AsgiClient(desk.app).get("/things/program", headers=key).status_code == 401


def test_too_many_requests_of_a_user_are_told_so_on_every_route_of_the_group(desk: Desk) -> None:
    desk.app.state.limits = {"things": Limit(3, 3600)}
    assert [desk.get(path).status_code for path in ("/things/mine", "/things/pro", "/things/x")] == [200, 403, 422]
    answer = desk.get("/things/mine")
    assert (answer.status_code, answer.json()["type"]) == (429, "/problems/too-many-requests")
    assert answer.headers["ratelimit"].startswith('"things";r=0;t=')
    assert 1 <= int(answer.headers["retry-after"]) <= 3600
    assert desk.get(user_id="u2").status_code == 200
    assert desk.get("/things/heavy").headers["ratelimit-policy"] == '"heavy";q=600;w=60'


def test_errors_of_a_counted_route_say_what_is_left(desk: Desk) -> None:
    for path, status in (("/things/pro", 403), ("/things/not-a-number", 422)):
        answer = desk.get(path)
        assert (answer.status_code, "ratelimit" in answer.headers) == (status, True)


def test_a_route_marked_as_heavy_has_the_limit_of_heavy_ones(desk: Desk) -> None:
    limit = LIMITS["heavy"]
    assert desk.get("/things/heavy").headers["ratelimit-policy"] == f'"heavy";q={limit.requests};w={limit.seconds}'


@pytest.mark.parametrize(("service", "status"), [("things", 403), ("auth", 200)])
def test_an_unverified_user_reaches_the_auth_function_only(desk: Desk, service: str, status: int) -> None:
    desk.app = things_app.app_of(desk.settings, service)
    assert desk.get(is_verified=False).status_code == status


def test_a_function_without_its_accounts_table_lets_nobody_in(desk: Desk) -> None:
    desk.app = things_app.app_of(desk.settings.model_copy(update={"accounts_table": None}))
    assert desk.get().status_code == 500


def test_a_gate_that_does_not_answer_lets_nobody_in(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.get()
    with monkeypatch.context() as broken:
        broken.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
        forget_clients()
        assert desk.get().status_code == 503
    forget_clients()
    assert desk.get().status_code == 200


def test_a_key_with_the_scope_opens_what_a_token_opens(desk: Desk) -> None:
    answer = AsgiClient(desk.app).get("/things/program", headers=desk.key("predict"))
    assert (answer.status_code, answer.json()) == (200, USER)
    assert answer.headers["ratelimit"].startswith('"things";r=599')
    assert desk.get("/things/program").status_code == 200


def test_a_key_does_only_what_it_was_made_for(desk: Desk) -> None:
    client, key = AsgiClient(desk.app), desk.key("read")
    refused = client.get("/things/program", headers=key)
    assert (refused.status_code, "predict" in refused.json()["detail"]) == (403, True)
    assert client.get("/things/mine", headers=key).status_code == 401


def test_a_key_of_an_unverified_user_opens_nothing(desk: Desk) -> None:
    assert AsgiClient(desk.app).get("/things/program", headers=desk.key("predict", verified=False)).status_code == 403


@pytest.mark.parametrize("text", ["", "ft_", f"ft_{USER}_{'0' * 16}_{'A' * 43}", "Bearer x", "é"])
def test_a_key_that_is_none_is_refused(desk: Desk, text: str) -> None:
    headers = [(b"X-API-Token", text.encode())]
    assert AsgiClient(desk.app).get("/things/program", headers=headers).status_code == 401


def test_a_key_that_was_ruined_is_not_made_good_by_a_token(desk: Desk) -> None:
    headers = {**desk.headers(), "X-API-Token": "ft_nonsense"}
    assert AsgiClient(desk.app).get("/things/program", headers=headers).status_code == 401


def test_a_key_may_name_its_requests(desk: Desk) -> None:
    headers = {**desk.key("predict"), "Idempotency-Key": "a-key-of-a-program"}
    first, second = (
        AsgiClient(desk.app).post("/things/programs", json={"name": "a"}, headers=headers) for _ in range(2)
    )
    assert (first.status_code, first.content) == (200, second.content)
    assert second.headers["idempotent-replayed"] == "true"


def from_address(desk: Desk, address: str, **headers: str) -> Any:
    asked = event("GET", "/things/anybody", headers=headers)
    asked["requestContext"]["http"]["sourceIp"] = address
    return handler_of(desk.app)(asked, Context())


def test_callers_without_a_token_are_counted_by_the_address_that_the_gateway_saw(desk: Desk) -> None:
    desk.app.state.limits = {"mail": Limit(2, 3600)}
    forwarded = {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9"}
    statuses = [from_address(desk, "192.0.2.7", **forwarded)["statusCode"] for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert from_address(desk, "192.0.2.8", **forwarded)["statusCode"] == 200
    refused = from_address(desk, "192.0.2.7")
    assert refused["headers"]["ratelimit"].startswith('"mail";r=0;t=')
    assert "retry-after" in refused["headers"]


def test_a_browser_may_read_what_is_left(desk: Desk) -> None:
    headers = {**desk.headers(), "Origin": "https://app.example.com"}
    exposed = AsgiClient(desk.app).get("/things/mine", headers=headers).headers["access-control-expose-headers"]
    assert {"RateLimit", "RateLimit-Policy", "Retry-After", "Idempotent-Replayed"} <= set(exposed.split(", "))


def test_a_transaction_on_the_gate_item_does_not_fail_requests_beside_it(desk: Desk) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def close(number: int) -> None:
        desk.table.transact(
            *[desk.gate.revocation("u1", f"other{number}"), Update({"pk": "X", "sk": "X"}, add={"n": 1})]
        )

    with ThreadPoolExecutor(8) as pool:
        closing = [pool.submit(close, number) for number in range(20)]
        statuses = list(pool.map(lambda _: desk.get().status_code, range(20)))
        for one in closing:
            one.result()
    assert statuses == [200] * 20


def test_the_document_says_which_answers_a_signed_in_route_has(desk: Desk) -> None:
    paths = desk.app.openapi()["paths"]
    assert {"401", "403", "429", "503"} <= set(paths["/things/mine"]["get"]["responses"])
    assert {"409", "429", "503"} <= set(paths["/things"]["post"]["responses"])
    assert "401" not in paths["/things/anybody"]["get"]["responses"]
    of_auth = things_app.app_of(desk.settings, "auth").openapi()["paths"]
    assert "403" not in of_auth["/things/mine"]["get"]["responses"]
