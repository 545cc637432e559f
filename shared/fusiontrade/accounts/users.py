"""Users on the Accounts table: made, found, changed; signing in is `fusiontrade.accounts.admission.sign_ins`.

The table's layout stands in `fusiontrade.accounts.profiles`.

Always true here: an address belongs to one user, made in one transaction with the profile; what the profile and its
copy on the e-mail item say changes in one transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import uuid4

from fusiontrade.accounts.admission.gate import gate_key
from fusiontrade.accounts.credentials.passwords import Passwords
from fusiontrade.accounts.identity import Tier
from fusiontrade.accounts.profiles import (
    Profile,
    copy_of,
    email_key,
    normal_email,
    profile_key,
    profile_of,
    stored,
    written_email,
)
from fusiontrade.clock import Clock
from fusiontrade.cloud.tables import Condition, ConditionFailed, Put, Table, Update, Write
from fusiontrade.cloud.values import Item
from fusiontrade.errors import Conflict, NotFound

__all__ = ["Profile", "Users", "seed_user"]

_IS_NEW = Condition("attribute_not_exists(pk)")
_IS_THERE = Condition("attribute_exists(pk)")


class Users:
    """The users of one Accounts table."""

    def __init__(self, table: Table, passwords: Passwords, clock: Clock) -> None:
        self._table = table
        self._passwords = passwords
        self._clock = clock

    def create(
        self, email: str, password: str, full_name: str, *, tier: Tier = "free", verified: bool = False
    ) -> Profile:
        """Make a user and return the profile; for the operator and the seed, so the password's rules are not asked.

        Raises
        ------
        Conflict
            If the address has an account already.
        ValueError
            If the password is too short or too long.
        """
        profile = self.new_profile(email, full_name, tier=tier, verified=verified)
        try:
            self._table.transact(*self.writes_to_create(profile, self._passwords.hash(password), mail_to=email))
        except ConditionFailed:
            raise Conflict("this address has an account already") from None
        return profile

    def new_profile(
        self, email: str, full_name: str, *, user_id: str | None = None, tier: Tier = "free", verified: bool = False
    ) -> Profile:
        """Return the profile of a user who is not stored yet."""
        return Profile(user_id or uuid4().hex, normal_email(email), full_name, verified, tier, None, self._clock())

    def writes_to_create(self, profile: Profile, password_hash: str, *, mail_to: str | None = None) -> list[Write]:
        """Return the writes that make a user; the first one's condition fails where the address has an account.

        ``mail_to`` is the address as the user wrote it: mail goes there, and never to another spelling of it.
        """
        entry = {**email_key(profile.email), **copy_of(profile), "password_hash": password_hash}
        entry["mail_to"] = written_email(mail_to or profile.email)
        return [
            Put({**entry, "attempts": 0, "attempted_at": 0}, _IS_NEW),
            Put({**profile_key(profile.id), **stored(profile)}, _IS_NEW),
        ]

    def profile(self, user_id: str) -> Profile:
        """Return a user's profile; raises `NotFound` where there is no such user."""
        item = self._table.get(profile_key(user_id))
        if item is None:
            raise NotFound("there is no such user")
        return profile_of(item)

    def sealed_hub_token(self, user_id: str) -> str | None:
        """Return a user's hub token as it was encrypted, None where there is none."""
        item = self._table.get(profile_key(user_id)) or {}
        return str(item["hf_token"]) if "hf_token" in item else None

    def entry(self, email: str) -> Item | None:
        """Return the e-mail item of an address, None where it has no account."""
        return self._table.get(email_key(normal_email(email)))

    def by_email(self, email: str) -> Profile | None:
        """Return the profile of the account of an address, or None."""
        entry = self.entry(email)
        return None if entry is None else self.profile(entry["user_id"])

    def set_tier(self, email: str, tier: Tier) -> Profile:
        """Give the account of an address a tier and return the profile.

        The gate item says so from the next request on, whatever tokens of before say.

        Raises
        ------
        NotFound
            If the address has no account.
        """
        profile = self.by_email(email)
        if profile is None:
            raise NotFound("no account has this address")
        return self._rewritten(profile, subscription_tier=tier)

    def change(self, user_id: str, address: str, changes: Mapping[str, Any], *, hf_token: str | None = "") -> Profile:
        """Change what a user may change and return the profile.

        Parameters
        ----------
        user_id : str
            Whose.
        address : str
            The user's normal address.
        changes : mapping
            New values of ``full_name`` and ``segment``, where they change.
        hf_token : str or None
            The token as `fusiontrade.cloud.encryption` sealed it, None to remove it, empty to leave it.

        Raises
        ------
        NotFound
            If there is no such user.
        """
        sealed = {"hf_token": hf_token} if hf_token else {}
        removed = ["hf_token"] if hf_token is None else []
        writes: list[Write] = []
        if changes or sealed or removed:
            assign = {**changes, **sealed}
            writes.append(Update(profile_key(user_id), assign=assign, remove=removed, condition=_IS_THERE))
        if changes:
            writes.append(Update(email_key(address), assign=changes, condition=_IS_THERE))
        if writes:
            try:
                self._table.transact(*writes)
            except ConditionFailed:
                raise NotFound("there is no such user") from None
        return self.profile(user_id)

    def writes_to_verify(self, user_id: str, address: str) -> list[Write]:
        """Return the writes that mark the address of a user as verified."""
        return [
            Update(profile_key(user_id), assign={"is_verified": True}, condition=_IS_THERE),
            Update(email_key(address), assign={"is_verified": True}, condition=_IS_THERE),
        ]

    def _rewritten(self, profile: Profile, **changes: Any) -> Profile:
        """Change the profile, write its copy whole, and let the gate know the tier."""
        changed = replace(profile, **changes)
        self._table.transact(
            Update(profile_key(profile.id), assign=changes, condition=_IS_THERE),
            Update(email_key(profile.email), assign=copy_of(changed), condition=_IS_THERE),
            Update(gate_key(profile.id), assign={"tier": changed.subscription_tier}),
        )
        return changed

    def keep_seeded(self, email: str, tier: Tier) -> Profile:
        """Return the seeded account as it should be: verified, of ``tier``, whichever release wrote it."""
        profile = self.by_email(email)
        if profile is None:
            raise NotFound("no account has this address")
        return self._rewritten(profile, subscription_tier=tier, is_verified=True)


def seed_user(users: Users, *, email: str, password: str, full_name: str, tier: Tier) -> Profile:
    """Make a verified user where the address has none; return the profile of the one that is there.

    For the laptop's demo account and for tests; may run at every start. The password of one that is there stays.
    """
    try:
        return users.create(email, password, full_name, tier=tier, verified=True)
    except Conflict:
        return users.keep_seeded(email, tier)
