"""Lambda's event source mapping of a queue: receives batches, runs the handler, deletes what was done.

Always true here: a message is deleted after the handler has answered and never before, so whatever is killed in
between, it comes again when its visibility has run out; the queue itself counts how often it was received and gives
it up. As on Lambda a message that failed is not shown again any sooner than that, and an answer that names a message
which was not in the batch, or cannot be read, fails the whole batch.

The source: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from infra.local.functions import Pool, Say
from infra.local.slots import Outcome
from infra.local.sources import QueueSource
from infra.local.template import REGION

__all__ = ["QueueWorker", "event_of", "failed_of"]

_AT_ONCE = 10  # messages that SQS hands out or deletes in one call
_LONG_POLL = 1  # seconds; a message handed to the poll of a killed gateway stays hidden for the time-out of its queue
_PAUSE_AFTER_FAILURE = 1.0

Message = Mapping[str, Any]


class QueueWorker:
    """Works off one queue by the slots of its function.

    Parameters
    ----------
    source : QueueSource
        The queue, and how it is worked off.
    pool : Pool
        The function.
    sqs : botocore client
        Where the queue lives; its read time-out exceeds 10 s.
    log, say : callable
        Take a line for the log; take something a person should see.
    """

    def __init__(self, source: QueueSource, pool: Pool, sqs: Any, log: Callable[[str], None], say: Say) -> None:
        self.source = source
        self._pool, self._sqs, self._log, self._say = pool, sqs, log, say
        self._loop = asyncio.get_running_loop()
        self._places = threading.Semaphore(source.limit)
        self._stopped = threading.Event()
        self._batches: set[Future[None]] = set()

    def start(self) -> None:
        """Begin to receive."""
        # a thread of its own, and a daemon: a call that waits for messages must not hold up the end of the process
        threading.Thread(target=self._receive_forever, daemon=True).start()

    async def stop(self, seconds: float) -> None:
        """Receive no more; wait up to ``seconds`` for the batches that are worked on."""
        self._stopped.set()
        running = [asyncio.wrap_future(batch) for batch in tuple(self._batches)]
        if running:
            await asyncio.wait(running, timeout=seconds)

    # --- in the worker's thread -----------------------------------------------------------------------------------

    def _receive_forever(self) -> None:
        is_lost = False
        while True:
            self._places.acquire()
            try:
                messages = self._receive()
            except Exception as error:  # whatever it is: the emulator is away, and comes back
                if not is_lost:
                    self._log(f"{self.source.queue} cannot be read: {error}")
                is_lost, messages = True, []
                time.sleep(_PAUSE_AFTER_FAILURE)
            else:
                is_lost = False
            if self._stopped.is_set():
                return
            if not messages:
                self._places.release()
                continue
            batch = asyncio.run_coroutine_threadsafe(self._work(messages), self._loop)
            self._batches.add(batch)
            batch.add_done_callback(self._done)

    def _receive(self) -> list[Message]:
        """Return up to a batch: what is there, and what comes within the window after the first message."""
        messages = self._receive_once(self.source.batch_size, _LONG_POLL)
        deadline = time.monotonic() + self.source.window_seconds
        while messages and (missing := self.source.batch_size - len(messages)) > 0:
            if (wait := deadline - time.monotonic()) <= 0:
                break
            messages += self._receive_once(missing, min(_LONG_POLL, max(1, round(wait))))
        return messages

    def _receive_once(self, count: int, wait: int) -> list[Message]:
        answer = self._sqs.receive_message(
            QueueUrl=self.source.url,
            MaxNumberOfMessages=min(_AT_ONCE, count),
            WaitTimeSeconds=wait,
            AttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        messages: list[Message] = answer.get("Messages", [])
        return messages

    def _done(self, batch: Future[None]) -> None:
        self._batches.discard(batch)
        self._places.release()
        if not batch.cancelled() and (error := batch.exception()) is not None:
            self._log(f"{self.source.queue}: {error}; the messages come again")

    # --- in the loop's thread -------------------------------------------------------------------------------------

    async def _work(self, messages: Sequence[Message]) -> None:
        started = time.perf_counter()
        event = json.dumps(event_of(messages, self.source.arn)).encode()
        outcome = await self._pool.invoke(event)
        failed = failed_of(outcome, messages, reports_failures=self.source.reports_failures)
        done = [message for message in messages if message["MessageId"] not in failed]
        await asyncio.to_thread(self._delete, done)
        took = (time.perf_counter() - started) * 1000
        told = f", {len(failed)} failed" if failed else ""
        title = self._pool.function.title
        self._log(f"{len(messages)} of {self.source.queue}{told}, {took:.0f} ms ({title})")
        if outcome.failed:
            self._log(f"{title} failed: {outcome.reason}")
        for message in messages:
            if message["MessageId"] in failed and 0 < self.source.attempts <= _received(message):
                self._say(
                    title,
                    f"message {message['MessageId']} of {self.source.queue} failed {_received(message)} times: "
                    "it goes to the dead letters",
                )

    def _delete(self, messages: Sequence[Message]) -> None:
        for first in range(0, len(messages), _AT_ONCE):
            entries = [
                {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
                for number, message in enumerate(messages[first : first + _AT_ONCE])
            ]
            self._sqs.delete_message_batch(QueueUrl=self.source.url, Entries=entries)


def _received(message: Message) -> int:
    return int(message.get("Attributes", {}).get("ApproximateReceiveCount", 1))


def event_of(messages: Sequence[Message], arn: str) -> dict[str, Any]:
    """Return the event that Lambda makes of received messages."""
    return {"Records": [_record(message, arn) for message in messages]}


def _record(message: Message, arn: str) -> dict[str, Any]:
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": dict(message.get("Attributes", {})),
        "messageAttributes": {name: _value(value) for name, value in message.get("MessageAttributes", {}).items()},
        "md5OfBody": message.get("MD5OfBody", ""),
        "eventSource": "aws:sqs",
        "eventSourceARN": arn,
        "awsRegion": REGION,
    }


def _value(attribute: Mapping[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {"dataType": attribute["DataType"], "stringListValues": [], "binaryListValues": []}
    if "StringValue" in attribute:
        told["stringValue"] = attribute["StringValue"]
    return told


def failed_of(outcome: Outcome, messages: Sequence[Message], *, reports_failures: bool) -> frozenset[str]:
    """Return the ids of the messages that must come again, by what the handler answered."""
    everything = frozenset(str(message["MessageId"]) for message in messages)
    if outcome.failed:
        return everything
    if not reports_failures:
        return frozenset()
    try:
        answer = json.loads(outcome.payload or b"null")
        named = [failure["itemIdentifier"] for failure in (answer or {}).get("batchItemFailures") or []]
    except (ValueError, AttributeError, KeyError, TypeError):
        return everything
    return frozenset(named) if everything.issuperset(named) else everything
