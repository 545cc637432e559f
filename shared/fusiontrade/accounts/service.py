"""The accounts of one deployment: every part, made from the settings, sharing one table."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from fusiontrade.accounts.admission.gate import Gate
from fusiontrade.accounts.admission.sessions import Sessions
from fusiontrade.accounts.admission.sign_ins import SignIns
from fusiontrade.accounts.by_mail.mailings import Mailings
from fusiontrade.accounts.by_mail.outbox import Outbox
from fusiontrade.accounts.by_mail.recovery import Recovery
from fusiontrade.accounts.by_mail.registration import Registration
from fusiontrade.accounts.credentials.api_keys import ApiKeys
from fusiontrade.accounts.credentials.codes import Codes
from fusiontrade.accounts.credentials.passwords import Passwords
from fusiontrade.accounts.identity import Identity
from fusiontrade.accounts.users import Users
from fusiontrade.clock import Clock, system_clock
from fusiontrade.cloud.queues import Queue
from fusiontrade.cloud.tables import Table
from fusiontrade.derivation import Derivation
from fusiontrade.mails.outbound import Outbound
from fusiontrade.settings import Settings

__all__ = ["Accounts", "passwords_of"]


@dataclass(frozen=True)
class Accounts:
    """What the auth function calls."""

    users: Users
    registration: Registration
    recovery: Recovery
    sign_ins: SignIns
    sessions: Sessions
    api_keys: ApiKeys
    outbox: Outbox
    table: Table

    def sign_out(self, user: Identity) -> None:
        """End the session of ``user`` at once, whether it is still there or not."""
        self.table.transact(*self.sessions.writes_to_close(user.user_id, user.session_id))

    @classmethod
    def of(cls, settings: Settings, derivation: Derivation, gate: Gate, clock: Clock = system_clock) -> Accounts:
        """Return the accounts that ``settings`` point at, behind ``gate``; opens nothing."""
        table = Table(settings.need("accounts_table"))
        outbound = Outbound(Queue(settings.need("mail_queue_url")))
        return cls.made(table, passwords_of(settings), derivation, outbound, gate=gate, clock=clock)

    @classmethod
    def made(
        cls,
        table: Table,
        passwords: Passwords,
        derivation: Derivation,
        outbound: Outbound,
        *,
        gate: Gate,
        clock: Clock,
    ) -> Accounts:
        """Return the accounts on ``table`` that mail by ``outbound`` and ask ``gate``."""
        users = Users(table, passwords, clock)
        codes = Codes(table, derivation, clock)
        mailings = Mailings(table, derivation, outbound, clock)
        outbox = Outbox(table, outbound, clock)
        sessions = Sessions(table, derivation, clock, gate)
        api_keys = ApiKeys(table, derivation, clock)
        sign_ins = SignIns(
            table=table,
            passwords=passwords,
            sessions=sessions,
            derivation=derivation,
            outbound=outbound,
            outbox=outbox,
            clock=clock,
        )
        registration = Registration(
            table=table, users=users, passwords=passwords, codes=codes, mailings=mailings, clock=clock
        )
        recovery = Recovery(
            table=table,
            users=users,
            passwords=passwords,
            codes=codes,
            sessions=sessions,
            sign_ins=sign_ins,
            api_keys=api_keys,
            mailings=mailings,
            outbox=outbox,
            clock=clock,
        )
        return cls(users, registration, recovery, sign_ins, sessions, api_keys, outbox, table)


@cache
def passwords_of(settings: Settings) -> Passwords:
    """Return the process's one hasher; what it compares unknown addresses with is made once."""
    return Passwords.of(settings)
