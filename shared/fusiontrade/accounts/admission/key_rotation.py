"""The monthly turn of the signing keys, which signs nobody out.

The secret is ``{"current": kid, "keys": [JWK, ...]}`` and, once it has turned, also ``next`` (the kid that signs after
the next turn), ``turned_at`` (ms) and ``retired`` (kid to ms, keys that sign no more). A turn lets the key that was
published a turn ago sign, keeps the one that signed until then for what it signed, and publishes a fresh one.

Always true here: a key is published for `PUBLISHED_SECONDS` before it signs, longer than any process or client caches
keys; one that signed is kept until every token of it is dead, `DEAD_SECONDS` after it signed its last; a turn that
fires twice, or in two processes at once, is one turn, because a secret that turned less than `FEWEST_SECONDS` ago is
left as it is and the write compares versions.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from joserfc.jwk import ECKey

from fusiontrade.accounts.admission.tokens import SigningKeys, fresh_key
from fusiontrade.clock import Clock
from fusiontrade.cloud.secrets import Secrets
from fusiontrade.errors import Conflict, StateUnavailable

__all__ = ["DEAD_SECONDS", "FEWEST_SECONDS", "PUBLISHED_SECONDS", "Rotation", "rotate", "turned"]

PUBLISHED_SECONDS = 3600
"""Processes read the keys anew after 300 s, clients are told to after 300 s more."""

DEAD_SECONDS = 2 * 3600
"""An access token lives an hour at most; a process may sign with its cached key for five minutes more."""

FEWEST_SECONDS = 20 * 24 * 3600
_TRIES = 3

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rotation:
    """Which key signs now, which one will, and whether this call changed that."""

    changed: bool
    current: str
    next: str | None


def rotate(secrets: Secrets, arn: str, clock: Clock) -> Rotation:
    """Turn the signing keys in the secret ``arn``, unless they turned lately.

    Raises
    ------
    StateUnavailable
        If the secret cannot be read or written, or holds no signing keys.
    Conflict
        If other processes kept changing it meanwhile.
    """
    for _ in range(_TRIES):
        read = secrets.current(arn)
        try:
            SigningKeys.from_json(read.text)
        except ValueError as error:
            raise StateUnavailable(str(error)) from None
        before = json.loads(read.text)
        after = turned(before, clock())
        if after == before:
            return Rotation(False, before["current"], before.get("next"))
        try:
            secrets.replace(arn, json.dumps(after), version=read.version)
        except Conflict:
            continue  # another process turned them: look at what it made of them
        logger.info("the signing keys turned: %s signs, %s is next", after["current"], after["next"])
        return Rotation(True, after["current"], after["next"])
    raise Conflict("the signing keys are being changed by others; try again")


def turned(document: dict[str, Any], now: int, fresh: Callable[[], ECKey] = fresh_key) -> dict[str, Any]:
    """Return the secret's document after a turn at ``now`` (ms); the same one where it turned lately.

    Parameters
    ----------
    document : dict
        What the secret holds; a first one has neither ``next`` nor ``turned_at``, and its turn publishes a key only.
    now : int
        The present instant, ms.
    fresh : callable
        Makes a key.
    """
    since = None if "turned_at" not in document else (now - document["turned_at"]) / 1000
    if since is not None and since < FEWEST_SECONDS:
        return document
    retired: dict[str, int] = dict(document.get("retired", {}))
    current, coming = document["current"], document.get("next")
    if coming is not None:  # published a turn ago, which is longer than PUBLISHED_SECONDS
        retired[current] = now
        current = coming
    dead = {kid for kid, at in retired.items() if now - at >= DEAD_SECONDS * 1000}
    new = fresh().as_dict(private=True)
    return {
        "current": current,
        "next": new["kid"],
        "turned_at": now,
        "retired": {kid: at for kid, at in retired.items() if kid not in dead},
        "keys": [key for key in document["keys"] if key["kid"] not in dead] + [new],
    }
