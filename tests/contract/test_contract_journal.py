"""The journal over HTTP: pages, filters, statistics, entries, downloads, verification, and nothing of others."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import pytest

from functions.journal.app import MOST_EXPORTED
from fusiontrade.cloud.session import client
from fusiontrade.journal.entries import Entry, Model, decimal_of
from fusiontrade.journal.exports import csv_of, json_of
from fusiontrade.journal.settlement import Settlement, Status
from fusiontrade.journal.store import Journal
from fusiontrade.settings import Settings
from fusiontrade.web import create_app, handler_of
from infra.local.http_events import RESPONSE_LIMIT
from tests.contract.conftest import Function
from tests.contract.journal_calls import *  # noqa: F403 - pytest finds fixtures by name in this module
from tests.contract.journal_calls import JOURNAL, Caller
from tests.support.http_api import Answer
from tests.support.journal_entries import *  # noqa: F403 - pytest finds fixtures by name in this module
from tests.support.journal_entries import ALICE, BOB, DAY, HOUR, NOON, buy, hold, sell
from tests.support.round_trips import round_trips

FIELDS = {
    "id", "user_id", "source", "symbol", "interval", "signal", "lstm_signal", "patchtst_signal", "fusion_score",
    "probability", "entry_price", "tp1", "tp2", "tp3", "stop_loss", "status", "outcome_price", "outcome_at", "pips",
    "opened_at", "expires_at", "models", "data_source",
}  # fmt: skip
STATISTICS = {
    "total", "pending", "wins", "losses", "expired", "win_rate", "profit_factor", "total_pips", "average_pips",
    "max_drawdown", "expectancy", "by_symbol", "equity_curve", "brier", "calibration",
}  # fmt: skip


def pages(caller: Caller, query: str = "") -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    cursor = ""
    while True:
        answer = caller("GET", f"?{query}{cursor}")
        assert answer.status == 200, answer.text
        items += answer.json()["items"]
        following = answer.json()["next_cursor"]
        if following is None:
            return items
        cursor = f"&cursor={quote(following)}"


def test_an_entry_is_answered_with_the_published_fields(journal: Journal, alice: Caller) -> None:
    entry = buy()
    journal.add(entry)
    journal.settle(entry, Settlement(Status.WIN, 1.104, NOON + 2 * HOUR))
    answer = alice("GET", f"/{entry.id}")
    assert answer.status == 200
    told = answer.json()
    assert set(told) >= FIELDS
    assert told["user_id"] == ALICE
    assert (told["status"], told["outcome_price"], told["outcome_at"]) == ("WIN", 1.104, "2025-07-31T14:00:00Z")
    assert (told["entry_price"], told["pips"], told["opened_at"]) == (1.1, 40.0, "2025-07-31T12:00:00Z")
    assert '"entry_price":1.1,' in answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert alice("GET", "").json()["items"] == [told]


def test_pages_are_walked_by_cursors_newest_first(journal: Journal, alice: Caller) -> None:
    entries = [buy(opened_at=NOON - hour * HOUR) for hour in range(7)]
    journal.add_many(entries)
    assert [item["id"] for item in pages(alice, "limit=3")] == [entry.id for entry in entries]
    assert [item["id"] for item in pages(alice, "limit=1&interval=1h")] == [entry.id for entry in entries]
    assert alice("GET", "/?limit=200").json()["next_cursor"] is None


def test_a_cursor_is_good_for_its_user_and_its_question_only(journal: Journal, alice: Caller, bob: Caller) -> None:
    journal.add_many(buy(owner, opened_at=NOON - hour * HOUR) for hour in range(4) for owner in (ALICE, BOB))
    cursor = alice("GET", "?limit=2").json()["next_cursor"]
    for caller, query in (
        (bob, f"cursor={cursor}"),
        (alice, f"cursor={cursor}&symbol=EURUSD%3DX"),
        (alice, f"cursor={cursor[:-2]}xx"),
        (alice, "cursor=nonsense"),
    ):
        refused = caller("GET", f"?{query}")
        assert (refused.status, refused.json()["errors"][0]["pointer"]) == (422, "/query/cursor")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("symbol=GC%3DF", {2}),
        ("symbol=eurusd", {0, 1, 3}),
        ("interval=4h", {1}),
        ("status=WIN", {0}),
        ("status=PENDING&symbol=EURUSD=X", {1, 3}),
        ("from=2025-07-31T12:00:00Z", {0, 1, 2}),
        ("to=2025-07-31T12:00:00Z", {3}),
        ("from=2025-07-30&to=2025-07-31", {3}),
        ("from=2025-07-31T14:00:00%2B02:00&symbol=EURUSD%3DX", {0, 1}),
    ],
)
def test_a_list_is_filtered(journal: Journal, alice: Caller, query: str, expected: set[int]) -> None:
    entries = [buy(), buy(interval="4h"), buy(symbol="GC=F"), buy(opened_at=NOON - DAY)]
    journal.add_many(entries)
    journal.settle(entries[0], Settlement(Status.WIN, 1.104, NOON + HOUR))
    assert {item["id"] for item in pages(alice, query)} == {entries[index].id for index in expected}


@pytest.mark.parametrize(
    ("target", "pointer"),
    [
        ("?limit=0", "/query/limit"),
        ("?limit=201", "/query/limit"),
        ("?status=WON", "/query/status"),
        ("?symbol=../x", "/query/symbol"),
        ("?symbol=XXXYYY%3DX", "/query/symbol"),
        ("?interval=7m", "/query/interval"),
        ("?from=yesterday", "/query/from"),
        ("?to=2025-07-31T12:00:00", "/query/to"),
        ("/stats?from=2025-13-01", "/query/from"),
        ("?from=2025-08-02&to=2025-08-01", "/query/to"),
        ("/stats?from=2025-08-01&to=2025-08-01T02:00:00%2B02:00", "/query/to"),
        ("/export?format=xls", "/query/format"),
    ],
)
def test_a_question_that_makes_no_sense_names_its_part(alice: Caller, target: str, pointer: str) -> None:
    answer = alice("GET", target)
    assert (answer.status, answer.json()["errors"][0]["pointer"]) == (422, pointer)


def test_statistics_are_those_of_the_range_that_is_asked_for(journal: Journal, alice: Caller) -> None:
    won, lost, later = buy(), sell(opened_at=NOON + HOUR), buy(opened_at=NOON + DAY, symbol="GC=F")
    journal.add_many([won, lost, later, hold(opened_at=NOON + 2 * HOUR), buy(BOB)])
    journal.settle(won, Settlement(Status.WIN, 1.104, NOON + 2 * HOUR))
    journal.settle(lost, Settlement(Status.LOSS, 1.103, NOON + 3 * HOUR))
    told = alice("GET", "/stats").json()
    assert set(told) >= STATISTICS
    counts = [told[name] for name in ("total", "pending", "wins", "losses", "expired", "holds")]
    assert counts == [4, 1, 1, 1, 0, 1]
    assert (told["win_rate"], told["total_pips"], told["average_pips"], told["max_drawdown"]) == (0.5, 10.0, 5.0, 30.0)
    assert told["profit_factor"] == pytest.approx(40 / 30)
    assert told["equity_curve"] == [
        {"at": "2025-07-31T14:00:00Z", "equity": 40.0}, {"at": "2025-07-31T15:00:00Z", "equity": 10.0},
    ]  # fmt: skip
    assert told["by_symbol"]["EURUSD=X"]["total"] == 3
    assert told["by_asset_class"]["metal"]["pending"] == 1
    assert told["brier"] == pytest.approx(((1 - 0.43) ** 2 + 0.43**2) / 2)
    assert alice("GET", "/stats?symbol=GC%3DF").json()["total"] == 1
    assert alice("GET", "/stats?to=2025-08-01").json()["total"] == 3
    assert (
        alice("GET", f"/stats?from={quote('2025-07-31T13:00:00Z')}&to={quote('2025-07-31T14:00:00Z')}").json()["losses"]
        == 1
    )


def test_a_hold_is_expired_from_the_start_and_is_told_apart_by_its_signal(journal: Journal, alice: Caller) -> None:
    made = hold(opened_at=NOON + 2 * HOUR)
    journal.add_many([made, buy()])
    (listed,) = alice("GET", "?status=EXPIRED").json()["items"]
    assert (listed["id"], listed["signal"], listed["status"]) == (made.id, "HOLD", "EXPIRED")
    assert {listed[name] for name in ("outcome_price", "outcome_at", "pips", "tp1", "stop_loss")} == {None}
    assert alice("GET", f"/{made.id}").json() == listed
    told = alice("GET", "/stats").json()
    assert [told[name] for name in ("total", "pending", "expired", "holds")] == [2, 1, 0, 1]
    assert [entry.signal for entry in journal.pending(ALICE)] == ["BUY"]


def test_statistics_of_nothing_are_null_and_zero(alice: Caller) -> None:
    told = alice("GET", "/stats").json()
    assert (told["total"], told["total_pips"], told["max_drawdown"]) == (0, 0.0, 0.0)
    undefined = ("win_rate", "profit_factor", "average_pips", "expectancy", "brier")
    assert {told[name] for name in undefined} == {None}
    assert (told["by_symbol"], told["equity_curve"], len(told["calibration"])) == ({}, [], 10)


def test_what_belongs_to_another_user_is_not_there_on_any_verb(journal: Journal, alice: Caller, bob: Caller) -> None:
    entry = buy(BOB)
    journal.add(entry)
    stolen = alice("GET", f"/{entry.id}")
    absent = alice("GET", "/1753963200000-0000000000000000")
    assert stolen.status == absent.status == 404
    same = {"request_id", "instance"}
    assert {k: v for k, v in stolen.json().items() if k not in same} == {
        k: v for k, v in absent.json().items() if k not in same
    }
    for method in ("PUT", "PATCH", "DELETE", "POST"):
        assert alice(method, f"/{entry.id}").status in (404, 405)
    assert alice("GET", "").json()["items"] == []
    assert alice("GET", "/stats").json()["total"] == 0
    assert entry.id not in alice("GET", "/export").text + alice("GET", "/export?format=json").text
    assert bob("GET", f"/{entry.id}").json()["status"] == "PENDING"


@pytest.mark.parametrize("owner", ["PLATFORM", f"DIGEST#{BOB}"])
def test_the_platforms_entries_and_digests_are_nobodys(journal: Journal, alice: Caller, owner: str) -> None:
    entry = buy(owner)
    journal.add(entry)
    assert alice("GET", f"/{entry.id}").status == 404
    assert alice("GET", f"/{quote('2025-07-31#EURUSD=X#1h', safe='')}").status == 404


@pytest.mark.parametrize(
    ("method", "target"),
    [("GET", ""), ("GET", "/stats"), ("GET", "/export"), ("GET", "/1-2"), ("POST", "/import"), ("POST", "/verify-now")],
)
def test_without_a_token_nothing_is_told(journal_function: Function, method: str, target: str) -> None:
    answer: Answer = journal_function(method, f"{JOURNAL}{target}")
    assert (answer.status, answer.json()["type"]) == (401, "/problems/unauthenticated")


def test_a_csv_download_has_the_headers_of_one_and_every_digit(journal: Journal, alice: Caller) -> None:
    journal.add_many([buy(entry_price=Decimal("1.1000000000000001")), hold(opened_at=NOON - HOUR)])
    answer = alice("GET", "/export?format=csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="fusiontrade-journal.csv"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["signal"] for row in rows] == ["BUY", "HOLD"]
    assert (rows[0]["entry_price"], rows[0]["tp1"], rows[1]["tp1"]) == ("1.1000000000000001", "1.104", "")


def test_a_json_download_is_the_list_of_entries(journal: Journal, alice: Caller) -> None:
    journal.add_many([buy(), buy(symbol="GC=F")])
    answer = alice("GET", "/export?format=json&symbol=GC%3DF")
    assert answer.headers["content-disposition"] == 'attachment; filename="fusiontrade-journal.json"'
    assert [item["symbol"] for item in json.loads(answer.text)] == ["GC=F"]
    assert json.loads(answer.text) == alice("GET", "?symbol=GC%3DF").json()["items"]


def test_a_long_journal_is_downloaded_in_parts(
    journal: Journal, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("functions.journal.app.MOST_EXPORTED", 3)
    entries = [buy(opened_at=NOON - hour * HOUR) for hour in range(8)]
    journal.add_many([*entries, buy(interval="4h")])
    found, target = [], "/export?format=json&interval=1h"
    while target:
        answer = alice("GET", target)
        found += [item["id"] for item in json.loads(answer.text)]
        link = answer.headers.get("link", "")
        target = "/export" + link.partition(">")[0].removeprefix("<") if link else ""
    assert found == [entry.id for entry in entries]


def settled_at_length(models: int, name: str) -> Entry:
    """An expired entry of ``models`` bundles whose prices have every digit that a float may have."""
    prices = ("entry_price", "tp1", "tp2", "tp3", "stop_loss", "atr", "probability")
    digits = dict(zip(prices, (1.1, 1.2, 1.3, 1.4, 1.0, 0.1, 0.4), strict=True))
    entry = buy(
        **{each: decimal_of(value + 0.0123456789012345) for each, value in digits.items()},
        models=[Model("15m", f"{name}{number}", name) for number in range(models)],
    )
    return entry.settled(Settlement(Status.EXPIRED, 1.0812345678912345, entry.expires_at))


def test_a_part_of_a_download_fits_what_a_function_answers_and_takes_back() -> None:
    longest = json_of([settled_at_length(16, "m" * 62)] * MOST_EXPORTED)
    assert len(json.dumps(longest)) < RESPONSE_LIMIT
    usual = csv_of([settled_at_length(8, "patchtst-15m")] * MOST_EXPORTED)
    assert len(usual) < Settings.from_environment({"STAGE": "local"}).max_body_bytes


def test_no_cell_of_a_download_is_a_formula(journal: Journal, alice: Caller) -> None:
    attack = ['=HYPERLINK("http://evil")', "+1+1", "-2+3", "@SUM(A1)", "\tx", "\r=1", "|cmd", "%0a"]
    journal.add_many(buy(opened_at=NOON - n * HOUR, verdict=text, data_source=text) for n, text in enumerate(attack))
    rows = list(csv.reader(io.StringIO(alice("GET", "/export").text, newline="")))
    texts = [cell for row in rows[1:] for cell in row if cell and not cell.replace(".", "").lstrip("-").isdigit()]
    assert len(rows) == 1 + len(attack)
    assert not [cell for cell in texts if cell[0] in "=+-@\t\r|%"]
    assert {row[rows[0].index("verdict")] for row in rows[1:]} == {f"'{text}" for text in attack}


def test_verification_on_request_is_a_job_and_a_message(
    alice: Caller, jobs_queue_url: str, journal_settings: Any
) -> None:
    answer = alice("POST", "/verify-now", headers={"Idempotency-Key": "verify-0001"})
    assert answer.status == 202
    job = answer.json()
    assert (job["kind"], job["status"], job["progress"]) == ("verify-now", "QUEUED", 0.0)
    assert answer.headers["location"] == f"/api/v1/ml/jobs/{job['id']}"
    again = alice("POST", "/verify-now", headers={"Idempotency-Key": "verify-0001"})
    assert (again.status, again.json(), again.headers["idempotent-replayed"]) == (202, job, "true")
    received = client("sqs").receive_message(QueueUrl=jobs_queue_url, MaxNumberOfMessages=10).get("Messages", [])
    orders = [json.loads(message["Body"])["body"] for message in received]
    assert {(order["owner"], order["kind"], order["id"]) for order in orders} == {(ALICE, "verify-now", job["id"])}
    assert alice("POST", "/verify-now").json()["id"] != job["id"]


@pytest.mark.parametrize("target", ["", "?symbol=EURUSD%3DX", "?from=2025-07-30", "?status=PENDING", "/stats"])
def test_a_page_takes_two_round_trips_to_the_database(journal: Journal, alice: Caller, target: str) -> None:
    journal.add_many(buy(opened_at=NOON - hour * HOUR) for hour in range(60))
    with round_trips() as sent:
        assert alice("GET", target).status == 200
    assert sent == ["UpdateItem", "Query"]


@pytest.mark.parametrize("target", ["", "/stats", "/export"])
def test_a_database_that_takes_longer_than_the_request_may_is_a_503_and_no_time_out(
    journal_settings: Settings, alice: Caller, target: str
) -> None:
    """A function that ran into its own time limit would be the gateway's 500."""
    from functions.journal.app import MEDIA_TYPES, router

    hasty = journal_settings.model_copy(update={"request_budget_seconds": 0.9})
    app = create_app("journal", [router], hasty, media_types=MEDIA_TYPES)
    app.state.limits = {}
    answer = Caller(Function(app, handler_of(app)), alice.token)("GET", target)
    assert (answer.status, answer.json()["type"]) == (503, "/problems/state-unavailable")
    assert int(answer.headers["retry-after"]) > 0


def test_the_document_lists_every_status_and_the_download(journal_function: Function) -> None:
    document = journal_function.app.openapi()
    operations = {
        (method, path): operation for path, each in document["paths"].items() for method, operation in each.items()
    }
    assert set(operations) == {
        ("get", JOURNAL), ("get", f"{JOURNAL}/stats"), ("get", f"{JOURNAL}/export"), ("get", f"{JOURNAL}/{{entry_id}}"),
        ("post", f"{JOURNAL}/import"), ("post", f"{JOURNAL}/verify-now"),
    }  # fmt: skip
    for operation in operations.values():
        assert {"401", "403", "429", "500", "503"} <= set(operation["responses"])
    assert "text/csv" in operations["post", f"{JOURNAL}/import"]["requestBody"]["content"]
    names = {parameter["name"] for parameter in operations["get", JOURNAL]["parameters"]}
    assert names == {"status", "symbol", "interval", "from", "to", "limit", "cursor"}
