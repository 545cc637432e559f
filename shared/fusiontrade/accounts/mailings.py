"""Mails that answer a stranger's request: one for every address, so that nothing tells who has an account.

Always true here: a request counts once, sends one message and writes as many items in one transaction, whatever the
address; where there is nobody to write to, the items are decoys that expire and the message is one that the worker
drops. An address gets a few mails of one occasion in an hour and no more; what is above that is answered alike.
The message goes first and what it is about is written then: what fails in between is asked for again and sends the
same code again, where the request has an idempotency key; the other order could lose the mail.
"""

from __future__ import annotations

import secrets
from typing import Literal

from fusiontrade.accounts.profiles import normal_email
from fusiontrade.clock import Clock
from fusiontrade.cloud.tables import Condition, ConditionFailed, Put, Table, Update
from fusiontrade.mails.outbound import Mail, Outbound

__all__ = ["MOST_MAILS", "WINDOW_SECONDS", "Mailings", "Occasion"]

Occasion = Literal["register", "resend", "forgot"]
MOST_MAILS = 5
"""To one address on one occasion in one window."""

WINDOW_SECONDS = 3600
_DECOY_SECONDS = 60


class Mailings:
    """Counts and sends mails for one Accounts table and one mail queue."""

    def __init__(self, table: Table, outbound: Outbound, clock: Clock) -> None:
        self._table = table
        self._outbound = outbound
        self._clock = clock

    def may_send(self, occasion: Occasion, email: str) -> bool:
        """Count one mail to an address and return whether it may go."""
        now = self._clock() // 1000
        window = now // WINDOW_SECONDS
        counted = Update(
            {"pk": f"MAILS#{normal_email(email)}", "sk": f"{occasion}#{window}"},
            assign={"expires_at": (window + 1) * WINDOW_SECONDS},
            add={"sent": 1},
            condition=Condition("attribute_not_exists(#sent) OR #sent < :most", {"most": MOST_MAILS}),
        )
        try:
            self._table.update(counted)
        except ConditionFailed:
            return False
        return True

    def send(self, mail: Mail | None, *, request_id: str | None = None) -> None:
        """Send ``mail``; None sends what goes to nobody and is as long. Raises `StateUnavailable`."""
        self._outbound.send(mail or self._to_nobody(), request_id=request_id)

    def decoy(self) -> Put:
        """Return a write that keeps nothing: it takes the time of a real one and expires."""
        expires_at = self._clock() // 1000 + _DECOY_SECONDS
        return Put({"pk": f"NOBODY#{secrets.token_hex(16)}", "sk": "NOBODY", "expires_at": expires_at})

    def _to_nobody(self) -> Mail:
        return Mail("nobody", "nobody@example.invalid", "", secrets.token_hex(32), self._clock())
