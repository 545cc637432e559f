"""Codes that are mailed: single-use, bound to their user and purpose, superseded by newer ones, dead after some tries.

A code has 64 characters: the user's id (32, hexadecimal) and a secret (32, 192 bits, base64url). Its item is the only
one of the user and purpose, so a newer code replaces the older one by being written; it holds the secret's HMAC.

Always true here: a try is counted before the secret is compared; of two parallel redemptions one happens, because the
code is deleted in the transaction that does what it is for, on condition that it is still the same.
"""

from __future__ import annotations

import base64
import hmac
import re
from dataclasses import dataclass
from typing import Literal

from fusiontrade.clock import Clock
from fusiontrade.cloud.tables import Condition, ConditionFailed, Delete, Put, Table, Update
from fusiontrade.derivation import Derivation
from fusiontrade.errors import InvalidInput

__all__ = ["LENGTH", "LIFE_SECONDS", "MOST_TRIES", "Codes", "Purpose", "Redeemed", "bad_code"]

Purpose = Literal["verification", "reset"]
LENGTH = 64
LIFE_SECONDS: dict[Purpose, int] = {"verification": 24 * 3600, "reset": 15 * 60}
MOST_TRIES = 10
_FORM = re.compile(r"([0-9a-f]{32})([A-Za-z0-9_-]{32})")


@dataclass(frozen=True)
class Redeemed:
    """Whose code it was; ``spend`` belongs into the transaction that does what the code is for."""

    user_id: str
    address: str
    spend: Delete


def bad_code() -> InvalidInput:
    """Return the one error for every code that does not work, whatever the reason."""
    return InvalidInput("body/code", "this code is wrong, used, too old or replaced by a newer one; ask for a new one")


class Codes:
    """The codes on the Accounts table."""

    def __init__(self, table: Table, derivation: Derivation, clock: Clock) -> None:
        self._table = table
        self._derivation = derivation
        self._clock = clock

    def fresh(self, user_id: str, address: str, purpose: Purpose, nonce: str) -> tuple[str, Put]:
        """Return a new code and the write that makes it the valid one.

        Parameters
        ----------
        user_id, address : str
            Whose it is, and the user's normal address.
        purpose : str
            What it is for.
        nonce : str
            What nobody else knows and no other request has; the same one gives the same code for the same address.
        """
        derived = self._derivation.mac("code-secret", purpose, user_id, address, nonce)
        secret = base64.urlsafe_b64encode(derived[:24]).decode()
        item = {
            **_key(user_id, purpose),
            "hash": self._hash(user_id, purpose, secret),
            "email": address,
            "tries": 0,
            "expires_at": self._clock() // 1000 + LIFE_SECONDS[purpose],
        }
        return user_id + secret, Put(item)

    def check(self, code: str, purpose: Purpose) -> Redeemed:
        """Count a try and return whose code it is.

        Raises
        ------
        InvalidInput
            If it is no valid code; always in the same words.
        StateUnavailable
            If the database did not answer.
        """
        form = _FORM.fullmatch(code)
        if form is None:
            raise bad_code()
        user_id, secret = form.groups()
        now = self._clock() // 1000
        alive = Condition(
            "attribute_exists(pk) AND #tries < :most AND #expires_at > :now", {"most": MOST_TRIES, "now": now}
        )
        try:
            item = self._table.update(Update(_key(user_id, purpose), add={"tries": 1}, condition=alive))
        except ConditionFailed:
            raise bad_code() from None
        given = self._hash(user_id, purpose, secret)
        if not hmac.compare_digest(item["hash"], given):
            raise bad_code()
        spend = Delete(_key(user_id, purpose), Condition("#hash = :hash", {"hash": given}))
        return Redeemed(user_id, item["email"], spend)

    def forget(self, user_id: str, purpose: Purpose) -> Delete:
        """Return the write that makes a user's code of ``purpose`` worthless."""
        return Delete(_key(user_id, purpose))

    def _hash(self, user_id: str, purpose: Purpose, secret: str) -> str:
        return self._derivation.mac("code", purpose, user_id, secret).hex()


def _key(user_id: str, purpose: Purpose) -> dict[str, str]:
    return {"pk": f"USER#{user_id}", "sk": f"CODE#{purpose}"}
