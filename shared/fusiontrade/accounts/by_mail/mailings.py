"""Mails that answer a stranger's request: one for every address, so that nothing tells who has an account.

Always true here: a request counts once, sends one message and writes as many items in one transaction, whatever the
address; where there is nobody to write to, the items are decoys that expire and the message is one that the worker
drops. An address gets a few mails of one occasion in an hour and no more; what is above that is answered alike. Each
network address that asks has a share of them, and a device that signed in before has one of its own beside them, so
that no stranger uses up what the owner may ask for.
The message goes first and what it is about is written then: what fails in between is asked for again and sends the
same code again, where the request has an idempotency key; the other order could lose the mail.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Literal

from fusiontrade.accounts.admission.sessions import Device
from fusiontrade.accounts.credentials.attempts import counter_of
from fusiontrade.accounts.credentials.known_devices import KnownDevices
from fusiontrade.accounts.profiles import normal_email
from fusiontrade.clock import Clock
from fusiontrade.cloud.tables import Condition, ConditionFailed, Put, Table, Update
from fusiontrade.derivation import Derivation
from fusiontrade.mails.outbound import Mail, Outbound

__all__ = ["MOST_FROM_ONE", "MOST_MAILS", "WINDOW_SECONDS", "Mailings", "Occasion"]

Occasion = Literal["register", "resend", "forgot"]
MOST_MAILS = 12
"""To one address on one occasion in one window, whichever strangers ask."""

MOST_FROM_ONE = 4
"""Of them, those that one network address asks for; or beside them, those that known devices do."""

WINDOW_SECONDS = 3600
_DECOY_SECONDS = 60


class Mailings:
    """Counts and sends mails for one Accounts table and one mail queue."""

    def __init__(self, table: Table, derivation: Derivation, outbound: Outbound, clock: Clock) -> None:
        self._table = table
        self._outbound = outbound
        self._clock = clock
        self._known_devices = KnownDevices(derivation, clock)

    def may_send(self, occasion: Occasion, email: str, asker: Device) -> bool:
        """Count one mail to an address and return whether it may go; ``asker`` is who asks for it."""
        address, window = normal_email(email), self._clock() // 1000 // WINDOW_SECONDS
        known = self._known_devices.known(address, asker.token)
        share = _share_of(asker) if known is None else f"known{counter_of(known)}"
        room = f"(attribute_not_exists(#{share}) OR #{share} < :share)"
        values = {"share": MOST_FROM_ONE}
        if known is None:
            room = f"{room} AND (attribute_not_exists(#sent) OR #sent < :most)"
            values["most"] = MOST_MAILS
        counted = Update(
            {"pk": f"MAILS#{address}", "sk": f"{occasion}#{window}"},
            assign={"expires_at": (window + 1) * WINDOW_SECONDS},
            add={share: 1} if known else {share: 1, "sent": 1},
            condition=Condition(room, values),
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


def _share_of(asker: Device) -> str:
    return f"from_{hashlib.sha256(asker.address.encode()).hexdigest()[:16]}"
