"""Mails that are owed: written in the transaction of what they tell of, and sent once it happened.

Layout: (``OUTBOX``, ``<at, ms>#<random>``) with ``mail`` (its parts) and ``request_id``.

Always true here: a mail is owed exactly if the change was made, because both are one transaction; what is owed is
removed only after the queue took it. Who made the change sends at once; what a killed process or a queue that was away
left behind is sent by `Outbox.relay`, which a schedule calls. So a mail goes out at least once, and one that goes out
twice is the same mail.
"""

from __future__ import annotations

import logging
import secrets

from fusiontrade.clock import Clock
from fusiontrade.cloud.tables import Condition, Put, Table
from fusiontrade.cloud.values import Item
from fusiontrade.errors import Unavailable
from fusiontrade.mails.outbound import BadMail, Mail, Outbound

__all__ = ["AT_ONCE", "LEFT_SECONDS", "Outbox"]

LEFT_SECONDS = 60
"""What was written so long ago, its own request does not send any more."""

_PARTITION = "OUTBOX"
AT_ONCE = 100

logger = logging.getLogger(__name__)


class Outbox:
    """The mails owed on one Accounts table."""

    def __init__(self, table: Table, outbound: Outbound, clock: Clock) -> None:
        self._table = table
        self._outbound = outbound
        self._clock = clock

    def owed(self, mail: Mail, *, request_id: str | None = None) -> Put:
        """Return the write that owes ``mail``, for the transaction of what it tells of."""
        parts = {name: value for name, value in mail.to_body().items() if value is not None}
        item: Item = {"pk": _PARTITION, "sk": f"{self._clock():013d}#{secrets.token_hex(8)}", "mail": parts}
        return Put(item if request_id is None else {**item, "request_id": request_id})

    def send(self, owed: Put) -> None:
        """Send a mail that is owed by now; where that fails, `relay` will."""
        try:
            self._send(owed.item)
        except Unavailable:
            logger.exception("a mail is owed and was not queued; the schedule sends it")

    def relay(self) -> int:
        """Send what was left behind, `AT_ONCE` mails at most, and return how many; raises `StateUnavailable`.

        What this release cannot read (a later one wrote it and was rolled back) stays and keeps no other from going.
        """
        left = Condition(
            "pk = :pk AND sk < :before",
            {"pk": _PARTITION, "before": f"{self._clock() - LEFT_SECONDS * 1000:013d}"},
        )
        sent, start = 0, None
        while True:
            page = self._table.query(left, limit=AT_ONCE, start=start)
            for item in page.items:
                sent += self._sent(item)
                if sent == AT_ONCE:
                    return sent
            start = page.next_key
            if start is None:
                return sent

    def _sent(self, item: Item) -> bool:
        try:
            self._send(item)
        except (BadMail, KeyError, TypeError):
            logger.exception("the owed mail %s cannot be read and stays", item["sk"])
            return False
        return True

    def _send(self, item: Item) -> None:
        mail = Mail.from_body({"code": None, **item["mail"]})
        self._outbound.send(mail, request_id=item.get("request_id"))
        self._table.delete({"pk": item["pk"], "sk": item["sk"]})
