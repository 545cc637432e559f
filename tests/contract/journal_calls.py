"""What the contract tests of the journal share: the function, two users, and calls with a token."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from fusiontrade.accounts.identity import Identity
from fusiontrade.cloud.session import client
from fusiontrade.settings import Settings
from fusiontrade.web import create_app, handler_of
from fusiontrade.web.asking.authentication import tokens_of
from tests.contract.conftest import Function
from tests.support.http_api import Answer
from tests.support.journal_entries import ALICE, BOB

__all__ = [
    "JOURNAL",
    "Caller",
    "alice",
    "bob",
    "caller_of",
    "jobs_queue_url",
    "journal_function",
    "journal_settings",
]

JOURNAL = "/api/v1/journal"


@dataclass(frozen=True)
class Caller:
    """A signed-in user of one function."""

    function: Function
    token: str

    def __call__(self, method: str, target: str = "", **more: Any) -> Answer:
        headers = {"Authorization": f"Bearer {self.token}", **more.pop("headers", {})}
        return self.function(method, f"{JOURNAL}{target}", headers=headers, **more)

    def import_csv(self, text: str | bytes, **headers: str) -> Answer:
        body = text if isinstance(text, bytes) else text.encode()
        return self("POST", "/import", body=body, headers={"Content-Type": "text/csv", **headers})


@pytest.fixture
def jobs_queue_url(aws: None) -> str:
    return str(client("sqs").create_queue(QueueName=f"jobs-{uuid.uuid4().hex[:8]}")["QueueUrl"])


@pytest.fixture
def journal_settings(
    auth_settings: Settings, journal_table_name: str, models_table_name: str, jobs_queue_url: str
) -> Settings:
    more = {"journal_table": journal_table_name, "models_table": models_table_name, "jobs_queue_url": jobs_queue_url}
    return auth_settings.model_copy(update=more)


@pytest.fixture
def journal_function(journal_settings: Settings) -> Function:
    from functions.journal.app import MEDIA_TYPES, router

    app = create_app("journal", [router], journal_settings, media_types=MEDIA_TYPES)
    app.state.limits = {}
    return Function(app, handler_of(app))


@pytest.fixture
def caller_of(journal_function: Function, journal_settings: Settings) -> Callable[[str], Caller]:
    def made(user_id: str) -> Caller:
        identity = Identity(user_id, f"{user_id[:4]}@example.com", "free", uuid.uuid4().hex, True)
        return Caller(journal_function, tokens_of(journal_settings).issue(identity).text)

    return made


@pytest.fixture
def alice(caller_of: Callable[[str], Caller]) -> Caller:
    return caller_of(ALICE)


@pytest.fixture
def bob(caller_of: Callable[[str], Caller]) -> Caller:
    return caller_of(BOB)
