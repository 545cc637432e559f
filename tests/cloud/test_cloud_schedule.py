"""The schedule function over the emulated cloud: firing twice, dying half-way, and what is subscribed."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import ModuleType
from typing import Any

import pytest

from fusiontrade.accounts.admission.tokens import SigningKeys
from fusiontrade.accounts.by_mail.outbox import Outbox
from fusiontrade.clock import parse_iso
from fusiontrade.cloud.queues import Queue
from fusiontrade.cloud.session import client
from fusiontrade.cloud.tables import Table
from fusiontrade.errors import StateUnavailable
from fusiontrade.forecasts.runs import CHUNK_SIZE, MOST_SYMBOLS, Chunk, Runs
from fusiontrade.forecasts.scheduling import KINDS, Scheduler
from fusiontrade.forecasts.subscribed import subscribed_symbols
from fusiontrade.mails.outbound import Mail, Outbound
from fusiontrade.market.symbols import DEFAULT_SYMBOLS
from tests.support.forecast_desk import *  # noqa: F403 - pytest finds fixtures by name in this module
from tests.support.forecast_desk import Tables
from tests.support.http_api import Context

SIX = "2025-07-31T06:00:00Z"
AT = parse_iso(SIX)
RUN = "intraday-20250731T060000Z"


@pytest.fixture
def runs(tables: Tables) -> Runs:
    return Runs(Table(tables.signals, read_seconds=60.0), lambda: AT + 900)


@pytest.fixture
def schedule(
    tables: Tables, forecast_queue: str, signing_keys_arn: str, accounts_table_name: str, mail_queue_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[ModuleType]:  # fmt: skip
    environment = {
        "STAGE": "local",
        "SIGNALS_TABLE": tables.signals,
        "CONNECTIONS_TABLE": tables.connections,
        "FORECAST_QUEUE_URL": forecast_queue,
        "SIGNING_KEYS_SECRET_ARN": signing_keys_arn,
        "ACCOUNTS_TABLE": accounts_table_name,
        "MAIL_QUEUE_URL": mail_queue_url,
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    module = importlib.reload(importlib.import_module("functions.schedule.app"))
    yield module
    module.scheduler.cache_clear()


def fired(module: ModuleType, task: str, at: str = SIX) -> dict[str, Any]:
    told: dict[str, Any] = module.handler({"task": task, "scheduled_at": at}, Context())
    return told


def chunks_in(queue: str) -> list[Chunk]:
    """Every chunk that the queue has now; they are taken out of it."""
    found: list[Chunk] = []
    while got := client("sqs").receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
        for message in got:
            client("sqs").delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            found.append(Chunk.of(json.loads(message["Body"])["body"]))
    return found


def test_the_daily_schedule_makes_a_run_over_the_default_symbols(
    schedule: ModuleType, runs: Runs, forecast_queue: str
) -> None:
    told = fired(schedule, "intraday")
    assert told == {"runs": [{"run_id": RUN, "status": "RUNNING", "total": len(DEFAULT_SYMBOLS)}]}
    assert chunks_in(forecast_queue) == [Chunk(RUN, 0, DEFAULT_SYMBOLS)]
    assert runs.get(RUN).sent


def test_configured_symbols_come_instead(
    schedule: ModuleType, monkeypatch: pytest.MonkeyPatch, forecast_queue: str
) -> None:
    monkeypatch.setenv("INTRADAY_SYMBOLS", "GBPUSD=X, GC=F")
    configured = importlib.reload(schedule)
    fired(configured, "intraday")
    assert chunks_in(forecast_queue) == [Chunk(RUN, 0, ("GBPUSD=X", "GC=F"))]


def test_a_schedule_that_fires_twice_makes_one_run_and_one_message(
    schedule: ModuleType, forecast_queue: str, tables: Tables
) -> None:
    assert fired(schedule, "intraday") == fired(schedule, "intraday")
    assert len(chunks_in(forecast_queue)) == 1
    assert len(Table(tables.signals).scan().items) == 1


def test_schedules_that_fire_at_once_make_one_run_whose_chunks_may_come_twice(
    schedule: ModuleType, forecast_queue: str, tables: Tables
) -> None:
    together = Barrier(4)

    def fire(_: int) -> dict[str, Any]:
        together.wait()
        return fired(schedule, "intraday")

    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(fire, range(4)))
    assert {each["runs"][0]["run_id"] for each in told} == {RUN}
    assert len(Table(tables.signals).scan().items) == 1
    assert set(chunks_in(forecast_queue)) == {Chunk(RUN, 0, DEFAULT_SYMBOLS)}


class LosesPower:
    """A queue that its sender dies before: nothing, or only the first message, was sent."""

    def __init__(self, queue: Queue, sent_before: int) -> None:
        self._queue = queue
        self._sent_before = sent_before

    def send_many(self, bodies: Sequence[Mapping[str, Any]], *, request_id: str | None = None) -> None:
        self._queue.send_many(bodies[: self._sent_before], request_id=request_id)
        raise StateUnavailable("the process ended")


@pytest.mark.parametrize("sent_before", [0, 1])
def test_a_sender_that_dies_half_way_is_made_up_for_by_the_next_firing(
    runs: Runs, forecast_queue: str, sent_before: int
) -> None:
    symbols = [f"S{number}" for number in range(3 * CHUNK_SIZE)]
    queue = Queue(forecast_queue)
    with pytest.raises(StateUnavailable):
        Scheduler(runs, LosesPower(queue, sent_before)).start("intraday", AT, symbols)
    first = chunks_in(forecast_queue)
    for chunk in first:  # what was sent is done by the time the schedule fires again
        runs.count(chunk, [])
    (run,) = Scheduler(runs, queue).start("intraday", AT, symbols)
    later = chunks_in(forecast_queue)
    assert (len(first), len(later)) == (sent_before, 3 - sent_before)
    assert sorted(chunk.number for chunk in (*first, *later)) == [0, 1, 2]
    assert runs.get(run.id).sent


def test_more_symbols_than_a_run_takes_become_several_runs(runs: Runs, forecast_queue: str) -> None:
    symbols = [f"S{number}" for number in range(MOST_SYMBOLS + 1)]
    started = Scheduler(runs, Queue(forecast_queue)).start("subscribed", AT, [*symbols, *symbols])
    assert [(run.kind, run.total) for run in started] == [("subscribed", MOST_SYMBOLS), ("subscribed-2", 1)]
    assert sum(len(chunk.symbols) for chunk in chunks_in(forecast_queue)) == MOST_SYMBOLS + 1


@pytest.mark.parametrize(
    ("kind", "at", "slot"),
    [
        ("intraday", "2025-07-31T06:00:00Z", "2025-07-31T06:00:00Z"),
        ("intraday", "2025-08-01T05:59:59Z", "2025-07-31T06:00:00Z"),
        ("subscribed", "2025-07-31T06:04:59.999Z", "2025-07-31T06:00:00Z"),
        ("subscribed", "2025-07-31T06:05:00Z", "2025-07-31T06:05:00Z"),
    ],
)
def test_an_instant_belongs_to_the_last_firing_by_then(kind: str, at: str, slot: str) -> None:
    assert KINDS[kind].slot(parse_iso(at)) == parse_iso(slot)


def subscribe(tables: Tables, channel: str, connection: str, expires_at: int | None) -> None:
    item: dict[str, Any] = {"channel": channel, "connection": connection}
    Table(tables.connections).put(item if expires_at is None else {**item, "expires_at": expires_at})


def test_symbols_with_a_live_subscription_are_forecast_every_five_minutes(
    schedule: ModuleType, tables: Tables, forecast_queue: str
) -> None:
    far = parse_iso("2099-01-01T00:00:00Z") // 1000
    for number in range(3):
        subscribe(tables, "signals:GBPUSD=X", f"c{number}", far)
    subscribe(tables, "signals:BTCUSDT", "c0", None)
    subscribe(tables, "signals:GC=F", "c1", 1)
    subscribe(tables, "signals", "c1", far)
    subscribe(tables, "jobs", "c1", far)
    subscribe(tables, "signals:!!", "c1", far)
    told = fired(schedule, "subscribed")
    assert chunks_in(forecast_queue) == [Chunk("subscribed-20250731T060000Z", 0, ("BTC-USD", "GBPUSD=X"))]
    assert told["runs"][0]["total"] == 2


def test_a_subscription_ends_at_its_instant_whether_the_table_has_removed_it_or_not(tables: Tables) -> None:
    subscribe(tables, "signals:GC=F", "c1", AT // 1000)
    connections = Table(tables.connections)
    assert subscribed_symbols(connections, AT - 1000) == ["GC=F"]
    assert subscribed_symbols(connections, AT) == []


def test_a_long_list_of_subscriptions_is_read_to_its_end(tables: Tables) -> None:
    connections = Table(tables.connections)
    padding = "x" * 300_000  # a page of a scan ends at a megabyte
    for number in range(8):
        connections.put({"channel": f"signals:AB{chr(65 + number)}", "connection": "c", "padding": padding})
    assert len(subscribed_symbols(connections, AT)) == 8


def test_nobody_subscribed_is_a_finished_run_and_no_message(schedule: ModuleType, forecast_queue: str) -> None:
    assert fired(schedule, "subscribed")["runs"][0]["status"] == "SUCCEEDED"
    assert chunks_in(forecast_queue) == []


def test_the_keys_turn_once_however_often_the_schedule_fires(schedule: ModuleType, signing_keys: SigningKeys) -> None:
    first, second = fired(schedule, "rotate-keys"), fired(schedule, "rotate-keys")
    assert (first["changed"], second["changed"]) == (True, False)
    assert first["next"] == second["next"]


def test_a_mail_that_a_killed_process_owes_is_sent_once_by_the_schedule(
    schedule: ModuleType, accounts_table_name: str, mail_queue_url: str
) -> None:
    table = Table(accounts_table_name)
    mail = Mail("password_changed", "ada@example.com", "Ada", None, AT)
    table.put(Outbox(table, Outbound(Queue(mail_queue_url)), lambda: AT).owed(mail, request_id="r1").item)
    assert [fired(schedule, "relay-mails") for _ in range(2)] == [{"mails": 1}, {"mails": 0}]
    (message,) = client("sqs").receive_message(QueueUrl=mail_queue_url)["Messages"]
    assert json.loads(message["Body"]) == {"request_id": "r1", "body": mail.to_body()}


@pytest.mark.parametrize("event", [{}, {"task": "verify"}, {"task": None}])
def test_a_task_that_nobody_knows_is_an_error_and_never_a_quiet_success(
    schedule: ModuleType, event: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="use one of intraday, subscribed, rotate-keys, relay-mails"):
        schedule.handler(event, Context())
