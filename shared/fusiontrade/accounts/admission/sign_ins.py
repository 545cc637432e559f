"""Signing in: counted, in constant work, in three round trips at most, whoever it is.

A sign-in counts at the network address (`SignIns.count_at`), counts at the e-mail item and reads from it all that the
answer needs, checks the password, and opens a session in the transaction that forgets the wrong attempts. One that
fails counts twice: at the e-mail item and at the item of addresses without an account, of which one write happens and
the other is refused, so known and unknown addresses take as many calls, one hashing and the same words.

A device that signed in before has counters of its own, at the account and instead of its network address
(`fusiontrade.accounts.credentials.known_devices`): however often strangers guess, it signs in at once.

Always true here: an attempt is counted before the password is looked at; a right password after the wait always works.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass

from fusiontrade.accounts.admission.gate import LimitReached, session_began
from fusiontrade.accounts.admission.limits import Allowance, Limit
from fusiontrade.accounts.admission.sessions import Device, Opened, Sessions
from fusiontrade.accounts.by_mail.outbox import Outbox
from fusiontrade.accounts.credentials.attempts import (
    DEVICES_AFTER,
    PER_ADDRESS,
    STRANGERS,
    Patience,
    attempt,
    counter_of,
    slow_down,
)
from fusiontrade.accounts.credentials.known_devices import KnownDevices
from fusiontrade.accounts.credentials.passwords import Passwords
from fusiontrade.accounts.identity import Identity
from fusiontrade.accounts.profiles import (
    SIGNED_IN_AT,
    Profile,
    email_key,
    mail_address,
    normal_email,
    profile_of_entry,
)
from fusiontrade.clock import Clock
from fusiontrade.cloud.tables import Condition, ConditionFailed, Table, Update, Write
from fusiontrade.cloud.values import Item
from fusiontrade.derivation import Derivation
from fusiontrade.errors import InvalidInput, Unauthenticated, Unavailable
from fusiontrade.mails.outbound import Mail, Outbound

__all__ = ["SignIns", "SignedIn"]

_GROUP = "sign_in"
_WINDOW = Limit(PER_ADDRESS.free, 900)
_FORGET_ATTEMPTS_SECONDS = 30 * 24 * 3600
"""An account forgets nothing; a stranger who comes back after this would see which address does."""

_MOST_DEVICES = 20
_MOST_CHARACTERS = 200

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SignedIn:
    """Who signed in, the session that was opened, and what the device is known by the next time."""

    profile: Profile
    opened: Opened
    device_token: str


class SignIns:
    """Signs users of one Accounts table in; ``patience`` is that with one network address."""

    def __init__(
        self,
        *,
        table: Table,
        passwords: Passwords,
        sessions: Sessions,
        derivation: Derivation,
        outbound: Outbound,
        outbox: Outbox,
        clock: Clock,
        patience: Patience = PER_ADDRESS,
    ) -> None:
        self._table = table
        self._passwords = passwords
        self._sessions = sessions
        self._derivation = derivation
        self._outbound = outbound
        self._outbox = outbox
        self._clock = clock
        self._patience = patience
        self._known_devices = KnownDevices(derivation, clock)

    def count_at(self, device: Device, email: str) -> Allowance:
        """Count an attempt at the network address it comes from and return how many are left: one round trip.

        A device that signed in with this e-mail address before is counted by itself.

        Raises
        ------
        LimitReached
            If there were too many from there; each next one waits longer.
        """
        now = self._clock()
        end = _WINDOW.window_end(now)
        known = self._known_devices.known(normal_email(email), device.token)
        key = {"pk": f"ADDRESS#{device.address if known is None else known}", "sk": f"SIGN-IN#{end}"}
        try:
            item = self._table.update(attempt(key, now, patience=self._patience, expires_at=end + _WINDOW.seconds))
        except ConditionFailed as refused:
            wait = slow_down(refused.item or {}, now, patience=self._patience).retry_after
            raise LimitReached(Allowance(_GROUP, _WINDOW, 0, wait)) from None
        left = max(0, self._patience.free - int(item["attempts"]))
        return Allowance(_GROUP, _WINDOW, left, end - now // 1000)

    def sign_in(self, email: str, password: str, device: Device, *, request_id: str | None = None) -> SignedIn:
        """Open a session for the user whose address and password these are.

        Raises
        ------
        Unauthenticated
            If they are not; in the same words and after the same work, whether the address is known or not.
        TooManyRequests
            If there were too many wrong ones in a row for this address, from this device or from strangers.
        StateUnavailable
            If the database or the derivation secret does not answer.
        """
        address = normal_email(email)
        entry = self._count_by(address, device)
        if entry is None:
            self._count_for_nobody(address)
        if not self._passwords.verify(password, None if entry is None else entry["password_hash"]):
            if entry is not None:
                self._as_for_nobody(address)
            raise _wrong()
        if entry is None:
            raise _wrong()
        return self._signed_in(entry, password, device, request_id)

    def check_password(self, user: Identity, password: str) -> str:
        """Count an attempt of a user's session and return the stored hash if the password is right.

        Raises
        ------
        InvalidInput
            If it is not.
        TooManyRequests
            If there were too many wrong ones in a row.
        """
        entry = self._count_for(user.email, counter_of(user.session_id))
        if entry is None or not self._passwords.verify(password, entry["password_hash"]):
            raise InvalidInput("body/current_password", "the current password is wrong")
        return str(entry["password_hash"])

    def _count_by(self, address: str, device: Device) -> Item | None:
        """Count one attempt of a device, as a stranger's where the account knows it no more: a round trip more."""
        known = self._known_devices.known(address, device.token)
        if known is None:
            return self._count_for(address, STRANGERS)
        try:
            return self._count_for(address, counter_of(known), self._known_devices.made_at(device.token))
        except _NoMoreKnown:
            return self._count_for(address, STRANGERS)

    def _count_for(self, address: str, counter: str, made_at: int | None = None) -> Item | None:
        """Count one attempt and return the e-mail item, None for an address without account; may raise the 429.

        Raises `_NoMoreKnown` where tokens of devices that were made at ``made_at`` are no good any more.
        """
        now = self._clock()
        try:
            return self._table.update(
                attempt(email_key(address), now, counter=counter, of_account=True, made_at=made_at)
            )
        except ConditionFailed as refused:
            if refused.item is None:
                return None
            if made_at is not None and int(refused.item.get(DEVICES_AFTER, -1)) >= made_at:
                raise _NoMoreKnown from None
            self._as_for_nobody(address)
            raise slow_down(refused.item, now, counter=counter) from None

    def _count_for_nobody(self, address: str) -> None:
        now = self._clock()
        expires_at = now // 1000 + _FORGET_ATTEMPTS_SECONDS
        try:
            self._table.update(attempt(_attempts_key(address), now, expires_at=expires_at))
        except ConditionFailed as refused:
            raise slow_down(refused.item or {}, now) from None

    def _as_for_nobody(self, address: str) -> None:
        """Make the call that an address without account makes; it is refused, as the other one is there."""
        with suppress(ConditionFailed):
            self._table.update(attempt(_attempts_key(address), self._clock(), of_account=True))

    def _signed_in(self, entry: Item, password: str, device: Device, request_id: str | None) -> SignedIn:
        """Forget the wrong attempts and open a session, in one transaction; the password may not have changed."""
        profile, stored = profile_of_entry(entry), entry["password_hash"]
        known = list(entry.get("devices", []))
        name = self._derivation.mac("device", profile.id, device.fingerprint).hex()[:32]
        devices = [*(each for each in known if each != name), name][-_MOST_DEVICES:]
        opened, writes = self._sessions.writes_to_open(profile.id, device)
        after = int(entry.get(DEVICES_AFTER, -1))
        device_known = self._known_devices.known(profile.email, device.token)
        is_good = device_known is not None and self._known_devices.made_at(device.token) > after
        counter = counter_of(device_known) if is_good else STRANGERS
        began = max(session_began(opened.session_id, 0), int(entry.get(SIGNED_IN_AT, 0)))
        assign = {f"attempts{counter}": 0, "devices": devices, SIGNED_IN_AT: began}
        if self._passwords.is_outdated(stored):
            assign["password_hash"] = self._passwords.hash(password)
        same = Condition("#password_hash = :stored", {"stored": stored})
        if known and name not in known:
            writes += self._tell(entry, device, request_id)
        try:
            self._table.transact(Update(email_key(profile.email), assign=assign, condition=same), *writes)
        except ConditionFailed as changed:
            if changed.item is None or not self._passwords.verify(password, changed.item["password_hash"]):
                raise _wrong() from None
            return self._signed_in(changed.item, password, device, request_id)  # it was only hashed anew
        return SignedIn(profile, opened, self._known_devices.token(profile.email, device.token, after=after))

    def _tell(self, entry: Item, device: Device, request_id: str | None) -> list[Write]:
        """Tell the owner before the session is there; where the queue is away, return the write that owes the mail.

        So no sign-in takes a round trip more, none is kept from its owner, and none waits for the queue.
        """
        agent = device.user_agent[:_MOST_CHARACTERS] or None
        mail = Mail("new_sign_in", mail_address(entry), entry["full_name"], None, self._clock(), agent)
        try:
            self._outbound.send(mail, request_id=request_id)
        except Unavailable:
            logger.warning("the mail about a new sign-in was not queued; it is owed", exc_info=True)
            return [self._outbox.owed(mail, request_id=request_id)]
        return []


class _NoMoreKnown(Exception):
    """The account knew the device that tries, until its password was reset."""


def _wrong() -> Unauthenticated:
    return Unauthenticated("the e-mail address or the password is wrong")


def _attempts_key(address: str) -> dict[str, str]:
    return {"pk": f"ATTEMPTS#{address}", "sk": "ATTEMPTS"}
