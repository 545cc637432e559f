"""A forecast over HTTP with everything behind it real: token, gate, states, journal; and the round trips it takes."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fusiontrade.cloud.endpoint import SageMakerEndpoint
from fusiontrade.cloud.tables import Table
from fusiontrade.fusion.calibration_store import TableCalibrationStates
from fusiontrade.fusion.journaling import NOT_WRITTEN, JournalOfForecasts
from fusiontrade.fusion.service import FusionService
from fusiontrade.inference.client import InferenceClient
from fusiontrade.journal.entries import PLATFORM, Entry
from fusiontrade.journal.store import Asked, Journal
from fusiontrade.settings import Settings
from tests.contract.conftest import EMAIL, PASSWORD, Function, function
from tests.support.forecast_desk import *  # noqa: F403 - pytest finds fixtures by name in this module
from tests.support.forecast_desk import Tables
from tests.support.fusion_fakes import NOON, FakeCandles
from tests.support.round_trips import round_trips
from tests.support.serving_program import Program, served

EURUSD = "/api/v1/fusion/EURUSD=X?include_sentiment=false"
PATIENCE = 60.0


@pytest.fixture
def program(aws: None) -> Iterator[Program]:
    with served() as playing:
        yield playing


@pytest.fixture
def mine(auth: Function) -> dict[str, str]:
    answer = auth("POST", "/api/v1/auth/login", json_body={"email": EMAIL, "password": PASSWORD})
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


@pytest.fixture
def user_id(auth: Function, mine: dict[str, str]) -> str:
    return str(auth("GET", "/api/v1/auth/me", headers=mine).json()["id"])


Process = Callable[..., Function]


@pytest.fixture
def process(auth_settings: Settings, tables: Tables, program: Program) -> Process:
    """Make a fusion function that remembers nothing, as a new process would be."""

    def make(journal: str = tables.journal) -> Function:
        module = importlib.import_module("functions.fusion.app")
        made = function("fusion", auth_settings)
        entries = Journal(Table(journal, read_seconds=PATIENCE, attempts=1), lambda: NOON)
        service = FusionService(
            FakeCandles(),
            InferenceClient(SageMakerEndpoint("fusiontrade")),
            calibration=TableCalibrationStates(Table(tables.models, read_seconds=PATIENCE, attempts=1)),
            journal=JournalOfForecasts(entries),
            clock=lambda: NOON,
        )
        made.app.dependency_overrides = {module.fusion_service_of: lambda: service}
        return made

    return make


Entries = Callable[[str], list[Entry]]


@pytest.fixture
def entries(tables: Tables) -> Entries:
    journal = Journal(Table(tables.journal, read_seconds=PATIENCE), lambda: NOON)
    return lambda owner: journal.page(owner, Asked(), limit=200).entries


def test_a_forecast_is_in_the_journals_before_its_answer_leaves(
    process: Process, mine: dict[str, str], user_id: str, entries: Entries
) -> None:
    answer = process()("GET", EURUSD + "&journal=true", headers=mine)
    assert (answer.status, answer.json()["warnings"]) == (200, [])
    (platform,), (own,) = entries(PLATFORM), entries(user_id)
    assert (own.id, own.owner, own.to_json()["user_id"]) == (platform.id, user_id, user_id)
    assert float(own.entry_price or 0) == answer.json()["targets"]["entry"]


def test_the_post_is_journaled_for_the_platform_like_the_get(
    process: Process, mine: dict[str, str], user_id: str, entries: Entries
) -> None:
    answer = process()("POST", "/api/v1/fusion/analyze", json_body={"symbol": "GC=F"}, headers=mine)
    assert answer.status == 200
    assert [entry.symbol for entry in entries(PLATFORM)] == ["GC=F"]
    assert entries(user_id) == []


def test_a_warm_forecast_takes_at_most_three_round_trips(process: Process, mine: dict[str, str]) -> None:
    warm = process()
    assert warm("GET", EURUSD, headers=mine).status == 200
    with round_trips() as sent:

        def taken(asked: Function, target: str) -> list[str]:
            sent.clear()
            answer: Any = asked("GET", target, headers=mine)
            assert (answer.status, answer.json()["warnings"]) == (200, [])
            return list(sent)

        gate, states, journal = "UpdateItem", "GetItem", "TransactWriteItems"
        assert taken(warm, EURUSD) == [gate, states]
        assert taken(warm, EURUSD + "&journal=true") == [gate, states, journal]
        assert taken(warm, EURUSD + "&journal=true") == [gate, states]
        assert taken(process(), EURUSD) == [gate, states, journal]
        assert taken(warm, EURUSD + "&as_of=2025-07-31T11:00:00Z") == [gate]


def test_a_journal_that_is_away_is_a_warning_and_a_503_only_to_who_asked_for_an_entry(
    process: Process, mine: dict[str, str]
) -> None:
    lost = process("no-such-table")
    answer = lost("GET", EURUSD, headers=mine)
    assert (answer.status, answer.json()["warnings"]) == (200, [NOT_WRITTEN])
    refused = lost("GET", EURUSD + "&journal=true", headers=mine)
    assert (refused.status, refused.json()["type"]) == (503, "/problems/state-unavailable")


def test_the_function_as_it_is_configured_writes_to_its_journal(
    auth_settings: Settings,
    tables: Tables,
    program: Program,
    mine: dict[str, str],
    entries: Entries,
) -> None:
    more = {
        "journal_table": tables.journal, "models_table": tables.models, "endpoint_name": "fusiontrade",
        "market_data": "simulated",
    }  # fmt: skip
    fusion = function("fusion", auth_settings.model_copy(update=more))
    answer = fusion("GET", "/api/v1/fusion/BTC-USD?include_sentiment=false", headers=mine)
    assert (answer.status, answer.json()["data_source"]) == (200, "simulated")
    (entry,) = entries(PLATFORM)
    assert (entry.symbol, entry.data_source) == ("BTC-USD", "simulated")
