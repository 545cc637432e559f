"""Messages to one SQS queue: JSON objects that carry the id of the request they come from.

Always true here: when a call returns, the queue has every message; when it raises, it says how many it does not have,
and the others may be there already, so what reads them must not mind a message twice. A message's text is
``{"request_id": ..., "body": {...}}``; `fusiontrade.cloud.batches` reads it.
"""

from __future__ import annotations

import json
import logging
import math
import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fusiontrade.cloud.failures import state_errors
from fusiontrade.cloud.session import client
from fusiontrade.errors import StateUnavailable

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef

__all__ = ["MOST_BYTES", "Queue", "text_of"]

MOST_BYTES = 256 * 1024
"""Of one message, and of all messages of one call to SQS together."""

_MOST_MESSAGES = 10
_TRIES = 4
_FIRST_WAIT_SECONDS = 0.1

logger = logging.getLogger(__name__)


def text_of(body: Mapping[str, Any], request_id: str) -> str:
    """Return a message's text.

    Raises
    ------
    ValueError
        If it would be longer than `MOST_BYTES`, or holds a number that is not finite.
    """
    text = json.dumps({"request_id": request_id, "body": body}, separators=(",", ":"), allow_nan=False)
    if len(text) > MOST_BYTES:
        raise ValueError(f"a message of {len(text)} bytes does not fit a queue: at most {MOST_BYTES}; send a reference")
    return text


class Queue:
    """The queue at ``url``; ``sleep`` waits between tries."""

    def __init__(self, url: str, *, sleep: Callable[[float], object] = time.sleep) -> None:
        self._url = url
        self._sleep = sleep

    def send(self, body: Mapping[str, Any], *, request_id: str | None = None, delay_seconds: int = 0) -> None:
        """Send one message, to be seen after ``delay_seconds`` (at most 900).

        Parameters
        ----------
        body : mapping
            JSON values.
        request_id : str, optional
            Of the request that sends it; a new one is made where there is none.

        Raises
        ------
        StateUnavailable
            If the queue does not take it.
        """
        text = text_of(body, request_id or uuid.uuid4().hex)
        sqs: SQSClient = client("sqs")
        with state_errors("the queue"):
            sqs.send_message(QueueUrl=self._url, MessageBody=text, DelaySeconds=delay_seconds)

    def show_again(self, receipt: str, seconds: float) -> None:
        """Have a message that was received, and is not deleted until then, shown again ``seconds`` from now.

        Raises
        ------
        StateUnavailable
            If the queue does not answer, or the receipt is of an earlier delivery.
        """
        sqs: SQSClient = client("sqs")
        with state_errors("the queue"):
            sqs.change_message_visibility(
                QueueUrl=self._url, ReceiptHandle=receipt, VisibilityTimeout=max(1, math.ceil(seconds))
            )

    def send_many(self, bodies: Sequence[Mapping[str, Any]], *, request_id: str | None = None) -> None:
        """Send messages, ten a call; those that the queue does not take are tried again, and no others.

        Raises
        ------
        StateUnavailable
            If some are not taken after all tries; the message says how many of how many.
        """
        request_id = request_id or uuid.uuid4().hex
        texts = [text_of(body, request_id) for body in bodies]
        sent = 0
        for group in _groups(texts):
            try:
                self._send_group(group)
            except _Untaken as untaken:
                sent += len(group) - untaken.count
                raise StateUnavailable(
                    f"the queue did not take {len(texts) - sent} of {len(texts)} messages: {untaken.reason}",
                    retry_after=5,
                ) from untaken
            sent += len(group)

    def _send_group(self, texts: Sequence[str]) -> None:
        left = list(enumerate(texts))
        for turn in range(_TRIES):
            if turn:
                self._sleep(_FIRST_WAIT_SECONDS * 2**turn * random.uniform(0.5, 1.0))  # noqa: S311 - not a secret
            refused = self._sent_once(left)
            left = [(index, text) for index, text in left if str(index) in refused]
            if not left:
                return
            logger.warning("the queue did not take %d messages: %s", len(left), sorted(set(refused.values())))
        raise _Untaken(len(left), ", ".join(sorted(set(refused.values()))))

    def _sent_once(self, entries: Sequence[tuple[int, str]]) -> dict[str, str]:
        """Send and return why which were not taken, by index; a call that fails took none as far as is known."""
        made: list[SendMessageBatchRequestEntryTypeDef] = [
            {"Id": str(index), "MessageBody": text} for index, text in entries
        ]
        sqs: SQSClient = client("sqs")
        try:
            with state_errors("the queue"):
                answer = sqs.send_message_batch(QueueUrl=self._url, Entries=made)
        except StateUnavailable as error:
            return {entry["Id"]: str(error) for entry in made}
        taken = {each["Id"] for each in answer.get("Successful", [])}
        why = {each["Id"]: each.get("Code", "") for each in answer.get("Failed", [])}
        return {entry["Id"]: why.get(entry["Id"], "no answer") for entry in made if entry["Id"] not in taken}


class _Untaken(Exception):
    def __init__(self, count: int, reason: str) -> None:
        super().__init__(reason)
        self.count = count
        self.reason = reason


def _groups(texts: Sequence[str]) -> Iterator[list[str]]:
    """Give the texts in order, as many at once as one call may carry."""
    group: list[str] = []
    size = 0
    for text in texts:
        if group and (len(group) == _MOST_MESSAGES or size + len(text) > MOST_BYTES):
            yield group
            group, size = [], 0
        group.append(text)
        size += len(text)
    if group:
        yield group
