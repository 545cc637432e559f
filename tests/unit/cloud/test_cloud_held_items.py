"""Items that a transaction of another request holds: a database on the loopback that says so, as DynamoDB does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from fusiontrade.cloud.session import forget_clients
from fusiontrade.cloud.tables import ConditionFailed, ItemRefused, Put, Table, Update
from fusiontrade.deadline import Deadline
from fusiontrade.errors import Conflict, StateUnavailable
from tests.support.aws_server import AwsServer
from tests.support.listening import Handler, listening

KEY = {"pk": "USER#1", "sk": "GATE"}
HELD = {"__type": "com.amazonaws.dynamodb.v20120810#TransactionConflictException", "message": "held"}


def cancelled(*codes: str) -> dict[str, Any]:
    """A transaction that did not happen, with the reason of each write."""
    return {
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "message": "cancelled",
        "CancellationReasons": [{"Code": code} for code in codes],
    }


class Database:
    """Gives the answers it is told to, in turn, and then agrees."""

    def __init__(self) -> None:
        self.refusals: list[dict[str, Any]] = []
        self.requests: list[dict[str, Any]] = []


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    told = Database()

    class Player(Handler):
        def do_POST(self) -> None:
            told.requests.append(json.loads(self.body()))
            refusal = told.refusals.pop(0) if told.refusals else None
            body = json.dumps(refusal or {"Attributes": {"n": {"N": "1"}}}).encode()
            self.reply(400 if refusal else 200, body, "application/x-amz-json-1.0")

    with listening(Player) as port:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        forget_clients()
        yield told
        forget_clients()


def test_an_update_that_meets_a_transaction_is_sent_again(database: Database) -> None:
    database.refusals = [HELD, HELD]
    assert Table("t").update(Update(KEY, add={"n": 1})) == {"n": 1}
    assert len(database.requests) == 3
    assert database.requests[0] == database.requests[2]


def test_an_update_of_an_item_that_stays_held_is_a_conflict_and_no_outage(database: Database) -> None:
    database.refusals = [HELD] * 20
    with pytest.raises(Conflict) as refused:
        Table("t").update(Update(KEY, add={"n": 1}))
    assert not isinstance(refused.value, (ConditionFailed, StateUnavailable))
    assert len(database.requests) == 5


def test_a_transaction_that_meets_another_is_sent_again_as_a_new_one(database: Database) -> None:
    database.refusals = [cancelled("None", "TransactionConflict")]
    Table("t").transact(Put(dict(KEY)), Put({**KEY, "sk": "OTHER"}))
    tokens = [request["ClientRequestToken"] for request in database.requests]
    assert len(set(tokens)) == 2


def test_a_condition_that_failed_says_more_than_an_item_that_was_held(database: Database) -> None:
    database.refusals = [cancelled("TransactionConflict", "ConditionalCheckFailed")]
    with pytest.raises(ConditionFailed) as refused:
        Table("t").transact(Put(dict(KEY)), Put({**KEY, "sk": "OTHER"}))
    assert refused.value.index == 1
    assert len(database.requests) == 1


def test_an_item_that_is_too_large_is_no_conflict_and_is_not_sent_again(database: Database) -> None:
    database.refusals = [cancelled("None", "ValidationError")]
    with pytest.raises(ItemRefused) as refused:
        Table("t").transact(Put(dict(KEY)), Put({**KEY, "sk": "OTHER"}))
    assert not isinstance(refused.value, (Conflict, StateUnavailable))
    assert len(database.requests) == 1


def test_a_transaction_that_is_throttled_is_an_outage_and_no_conflict_of_the_callers(database: Database) -> None:
    database.refusals = [cancelled("None", "ThrottlingError")]
    with pytest.raises(StateUnavailable, match="ThrottlingError"):
        Table("t").transact(Put(dict(KEY)), Put({**KEY, "sk": "OTHER"}))


def test_a_transaction_whose_answer_gets_lost_is_sent_again_under_the_same_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = [(0, {}), (200, {})]
    with AwsServer(lambda _: answers.pop(0)).running() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        forget_clients()
        Table("t").transact(Put(dict(KEY)))
    forget_clients()
    first, second = server.calls
    assert first == second
    assert first["ClientRequestToken"]


def test_items_that_a_read_left_out_are_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(call: dict[str, Any]) -> tuple[int, Any]:
        keys = call["RequestItems"]["t"]["Keys"]
        left = {"t": {"Keys": keys[40:]}} if keys[40:] else {}
        return 200, {"Responses": {"t": keys[:40]}, "UnprocessedKeys": left}

    keys = [{"pk": f"USER#{number}", "sk": "GATE"} for number in range(130)]
    with AwsServer(answer).running() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        forget_clients()
        assert Table("t").get_many(keys) == keys
        assert Table("t").get_many([]) == []
    forget_clients()
    assert [len(call["RequestItems"]["t"]["Keys"]) for call in server.calls] == [100, 60, 20, 30]


@pytest.mark.parametrize(("left", "calls"), [(20.0, (10.0, 2)), (9.0, (4.0, 2)), (2.5, (1.0, 2)), (1.5, (1.0, 1))])
def test_a_table_until_a_deadline_waits_no_longer_than_that(left: float, calls: tuple[float, int]) -> None:
    table = Table("t", read_seconds=10.0, attempts=2).until(Deadline(left, lambda: 0.0))
    assert (table._read_seconds, table._attempts) == calls


def test_without_a_second_left_a_table_is_not_asked() -> None:
    with pytest.raises(StateUnavailable):
        Table("t").until(Deadline(0.9, lambda: 0.0))


def test_a_gate_that_stays_held_is_an_outage_and_not_a_conflict_of_the_callers(database: Database) -> None:
    from fusiontrade.accounts.admission.gate import Gate

    database.refusals = [HELD] * 20
    with pytest.raises(StateUnavailable):
        Gate(Table("t"), lambda: 1_750_000_000_000).admit("u1", "read", session_id="s1", issued_at=1)
