"""The answer to a request for work that nobody waits for: a job, and a message to whoever does it.

Always true here: the message goes first and carries all that the job is made from, so a crash between the two loses
nothing: the worker makes the job where the request did not. A repeated request orders the same job, which is done once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from starlette.responses import Response

from fusiontrade.cloud.tables import ConditionFailed
from fusiontrade.forecasts.jobs import JobOrder, Jobs, job_of
from fusiontrade.web.framework import Request

if TYPE_CHECKING:
    from fusiontrade.web.answering.idempotency import Claimed

__all__ = ["Outlet", "accepted"]


class Outlet(Protocol):
    """The part of `fusiontrade.cloud.queues.Queue` that is needed here."""

    def send(self, body: Mapping[str, Any], *, request_id: str | None = None) -> None:
        """Send one message; raises `StateUnavailable`."""
        ...


def accepted(order: JobOrder, *, jobs: Jobs, queue: Outlet, once: Claimed, request: Request) -> Response:
    """Send the order, make its job and return it as a 202 that says where to look for it.

    ``order`` has the id ``once.id("job")``. Raises `StateUnavailable` where queue or database do not answer.
    """
    queue.send(order.message(), request_id=request.scope.get("fusiontrade.request_id"))
    where = {"Location": f"/api/v1/ml/jobs/{order.id}"}
    try:
        return once.done(job_of(order), status=202, headers=where, writes=[jobs.placed(order)])
    except ConditionFailed:  # the worker was quicker, or an earlier try of the same request made it
        return once.done(jobs.create(order), status=202, headers=where)
