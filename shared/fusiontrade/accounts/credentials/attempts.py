"""Counted attempts: after some wrong ones in a row the next has to wait, and longer each time; nobody is locked out.

An item has a counter for whoever comes (``attempts``, ``attempted_at``) and a few for those whom it knows
(``attempts_0``, ...), so that a stranger's guesses make no known device wait.

Always true here: an attempt is counted in the write that allows it, before the password is looked at, so parallel
guesses cannot pass the limit; the longest wait is five minutes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fusiontrade.cloud.tables import Condition, Key, Update
from fusiontrade.errors import TooManyRequests

__all__ = [
    "DEVICES_AFTER",
    "FREE_ATTEMPTS",
    "OF_THE_KNOWN",
    "PER_ACCOUNT",
    "PER_ADDRESS",
    "STRANGERS",
    "Patience",
    "attempt",
    "counter_of",
    "seconds_to_wait",
    "slow_down",
]

FREE_ATTEMPTS = 5
"""Wrong passwords in a row for one account that cost no waiting."""


@dataclass(frozen=True)
class Patience:
    """How many attempts are ``free``, and the seconds that each one after them has to wait; the last wait holds on."""

    free: int
    waits: tuple[int, ...]


PER_ACCOUNT = Patience(FREE_ATTEMPTS, (2, 5, 15, 30, 60, 120, 300))
PER_ADDRESS = Patience(100, (1, 2, 5, 10, 20, 30))
"""Of one network address in a window: offices share one, so right passwords count and many are free."""


DEVICES_AFTER = "devices_valid_after"
"""The attribute that says up to which second tokens of known devices are no good any more."""

STRANGERS = ""
"""The counter of whoever comes."""

_COUNTERS = 8
OF_THE_KNOWN = tuple(f"{name}_{n}" for n in range(_COUNTERS) for name in ("attempts", "attempted_at"))
"""The attributes of every other counter."""


def counter_of(known: str | None) -> str:
    """Return which counter counts for a device or session that is known by this name, None for a stranger.

    The known ones share a few counters, so an item stays small however many there are.
    """
    if known is None:
        return STRANGERS
    return f"_{hashlib.sha256(known.encode()).digest()[0] % _COUNTERS}"


def seconds_to_wait(attempts: int, since_last: float, patience: Patience = PER_ACCOUNT) -> int:
    """Return the seconds until the next attempt is allowed, 0 where it is now.

    Parameters
    ----------
    attempts : int
        Wrong ones in a row so far.
    since_last : float
        Seconds since the last one.
    patience : Patience
        What is allowed.
    """
    if attempts < patience.free:
        return 0
    wait = patience.waits[min(attempts - patience.free, len(patience.waits) - 1)]
    return max(0, math.ceil(wait - since_last))


def attempt(
    key: Key,
    now: int,
    *,
    counter: str = STRANGERS,
    patience: Patience = PER_ACCOUNT,
    of_account: bool = False,
    made_at: int | None = None,
    expires_at: int | None = None,
) -> Update:
    """Return the update that counts an attempt if one is allowed now; the waits are spelled out as one condition.

    Parameters
    ----------
    key : mapping
        Of the item that counts.
    now : int
        ms since 1970-01-01 UTC.
    counter : str
        Which of the item's counters, of `counter_of`.
    patience : Patience
        What is allowed.
    of_account : bool
        Count only where an account is.
    made_at : int, optional
        Count only where tokens of devices are good that were made at this second.
    expires_at : int, optional
        Second at which the item may be forgotten.
    """
    attempts, attempted_at = f"attempts{counter}", f"attempted_at{counter}"
    values = {"free": patience.free}
    allowed = [f"attribute_not_exists(#{attempts})", f"#{attempts} < :free"]
    for step, wait in enumerate(patience.waits):
        values |= {f"step{step}": patience.free + step, f"until{step}": now - wait * 1000}
        comparison = ">=" if step == len(patience.waits) - 1 else "="
        allowed.append(f"(#{attempts} {comparison} :step{step} AND #{attempted_at} <= :until{step})")
    text = f"({' OR '.join(allowed)})"
    if of_account:
        text = f"attribute_exists(#user_id) AND {text}"
    if made_at is not None:
        text = f"(attribute_not_exists(#{DEVICES_AFTER}) OR #{DEVICES_AFTER} < :made) AND {text}"
        values["made"] = made_at
    assign = {attempted_at: now} if expires_at is None else {attempted_at: now, "expires_at": expires_at}
    return Update(key, assign=assign, add={attempts: 1}, condition=Condition(text, values))


def slow_down(
    item: Mapping[str, Any], now: int, *, counter: str = STRANGERS, patience: Patience = PER_ACCOUNT
) -> TooManyRequests:
    """Return the error that says how long to wait, from the item that counted."""
    since = (now - int(item.get(f"attempted_at{counter}", now))) / 1000
    wait = max(1, seconds_to_wait(int(item.get(f"attempts{counter}", patience.free)), since, patience))
    return TooManyRequests(f"too many attempts to sign in; try again in {wait} s", retry_after=wait)
