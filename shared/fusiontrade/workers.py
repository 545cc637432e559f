"""The handler of a queue's function: structured log lines with each message's request id, and partial batch answers.

A worker's ``app.py`` reads::

    settings = Settings.from_environment(os.environ)
    handler = queue_handler("mail", settings, work)

where ``work(record)`` raises if the record has to be delivered again. FastAPI is not imported.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from fusiontrade.cloud.batches import SECONDS_TO_SPARE, BatchAnswer, Record, work_through
from fusiontrade.cloud.queues import Queue
from fusiontrade.errors import FusionTradeError
from fusiontrade.logs import logger_of, take_over
from fusiontrade.settings import Settings

__all__ = ["QueueHandler", "queue_handler"]

_SECONDS_TO_DIE = 5.0
"""Between the end of a function's time and the end of its process."""

QueueHandler = Callable[[dict[str, Any], Any], BatchAnswer]


def queue_handler(
    service: str,
    settings: Settings,
    work: Callable[[Record], object],
    *,
    seconds_for_one: float = SECONDS_TO_SPARE,
    again: str = "",
) -> QueueHandler:
    """Return the handler of the function ``service``, which does ``work`` on each record of a batch.

    A record is begun only while ``seconds_for_one`` of the function's time are left: a function that is ended in the
    middle has its whole batch delivered again, what was done included.

    Parameters
    ----------
    again
        The queue's URL, where a message whose worker dies shall come again as soon as the function's time is over: a
        queue hides messages six times longer, for batches that wait for a worker.
    """
    logger = logger_of(service, settings.log_level)

    def begin(record: Record) -> None:
        logger.append_keys(request_id=record.request_id, message_id=record.id, deliveries=record.deliveries)

    def handler(event: dict[str, Any], context: Any) -> BatchAnswer:
        take_over(logger, settings.log_level)
        if again:
            _hide(again, event, context.get_remaining_time_in_millis() / 1000)
        try:
            return work_through(
                event,
                work,
                seconds_left=lambda: context.get_remaining_time_in_millis() / 1000,
                seconds_for_one=seconds_for_one,
                begin=begin,
            )
        finally:
            logger.remove_keys(["request_id", "message_id", "deliveries"])

    return handler


def _hide(url: str, event: Mapping[str, Any], seconds: float) -> None:
    """Hide the messages of a batch no longer than its worker may live, twice as long at each further delivery.

    So a worker that dies costs little, and a database that is away for an hour does not use all deliveries up. Where
    this fails the queue's own time holds.
    """
    queue = Queue(url)
    for delivered in event.get("Records", ()):
        times = int(delivered.get("attributes", {}).get("ApproximateReceiveCount", 1))
        try:
            queue.show_again(str(delivered.get("receiptHandle", "")), (seconds + _SECONDS_TO_DIE) * 2 ** (times - 1))
        except FusionTradeError as error:
            logging.getLogger(__name__).warning("the message comes again later than it could: %s", error)
