"""Registering, and proving that an address is one's own.

Always true here: registering counts, reads once, hashes once, sends one message and writes one transaction of the same
size for every address; who asks learns nothing about it. The owner of an account that is there is told by mail. An
address that was registered with two passwords is proved by choosing a third: a code that only verifies would let the
owner vouch for a password that somebody else chose.
"""

from __future__ import annotations

from dataclasses import dataclass

from fusiontrade.accounts.admission.sessions import Device
from fusiontrade.accounts.by_mail.mailings import Mailings
from fusiontrade.accounts.credentials.codes import Codes, Purpose, bad_code
from fusiontrade.accounts.credentials.password_rules import check_password
from fusiontrade.accounts.credentials.passwords import Passwords
from fusiontrade.accounts.profiles import email_key, mail_address, profile_of_entry, written_email
from fusiontrade.accounts.users import Users
from fusiontrade.clock import Clock
from fusiontrade.cloud.tables import Condition, ConditionFailed, Table, Update, Write
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
    asker : Device
        Where it comes from.
    request_id : str or None
        What the message carries.
    """

    user_id: str
    nonce: str
    asker: Device
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
        may_send = self._mailings.may_send("register", email, asked.asker)
        there = self._users.entry(email)
        if there is None:
            fresh = self._users.new_profile(email, full_name, user_id=asked.user_id)
            code, put = self._codes.fresh(fresh.id, fresh.email, "verification", asked.nonce)
            hashed = self._passwords.hash(password)
            writes = [*self._users.writes_to_create(fresh, hashed, mail_to=email), put]
            mail: Mail | None = Mail("verification", written_email(email), full_name, code, self._clock())
        else:
            writes, mail = self._again(there, password, asked.nonce)
            if not may_send:
                writes = self._decoys(len(writes))
        self._mailings.send(mail if may_send else None, request_id=asked.request_id)
        return writes

    def resend(self, email: str, asked: Asked) -> list[Write]:
        """Mail a new code where the address has an account that is not verified, and return the writes for it."""
        may_send = self._mailings.may_send("resend", email, asked.asker)
        there = self._users.entry(email)
        write: Write = self._mailings.decoy()
        mail = None
        if may_send and there is not None and not there["is_verified"]:
            write, mail = self._code_for(there, asked.nonce)
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

    def _again(self, entry: Item, password: str, nonce: str) -> tuple[list[Write], Mail]:
        """Return what registering an address does that has an account; one hashing, as for one that has none."""
        if entry["is_verified"]:
            self._passwords.hash(password)
            mail = Mail("already_registered", mail_address(entry), entry["full_name"], None, self._clock())
            return self._decoys(3), mail
        if self._passwords.verify(password, entry["password_hash"]):
            put, mail = self._code_for(entry, nonce)
            return [*self._decoys(2), put], mail
        put, mail = self._code_for({**entry, "is_disputed": True}, nonce)
        unverified = Condition("#is_verified = :no", {"no": False})
        mark = Update(email_key(entry["email"]), assign={"is_disputed": True}, condition=unverified)
        return [mark, self._codes.forget(entry["user_id"], "verification"), put], mail

    def _code_for(self, entry: Item, nonce: str) -> tuple[Write, Mail]:
        """Return a new code that proves the address of an unverified account, as it is written and as it is mailed."""
        owner = profile_of_entry(entry)
        kind: Purpose = "reset" if entry.get("is_disputed") else "verification"
        code, put = self._codes.fresh(owner.id, owner.email, kind, nonce)
        return put, Mail(kind, mail_address(entry), owner.full_name, code, self._clock())

    def _decoys(self, count: int) -> list[Write]:
        return [self._mailings.decoy() for _ in range(count)]
