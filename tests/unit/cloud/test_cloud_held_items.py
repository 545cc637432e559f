"""Items that a transaction of another request holds: a database on the loopback that says so, as DynamoDB does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from fusiontrade.cloud.session import forget_clients
from fusiontrade.cloud.tables import ConditionFailed, Put, Table, Update
from fusiontrade.errors import Conflict, StateUnavailable

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

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            refusal = told.refusals.pop(0) if told.refusals else None
            body = json.dumps(refusal or {"Attributes": {"n": {"N": "1"}}}).encode()
            self.send_response(400 if refusal else 200)
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_address[1]}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    forget_clients()
    yield told
    forget_clients()
    server.shutdown()
    server.server_close()
    thread.join()


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


def test_a_gate_that_stays_held_is_an_outage_and_not_a_conflict_of_the_callers(database: Database) -> None:
    from fusiontrade.accounts.gate import Gate

    database.refusals = [HELD] * 20
    with pytest.raises(StateUnavailable):
        Gate(Table("t"), lambda: 1_750_000_000_000).count("u1", "read", session_id="s1", issued_at=1)
