"""What a queue worker shares with every other: SQS events as records, and which of them to deliver again.

Always true here: one record's failure is that record's alone; a record that was not begun, because the function's time
was nearly over, is delivered again and not lost; a text that nobody can read fails each time, so that it ends in the
dead-letter queue and is seen.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["SECONDS_TO_SPARE", "BatchAnswer", "Record", "UnreadableMessage", "record_of", "work_through"]

SECONDS_TO_SPARE = 2.0
"""What is left of a function's time when no further record is begun."""

BatchAnswer = dict[str, list[dict[str, str]]]

logger = logging.getLogger(__name__)


class UnreadableMessage(Exception):
    """A message that is not what `fusiontrade.cloud.queues` writes, or not what its worker knows."""


@dataclass(frozen=True)
class Record:
    """One message as it was delivered.

    Attributes
    ----------
    id : str
        SQS's own; the same at each delivery.
    body : mapping
        What was sent.
    request_id : str
        Of the request that sent it.
    deliveries : int
        How many times it was delivered, this time included.
    sent_at : int
        When it was sent, ms since 1970-01-01 UTC.
    """

    id: str
    body: Mapping[str, Any]
    request_id: str
    deliveries: int
    sent_at: int


def record_of(delivered: Mapping[str, Any]) -> Record:
    """Return one element of an event's ``Records``; raises `UnreadableMessage`."""
    identity = str(delivered.get("messageId", ""))
    try:
        message = json.loads(delivered["body"])
        body, request_id = message["body"], message["request_id"]
        attributes = delivered.get("attributes", {})
        record = Record(
            identity,
            body,
            request_id,
            int(attributes.get("ApproximateReceiveCount", 1)),
            int(attributes.get("SentTimestamp", 0)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableMessage(f"the message {identity} is not one of ours: {type(error).__name__}") from error
    if not isinstance(body, dict) or not isinstance(request_id, str):
        raise UnreadableMessage(f"the message {identity} is not one of ours: its parts have other types")
    return record


def work_through(
    event: Mapping[str, Any],
    work: Callable[[Record], object],
    *,
    seconds_left: Callable[[], float] = lambda: float("inf"),
    seconds_for_one: float = SECONDS_TO_SPARE,
    begin: Callable[[Record], object] | None = None,
) -> BatchAnswer:
    """Do ``work`` on each record of an SQS event and return Lambda's partial batch response.

    Parameters
    ----------
    event : mapping
        As Lambda hands it to a function of an SQS queue with ``ReportBatchItemFailures``.
    work : callable
        Raises where the record has to be delivered again.
    seconds_left : callable
        What is left of the function's time.
    seconds_for_one : float
        What has to be left for another record to be begun.
    begin : callable, optional
        Told each record before it is worked on: for ids in log lines.
    """
    failed: list[str] = []
    for delivered in event.get("Records", []):
        identity = str(delivered.get("messageId", ""))
        if seconds_left() < seconds_for_one:
            logger.warning("no time left for the message %s; it is delivered again", identity)
            failed.append(identity)
            continue
        try:
            record = record_of(delivered)
            if begin is not None:
                begin(record)
            work(record)
        except Exception:
            logger.exception("the message %s failed", identity)
            failed.append(identity)
    return {"batchItemFailures": [{"itemIdentifier": identity} for identity in failed]}
