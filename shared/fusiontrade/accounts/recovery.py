"""Choosing another password: with a mailed code, or with the present one.

Always true here: a new password ends sessions in the transaction that stores it (all of them after a reset, all but
the one that asked after a change) and makes codes that were mailed before worthless. Its owner is told by mail before
it is stored: a process that ends in between leaves a mail too many, and never a change that nobody was told of.
"""

from __future__ import annotations

from fusiontrade.accounts.attempts import OF_THE_KNOWN, counter_of
from fusiontrade.accounts.codes import Codes, bad_code
from fusiontrade.accounts.identity import Identity
from fusiontrade.accounts.mailings import Mailings
from fusiontrade.accounts.password_rules import check_password
from fusiontrade.accounts.passwords import Passwords
from fusiontrade.accounts.profiles import email_key, mail_address, profile_of_entry
from fusiontrade.accounts.registration import Asked
from fusiontrade.accounts.sessions import Sessions
from fusiontrade.accounts.sign_ins import SignIns
from fusiontrade.accounts.users import Users
from fusiontrade.clock import Clock
from fusiontrade.cloud.tables import Condition, ConditionFailed, Table, Update, Write
from fusiontrade.errors import Conflict, InvalidInput
from fusiontrade.mails.outbound import Mail, Outbound

__all__ = ["Recovery"]


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
        mailings: Mailings,
        outbound: Outbound,
        clock: Clock,
    ) -> None:
        self._table = table
        self._users = users
        self._passwords = passwords
        self._codes = codes
        self._sessions = sessions
        self._sign_ins = sign_ins
        self._mailings = mailings
        self._outbound = outbound
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

    def reset(self, code: str, new_password: str, *, request_id: str | None = None) -> None:
        """Set a new password with a mailed code; every session of the user ends.

        The code came to the mailbox, so the address counts as verified.

        Raises
        ------
        InvalidInput
            If the code does not work or the password must not be chosen.
        StateUnavailable
            If the database or the mail queue did not answer; nothing was changed.
        """
        check_password(new_password, field="body/new_password")
        redeemed = self._codes.check(code, "reset")
        assign = {"password_hash": self._passwords.hash(new_password), "attempts": 0, "is_verified": True}
        key = email_key(redeemed.address)
        verified, entry = self._users.writes_to_verify(redeemed.user_id, redeemed.address)
        del entry  # one transaction writes an item once
        self._tell(redeemed.address, request_id)
        try:
            self._table.transact(
                redeemed.spend,
                Update(key, assign=assign, remove=OF_THE_KNOWN, condition=Condition("attribute_exists(pk)")),
                verified,
                self._codes.forget(redeemed.user_id, "verification"),
                *self._sessions.writes_to_close_all(redeemed.user_id),
            )
        except ConditionFailed:
            raise bad_code() from None

    def change(
        self, user: Identity, current_password: str, new_password: str, *, request_id: str | None = None
    ) -> None:
        """Set a new password with the present one; every other session of the user ends.

        Raises
        ------
        InvalidInput
            If the present password is wrong; if the new one must not be chosen, or is the present one.
        TooManyRequests
            If the present password was wrong too often in a row.
        Conflict
            If it was changed by another request in between.
        StateUnavailable
            If the database or the mail queue did not answer; nothing was changed.
        """
        check_password(new_password, field="body/new_password")
        stored = self._sign_ins.check_password(user, current_password)
        if self._passwords.verify(new_password, stored):
            raise InvalidInput("body/new_password", "this is the current password; choose another")
        assign = {"password_hash": self._passwords.hash(new_password), f"attempts{counter_of(user.session_id)}": 0}
        same = Condition("#password_hash = :stored", {"stored": stored})
        self._tell(user.email, request_id)
        try:
            self._table.transact(
                Update(email_key(user.email), assign=assign, condition=same),
                self._codes.forget(user.user_id, "reset"),
                *self._sessions.writes_to_close_all(user.user_id, keep=user.session_id),
            )
        except ConditionFailed:
            raise Conflict("the password was changed by another request") from None

    def _tell(self, address: str, request_id: str | None) -> None:
        entry = self._users.entry(address) or {"email": address, "full_name": ""}
        mail = Mail("password_changed", mail_address(entry), entry["full_name"], None, self._clock())
        self._outbound.send(mail, request_id=request_id)
