"""The accounts of a test: a clock that stands still, mails that are kept, cheap passwords."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fusiontrade.accounts.admission.gate import Gate, gate_key
from fusiontrade.accounts.admission.sessions import Device
from fusiontrade.accounts.by_mail.registration import Asked
from fusiontrade.accounts.credentials.passwords import Passwords
from fusiontrade.accounts.identity import Identity
from fusiontrade.accounts.service import Accounts
from fusiontrade.cloud.tables import Table
from fusiontrade.derivation import Derivation
from fusiontrade.errors import StateUnavailable
from fusiontrade.mails.outbound import Mail, Outbound

START = 1_750_000_000_000
PASSWORD = "correct horse battery"
LAPTOP, PHONE = Device("Firefox/130", "laptop's address"), Device("Safari/18", "phone's address")


class StandingClock:
    """Gives ``now``, ms; moves when it is told to."""

    def __init__(self, now: int = START) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += round(seconds * 1000)


class TickingClock(StandingClock):
    """Moves on by a millisecond each time that it is looked at."""

    def __call__(self) -> int:
        self.now += 1
        return self.now


class KeptMails:
    """A mail queue that keeps what is sent, nobody's mails too; while it is ``away`` it takes nothing."""

    def __init__(self) -> None:
        self.all: list[Mail] = []
        self.away = False

    def send(self, body: Mapping[str, Any], *, request_id: str | None = None) -> None:
        if self.away:
            raise StateUnavailable("the queue does not answer", retry_after=5)
        self.all.append(Mail.from_body(body))

    @property
    def kinds(self) -> list[str]:
        return [mail.kind for mail in self.all]

    def code(self, kind: str, to: str = "ada@example.com") -> str:
        """The code of the newest mail of a kind to an address."""
        return next(mail.code or "" for mail in reversed(self.all) if (mail.kind, mail.to) == (kind, to))


def cheap_passwords() -> Passwords:
    """The least work that argon2id takes: what is tested is not how slow it is."""
    return Passwords(memory_kib=8, iterations=1)


def accounts_on(
    table: Table, derivation: Derivation, mails: KeptMails, clock: StandingClock, passwords: Passwords | None = None
) -> Accounts:
    gate = Gate(table, clock)
    return Accounts.made(table, passwords or cheap_passwords(), derivation, Outbound(mails), gate=gate, clock=clock)


_count = iter(range(1_000_000_000))


def asked(asker: Device = LAPTOP) -> Asked:
    """A request that nobody has made before."""
    number = next(_count)
    return Asked(f"{number:032x}", f"nonce {number}", asker)


def register(
    accounts: Accounts, email: str = "ada@example.com", password: str = PASSWORD, name: str = "Ada",
    asker: Device = LAPTOP,
) -> None:  # fmt: skip
    accounts.table.transact(*accounts.registration.register(email, password, name, asked(asker)))


def forgot(accounts: Accounts, email: str = "ada@example.com", asker: Device = LAPTOP) -> None:
    accounts.table.transact(*accounts.recovery.forgot(email, asked(asker)))


def resend(accounts: Accounts, email: str = "ada@example.com", asker: Device = LAPTOP) -> None:
    accounts.table.transact(*accounts.registration.resend(email, asked(asker)))


def reset(accounts: Accounts, code: str, new_password: str) -> None:
    accounts.recovery.reset(code, new_password, lambda writes: accounts.table.transact(*writes))


def change(accounts: Accounts, user: Identity, current_password: str, new_password: str) -> None:
    accounts.recovery.change(user, current_password, new_password, lambda writes: accounts.table.transact(*writes))


def lives(table: Table, user_id: str, session_id: str) -> bool:
    """Whether the gate lets a session live, without counting a request."""
    return Gate.lives(table.get(gate_key(user_id)) or {}, session_id)


def round_trips(action: Callable[[], object]) -> int:
    """How many calls of the database ``action`` makes."""
    from fusiontrade.cloud.session import client

    calls: list[str] = []

    def count(**event: object) -> None:
        calls.append(str(event["event_name"]))

    dynamodb = client("dynamodb")
    dynamodb.meta.events.register("before-send.dynamodb.*", count)
    try:
        action()
    finally:
        dynamodb.meta.events.unregister("before-send.dynamodb.*", count)
    return len(calls)
