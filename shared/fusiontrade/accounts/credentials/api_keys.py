"""API keys: for programs, named, scoped, shown once and kept as a hash.

A key reads ``ft_<user id>_<key id>_<secret>``, so that one read finds it; its item (``USER#<id>``, ``KEY#<key id>``)
holds the secret's HMAC. Id and secret are derived from the request that makes the key, so one that is repeated with its
idempotency key shows the same key, without anybody keeping it.

Always true here: a user has `MOST_KEYS` at most, counted in the transaction that makes one; a deleted key is refused
from the next request on; a reset of the password deletes all of them, and one that is made beside it is refused at the
gate; how the secret compares takes the same time whatever was sent.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass

from fusiontrade.accounts.identity import Identity, Scope
from fusiontrade.accounts.profiles import profile_key, profile_of
from fusiontrade.clock import Clock
from fusiontrade.cloud.tables import Condition, ConditionFailed, Delete, Put, Table, Update, Write
from fusiontrade.cloud.values import Item
from fusiontrade.derivation import Derivation
from fusiontrade.errors import Conflict, NotFound, Unauthenticated

__all__ = ["MOST_KEYS", "ApiKey", "ApiKeys", "MadeKey"]

MOST_KEYS = 20
_USE_STEP = 60_000
"""ms; the last use is written once in that time."""

_FORM = re.compile(r"ft_([0-9a-f]{32})_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
_KEY_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class ApiKey:
    """A key as its user sees it; instants are ms since 1970-01-01 UTC."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    created_at: int
    last_used_at: int | None


@dataclass(frozen=True)
class MadeKey:
    """A new key with its text, which nobody can show again."""

    key: ApiKey
    text: str


class ApiKeys:
    """The keys on one Accounts table."""

    def __init__(self, table: Table, derivation: Derivation, clock: Clock) -> None:
        self._table = table
        self._derivation = derivation
        self._clock = clock

    def new(self, user_id: str, name: str, scopes: Sequence[Scope], nonce: str) -> tuple[MadeKey, list[Write]]:
        """Return a new key with its text, and the writes that make it good.

        Parameters
        ----------
        user_id, name : str
            Whose, and what the user calls it.
        scopes : sequence of str
            What it may do.
        nonce : str
            What no other request has; the same one gives the same key.

        Raises
        ------
        Conflict
            If the user has as many keys as there may be.
        NotFound
            If there is no such user.
        """
        owner = self._table.get(profile_key(user_id))
        if owner is None:
            raise NotFound("there is no such user")
        if int(owner.get("api_keys", 0)) >= MOST_KEYS:
            raise Conflict(f"you have {MOST_KEYS} API keys and cannot have more; delete one that is not used")
        key_id, secret = self._drawn(user_id, nonce)
        key = ApiKey(key_id, name, tuple(sorted(set(scopes))), self._clock(), None)
        item = {
            **_key(user_id, key_id),
            "hash": self._hash(user_id, key_id, secret),
            "name": name,
            "scopes": frozenset(key.scopes),
            "created_at": key.created_at,
        }
        room = Condition("attribute_not_exists(#api_keys) OR #api_keys < :most", {"most": MOST_KEYS})
        writes: list[Write] = [
            Update(profile_key(user_id), add={"api_keys": 1}, condition=room),
            Put(item, Condition("attribute_not_exists(pk)")),
        ]
        return MadeKey(key, f"ft_{user_id}_{key_id}_{secret}"), writes

    def of_user(self, user_id: str) -> list[ApiKey]:
        """Return the keys of a user, the oldest first."""
        mine = Condition("pk = :pk AND begins_with(sk, :key)", {"pk": f"USER#{user_id}", "key": "KEY#"})
        found = [_shown(item) for item in self._table.query(mine, limit=MOST_KEYS).items]
        return sorted(found, key=lambda key: (key.created_at, key.id))

    def delete(self, user_id: str, key_id: str) -> None:
        """Make a key worthless; raises `NotFound` where the user has no such key."""
        if _KEY_ID.fullmatch(key_id) is None:
            raise NotFound("there is no such API key")
        try:
            self._table.transact(
                Delete(_key(user_id, key_id), Condition("attribute_exists(pk)")),
                Update(profile_key(user_id), add={"api_keys": -1}),
            )
        except ConditionFailed:
            raise NotFound("there is no such API key") from None

    def writes_to_delete_all(self, user_id: str) -> list[Write]:
        """Return the writes that remove a user's keys; the profile's ``api_keys`` is for the caller to remove."""
        return [Delete(_key(user_id, key.id)) for key in self.of_user(user_id)]

    def find(self, text: str) -> Identity:
        """Return whom a key speaks for, with its scopes, and note that it was used: two round trips, at times three.

        Raises
        ------
        Unauthenticated
            If it is no key that is good; always in the same words.
        StateUnavailable
            If the database or the derivation secret does not answer.
        """
        form = _FORM.fullmatch(text)
        if form is None:
            raise _bad_key()
        user_id, key_id, secret = form.groups()
        given = self._hash(user_id, key_id, secret)
        item = self._table.get(_key(user_id, key_id))
        if not hmac.compare_digest(given, "" if item is None else item["hash"]) or item is None:
            raise _bad_key()
        profile_item = self._table.get(profile_key(user_id))
        if profile_item is None:
            raise _bad_key()
        self._note_use(user_id, key_id, item)
        profile = profile_of(profile_item)
        return Identity(
            user_id,
            profile.email,
            profile.subscription_tier,
            "",
            profile.is_verified,
            key_made_at=int(item["created_at"]),
            scopes=frozenset(item["scopes"]),
        )

    def _note_use(self, user_id: str, key_id: str, item: Item) -> None:
        now = self._clock()
        if now - int(item.get("last_used_at", 0)) < _USE_STEP:
            return
        try:
            self._table.update(
                Update(_key(user_id, key_id), assign={"last_used_at": now}, condition=Condition("attribute_exists(pk)"))
            )
        except ConditionFailed:
            raise _bad_key() from None

    def _drawn(self, user_id: str, nonce: str) -> tuple[str, str]:
        key_id = self._derivation.mac("api-key-id", user_id, nonce).hex()[:16]
        secret = self._derivation.mac("api-key-secret", user_id, nonce)
        return key_id, base64.urlsafe_b64encode(secret).rstrip(b"=").decode()

    def _hash(self, user_id: str, key_id: str, secret: str) -> str:
        return self._derivation.mac("api-key", user_id, key_id, secret).hex()


def _key(user_id: str, key_id: str) -> dict[str, str]:
    return {"pk": f"USER#{user_id}", "sk": f"KEY#{key_id}"}


def _shown(item: Item) -> ApiKey:
    used = item.get("last_used_at")
    key_id = str(item["sk"]).removeprefix("KEY#")
    return ApiKey(key_id, item["name"], tuple(sorted(item["scopes"])), item["created_at"], used)


def _bad_key() -> Unauthenticated:
    return Unauthenticated("the API key is not valid or no longer valid; make one at POST /api/v1/auth/api-keys")
