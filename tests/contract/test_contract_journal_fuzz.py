"""Generated requests to the journal with tokens of two users: no 5xx, no undocumented status, nothing leaks."""

from __future__ import annotations

import importlib.util
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

from fusiontrade.journal.settlement import Settlement, Status
from fusiontrade.journal.store import Asked, Journal
from tests.contract.conftest import Function
from tests.contract.journal_calls import *  # noqa: F403 - pytest finds fixtures by name in this module
from tests.contract.journal_calls import Caller
from tests.support.journal_entries import *  # noqa: F403 - pytest finds fixtures by name in this module
from tests.support.journal_entries import ALICE, BOB, HOUR, NOON, buy

EXAMPLES = 25
REFUSES_MORE = {"listJournal", "getJournalStatistics", "exportJournal", "importJournal", "verifyJournal"}
"""Operations that refuse what their schema cannot say: instants, symbols, cursors, keys used again."""
IGNORES_MORE = {"listJournal", "getJournalStatistics", "exportJournal"}
"""Operations that take no notice of parameters which they do not know."""

needs_schemathesis = pytest.mark.skipif(
    importlib.util.find_spec("schemathesis") is None, reason="schemathesis is only in the development environment"
)


@needs_schemathesis
def test_generated_requests_find_no_fault_and_nothing_of_another_user(
    journal: Journal, journal_function: Function, alice: Caller, bob: Caller
) -> None:
    import schemathesis
    from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

    entries = {owner: [buy(owner, opened_at=NOON - n * HOUR) for n in range(4)] for owner in (ALICE, BOB)}
    for owner, own in entries.items():
        own.append(buy(owner, opened_at=NOON + HOUR, verdict=f"of {owner}"))
        journal.add_many(own)
        journal.settle(own[0], Settlement(Status.WIN, 1.104, NOON + HOUR))
    schema = schemathesis.openapi.from_dict(journal_function.app.openapi())
    schema.app = journal_function.app
    sent = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        name = operation.definition.raw["operationId"]
        beside = [positive_data_acceptance] * (name in REFUSES_MORE) + [negative_data_rejection] * (
            name in IGNORES_MORE
        )
        for number, mode in enumerate((schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)):
            caller, other = ((alice, BOB), (bob, ALICE))[number]

            @settings(
                max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )  # fmt: skip
            @given(case=operation.as_strategy(generation_mode=mode))
            def send(case: Any) -> None:
                nonlocal sent
                answer = case.call_and_validate(
                    headers={"Authorization": f"Bearer {caller.token}"},  # noqa: B023
                    excluded_checks=beside,  # noqa: B023
                )
                assert other not in answer.text  # noqa: B023
                sent += 1

            with suppress(Unsatisfiable):
                send()
    assert sent >= 6 * EXAMPLES
    for owner, own in entries.items():
        found = {record.id for record in journal.records(owner, Asked())}
        assert {entry.id for entry in own} <= found
