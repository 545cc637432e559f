"""Generated requests against the light functions: no 5xx, no undocumented status, every answer fits its schema."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

from fusiontrade.accounts.identity import Identity
from fusiontrade.accounts.users import Users
from fusiontrade.web.asking.authentication import tokens_of

Call = Any
ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = 25

needs_schemathesis = pytest.mark.skipif(
    importlib.util.find_spec("schemathesis") is None, reason="schemathesis is only in the development environment"
)


RULED = {
    "register", "verifyEmail", "resendVerification", "forgotPassword", "resetPassword", "changePassword",
    "createApiKey", "refresh", "login",
}  # fmt: skip
"""Operations that refuse what their schema allows: a common password, a code that nobody was sent, an idempotency key
that is repeated with another body, no content type, an address at a domain that cannot exist."""


def attack(app: Any, headers: Callable[[], dict[str, str]]) -> int:
    """Send generated requests to every operation of ``app``; return how many were sent.

    ``headers`` gives those of an operation: one of them signs out.
    """
    import schemathesis
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    schema = schemathesis.openapi.from_dict(app.openapi())
    schema.config.generation.update(with_security_parameters=False)  # every request is sent with the caller's headers
    schema.app = app
    sent = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        sent_with = headers()
        beside = [positive_data_acceptance] if operation.definition.raw["operationId"] in RULED else []
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
            strategy = operation.as_strategy(generation_mode=mode)

            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                derandomize=True,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=strategy)
            def send(case: Any) -> None:
                nonlocal sent
                case.call_and_validate(headers=sent_with, excluded_checks=beside)  # noqa: B023
                sent += 1

            with suppress(Unsatisfiable):  # an operation without parameters has no wrong ones
                send()
    return sent


@needs_schemathesis
def test_generated_requests_to_auth_find_no_fault(auth: Call, users: Users) -> None:
    profile = users.by_email("devtest@fusiontrade.ai")
    assert profile is not None
    session = iter(range(1000))

    def headers() -> dict[str, str]:
        identity = Identity(profile.id, profile.email, "pro", f"session_{next(session)}", True)
        return {"Authorization": f"Bearer {tokens_of(auth.app.state.settings).issue(identity).text}"}

    assert attack(auth.app, headers) >= 10 * EXAMPLES


@needs_schemathesis
def test_generated_requests_to_docs_find_no_fault(docs: Call) -> None:
    assert attack(docs.app, dict) >= 4


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    path=st.text(st.characters(codec="utf-8"), max_size=30), method=st.sampled_from(["GET", "PUT", "POST", "DELETE"])
)
def test_no_path_whatsoever_breaks_the_floor(docs: Call, path: str, method: str) -> None:
    from urllib.parse import quote

    answer = docs(method, "/" + quote(path))
    assert answer.status in (200, 404, 405)
    if answer.status != 200:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["x-request-id"] == answer.json()["request_id"]


IMPORTS = """
import os, sys
os.environ["STAGE"] = "local"
import functions.{name}.app
print("\\n".join(sorted(sys.modules)))
"""
HEAVY = {
    "numpy", "pandas", "scipy", "torch", "onnxruntime", "yfinance", "httpx", "boto3", "botocore.session",
    "botocore.client", "aws_xray_sdk",
}  # fmt: skip


@pytest.mark.parametrize(("name", "more"), [("auth", set()), ("docs", {"joserfc", "argon2", "cryptography"})])
def test_a_light_function_imports_nothing_heavy(name: str, more: set[str]) -> None:
    printed = subprocess.run(
        [sys.executable, "-c", IMPORTS.format(name=name)], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert set(printed.split()) & (HEAVY | more) == set()
