"""Sessions: families of refresh tokens, of which one is good at a time.

Layout: (``USER#<id>``, ``SESSION#<session>``) with ``generation``, ``opened_at`` and ``used_at`` (ms), ``rotated_by``
(the device of the last rotation), ``user_agent`` and ``expires_at`` (s, TTL). A refresh token reads
``<user>.<session>.<generation>.<mac>``; the mac is derived from the three, so nothing that is stored lets anybody make
one, and the successor of a token can be made again.

Always true here: using a token makes it worthless and its successor good, in one conditional write; the same client
that repeats the same rotation within `GRACE_SECONDS` gets the identical successor; every other use of a token that was
used before ends the family for both who hold it. What the gate item ended stays ended, whatever stands here.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import re
import secrets
from dataclasses import dataclass, field
from typing import Any

from fusiontrade.accounts.admission.gate import Gate, gate_key
from fusiontrade.accounts.admission.limits import Allowance
from fusiontrade.clock import Clock
from fusiontrade.cloud.tables import Condition, ConditionFailed, Delete, Put, Table, Update, Write
from fusiontrade.cloud.values import Item
from fusiontrade.derivation import Derivation
from fusiontrade.errors import NotFound, Unauthenticated

__all__ = ["FAMILY_SECONDS", "GRACE_SECONDS", "REFRESH_SECONDS", "Device", "Opened", "Rotated", "Session", "Sessions"]

REFRESH_SECONDS = 7 * 24 * 3600
FAMILY_SECONDS = 30 * 24 * 3600
"""A session ends after this even if it is used every day: then the password is asked for again."""

GRACE_SECONDS = 10
_MOST_LISTED = 200
_MOST_CHARACTERS = 200
_TOKEN = re.compile(r"([0-9A-Za-z_-]{1,64})\.(s[0-9a-f]{32})\.([0-9]{1,9})\.([0-9A-Za-z_-]{43})", re.ASCII)
_SESSION = re.compile(r"s[0-9a-f]{32}")
_OVER = "this session is over; sign in again"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Device:
    """What a client is recognised by: its user agent, the hash of its address, what a sign-in here left with it."""

    user_agent: str
    address: str
    token: str = field(default="", repr=False, compare=False)
    """Of `fusiontrade.accounts.credentials.known_devices`; empty where it brings none."""

    @property
    def fingerprint(self) -> str:
        """Return 32 letters that stand for user agent and address."""
        return hashlib.sha256(f"{len(self.user_agent)}:{self.user_agent}{self.address}".encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Opened:
    """A new session and its first refresh token, good for ``expires_in`` seconds."""

    session_id: str
    refresh_token: str
    expires_in: int


@dataclass(frozen=True)
class Rotated:
    """Whose session it is, and the token that follows the one that was used, good for ``expires_in`` seconds."""

    user_id: str
    session_id: str
    refresh_token: str
    expires_in: int
    allowance: Allowance


@dataclass(frozen=True)
class Session:
    """A session as its user sees it; instants are ms since 1970-01-01 UTC."""

    id: str
    user_agent: str
    opened_at: int
    used_at: int
    expires_at: int


@dataclass(frozen=True)
class _Presented:
    user_id: str
    session_id: str
    generation: int


class Sessions:
    """The sessions of one Accounts table, behind its ``gate``."""

    def __init__(self, table: Table, derivation: Derivation, clock: Clock, gate: Gate) -> None:
        self._table = table
        self._derivation = derivation
        self._clock = clock
        self._gate = gate

    def writes_to_open(self, user_id: str, device: Device) -> tuple[Opened, list[Write]]:
        """Return a new session and the writes that make it, for the transaction of a sign-in."""
        now = self._clock()
        session_id = f"s{now:012x}{secrets.token_hex(10)}"
        item = {
            **_key(user_id, session_id),
            "generation": 0,
            "opened_at": now,
            "used_at": now,
            "rotated_by": device.fingerprint,
            "user_agent": device.user_agent[:_MOST_CHARACTERS],
            "expires_at": now // 1000 + REFRESH_SECONDS,
        }
        opened = Opened(session_id, self._token(_Presented(user_id, session_id, 0)), REFRESH_SECONDS)
        return opened, [Put(item, Condition("attribute_not_exists(pk)"))]

    def rotate(self, refresh_token: str, device: Device) -> Rotated:
        """Take a refresh token and return its successor: two round trips.

        Raises
        ------
        Unauthenticated
            If the token is not ours, its session is over, or it was used before; then the session is over for all.
        LimitReached
            If the user refreshes too often.
        StateUnavailable
            If the database or the derivation secret does not answer.
        """
        presented = self._presented(refresh_token)
        allowance = self._gate.admit(presented.user_id, "refresh", session_id=presented.session_id).allowance
        now = self._clock()
        try:
            item = self._table.update(_rotation(presented, device, now))
        except ConditionFailed as refused:
            item = self._repeated(presented, device, refused.item, now)
        successor = _Presented(presented.user_id, presented.session_id, presented.generation + 1)
        seconds = int(item["expires_at"]) - now // 1000
        return Rotated(presented.user_id, presented.session_id, self._token(successor), seconds, allowance)

    def of_user(self, user_id: str) -> list[Session]:
        """Return the sessions of a user that live, the newest first; two round trips, 200 sessions at most."""
        gate = self._table.get(gate_key(user_id)) or {}
        mine = Condition("pk = :pk AND begins_with(sk, :session)", {"pk": f"USER#{user_id}", "session": "SESSION#"})
        now = self._clock() // 1000
        items = self._table.query(mine, limit=_MOST_LISTED, newest_first=True).items
        sessions = [_session_of(item) for item in items if _expires(item) > now]
        return [session for session in sessions if Gate.lives(gate, session.id)]

    def close(self, user_id: str, session_id: str) -> None:
        """End one session of a user at once; raises `NotFound` where the user has no such session."""
        if _SESSION.fullmatch(session_id) is None:
            raise NotFound("there is no such session")
        try:
            self._table.transact(
                Delete(_key(user_id, session_id), Condition("attribute_exists(pk)")),
                self._gate.revocation(user_id, session_id),
            )
        except ConditionFailed:
            raise NotFound("there is no such session") from None

    def writes_to_close(self, user_id: str, session_id: str) -> list[Write]:
        """Return the writes that end a session, whether it is still there or not: what a sign-out does."""
        return [Delete(_key(user_id, session_id)), self._gate.revocation(user_id, session_id)]

    def writes_to_close_all(
        self, user_id: str, keep: str | None = None, *, keys: bool = False, seen: int = 0
    ) -> list[Write]:
        """Return the writes that end every session opened up to now or up to ``seen`` (ms), but for ``keep``.

        With ``keys`` they end the API keys too.
        """
        return [self._gate.revocation_of_all(user_id, keep=keep, keys=keys, seen=seen)]

    def _presented(self, text: str) -> _Presented:
        parts = _TOKEN.fullmatch(text)
        if parts is None:
            raise Unauthenticated(_OVER)
        presented = _Presented(parts[1], parts[2], int(parts[3]))
        if not hmac.compare_digest(self._token(presented), text):
            raise Unauthenticated(_OVER)
        return presented

    def _token(self, of: _Presented) -> str:
        mac = self._derivation.mac("refresh", of.user_id, of.session_id, str(of.generation))
        return f"{of.user_id}.{of.session_id}.{of.generation}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"

    def _repeated(self, presented: _Presented, device: Device, item: Item | None, now: int) -> Item:
        """Return the session where a rotation was repeated in time; else end the family, or find it ended."""
        if item is None or _expires(item) <= now // 1000 or int(item["generation"]) < presented.generation:
            raise Unauthenticated(_OVER)
        is_retry = (
            int(item["generation"]) == presented.generation + 1
            and now - int(item["used_at"]) <= GRACE_SECONDS * 1000
            and hmac.compare_digest(str(item["rotated_by"]), device.fingerprint)
        )
        if is_retry:
            return item
        self._table.transact(*self.writes_to_close(presented.user_id, presented.session_id))
        logger.warning("a refresh token was used twice; session %s is over", presented.session_id)
        raise Unauthenticated(_OVER)


def _rotation(presented: _Presented, device: Device, now: int) -> Update:
    """Return the write that makes the next generation the good one."""
    seconds = now // 1000
    opened_at = int(presented.session_id[1:13], 16)
    return Update(
        _key(presented.user_id, presented.session_id),
        assign={
            "generation": presented.generation + 1,
            "used_at": now,
            "rotated_by": device.fingerprint,
            "user_agent": device.user_agent[:_MOST_CHARACTERS],
            "expires_at": min(seconds + REFRESH_SECONDS, opened_at // 1000 + FAMILY_SECONDS),
        },
        condition=Condition(
            "#generation = :presented AND #expires_at > :now",
            {"presented": presented.generation, "now": seconds},
        ),
    )


def _key(user_id: str, session_id: str) -> dict[str, str]:
    return {"pk": f"USER#{user_id}", "sk": f"SESSION#{session_id}"}


def _expires(item: Item) -> int:
    return int(item["expires_at"])


def _session_of(item: Item) -> Session:
    values: dict[str, Any] = {name: int(item[name]) for name in ("opened_at", "used_at")}
    name = str(item["sk"]).removeprefix("SESSION#")
    return Session(name, str(item["user_agent"]), expires_at=_expires(item) * 1000, **values)
