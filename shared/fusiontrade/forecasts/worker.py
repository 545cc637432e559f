"""What the forecast worker does with a message: a chunk of a run, or a job.

Always true here: a job ends. What may pass (`Unavailable`) is tried again while deliveries are left; whatever is left
of it then, and every other error, is the job's answer, in words for its owner, and nothing of our insides.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from fusiontrade.cloud.batches import Record, UnreadableMessage
from fusiontrade.errors import FusionTradeError, Unavailable
from fusiontrade.forecasts.chunks import ChunkWorker
from fusiontrade.forecasts.jobs import JobOrder, Jobs
from fusiontrade.forecasts.runs import Chunk

__all__ = ["LAST_TRY", "UNEXPECTED", "JobWork", "Worker"]

LAST_TRY = 2
"""The delivery of a job's message that is its last: somebody waits for the answer, and may ask again."""

UNEXPECTED = "something went wrong on our side; ask again, or tell us the id of the job"

JobWork = Callable[[JobOrder], Mapping[str, Any]]
"""Does a job and returns its result; raises `FusionTradeError` where it comes to nothing."""

logger = logging.getLogger(__name__)


class Worker:
    """Works messages off.

    Parameters
    ----------
    chunks
        Does chunks of runs.
    jobs
        Keeps what jobs came to.
    kinds
        Does the jobs of each kind.
    """

    def __init__(self, chunks: ChunkWorker, jobs: Jobs, kinds: Mapping[str, JobWork]) -> None:
        self._chunks = chunks
        self._jobs = jobs
        self._kinds = kinds

    def __call__(self, record: Record) -> None:
        """Do what the message says; raises where it has to be delivered again, `UnreadableMessage` where it never can.

        Messages are chunks (`Chunk.message`) and jobs (`JobOrder.message`).
        """
        kind = record.body.get("type")
        if kind == "chunk":
            self._chunks.work(_read(Chunk.of, record), deliveries=record.deliveries)
        elif kind == "job":
            self._job(_read(JobOrder.of, record), is_last=record.deliveries >= LAST_TRY)
        else:
            raise UnreadableMessage(f"the message {record.id} is neither a chunk nor a job")

    def _job(self, order: JobOrder, *, is_last: bool) -> None:
        work = self._kinds.get(order.kind)
        if work is None:
            raise UnreadableMessage(f"there is no job of the kind {order.kind!r}")
        if not self._jobs.begin(order):
            return
        try:
            self._jobs.succeed(order.id, work(order))
        except Unavailable as error:
            if not is_last:
                raise
            self._jobs.fail(order.id, str(error))
        except FusionTradeError as error:
            self._jobs.fail(order.id, str(error))
        except Exception:
            logger.exception("the job %s failed", order.id)
            self._jobs.fail(order.id, UNEXPECTED)


def _read(read: Callable[[Mapping[str, Any]], Any], record: Record) -> Any:
    try:
        return read(record.body)
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableMessage(f"the message {record.id} lacks what it needs: {error!r}") from error
