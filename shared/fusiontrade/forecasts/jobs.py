"""Jobs: work that a user asked for and does not wait for, one document each in the table of models.

===================  ======  =========================================================================================
pk                   sk      attributes
===================  ======  =========================================================================================
``JOB#<id>``         JOB     owner, kind, request, status, progress, result, error, created_at, finished_at (ms),
                             expires_at (s)
===================  ======  =========================================================================================

Always true here: whoever comes first makes the job, the one that takes the order or the worker that its message
reached sooner; both make the same. A status only moves forward (QUEUED, RUNNING, then SUCCEEDED or FAILED for good),
each move a conditional write, so of two workers with one job one finishes it. A job is its owner's: to anybody else
there is no such thing.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fusiontrade.clock import Clock, iso
from fusiontrade.cloud.tables import Condition, ConditionFailed, Key, Placed, Put, Table, Update
from fusiontrade.cloud.values import Item
from fusiontrade.errors import NotFound

__all__ = ["Job", "JobOrder", "Jobs", "job_of"]

DAYS_KEPT = 7
_MOST_ERROR = 500

_IS_NEW = Condition("attribute_not_exists(#pk)")
_UNFINISHED = Condition("#status IN (:queued, :running)", {"queued": "QUEUED", "running": "RUNNING"})

Instant = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


class Job(BaseModel):
    """Work that was taken on, and how far it is."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "id": "5f0c6d3a4b1e4f7a9c2d8e6b7a1f0c3d",
                    "kind": "predict",
                    "status": "QUEUED",
                    "progress": 0.0,
                    "step": None,
                    "result": None,
                    "error": None,
                    "created_at": "2025-07-31T12:00:03Z",
                    "finished_at": None,
                }
            ]
        },
    )

    id: str
    kind: str
    status: Literal["QUEUED", "RUNNING", "SUCCEEDED", "FAILED"]
    progress: Annotated[float, Field(ge=0, le=1)]
    step: Annotated[str | None, Field(description="What it is doing, in words; null where there is one step.")] = None
    result: dict[str, Any] | None
    error: str | None
    created_at: Instant
    finished_at: Instant | None


@dataclass(frozen=True)
class JobOrder:
    """What is to be done, for whom: all that a worker needs, so that its message is enough to make the job from.

    Parameters
    ----------
    id
        Derived from the request that asks, so that a repeated one asks for the same job.
    owner
        The user's id.
    kind
        Names the work: ``predict``, ``verify``.
    request
        What was asked for; JSON values.
    created_at
        When, ms since 1970-01-01 UTC.
    """

    id: str
    owner: str
    kind: str
    request: Mapping[str, Any]
    created_at: int

    def message(self) -> dict[str, Any]:
        """Return the body of the queue's message."""
        return {"type": "job", **asdict(self)}

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> JobOrder:
        """Return the order in a message's body; raises `KeyError`, `TypeError` or `ValueError` where there is none."""
        return cls(
            str(message["id"]),
            str(message["owner"]),
            str(message["kind"]),
            dict(message["request"]),
            int(message["created_at"]),
        )


def job_of(order: JobOrder) -> Job:
    """Return the job that an order makes."""
    return _job(_document(order))


class Jobs:
    """The jobs in one table."""

    def __init__(self, table: Table, clock: Clock) -> None:
        self._table = table
        self._clock = clock

    def order(self, owner: str, kind: str, request: Mapping[str, Any], *, identity: str | None = None) -> JobOrder:
        """Return an order of now, under a new id where ``identity`` is None. Nothing is written yet."""
        return JobOrder(identity or uuid.uuid4().hex, owner, kind, request, self._clock())

    def placed(self, order: JobOrder) -> Placed:
        """Return the write that makes the job where there is none, for a transaction with other writes."""
        return self._table.placed(Put(_document(order), _IS_NEW))

    def create(self, order: JobOrder) -> Job:
        """Make the job and return it, or the one that stands there already; raises `StateUnavailable`."""
        try:
            self._table.put(_document(order), condition=_IS_NEW)
        except ConditionFailed as there:
            if there.item is not None:
                return _job(there.item)
        return job_of(order)

    def begin(self, order: JobOrder) -> bool:
        """Make the job where it is not there yet and say that it runs; False where it is finished already.

        A job that runs is begun again: its worker may have died. Raises `StateUnavailable`.
        """
        self.create(order)
        try:
            self._table.update(Update(_key(order.id), assign={"status": "RUNNING"}, condition=_UNFINISHED))
        except ConditionFailed:
            return False
        return True

    def advance(self, identity: str, progress: float, step: str | None = None) -> None:
        """Say how far a running job is, 0 to 1, and what it does; one that is further, or finished, stays as it is."""
        further = Condition("#status = :running AND #progress <= :set_progress", {"running": "RUNNING"})
        changed = {"progress": progress, "step": step}
        try:
            self._table.update(Update(_key(identity), assign=changed, condition=further))
        except ConditionFailed:
            return

    def succeed(self, identity: str, result: Mapping[str, Any]) -> bool:
        """Finish a job with what came of it; False where it was finished already."""
        return self._finish(identity, status="SUCCEEDED", progress=1, result=dict(result))

    def fail(self, identity: str, error: str) -> bool:
        """Finish a job that came to nothing, in words for its owner; False where it was finished already."""
        return self._finish(identity, status="FAILED", error=error[:_MOST_ERROR])

    def of(self, identity: str, owner: str) -> Job:
        """Return a job of ``owner``.

        Raises
        ------
        NotFound
            If there is none of that id, it is somebody else's, or it was too long ago.
        StateUnavailable
            If the database does not answer.
        """
        item = self._table.get(_key(identity))
        if item is None or item["owner"] != owner or item["expires_at"] * 1000 <= self._clock():
            raise NotFound(f"you have no such job; jobs are kept for {DAYS_KEPT} days")
        return _job(item)

    def owned(self, identity: str, owner: str) -> bool:
        """Tell whether there is a job of that id, and it is ``owner``'s; raises `StateUnavailable`."""
        item = self._table.get(_key(identity))
        return item is not None and item["owner"] == owner

    def _finish(self, identity: str, **changed: Any) -> bool:
        change = Update(_key(identity), assign={**changed, "finished_at": self._clock()}, condition=_UNFINISHED)
        try:
            self._table.update(change)
        except ConditionFailed:
            return False
        return True


def _key(identity: str) -> Key:
    return {"pk": f"JOB#{identity}", "sk": "JOB"}


def _document(order: JobOrder) -> Item:
    return {
        **_key(order.id),
        "owner": order.owner,
        "kind": order.kind,
        "request": dict(order.request),
        "status": "QUEUED",
        "progress": 0,
        "result": None,
        "error": None,
        "created_at": order.created_at,
        "finished_at": None,
        "expires_at": order.created_at // 1000 + DAYS_KEPT * 86_400,
    }


def _job(item: Item) -> Job:
    finished_at = item["finished_at"]
    return Job(
        id=item["pk"].partition("#")[2],
        kind=item["kind"],
        status=item["status"],
        progress=float(item["progress"]),
        step=item.get("step") if finished_at is None else None,
        result=_plain(item["result"]),
        error=item["error"],
        created_at=iso(item["created_at"]),
        finished_at=None if finished_at is None else iso(finished_at),
    )


def _plain(value: Any) -> Any:
    """Return a stored value with JSON's numbers instead of decimals."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value
