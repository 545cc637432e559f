"""The gate item of a user: one update that counts a request and tells whether its session still lives.

Attributes of (``USER#<id>``, ``GATE``):

============================  ====================================================================================
``count_<group>_<end>``       requests of a group in the window that ends at ``end`` (s since 1970-01-01 UTC)
``revoked_<session>``         s until which an access token of that ended session could still be within its time
``valid_after``               ms; every session opened up to then has ended
``kept``                      the sessions that ``valid_after`` spares
``keys_valid_after``          ms; every API key made up to then is worthless
``key_made_at``               ms; when the newest API key was made
``tier``                      the user's tier, where it ever changed: what a token says of it is older
============================  ====================================================================================

Always true here: a token of an ended session is refused from the next request on and is not counted, so it cannot use
up what the user may do; counts of parallel requests are never lost. What lies in the past is removed when there is
enough of it to be worth a write, and more ended sessions than `MOST_REVOKED` become one ``valid_after`` that spares
the sessions that live, so the item stays small whatever a user does. Nothing else about the account is kept here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

from fusiontrade.accounts.admission.limits import LIMITS, Allowance, Limit, limit_of
from fusiontrade.accounts.identity import Tier
from fusiontrade.clock import Clock
from fusiontrade.cloud.tables import Condition, ConditionFailed, Table, Update
from fusiontrade.cloud.values import Item
from fusiontrade.errors import Conflict, StateUnavailable, TooManyRequests, Unauthenticated

__all__ = [
    "MOST_KEPT",
    "MOST_REVOKED",
    "MOST_STALE",
    "REVOKED_SECONDS",
    "Admission",
    "Gate",
    "LimitReached",
    "gate_key",
    "session_began",
]

REVOKED_SECONDS = 3600 + 60
"""Longest life of an access token, and how far two clocks may differ."""

MOST_STALE = 16
MOST_REVOKED = 64
MOST_KEPT = 64
"""Of the sessions that live, the newest so many are spared where too many others were ended singly."""

_READ_AT_ONCE = 1000  # sessions of one query, with these attributes
_LISTED = ("sk", "expires_at")
_NAME = re.compile(r"\w{1,64}", re.ASCII)
_DATED = re.compile(r"s([0-9a-f]{12})[0-9a-f]{20}")
_COUNT, _REVOKED, _SESSION = "count_", "revoked_", "SESSION#"


class LimitReached(TooManyRequests):
    """A caller has used up what a group of routes allows in this window."""

    def __init__(self, allowance: Allowance) -> None:
        super().__init__(
            f"that was more than {allowance.limit.requests} requests in {allowance.limit.seconds} s;"
            f" try again in {allowance.reset_seconds} s",
            retry_after=allowance.reset_seconds,
        )
        self.allowance = allowance


def gate_key(user_id: str) -> dict[str, str]:
    """Return the key of a user's gate item."""
    return {"pk": f"USER#{user_id}", "sk": "GATE"}


def session_began(session_id: str, issued_at: int) -> int:
    """Return when a session was opened, ms: its name says so; for a name that does not, when the token was signed.

    Parameters
    ----------
    session_id : str
        The session.
    issued_at : int
        ``iat`` of a token of it, s.
    """
    dated = _DATED.fullmatch(session_id)
    return int(dated[1], 16) if dated else issued_at * 1000


def allowance_after(count: int, group: str, limit: Limit, now: int) -> Allowance:
    """Return what ``count`` requests up to ``now`` (ms) leave; raises `LimitReached` where they were too many."""
    allowance = Allowance(group, limit, max(0, limit.requests - count), max(1, limit.window_end(now) - now // 1000))
    if count > limit.requests:
        raise LimitReached(allowance)
    return allowance


@dataclass(frozen=True)
class Admission:
    """What is left of a limit after one more request, and what the gate item knows better than the token."""

    allowance: Allowance
    tier: Tier | None
    """None where the user's tier never changed."""


class Gate:
    """The gate items of one Accounts table."""

    def __init__(self, table: Table, clock: Clock, limits: Mapping[str, Limit] = LIMITS) -> None:
        self._table = table
        self._clock = clock
        self._limits = limits

    def admit(
        self, user_id: str, group: str, *, session_id: str | None, issued_at: int = 0, key_made_at: int = 0
    ) -> Admission:
        """Count one request of ``group`` and let it in; one round trip.

        Parameters
        ----------
        user_id : str
            Whose request it is.
        group : str
            The group of routes.
        session_id : str or None
            The session of the token; None for an API key, which has no session.
        issued_at : int
            When the token was signed, s.
        key_made_at : int
            When the API key was made, ms.

        Raises
        ------
        Unauthenticated
            If the session has ended or the key is worthless.
        LimitReached
            If it was one request too many; it is counted all the same.
        StateUnavailable
            If the database does not answer.
        """
        now = self._clock()
        limit = limit_of(group, self._limits)
        end = limit.window_end(now)
        name = f"{_COUNT}{group}_{end}"
        before = f"{_COUNT}{group}_{end - limit.seconds}"
        condition = _key_works(key_made_at) if session_id is None else _alive(session_id, issued_at)
        try:
            item = self._table.update(Update(gate_key(user_id), add={name: 1}, remove=[before], condition=condition))
        except ConditionFailed:
            raise Unauthenticated("this session or key has ended; sign in again") from None
        except Conflict as error:
            raise StateUnavailable("the gate item was held by other requests for too long", retry_after=1) from error
        self._tidy(user_id, item, now)
        return Admission(allowance_after(int(item[name]), group, limit, now), cast("Tier | None", item.get("tier")))

    def key_made(self, user_id: str, session_id: str, issued_at: int) -> Update:
        """Return the write that lets an API key be made only while the session lives that asks; as of `admit`."""
        return Update(gate_key(user_id), assign={"key_made_at": self._clock()}, condition=_alive(session_id, issued_at))

    @staticmethod
    def lives(item: Item, session_id: str) -> bool:
        """Return whether a gate ``item`` lets ``session_id`` live."""
        if _REVOKED + session_id in item:
            return False
        return session_id in item.get("kept", ()) or session_began(session_id, 0) > int(item.get("valid_after", -1))

    def revocation(self, user_id: str, session_id: str) -> Update:
        """Return the write that ends one session."""
        until = self._clock() // 1000 + REVOKED_SECONDS
        return Update(gate_key(user_id), assign={_REVOKED + _usable(session_id): until})

    def revocation_of_all(self, user_id: str, *, keep: str | None = None, keys: bool = False, seen: int = 0) -> Update:
        """Return the write that ends every session opened up to now, but for ``keep``; with ``keys`` API keys too.

        ``seen`` is the newest session that is known (ms): the clock that opened it may be ahead of this one.

        A session that ended before stays ended, also where it was one of those kept the last time.
        """
        now = max(self._clock(), seen)
        change = {"valid_after": now, "keys_valid_after": now} if keys else {"valid_after": now}
        if keep is None:
            return Update(gate_key(user_id), assign=change, remove=["kept"])
        return Update(gate_key(user_id), assign={**change, "kept": frozenset([_usable(keep)])})

    def _tidy(self, user_id: str, item: Item, now: int) -> None:
        """Remove what is past once there is enough of it; say who lives where too many sessions were ended singly."""
        stale = [name for name, value in item.items() if _is_past(name, value, now // 1000)]
        ended = [name for name in item if name.startswith(_REVOKED) and name not in stale]
        with suppress(Conflict, StateUnavailable):  # this request was counted and is good; the next one can tidy
            if len(ended) > MOST_REVOKED:
                self._table.update(_spared(user_id, item, [*stale, *ended], now, self._living(user_id, item, now)))
            elif len(stale) > MOST_STALE:
                self._table.update(Update(gate_key(user_id), remove=stale))

    def _living(self, user_id: str, gate: Item, now: int) -> list[str]:
        """Return the sessions of a user that live, the newest `MOST_KEPT`."""
        mine = Condition("pk = :pk AND begins_with(sk, :session)", {"pk": f"USER#{user_id}", "session": _SESSION})
        living: list[str] = []
        start = None
        while True:  # sessions that all ended at once are still on the table, and may be newer than one that was kept
            page = self._table.query(mine, limit=_READ_AT_ONCE, newest_first=True, names=_LISTED, start=start)
            unexpired = [item for item in page.items if int(item["expires_at"]) > now // 1000]
            names = (str(item["sk"]).removeprefix(_SESSION) for item in unexpired)
            living += [name for name in names if self.lives(gate, name)]
            start = page.next_key
            if start is None or len(living) >= MOST_KEPT:
                return living[:MOST_KEPT]


def _spared(user_id: str, item: Item, gone: Sequence[str], ended_at: int, living: Sequence[str]) -> Update:
    """Return the write that removes ``gone`` and ends all sessions up to ``ended_at`` but the ``living``.

    It does nothing where somebody else ended all sessions since ``item`` was read: that says more.
    """
    kept = {"kept": frozenset(living)} if living else {}
    forgotten = ["kept"] if "kept" in item and not living else []
    return Update(
        gate_key(user_id),
        assign={"valid_after": ended_at, **kept},
        remove=[*gone, *forgotten],
        condition=_as_read(item),
    )


def _as_read(item: Item) -> Condition:
    """Return the condition that all sessions were not ended since ``item`` was read."""
    if "valid_after" in item:
        return Condition("#valid_after = :read", {"read": item["valid_after"]})
    return Condition("attribute_not_exists(#valid_after)")


def _usable(session_id: str) -> str:
    """Return ``session_id``, which becomes part of an attribute's name."""
    if _NAME.fullmatch(session_id) is None:
        raise Unauthenticated("this is no session; sign in again")
    return session_id


def _alive(session_id: str, issued_at: int) -> Condition:
    revoked = _REVOKED + _usable(session_id)
    lives = "attribute_not_exists(#valid_after) OR #valid_after < :began OR contains(#kept, :session)"
    text = f"attribute_not_exists(#{revoked}) AND ({lives})"
    return Condition(text, {"began": session_began(session_id, issued_at), "session": session_id})


def _key_works(made_at: int) -> Condition:
    return Condition("attribute_not_exists(#keys_valid_after) OR #keys_valid_after < :made", {"made": made_at})


def _is_past(name: str, value: object, now: int) -> bool:
    """Return whether an attribute says nothing any more at ``now`` (s)."""
    if name.startswith(_COUNT):
        return int(name.rpartition("_")[2]) <= now
    return name.startswith(_REVOKED) and isinstance(value, int) and value < now
