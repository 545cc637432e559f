"""Generated requests of one user, with the ids of another: nothing of the other leaves, and nothing of it changes."""

from __future__ import annotations

import importlib.util
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

from tests.contract.conftest import Function
from tests.contract.security.conftest import Client

EXAMPLES = 8
HER_NAME, HER_KEY, HER_AGENT = "Ada-name-4711", "Ada-key-4712", "Ada-agent-4713"
ENDS_IT = {"logout", "changePassword"}

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("schemathesis") is None, reason="schemathesis is only in the development environment"
)


def things_of(client: Client) -> dict[str, Any]:
    return {path: client("GET", path).json() for path in ("/me", "/sessions", "/api-keys")}


def test_attacker_with_a_valid_token_gets_nothing_of_another_user_out_of_any_request(
    auth: Function, ada: Client, eve: Client
) -> None:
    import schemathesis

    ada.agent = HER_AGENT
    assert ada.login().status == 200
    assert ada("PUT", "/me", {"full_name": HER_NAME}).status == 200
    key = ada("POST", "/api-keys", {"name": HER_KEY, "scopes": ["read"]}).json()
    hers = things_of(ada)
    ids = [key["id"], *(session["id"] for session in hers["/sessions"]["items"]), hers["/me"]["id"]]
    marks = [HER_NAME, HER_KEY, HER_AGENT, key["key"], *ids]
    headers = {"Authorization": f"Bearer {eve.token}", "Cookie": eve.cookie}
    schema = schemathesis.openapi.from_dict(auth.app.openapi())
    schema.app = auth.app
    sent = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.definition.raw["operationId"] in ENDS_IT:
            continue

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(), her_id=st.sampled_from(ids))
        def send(case: Any, her_id: str) -> None:
            nonlocal sent
            case.path_parameters = dict.fromkeys(case.path_parameters or {}, her_id)
            answer = case.call(headers=headers)
            sent += 1
            assert answer.status_code < 500
            assert [mark for mark in marks if mark in answer.text and mark not in str(case.path_parameters)] == []

        with suppress(Unsatisfiable):
            send()
    assert sent >= 10 * EXAMPLES
    now = things_of(ada)
    for session in (*hers["/sessions"]["items"], *now["/sessions"]["items"]):
        session.pop("used_at")
    assert now == hers
