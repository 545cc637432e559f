"""Queues as the gateway works them off: real messages of the emulated SQS, real processes that fail and die."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fusiontrade.cloud.session import client
from infra.local.functions import Pool, process_environment
from infra.local.queues import QueueWorker, event_of, failed_of
from infra.local.slots import Outcome
from infra.local.sources import QueueSource
from infra.local.template import Function
from infra.redrive import counts, redrive
from tests.support.aws_fixtures import aws, emulator_port  # noqa: F401 - pytest finds fixtures by name

HERE = Path(__file__).parent
SHARED = HERE.parents[1] / "shared"


class Bench:
    """A queue with its dead letters, a worker on it, and what the handler wrote down."""

    def __init__(self, folder: Path, sqs: Any) -> None:
        self.sqs, self.diary = sqs, folder / "diary"
        self.lines: list[str] = []
        self.notices: list[str] = []
        name = f"work-{uuid.uuid4().hex[:8]}"
        self.dead = self._queue(f"{name}-dead", {})
        arn = sqs.get_queue_attributes(QueueUrl=self.dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 2})
        # longer than a process takes to start on a busy machine: a message must not come again while it is worked on
        self.url = self._queue(name, {"VisibilityTimeout": "4", "RedrivePolicy": redrive})

    def _queue(self, name: str, attributes: dict[str, str]) -> str:
        return str(self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"])

    def send(self, *bodies: dict[str, Any]) -> None:
        entries = [{"Id": str(number), "MessageBody": json.dumps(body)} for number, body in enumerate(bodies)]
        self.sqs.send_message_batch(QueueUrl=self.url, Entries=entries)

    def done(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.diary.read_text().splitlines()] if self.diary.exists() else []

    def count(self) -> Counter[str]:
        return Counter(entry["id"] for entry in self.done())

    def waiting(self, url: str) -> int:
        """Messages that are there, shown or not."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        told = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return sum(int(number) for number in told.values())

    def dead_bodies(self) -> list[Any]:
        messages = self.sqs.receive_message(QueueUrl=self.dead, MaxNumberOfMessages=10).get("Messages", [])
        return [json.loads(message["Body"]) for message in messages]


@pytest.fixture
def bench(tmp_path: Path, aws: None) -> Bench:  # noqa: F811
    return Bench(tmp_path, client("sqs", read_seconds=20.0))


@asynccontextmanager
async def working(bench: Bench, *, batch_size: int = 10, limit: int = 2, window: float = 0) -> AsyncIterator[Pool]:
    function = Function("Work", "stack-Work", HERE / "worker", "app.handler", 20, 192, {"DIARY": str(bench.diary)})
    environment = process_environment(function, SHARED, {}, os.environ)
    pool = Pool(function, environment, limit=limit, log=bench.lines.append, say=lambda _, text: note(text))

    def note(text: str) -> None:
        bench.notices.append(text)

    source = QueueSource("Work", "WorkQueue", bench.url, "arn:queue", batch_size, window, True, limit, 2)
    worker = QueueWorker(source, pool, bench.sqs, bench.lines.append, lambda _, text: note(text))
    assert await pool.warm() is None
    worker.start()
    try:
        yield pool
    finally:
        await worker.stop(5)
        await pool.close()


async def until(condition: Callable[[], bool], seconds: float = 40) -> None:
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.05)


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(test())  # type: ignore[arg-type]


def test_messages_are_worked_on_once_and_deleted(bench: Bench) -> None:
    async def scenario() -> None:
        async with working(bench):
            for first in range(0, 30, 10):
                bench.send(*({"id": str(first + number)} for number in range(10)))
            await until(lambda: bench.waiting(bench.url) == 0)

    run(scenario)
    assert bench.count() == Counter({str(number): 1 for number in range(30)})
    assert bench.waiting(bench.dead) == 0


def test_only_the_failed_record_comes_again_and_then_lies_in_the_dead_letters(bench: Bench) -> None:
    async def scenario() -> None:
        bench.send({"id": "good"}, {"id": "poison", "do": "fail"}, {"id": "better"})
        async with working(bench):
            await until(lambda: bench.waiting(bench.dead) == 1)

    run(scenario)
    assert bench.count() == Counter({"poison": 2, "good": 1, "better": 1})
    assert bench.dead_bodies() == [{"id": "poison", "do": "fail"}]
    assert bench.waiting(bench.url) == 0
    assert any("failed 2 times: it goes to the dead letters" in notice for notice in bench.notices)


def test_dead_letters_are_worked_on_again_after_a_redrive(bench: Bench) -> None:
    async def scenario() -> None:
        bench.send({"id": "sick", "do": "until healed"}, {"id": "ill", "do": "until healed"})
        async with working(bench):
            await until(lambda: bench.waiting(bench.dead) == 2)
            bench.diary.with_name("healed").touch()
            assert counts({"dead": bench.dead}) == {"dead": 2}
            assert redrive(bench.dead, bench.url, most=2) == 2
            await until(lambda: bench.waiting(bench.url) == 0)

    run(scenario)
    assert bench.count() == Counter({"sick": 3, "ill": 3})
    assert counts({"dead": bench.dead}) == {"dead": 0}
    assert redrive(bench.dead, bench.url, most=2) == 0


def test_worker_that_dies_in_the_middle_of_a_batch_costs_no_message(bench: Bench) -> None:
    async def scenario() -> None:
        bench.send({"id": "first"}, {"id": "deadly", "do": "die once"}, {"id": "last"})
        async with working(bench):
            await until(lambda: bench.waiting(bench.url) == 0)

    run(scenario)
    # what came before the death was done twice: a queue delivers at least once
    assert bench.count() == Counter({"first": 2, "deadly": 2, "last": 1})
    assert len({entry["pid"] for entry in bench.done()}) == 2
    assert bench.waiting(bench.dead) == 0


def test_worker_killed_from_outside_costs_no_message(bench: Bench) -> None:
    async def scenario() -> None:
        async with working(bench, limit=1, batch_size=1) as pool:
            bench.send(*({"id": str(number)} for number in range(10)))
            await until(lambda: len(bench.done()) >= 2)
            for pid in pool.pids:
                os.kill(pid, signal.SIGKILL)
            await until(lambda: bench.waiting(bench.url) == 0)

    run(scenario)
    assert set(bench.count()) == {str(number) for number in range(10)}
    assert bench.waiting(bench.dead) == 0


def test_answer_that_names_a_message_of_no_batch_fails_the_whole_batch(bench: Bench) -> None:
    async def scenario() -> None:
        bench.send({"id": "odd", "do": "wrong answer"}, {"id": "even"})
        async with working(bench):
            await until(lambda: bench.waiting(bench.dead) == 2)

    run(scenario)
    assert bench.count()["odd"] == 2


def test_batch_waits_for_more_within_its_window(bench: Bench) -> None:
    async def scenario() -> None:
        async with working(bench, window=2, limit=1):
            bench.send({"id": "early"})
            await asyncio.sleep(0.5)
            bench.send({"id": "late"})
            await until(lambda: len(bench.done()) == 2)
            await until(lambda: bench.waiting(bench.url) == 0)

    run(scenario)
    assert any(line.startswith("2 of WorkQueue") for line in bench.lines)


def test_messages_sent_while_nobody_works_are_worked_on_later(bench: Bench) -> None:
    bench.send({"id": "patient"})

    async def scenario() -> None:
        async with working(bench):
            await until(lambda: bench.waiting(bench.url) == 0)

    run(scenario)
    assert bench.count() == Counter({"patient": 1})


def test_event_is_what_lambda_makes_of_messages() -> None:
    message = {
        "MessageId": "m", "ReceiptHandle": "r", "Body": "b", "MD5OfBody": "5",
        "Attributes": {"ApproximateReceiveCount": "1"},
        "MessageAttributes": {"request_id": {"DataType": "String", "StringValue": "q"}},
    }  # fmt: skip
    (record,) = event_of([message], "arn:queue")["Records"]
    assert record == {
        "messageId": "m", "receiptHandle": "r", "body": "b", "md5OfBody": "5",
        "attributes": {"ApproximateReceiveCount": "1"},
        "messageAttributes": {
            "request_id": {
                "dataType": "String", "stringValue": "q", "stringListValues": [], "binaryListValues": [],
            }
        },
        "eventSource": "aws:sqs", "eventSourceARN": "arn:queue", "awsRegion": "us-east-1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("payload", "failed"),
    [
        ("null", []),
        ("", []),
        ("{}", []),
        ('{"batchItemFailures": null}', []),
        ('{"batchItemFailures": []}', []),
        ('{"batchItemFailures": [{"itemIdentifier": "a"}]}', ["a"]),
        ('{"batchItemFailures": [{"itemIdentifier": ""}]}', ["a", "b"]),
        ('{"batchItemFailures": [{"itemIdentifier": null}]}', ["a", "b"]),
        ('{"batchItemFailures": [{"messageId": "a"}]}', ["a", "b"]),
        ('{"batchItemFailures": [{"itemIdentifier": "a"}, {"itemIdentifier": "x"}]}', ["a", "b"]),
        ('{"batchItemFailures": "a"}', ["a", "b"]),
        ("[]", []),
        ("[1]", ["a", "b"]),
        ("not json", ["a", "b"]),
    ],
)
def test_failures_are_read_from_the_answer_as_lambda_reads_them(payload: str, failed: Sequence[str]) -> None:
    messages = [{"MessageId": "a"}, {"MessageId": "b"}]
    assert failed_of(Outcome(payload.encode()), messages, reports_failures=True) == frozenset(failed)


def test_handler_that_raised_failed_its_whole_batch_and_unread_answers_fail_none() -> None:
    messages = [{"MessageId": "a"}]
    assert failed_of(Outcome(b"{}", failed=True), messages, reports_failures=True) == {"a"}
    assert failed_of(Outcome(b"{}", failed=True), messages, reports_failures=False) == {"a"}
    named = b'{"batchItemFailures": [{"itemIdentifier": "a"}]}'
    assert failed_of(Outcome(named), messages, reports_failures=False) == frozenset()
