"""Choosing another password: with a mailed code, or with the present one.

Always true here: a new password ends sessions in the transaction that stores it (all of them after a reset, all but
the one that asked after a change) and makes codes that were mailed before worthless; a reset ends the API keys too
and makes strangers of the devices that signed in before.
The same transaction owes its owner a mail (`fusiontrade.accounts.by_mail.outbox`): who is told is whose password
changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from fusiontrade.accounts.admission.sessions import Sessions
from fusiontrade.accounts.admission.sign_ins import SignIns
from fusiontrade.accounts.by_mail.mailings import Mailings
from fusiontrade.accounts.by_mail.outbox import Outbox
from fusiontrade.accounts.by_mail.registration import Asked
from fusiontrade.accounts.credentials.api_keys import ApiKeys
from fusiontrade.accounts.credentials.attempts import DEVICES_AFTER, OF_THE_KNOWN, counter_of
from fusiontrade.accounts.credentials.codes import Codes, bad_code
from fusiontrade.accounts.credentials.password_rules import check_password
from fusiontrade.accounts.credentials.passwords import Passwords
from fusiontrade.accounts.identity import Identity
from fusiontrade.accounts.profiles import SIGNED_IN_AT, email_key, mail_address, profile_key, profile_of_entry
from fusiontrade.accounts.users import Users
from fusiontrade.clock import Clock
from fusiontrade.cloud.tables import Condition, ConditionFailed, Put, Table, Update, Write
from fusiontrade.cloud.values import Item
from fusiontrade.errors import Conflict, InvalidInput
from fusiontrade.mails.outbound import Mail

__all__ = ["Commit", "Recovery"]

Done = TypeVar("Done")
Commit = Callable[[Sequence[Write]], Done]
"""Does all of the writes or none, with what else belongs into their transaction."""

_NO_MORE_KEYS = "attribute_exists(pk) AND (attribute_not_exists(#api_keys) OR #api_keys <= :listed)"
_TRIES = 5
_BUSY = "somebody signs in to this account at this moment; try again"


class Recovery:
    """Sets new passwords on one Accounts table."""

    def __init__(
        self,
        *,
        table: Table,
        users: Users,
        passwords: Passwords,
        codes: Codes,
        sessions: Sessions,
        sign_ins: SignIns,
        api_keys: ApiKeys,
        mailings: Mailings,
        outbox: Outbox,
        clock: Clock,
    ) -> None:
        self._table = table
        self._users = users
        self._passwords = passwords
        self._codes = codes
        self._sessions = sessions
        self._sign_ins = sign_ins
        self._api_keys = api_keys
        self._mailings = mailings
        self._outbox = outbox
        self._clock = clock

    def forgot(self, email: str, asked: Asked) -> list[Write]:
        """Mail a code that sets a new password where the address has an account, and return the writes for it.

        Raises
        ------
        StateUnavailable
            If the database or the mail queue did not answer; asking again does what is missing.
        """
        may_send = self._mailings.may_send("forgot", email, asked.asker)
        there = self._users.entry(email)
        write: Write = self._mailings.decoy()
        mail = None
        if may_send and there is not None:
            profile = profile_of_entry(there)
            code, write = self._codes.fresh(profile.id, profile.email, "reset", asked.nonce)
            mail = Mail("reset", mail_address(there), profile.full_name, code, self._clock())
        self._mailings.send(mail, request_id=asked.request_id)
        return [write]

    def reset(self, code: str, new_password: str, commit: Commit[Done], *, request_id: str | None = None) -> Done:
        """Set a new password with a mailed code; every session and API key of the user ends.

        The code came to the mailbox, so the address counts as verified. Returns what ``commit`` returns.

        Raises
        ------
        InvalidInput
            If the code does not work or the password must not be chosen.
        StateUnavailable
            If the database did not answer.
        """
        check_password(new_password, field="body/new_password")
        redeemed = self._codes.check(code, "reset")
        user_id, address = redeemed.user_id, redeemed.address
        hashed = self._passwords.hash(new_password)
        assign: dict[str, object] = {"password_hash": hashed, "attempts": 0, "is_verified": True}
        assign[DEVICES_AFTER] = self._clock() // 1000
        for _ in range(_TRIES):
            entry = self._users.entry(address) or {}
            told, seen = self._told(address, entry, request_id), int(entry.get(SIGNED_IN_AT, 0))
            keys = self._api_keys.writes_to_delete_all(user_id)
            writes = [
                redeemed.spend,
                Update(email_key(address), assign=assign, remove=OF_THE_KNOWN, condition=_unused_since(seen)),
                Update(
                    profile_key(user_id),
                    assign={"is_verified": True},
                    remove=["api_keys"],
                    condition=Condition(_NO_MORE_KEYS, {"listed": len(keys)}),
                ),
                self._codes.forget(user_id, "verification"),
                *self._sessions.writes_to_close_all(user_id, keys=True, seen=seen),
                *keys,
                told,
            ]
            try:
                done = commit(writes)
            except ConditionFailed as refused:
                if refused.index == 0 or refused.item is None:
                    raise bad_code() from None
                continue  # somebody signed in or made a key: that has to end too
            self._outbox.send(told)
            return done
        raise Conflict(_BUSY)

    def change(
        self,
        user: Identity,
        current_password: str,
        new_password: str,
        commit: Commit[Done],
        *,
        request_id: str | None = None,
    ) -> Done:
        """Set a new password with the present one; every other session of the user ends, API keys stay.

        Returns what ``commit`` returns.

        Raises
        ------
        InvalidInput
            If the present password is wrong; if the new one must not be chosen, or is the present one.
        TooManyRequests
            If the present password was wrong too often in a row.
        Conflict
            If it was changed by another request in between.
        StateUnavailable
            If the database did not answer.
        """
        check_password(new_password, field="body/new_password")
        stored = self._sign_ins.check_password(user, current_password)
        if self._passwords.verify(new_password, stored):
            raise InvalidInput("body/new_password", "this is the current password; choose another")
        assign = {"password_hash": self._passwords.hash(new_password), f"attempts{counter_of(user.session_id)}": 0}
        for _ in range(_TRIES):
            entry = self._users.entry(user.email) or {}
            told, seen = self._told(user.email, entry, request_id), int(entry.get(SIGNED_IN_AT, 0))
            same = _unused_since(seen, "#password_hash = :stored", {"stored": stored})
            writes = [
                Update(email_key(user.email), assign=assign, condition=same),
                self._codes.forget(user.user_id, "reset"),
                *self._sessions.writes_to_close_all(user.user_id, keep=user.session_id, seen=seen),
                told,
            ]
            try:
                done = commit(writes)
            except ConditionFailed as refused:
                if refused.item is None or refused.item.get("password_hash") != stored:
                    raise Conflict("the password was changed by another request") from None
                continue  # somebody signed in: that session has to end too
            self._outbox.send(told)
            return done
        raise Conflict(_BUSY)

    def _told(self, address: str, entry: Item, request_id: str | None) -> Put:
        to = mail_address({"email": address, **entry})
        mail = Mail("password_changed", to, entry.get("full_name", ""), None, self._clock())
        return self._outbox.owed(mail, request_id=request_id)


def _unused_since(seen: int, text: str = "attribute_exists(pk)", values: Mapping[str, str] | None = None) -> Condition:
    """Return the condition that nobody signed in since the e-mail item with ``signed_in_at`` ``seen`` was read.

    A session that opens between the instant up to which all are ended and the write that ends them would live on.
    """
    if seen:
        return Condition(f"{text} AND #{SIGNED_IN_AT} = :seen", {**(values or {}), "seen": seen})
    return Condition(f"{text} AND attribute_not_exists(#{SIGNED_IN_AT})", values or {})
