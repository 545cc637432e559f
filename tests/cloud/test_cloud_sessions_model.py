"""Sessions against a model of their rules: opened, rotated, replayed, closed, in any order and at any time."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    rule,
    run_state_machine_as_test,
)

from fusiontrade.accounts.admission.gate import Gate
from fusiontrade.accounts.admission.limits import Limit
from fusiontrade.accounts.admission.sessions import Device, Sessions
from fusiontrade.cloud.tables import Table
from fusiontrade.derivation import Derivation
from fusiontrade.errors import NotFound, Unauthenticated

GRACE, WEEK, MONTH, ACCESS = 10_000, 7 * 86_400_000, 30 * 86_400_000, 3_600_000
DEVICES = st.sampled_from([Device("phone", "a"), Device("laptop", "a"), Device("phone", "b")])
USERS = st.sampled_from(["u1", "u2"])
STEPS = int(os.environ.get("ACCOUNTS_MACHINE_STEPS") or 500)
"""A few by default: `test_accounts_machine` goes through the same rules."""

UNLIMITED = {"refresh": Limit(10**9, 60), "read": Limit(10**9, 60)}


@dataclass(frozen=True)
class Token:
    session: str
    generation: int
    text: str = field(hash=False, compare=False)


@dataclass
class Family:
    """What the rules know about one session; instants are ms."""

    user: str
    opened_at: int
    expires_at: int
    generation: int = 0
    used_at: int = 0
    device: Device | None = None
    ended_at: int | None = None
    newest: Token | None = None

    def lives(self, now: int) -> bool:
        return self.ended_at is None and self.expires_at // 1000 > now // 1000


class SessionRules(RuleBasedStateMachine):
    """One table, two users; time moves only where a rule says so, but by a millisecond at each step."""

    table: Table
    derivation: Derivation
    round = 0
    tokens = Bundle("tokens")

    @initialize()
    def begin(self) -> None:
        SessionRules.round += 1
        self.now = 1_750_000_000_000
        self.families: dict[str, Family] = {}
        self.gate = Gate(self.table, self.clock, UNLIMITED)
        self.sessions = Sessions(self.table, self.derivation, self.clock, self.gate)

    def clock(self) -> int:
        return self.now

    def of(self, user: str) -> str:
        return f"{user}x{SessionRules.round}"

    @rule(target=tokens, user=USERS, device=DEVICES)
    def open(self, user: str, device: Device) -> Token:
        self.now += 1
        opened, writes = self.sessions.writes_to_open(self.of(user), device)
        self.table.transact(*writes)
        token = Token(opened.session_id, 0, opened.refresh_token)
        self.families[opened.session_id] = Family(self.of(user), self.now, self.now + WEEK, newest=token)
        return token

    @rule(target=tokens, token=tokens, device=DEVICES)
    def present(self, token: Token, device: Device) -> Token:
        """Use any token that was ever given out, from any device."""
        return self.used(token, device)

    @rule(
        target=tokens,
        token=tokens,
        device=DEVICES,
        again=DEVICES,
        seconds=st.sampled_from([0, 1, 9, 10, 11]),
        between=st.booleans(),
    )
    def present_twice(self, token: Token, device: Device, again: Device, seconds: int, between: bool) -> Token:
        """Use the newest token of a session, perhaps its successor, and soon the same one again."""
        newest = self.families[token.session].newest or token
        successor = self.used(newest, device)
        self.now += seconds * 1000 - 1
        if between:
            self.used(successor, device)
        return self.used(newest, again)

    @rule(
        target=tokens,
        token=tokens,
        device=DEVICES,
        days=st.sampled_from([1, 6, 7]),
        times=st.sampled_from([1, 2, 5, 6]),
    )
    def use_regularly(self, token: Token, device: Device, days: int, times: int) -> Token:
        """Use the newest token every few days."""
        for _ in range(times):
            self.now += days * 86_400_000 - 1000
            token = self.used(self.families[token.session].newest or token, device)
        return token

    def used(self, token: Token, device: Device) -> Token:
        self.now += 1
        family = self.families[token.session]
        successor = self.expected(family, token, device)
        try:
            rotated = self.sessions.rotate(token.text, device)
        except Unauthenticated:
            assert successor is None
            return token
        assert successor == token.generation + 1
        assert (rotated.user_id, rotated.session_id) == (family.user, token.session)
        given = Token(token.session, successor, rotated.refresh_token)
        if family.newest is not None and family.newest.generation == successor:
            assert rotated.refresh_token == family.newest.text
        family.newest = given
        return given

    def expected(self, family: Family, token: Token, device: Device) -> int | None:
        """Say what the rules give for ``token``, and note what its use does to the family."""
        if not family.lives(self.now):
            return None
        if token.generation == family.generation:
            family.generation += 1
            family.used_at, family.device = self.now, device
            family.expires_at = min(self.now + WEEK, family.opened_at + MONTH)
            return family.generation
        is_retry = token.generation + 1 == family.generation and device == family.device
        if is_retry and self.now - family.used_at <= GRACE:
            return family.generation
        family.ended_at = self.now
        return None

    @rule(token=tokens)
    def close(self, token: Token) -> None:
        self.now += 1
        family = self.families[token.session]
        if family.ended_at is None:
            self.sessions.close(family.user, token.session)
            family.ended_at = self.now
            return
        with suppress(NotFound):  # what a close of all ended is still there to be closed by name
            self.sessions.close(family.user, token.session)

    @rule(token=consumes(tokens))
    def close_of_somebody_else(self, token: Token) -> None:
        with pytest.raises(NotFound):
            self.sessions.close("somebody-else", token.session)

    @rule(user=USERS, keep=st.none() | tokens)
    def close_all(self, user: str, keep: Token | None) -> None:
        self.now += 1
        kept = keep.session if keep is not None and self.families[keep.session].user == self.of(user) else None
        if kept is not None and self.families[kept].ended_at is not None:
            kept = None
        self.table.transact(*self.sessions.writes_to_close_all(self.of(user), keep=kept))
        for name, family in self.families.items():
            if family.user == self.of(user) and family.ended_at is None and name != kept:
                family.ended_at = self.now

    @rule(seconds=st.sampled_from([1, 8, 11, 600, 86_400]))
    def wait(self, seconds: int) -> None:
        self.now += seconds * 1000

    @rule(token=tokens)
    def ask(self, token: Token) -> None:
        """Use an access token of the session, as old as the rules let one be."""
        family = self.families[token.session]
        if family.ended_at is not None and self.now - family.ended_at > ACCESS:
            return
        try:
            self.gate.admit(family.user, "read", session_id=token.session)
        except Unauthenticated:
            assert family.ended_at is not None
        else:
            assert family.ended_at is None

    @rule(user=USERS)
    def list(self, user: str) -> None:
        mine = {name: family for name, family in self.families.items() if family.user == self.of(user)}
        living = {name for name, family in mine.items() if family.lives(self.now)}
        assert {session.id for session in self.sessions.of_user(self.of(user))} == living


def test_steps_in_any_order_find_no_disagreement_with_the_rules(accounts_table: Table, derivation: Derivation) -> None:
    class OnThisTable(SessionRules):
        table = accounts_table

    OnThisTable.derivation = derivation
    steps: dict[str, Any] = {"max_examples": -(-STEPS // 50), "stateful_step_count": 50}
    checks = list(HealthCheck)
    run_state_machine_as_test(
        OnThisTable,
        settings=settings(**steps, deadline=None, derandomize=True, database=None, suppress_health_check=checks),
    )
