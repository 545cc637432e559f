"""The handler of a queue's function: structured log lines with each message's request id, and partial batch answers.

A worker's ``app.py`` reads::

    settings = Settings.from_environment(os.environ)
    handler = queue_handler("mail", settings, work)

where ``work(record)`` raises if the record has to be delivered again. FastAPI is not imported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fusiontrade.cloud.batches import SECONDS_TO_SPARE, BatchAnswer, Record, work_through
from fusiontrade.logs import logger_of, take_over
from fusiontrade.settings import Settings

__all__ = ["QueueHandler", "queue_handler"]

QueueHandler = Callable[[dict[str, Any], Any], BatchAnswer]


def queue_handler(
    service: str, settings: Settings, work: Callable[[Record], object], *, seconds_for_one: float = SECONDS_TO_SPARE
) -> QueueHandler:
    """Return the handler of the function ``service``, which does ``work`` on each record of a batch.

    A record is begun only while ``seconds_for_one`` of the function's time are left: a function that is ended in the
    middle has its whole batch delivered again, what was done included.
    """
    logger = logger_of(service, settings.log_level)

    def begin(record: Record) -> None:
        logger.append_keys(request_id=record.request_id, message_id=record.id, deliveries=record.deliveries)

    def handler(event: dict[str, Any], context: Any) -> BatchAnswer:
        take_over(logger, settings.log_level)
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
