"""EventBridge Scheduler and Lambda's asynchronous invocation: schedules fire, failed runs are repeated, then kept.

Always true here: a schedule fires once for each of its moments that passes while the stack runs (a moment that passed
while the machine slept fires when it wakes, several of them once); a run that fails is repeated after a minute and
after two more, as on Lambda, and then lies in the function's dead letters with its event.

The source: https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from infra.local.functions import Pool, Say
from infra.local.slots import Outcome
from infra.local.sources import Timer
from infra.local.template import ACCOUNT, REGION

__all__ = ["PAUSES", "TimerWorker", "payload_of"]

PAUSES = (60.0, 120.0)


def now() -> datetime:
    """Return the present, aware."""
    return datetime.now(UTC)


class TimerWorker:
    """Fires one schedule.

    Parameters
    ----------
    timer : Timer
        The schedule.
    pool : Pool
        The function.
    sqs : botocore client
        Where the dead letters live.
    log, say : callable
        Take a line for the log; take something a person should see.
    clock : callable
        Returns the present, aware.
    pauses : sequence of float
        Seconds before each repetition.
    longest_sleep : float
        Seconds after which the clock is looked at again: on a machine that was asleep it is ahead of a sleep's count.
    """

    def __init__(
        self,
        timer: Timer,
        pool: Pool,
        sqs: Any,
        log: Callable[[str], None],
        say: Say,
        *,
        clock: Callable[[], datetime] = now,
        pauses: Sequence[float] = PAUSES,
        longest_sleep: float = 20.0,
    ) -> None:
        self.timer = timer
        self._pool, self._sqs, self._log, self._say, self._clock = pool, sqs, log, say, clock
        self._pauses, self._longest_sleep = pauses, longest_sleep
        self._runs: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Fire at each moment until cancelled; the runs themselves do not delay the next moment."""
        while (moment := self.timer.when.after(self._clock())) is not None:
            while (wait := (moment - self._clock()).total_seconds()) > 0:
                await asyncio.sleep(min(wait, self._longest_sleep))
            run = asyncio.create_task(self.fire(moment))
            self._runs.add(run)
            run.add_done_callback(self._runs.discard)

    async def fire(self, moment: datetime) -> None:
        """Run the handler for one moment; repeat what fails, keep what fails every time."""
        payload = payload_of(self.timer, moment)
        pauses = [*self._pauses, *[self._pauses[-1]] * self.timer.retries][: self.timer.retries]
        for number, pause in enumerate([*pauses, None], start=1):
            outcome = await self._pool.invoke(payload)
            title = self._pool.function.title
            if not outcome.failed:
                self._log(f"{self.timer.name} of {moment:%H:%M} done ({title})")
                return
            self._log(f"{self.timer.name} of {moment:%H:%M} failed, attempt {number}: {outcome.reason} ({title})")
            if pause is not None:
                await asyncio.sleep(pause)
        self._say(title, f"{self.timer.name} of {moment:%H:%M} failed {number} times: {outcome.reason}")
        if self.timer.dead_letters:
            await asyncio.to_thread(self._keep, payload, outcome, number)

    def _keep(self, payload: bytes, outcome: Outcome, attempts: int) -> None:
        """Write Lambda's record of an event that was given up."""
        function = self._pool.function.name
        record = {
            "version": "1.0",
            "timestamp": f"{self._clock():%Y-%m-%dT%H:%M:%S.000Z}",
            "requestContext": {
                "requestId": str(uuid.uuid4()),
                "functionArn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{function}:live",
                "condition": "RetriesExhausted",
                "approximateInvokeCount": attempts,
            },
            "requestPayload": json.loads(payload),
            "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
            "responsePayload": json.loads(outcome.payload),
        }
        self._sqs.send_message(QueueUrl=self.timer.dead_letters, MessageBody=json.dumps(record))


def payload_of(timer: Timer, moment: datetime) -> bytes:
    """Return the event of one firing: the schedule's input with Scheduler's context attributes filled in."""
    known = {
        "<aws.scheduler.scheduled-time>": f"{moment:%Y-%m-%dT%H:%M:%SZ}",
        "<aws.scheduler.execution-id>": str(uuid.uuid4()),
        "<aws.scheduler.attempt-number>": "1",
        "<aws.scheduler.schedule-arn>": f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule/default/{timer.name}",
    }
    text = timer.payload
    for name, value in known.items():
        text = text.replace(name, value)
    return text.encode()
