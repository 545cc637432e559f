"""Jobs that take longer than a function may: done in turns, each a message that the turn before has sent.

Always true here: a message names its turn, and a turn that was passed is not done again; the next turn's message goes
before the record of it, so a worker that dies in between is made up for by the delivery of its own message. A job that
is finished takes no turn.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from fusiontrade.cloud.batches import Record, UnreadableMessage
from fusiontrade.cloud.tables import Condition, ConditionFailed, Key, Table, Update
from fusiontrade.cloud.values import Item
from fusiontrade.errors import FusionTradeError, NotFound, StateUnavailable, Unavailable
from fusiontrade.forecasts.jobs import Job, JobOrder, Jobs

__all__ = ["CANCELLED", "Again", "Done", "Outlet", "TurnWorker", "Turns", "Work"]

CANCELLED = "it was cancelled"
UNEXPECTED = "something went wrong on our side; ask again, or tell us the id of the job"
AWAY = "what this needs did not answer for an hour; ask again later"
_PATIENCE = 3_600_000
"""Ms for which what may pass is tried again before a job has made any progress, and after."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Again:
    """The job goes on: look again after ``seconds``.

    ``progress`` is 0 to 1 and ``step`` what is done, in words; ``kept`` is for the next turn.
    """

    seconds: int
    progress: float = 0.0
    kept: Mapping[str, Any] | None = None
    step: str | None = None


@dataclass(frozen=True)
class Done:
    """The job came to ``result``."""

    result: Mapping[str, Any]


class Work(Protocol):
    """Does jobs of one kind."""

    def turn(self, order: JobOrder, kept: Mapping[str, Any], *, cancelled: bool) -> Again | Done:
        """Do what can be done now; raises `FusionTradeError` where the job comes to nothing."""
        ...

    def abandon(self, order: JobOrder, kept: Mapping[str, Any]) -> None:
        """Let go of what the job holds: it has failed."""
        ...


class Outlet(Protocol):
    """The part of `fusiontrade.cloud.queues.Queue` that is needed here."""

    def send(self, body: Mapping[str, Any], *, request_id: str | None = None, delay_seconds: int = 0) -> None:
        """Send one message; raises `StateUnavailable`."""
        ...


class Turns:
    """What is written of a job's turns, beside the job itself."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def item(self, identity: str) -> Item | None:
        """Return the job's document, None where there is none."""
        return self._table.get(_key(identity))

    def passed(self, identity: str, turn: int, kept: Mapping[str, Any] | None) -> None:
        """Write down that ``turn`` was done and what the next one needs."""
        assign: dict[str, Any] = {"turn": turn + 1} | ({} if kept is None else {"kept": dict(kept)})
        held = Condition("attribute_not_exists(#turn) OR #turn <= :last", {"last": turn})
        try:
            self._table.update(Update(_key(identity), assign=assign, condition=held))
        except ConditionFailed:
            return

    def keep(self, identity: str, kept: Mapping[str, Any]) -> None:
        """Write down what later turns need, before the turn is over."""
        self._table.update(Update(_key(identity), assign={"kept": dict(kept)}))

    def cancel(self, jobs: Jobs, identity: str, owner: str) -> Job:
        """Ask a job of ``owner`` to end; one that is finished stays as it is; raises `NotFound`, `StateUnavailable`."""
        job = jobs.of(identity, owner)
        if job.status in ("SUCCEEDED", "FAILED"):
            return job
        there = Condition("attribute_exists(#pk)")
        try:
            self._table.update(Update(_key(identity), assign={"cancelled": True}, condition=there))
        except ConditionFailed:
            raise NotFound("you have no such job") from None
        return jobs.of(identity, owner)


class TurnWorker:
    """Works messages off.

    Parameters
    ----------
    jobs, turns
        Where jobs are written.
    queue
        Takes the message of the next turn.
    kinds
        Does the jobs of each kind.
    clock
        The present, ms.
    """

    def __init__(
        self, jobs: Jobs, turns: Turns, queue: Outlet, kinds: Mapping[str, Work], clock: Callable[[], int]
    ) -> None:
        self._jobs, self._turns, self._queue, self._kinds, self._clock = jobs, turns, queue, kinds, clock

    def __call__(self, record: Record) -> None:
        """Do one turn of a job; raises where the message has to be delivered again."""
        order, turn = _read(record)
        work = self._kinds.get(order.kind)
        if work is None:
            raise UnreadableMessage(f"there is no job of the kind {order.kind!r}")
        if not self._jobs.begin(order):
            return
        item = self._turns.item(order.id) or {}
        if int(item.get("turn", 0)) > turn:
            return
        kept = dict(item.get("kept") or {})
        step = self._step(work, order, kept, cancelled=bool(item.get("cancelled")))
        if isinstance(step, Done):
            self._jobs.succeed(order.id, step.result)
        elif isinstance(step, Again):
            if step.progress > 0:
                self._jobs.advance(order.id, step.progress, step.step)
            message = {**order.message(), "turn": turn + 1}
            self._queue.send(message, request_id=record.request_id, delay_seconds=step.seconds)
            self._turns.passed(order.id, turn, step.kept)

    def _step(self, work: Work, order: JobOrder, kept: Mapping[str, Any], *, cancelled: bool) -> Again | Done | None:
        """Return what a turn came to; None where the job has failed."""
        try:
            return work.turn(order, kept, cancelled=cancelled)
        except Unavailable as error:
            if self._clock() - order.created_at < _PATIENCE or kept.get("begun"):
                logger.warning("the job %s waits: %s", order.id, error)
                return Again(min(900, max(5, error.retry_after)))
            reason = AWAY if isinstance(error, StateUnavailable) else str(error)
        except FusionTradeError as error:
            reason = str(error)
        except Exception:
            logger.exception("the job %s failed", order.id)
            reason = UNEXPECTED
        item = self._turns.item(order.id) or {}
        work.abandon(order, dict(item.get("kept") or kept))
        self._jobs.fail(order.id, reason)
        return None


def _key(identity: str) -> Key:
    return {"pk": f"JOB#{identity}", "sk": "JOB"}


def _read(record: Record) -> tuple[JobOrder, int]:
    try:
        if record.body.get("type") != "job":
            raise ValueError("it is no job")
        return JobOrder.of(record.body), int(record.body.get("turn", 0))
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableMessage(f"the message {record.id} lacks what it needs: {error!r}") from error
