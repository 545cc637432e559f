"""Registering, and proving that an address is one's own.

Always true here: registering hashes, counts, reads once, sends one message and writes one transaction of the same size
for every address; who asks learns nothing about it. The owner of an account that is there is told by mail.
"""

from __future__ import annotations

from dataclasses import dataclass

from fusiontrade.accounts.codes import Codes, bad_code
from fusiontrade.accounts.mailings import Mailings
from fusiontrade.accounts.password_rules import check_password
from fusiontrade.accounts.passwords import Passwords
from fusiontrade.accounts.profiles import mail_address, profile_of_entry
from fusiontrade.accounts.users import Users
from fusiontrade.clock import Clock
from fusiontrade.cloud.tables import ConditionFailed, Table, Write
from fusiontrade.cloud.values import Item
from fusiontrade.mails.outbound import Mail

__all__ = ["Asked", "Registration"]


@dataclass(frozen=True)
class Asked:
    """What a request that mails a code is known by.

    Attributes
    ----------
    user_id : str
        Of the user that the request would make: 32 hexadecimal digits.
    nonce : str
        What its code is derived from: the same for a request that is repeated.
    request_id : str or None
        What the message carries.
    """

    user_id: str
    nonce: str
    request_id: str | None = None


class Registration:
    """Makes unverified users and verifies them."""

    def __init__(
        self, *, table: Table, users: Users, passwords: Passwords, codes: Codes, mailings: Mailings, clock: Clock
    ) -> None:
        self._table = table
        self._users = users
        self._passwords = passwords
        self._codes = codes
        self._mailings = mailings
        self._clock = clock

    def register(self, email: str, password: str, full_name: str, asked: Asked) -> list[Write]:
        """Mail a code, or the owner of the account that is there, and return the writes that make it so.

        The writes fail with `ConditionFailed` where the address was registered in between; then it is asked again.

        Raises
        ------
        InvalidInput
            If the password must not be chosen.
        StateUnavailable
            If the database or the mail queue did not answer; asking again does what is missing.
        """
        check_password(password)
        hashed = self._passwords.hash(password)
        may_send = self._mailings.may_send("register", email)
        there = self._users.entry(email)
        if there is None:
            fresh = self._users.new_profile(email, full_name, user_id=asked.user_id)
            code, put = self._codes.fresh(fresh.id, fresh.email, "verification", asked.nonce)
            writes = [*self._users.writes_to_create(fresh, hashed, mail_to=email.strip()), put]
            mail: Mail | None = Mail("verification", email.strip(), full_name, code, self._clock())
        else:
            last, mail = self._to_owner(there, asked.nonce)
            writes = [self._mailings.decoy(), self._mailings.decoy(), last if may_send else self._mailings.decoy()]
        self._mailings.send(mail if may_send else None, request_id=asked.request_id)
        return writes

    def resend(self, email: str, asked: Asked) -> list[Write]:
        """Mail a new code where the address has an account that is not verified, and return the writes for it."""
        may_send = self._mailings.may_send("resend", email)
        there = self._users.entry(email)
        write: Write = self._mailings.decoy()
        mail = None
        if may_send and there is not None and not there["is_verified"]:
            write, mail = self._to_owner(there, asked.nonce)
        self._mailings.send(mail, request_id=asked.request_id)
        return [write]

    def verify(self, code: str) -> None:
        """Mark the address that ``code`` was mailed to as verified.

        Raises
        ------
        InvalidInput
            If the code is wrong, used, too old, or replaced by a newer one.
        """
        redeemed = self._codes.check(code, "verification")
        try:
            self._table.transact(redeemed.spend, *self._users.writes_to_verify(redeemed.user_id, redeemed.address))
        except ConditionFailed:
            raise bad_code() from None

    def _to_owner(self, entry: Item, nonce: str) -> tuple[Write, Mail]:
        owner, to = profile_of_entry(entry), mail_address(entry)
        if owner.is_verified:
            return self._mailings.decoy(), Mail("already_registered", to, owner.full_name, None, self._clock())
        code, put = self._codes.fresh(owner.id, owner.email, "verification", nonce)
        return put, Mail("verification", to, owner.full_name, code, self._clock())
