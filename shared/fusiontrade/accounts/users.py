"""Users on the Accounts table, and the counted check of who may sign in.

Layout (``pk``, ``sk``):

========================  ==========  ==============================================================================
``USER#<id>``             PROFILE     id, email, full_name, is_verified, subscription_tier, segment, created_at (ms)
``USER#<id>``             GATE        rate counters, ``valid_after``, revoked sessions
``EMAIL#<normal form>``   EMAIL       user_id, password_hash, attempts, attempted_at (ms)
``ATTEMPTS#<normal>``     ATTEMPTS    attempts, attempted_at (ms), expires_at (s): addresses without an account
========================  ==========  ==============================================================================

Always true here: an address belongs to one user, made in one transaction with the profile; an attempt is counted
before the password is looked at, so parallel guesses cannot pass the limit; known and unknown addresses take the same
number of round trips, the same hashing, the same counting and the same words.
"""

from __future__ import annotations

import unicodedata
from dataclasses import asdict, dataclass
from typing import cast
from uuid import uuid4

from fusiontrade.accounts.identity import Tier
from fusiontrade.accounts.passwords import Passwords
from fusiontrade.clock import Clock
from fusiontrade.cloud.tables import Condition, ConditionFailed, Key, Put, Table, Update
from fusiontrade.cloud.values import Item
from fusiontrade.errors import Conflict, InvalidInput, NotFound, TooManyRequests, Unauthenticated

__all__ = ["FREE_ATTEMPTS", "Profile", "Users", "normal_email", "seconds_to_wait", "seed_user"]

FREE_ATTEMPTS = 5
"""Wrong passwords in a row that cost no waiting."""

_WAITS: tuple[int, ...] = (2, 5, 15, 30, 60, 120, 300)
"""Seconds to wait after the fifth, sixth, … wrong password in a row; the last one holds from there on."""

_FORGET_ATTEMPTS_SECONDS = 24 * 3600
_MOST_BYTES = 1024  # DynamoDB's keys end at 2,048
_IS_NEW = Condition("attribute_not_exists(pk)")


@dataclass(frozen=True)
class Profile:
    """What a user may see and change of the account; ``created_at`` is ms since 1970-01-01 UTC."""

    id: str
    email: str
    full_name: str
    is_verified: bool
    subscription_tier: Tier
    segment: str | None
    created_at: int
    has_hf_token: bool = False


def normal_email(text: str) -> str:
    """Return the one spelling under which an address is kept: stripped, NFC, case folded.

    Raises
    ------
    InvalidInput
        If it is longer than a key may be: some characters grow sixfold when they are normalised.
    """
    address = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text.strip()).casefold())
    if len(address.encode()) > _MOST_BYTES:
        raise InvalidInput("body/email", "this is too long for an e-mail address")
    return address


def seconds_to_wait(attempts: int, since_last: float) -> int:
    """Return the seconds until the next attempt is allowed, 0 where it is now.

    Parameters
    ----------
    attempts : int
        Wrong ones in a row so far.
    since_last : float
        Seconds since the last one.
    """
    if attempts < FREE_ATTEMPTS:
        return 0
    wait = _WAITS[min(attempts - FREE_ATTEMPTS, len(_WAITS) - 1)]
    return max(0, int(-(-(wait - since_last) // 1)))


class Users:
    """The users of one Accounts table."""

    def __init__(self, table: Table, passwords: Passwords, clock: Clock) -> None:
        self._table = table
        self._passwords = passwords
        self._clock = clock

    def create(
        self, email: str, password: str, full_name: str, *, tier: Tier = "free", verified: bool = False
    ) -> Profile:
        """Make a user and return the profile.

        Raises
        ------
        Conflict
            If the address has an account already.
        ValueError
            If the password is too short or too long.
        """
        address = normal_email(email)
        profile = Profile(uuid4().hex, address, full_name, verified, tier, None, self._clock())
        entry = {**_email_key(address), "user_id": profile.id, "password_hash": self._passwords.hash(password)}
        try:
            self._table.transact(
                Put({**entry, "attempts": 0, "attempted_at": 0}, _IS_NEW),
                Put({**_profile_key(profile.id), **_stored(profile)}, _IS_NEW),
            )
        except ConditionFailed:
            raise Conflict("this address has an account already") from None
        return profile

    def profile(self, user_id: str) -> Profile:
        """Return a user's profile; raises `NotFound` where there is no such user."""
        item = self._table.get(_profile_key(user_id))
        if item is None:
            raise NotFound("there is no such user")
        return _profile_of(item)

    def by_email(self, email: str) -> Profile | None:
        """Return the profile of the account of an address, or None."""
        entry = self._table.get(_email_key(normal_email(email)))
        return None if entry is None else self.profile(entry["user_id"])

    def sign_in(self, email: str, password: str) -> Profile:
        """Return the profile of the user whose address and password these are.

        Raises
        ------
        Unauthenticated
            If they are not; in the same words and after the same work, whether the address is known or not.
        TooManyRequests
            If there were too many wrong ones in a row; says for how long.
        """
        address = normal_email(email)
        entry = self._counted_attempt(address)
        profile = self._table.get(_profile_key(entry["user_id"])) if "user_id" in entry else None
        stored = entry["password_hash"] if profile is not None else None
        if not self._passwords.verify(password, stored) or profile is None:
            raise Unauthenticated("the e-mail address or the password is wrong")
        self._table.update(Update(_email_key(address), assign={"attempts": 0}))
        return _profile_of(profile)

    def _counted_attempt(self, address: str) -> Item:
        """Count one attempt and return the item it was counted on; raises `TooManyRequests`."""
        now = self._clock()
        try:
            return self._table.update(_attempt(_email_key(address), now, of_account=True))
        except ConditionFailed as refused:
            if refused.item is not None:
                self._table.get(_attempts_key(address))  # an unknown address costs two round trips here as well
                raise _slow_down(refused.item, now) from None
        expires_at = now // 1000 + _FORGET_ATTEMPTS_SECONDS
        try:
            return self._table.update(_attempt(_attempts_key(address), now, of_account=False, expires_at=expires_at))
        except ConditionFailed as refused:
            raise _slow_down(refused.item or {}, now) from None


def seed_user(users: Users, *, email: str, password: str, full_name: str, tier: Tier) -> Profile:
    """Make a verified user where the address has none; return the profile of the one that is there.

    For the laptop's demo account and for tests; may run at every start.
    """
    try:
        return users.create(email, password, full_name, tier=tier, verified=True)
    except Conflict:
        found = users.by_email(email)
        if found is None:  # deleted between the two calls
            raise
        return found


def _attempt(key: Key, now: int, *, of_account: bool, **more: int) -> Update:
    """Return the update that counts an attempt if one is allowed now; the waits are spelled out as one condition."""
    values = {"free": FREE_ATTEMPTS}
    allowed = ["attribute_not_exists(#attempts)", "#attempts < :free"]
    for step, wait in enumerate(_WAITS):
        values |= {f"step{step}": FREE_ATTEMPTS + step, f"until{step}": now - wait * 1000}
        comparison = ">=" if step == len(_WAITS) - 1 else "="
        allowed.append(f"(#attempts {comparison} :step{step} AND #attempted_at <= :until{step})")
    text = f"({' OR '.join(allowed)})"
    if of_account:
        text = f"attribute_exists(#user_id) AND {text}"
    return Update(key, assign={"attempted_at": now, **more}, add={"attempts": 1}, condition=Condition(text, values))


def _slow_down(item: Item, now: int) -> TooManyRequests:
    since = (now - int(item.get("attempted_at", now))) / 1000
    wait = max(1, seconds_to_wait(int(item.get("attempts", FREE_ATTEMPTS)), since))
    return TooManyRequests(f"too many wrong passwords in a row; try again in {wait} s", retry_after=wait)


def _email_key(address: str) -> dict[str, str]:
    return {"pk": f"EMAIL#{address}", "sk": "EMAIL"}


def _attempts_key(address: str) -> dict[str, str]:
    return {"pk": f"ATTEMPTS#{address}", "sk": "ATTEMPTS"}


def _profile_key(user_id: str) -> dict[str, str]:
    return {"pk": f"USER#{user_id}", "sk": "PROFILE"}


def _stored(profile: Profile) -> Item:
    return {name: value for name, value in asdict(profile).items() if name != "has_hf_token"}


def _profile_of(item: Item) -> Profile:
    return Profile(
        id=item["id"],
        email=item["email"],
        full_name=item["full_name"],
        is_verified=item["is_verified"],
        subscription_tier=cast(Tier, item["subscription_tier"]),
        segment=item.get("segment"),
        created_at=item["created_at"],
        has_hf_token="hf_token" in item,
    )
