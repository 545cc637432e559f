"""Accounts against a model of their rules: requests in any order, by the right and the wrong clients, at any time.

In-process, on moto's table in memory. ``ACCOUNTS_MACHINE_STEPS=2000`` runs that many steps, other ones each time;
by default it is a few, always the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fusiontrade.accounts.admission.gate import Gate
from fusiontrade.accounts.admission.sessions import GRACE_SECONDS, Device
from fusiontrade.accounts.by_mail.mailings import MOST_FROM_ONE, WINDOW_SECONDS
from fusiontrade.accounts.credentials.attempts import counter_of
from fusiontrade.accounts.credentials.codes import LIFE_SECONDS, MOST_TRIES
from fusiontrade.accounts.identity import Identity
from fusiontrade.cloud.session import forget_clients
from fusiontrade.cloud.tables import Table
from fusiontrade.derivation import Derivation
from fusiontrade.errors import InvalidInput, TooManyRequests, Unauthenticated
from tests.support import account_parts as parts
from tests.support.accounts_model import ModelCode, ModelSession, ModelUser
from tests.support.aws_fixtures import DERIVATION_SECRET
from tests.support.emulator import make_table

ASKED = os.environ.get("ACCOUNTS_MACHINE_STEPS")
STEPS = int(ASKED or 150)
STEPS_A_RUN, LEAST_OF_THEM = 50, 36
"""A run has as many steps, or fewer where hypothesis ends it early; on average it has more than the second number."""

EMAILS = ("ada@example.com", "bob@example.com", "eve@example.com")
PASSWORDS = ("correct horse battery", "another horse battery", "a third horse battery")
DEVICES = (parts.LAPTOP, parts.PHONE)
TOO_LONG = "x" * 129

emails, passwords, devices = st.sampled_from(EMAILS), st.sampled_from(PASSWORDS), st.sampled_from(DEVICES)
kinds = st.sampled_from(["verification", "reset"])
picks = st.integers(0, 1_000_000)


class AccountsMachine(RuleBasedStateMachine):
    """Every rule does one thing to the accounts and to the model, and compares what came of it."""

    @initialize()
    def begin(self) -> None:
        name = f"Accounts-{next(_numbers)}"
        make_table("AccountsTable", name)
        self.table = Table(name)
        self.clock, self.mails = parts.StandingClock(), parts.KeptMails()
        self.accounts = parts.accounts_on(self.table, Derivation(lambda: DERIVATION_SECRET), self.mails, self.clock)
        self.users: dict[str, ModelUser] = {}
        self.looked = 0
        self.sent: dict[tuple[str, str, int], int] = {}
        self.register(EMAILS[0], PASSWORDS[0])
        self.login(EMAILS[0], PASSWORDS[0], parts.LAPTOP)

    # --- what the model says -------------------------------------------------------------------------------------

    def may_mail(self, occasion: str, email: str) -> bool:
        window = (occasion, email, self.clock.now // 1000 // WINDOW_SECONDS)
        self.sent[window] = self.sent.get(window, 0) + 1
        return self.sent[window] <= MOST_FROM_ONE

    def expect_code(self, email: str, kind: str) -> None:
        user, mail = self.users[email], self.mails.all[-1]
        assert (mail.kind, mail.to) == (kind, email)
        if kind in user.codes:
            user.dead_codes.append(user.codes[kind].text)
        life = LIFE_SECONDS["reset" if kind == "reset" else "verification"]
        user.codes[kind] = ModelCode(mail.code or "", self.clock.now // 1000 + life)

    def living(self) -> list[tuple[str, ModelSession]]:
        return [(email, session) for email, user in self.users.items() for session in user.sessions]

    def picked_session(self, pick: int) -> tuple[str, ModelSession]:
        """A session, mostly one that lives where there is one."""
        every = self.living()
        alive = [(email, session) for email, session in every if session.lives(self.clock.now)]
        chosen: tuple[str, ModelSession] = _picked(alive if alive and pick % 5 else every, pick // 5)
        return chosen

    def user_id(self, email: str) -> str:
        user = self.users[email]
        if not user.id:
            profile = self.accounts.users.by_email(email)
            assert profile is not None
            user.id = profile.id
        return user.id

    # --- rules ---------------------------------------------------------------------------------------------------

    @rule(
        seconds=st.sampled_from([0.001, 1, 2, 5, 11, 60, 300, 16 * 60, 3600, 25 * 3600, 8 * 24 * 3600, 90 * 24 * 3600])
    )
    def wait(self, seconds: float) -> None:
        self.clock.wait(seconds)

    @rule(email=emails, password=passwords)
    def register(self, email: str, password: str) -> None:
        parts.register(self.accounts, email, password)
        may = self.may_mail("register", email)
        is_new = email not in self.users
        user = self.users.setdefault(email, ModelUser(password))
        if not may:
            assert self.mails.kinds[-1] == "nobody"
            if is_new:  # a code was written, and nobody has it
                user.codes["verification"] = ModelCode("nobody has it", self.clock.now // 1000 + 24 * 3600)
        elif user.is_verified:
            assert (self.mails.kinds[-1], self.mails.all[-1].to) == ("already_registered", email)
        else:
            if password != user.password:
                user.is_disputed = True
                user.spend("verification")
            self.expect_code(email, "reset" if user.is_disputed else "verification")

    @rule(email=emails, occasion=st.sampled_from(["resend", "forgot"]))
    def ask_for_a_code(self, email: str, occasion: str) -> None:
        (parts.resend if occasion == "resend" else parts.forgot)(self.accounts, email)
        may, user = self.may_mail(occasion, email), self.users.get(email)
        if not may or user is None or (occasion == "resend" and user.is_verified):
            assert self.mails.kinds[-1] == "nobody"
        else:
            self.expect_code(email, "reset" if occasion == "forgot" or user.is_disputed else "verification")

    @precondition(lambda self: any(user.codes for user in self.users.values()))
    @rule(pick=picks)
    def redeem_the_newest(self, pick: int) -> None:
        email, kind = _picked([(email, kind) for email, user in self.users.items() for kind in user.codes], pick)
        self.redeem(email, kind, self.users[email].codes[kind].text, pick)

    @precondition(lambda self: any(user.dead_codes for user in self.users.values()))
    @rule(pick=picks, kind=kinds)
    def redeem_a_dead_one(self, pick: int, kind: str) -> None:
        email, text = _picked([(email, text) for email, user in self.users.items() for text in user.dead_codes], pick)
        self.redeem(email, kind, text, pick)

    @precondition(lambda self: any(user.codes for user in self.users.values()))
    @rule(pick=picks, other=kinds, times=st.sampled_from([1, 3, MOST_TRIES]))
    def guess_a_code(self, pick: int, other: str, times: int) -> None:
        """Send wrong codes of a user whom a right one belongs to, or the right one to the wrong place."""
        email, kind = _picked([(email, kind) for email, user in self.users.items() for kind in user.codes], pick)
        text = self.users[email].codes[kind].text
        for _ in range(times):
            self.redeem(email, kind, self.user_id(email) + "w" * 32, pick)
        if other != kind:
            self.redeem(email, other, text, pick)

    def redeem(self, email: str, kind: str, text: str, pick: int) -> None:
        user = self.users[email]
        works = user.code_works(kind, text, self.clock.now)
        try:
            if kind == "reset":
                parts.reset(self.accounts, text, PASSWORDS[pick % 3])
            else:
                self.accounts.registration.verify(text)
        except InvalidInput:
            assert not works
            return
        assert works
        user.spend(kind)
        user.is_verified = True
        if kind == "reset":
            user.spend("verification")
            user.password = PASSWORDS[pick % 3]
            user.attempts.clear()
            user.devices_after = self.clock.now // 1000
            user.end_all()
            assert self.mails.kinds[-1] == "password_changed"
            self.clock.wait(0.001)  # a session opened in the same millisecond would be over

    @precondition(lambda self: self.users)
    @rule(pick=picks, device=devices)
    def login_with_the_right_password(self, pick: int, device: Device) -> None:
        email = _picked(sorted(self.users), pick)
        self.login(email, self.users[email].password, device, self.token_of_some(pick))

    @rule(
        email=emails,
        password=st.sampled_from([*PASSWORDS, TOO_LONG]),
        times=st.sampled_from([1, 2, 5, 8]),
        pick=picks,
    )
    def login_with_a_guess(self, email: str, password: str, times: int, pick: int) -> None:
        for _ in range(times):
            self.login(email, password, parts.PHONE, self.token_of_some(pick))

    def token_of_some(self, pick: int) -> str:
        """What some user's device is known by, or nothing."""
        tokens = [token for user in self.users.values() for token, _ in user.device_tokens]
        return _picked(tokens, pick // 2) if tokens and pick % 2 else ""

    def login(self, email: str, password: str, device: Device, token: str = "") -> None:
        self.clock.wait(0.001)
        user = self.users.get(email)
        counter = "" if user is None else user.counter(token, self.clock.now)
        allowed = user is None or user.attempt_allowed(counter, self.clock.now)
        is_right = user is not None and allowed and password == user.password
        try:
            signed = self.accounts.sign_ins.sign_in(email, password, replace(device, token=token))
        except TooManyRequests:
            assert not allowed or user is None
            return
        except Unauthenticated:
            assert allowed
            assert not is_right
            return
        assert is_right
        assert user is not None
        assert signed.profile.is_verified is user.is_verified
        user.attempts[counter] = 0, user.attempts[counter][1]
        if counter:
            assert signed.device_token[:32] == token[:32]
        user.device_known_by(signed.device_token, self.clock.now)
        now = self.clock.now
        opened = signed.opened
        user.sessions.append(ModelSession(opened.session_id, now, now, device, [opened.refresh_token]))

    @precondition(lambda self: self.living())
    @rule(pick=picks, device=devices, age=st.sampled_from([0, 0, 1, 1, 2]))
    def refresh(self, pick: int, device: Device, age: int) -> None:
        """Use the newest token of a session, or one that was used before."""
        _, session = self.picked_session(pick)
        self.use(session, device, age)

    def use(self, session: ModelSession, device: Device, age: int) -> None:
        age = min(age, len(session.tokens) - 1)
        lives, now = session.lives(self.clock.now), self.clock.now
        is_retry = age == 1 and now - session.used_at <= GRACE_SECONDS * 1000 and device == session.rotated_by
        try:
            rotated = self.accounts.sessions.rotate(session.tokens[-1 - age], device)
        except Unauthenticated:
            assert not lives or (age > 0 and not is_retry)
            session.is_over = session.is_over or lives  # one that ran out by itself is not ended once more
            return
        assert lives
        assert age == 0 or is_retry
        assert rotated.session_id == session.id
        if is_retry:
            assert rotated.refresh_token == session.tokens[-1]
        else:
            session.tokens.append(rotated.refresh_token)
            session.used_at, session.rotated_by = now, device

    @precondition(lambda self: self.living())
    @rule(pick=picks, first=devices, second=devices, seconds=st.sampled_from([0, GRACE_SECONDS, GRACE_SECONDS + 1]))
    def refresh_and_replay(self, pick: int, first: Device, second: Device, seconds: int) -> None:
        """Use a token, and the same one again: a retry, or a thief."""
        _, session = self.picked_session(pick)
        self.use(session, first, age=0)
        self.clock.wait(seconds)
        self.use(session, second, age=1)

    @rule(text=st.sampled_from(["", "x.y.z", f"{'0' * 32}.s{'0' * 32}.0.{'A' * 43}"]), device=devices)
    def forge(self, text: str, device: Device) -> None:
        with pytest.raises(Unauthenticated):
            self.accounts.sessions.rotate(text, device)

    @precondition(lambda self: self.living())
    @rule(pick=picks)
    def logout(self, pick: int) -> None:
        email, session = self.picked_session(pick)
        self.accounts.sign_out(self.identity(email, session))
        session.is_over = True

    @precondition(lambda self: self.living())
    @rule(pick=picks, current=passwords, new=passwords)
    def change_password(self, pick: int, current: str, new: str) -> None:
        email, session = self.picked_session(pick)
        user = self.users[email]
        if not session.lives(self.clock.now):
            return  # the gate refuses it before; see `access_tokens_live_as_long_as_their_sessions`
        counter = counter_of(session.id)
        allowed = user.attempt_allowed(counter, self.clock.now)
        is_right = allowed and current == user.password and new != current
        try:
            parts.change(self.accounts, self.identity(email, session), current, new)
        except TooManyRequests:
            assert not allowed
            return
        except InvalidInput:
            assert allowed
            assert not is_right
            return
        assert is_right
        user.password, user.attempts[counter] = new, (0, user.attempts[counter][1])
        user.spend("reset")
        user.end_all(keep=session.id)
        self.clock.wait(0.001)

    def identity(self, email: str, session: ModelSession) -> Identity:
        verified = self.users[email].is_verified
        return Identity(self.user_id(email), email, "free", session.id, verified, session.used_at // 1000)

    # --- what holds after every step -----------------------------------------------------------------------------

    @invariant()
    def the_table_says_what_the_model_says(self) -> None:
        """Sessions live or not, profiles and their copies agree, attempts are counted: told from one look at it all."""
        there = {(item["pk"], item["sk"]): item for item in self.table.scan().items} if hasattr(self, "users") else {}
        for email, user in getattr(self, "users", {}).items():
            entry = there[f"EMAIL#{email}", "EMAIL"]
            own = f"USER#{entry['user_id']}"
            gate = there.get((own, "GATE"), {})
            assert [Gate.lives(gate, each.id) for each in user.sessions] == [not each.is_over for each in user.sessions]
            assert there[own, "PROFILE"]["is_verified"] is entry["is_verified"] is user.is_verified
            counted = {name: value for name, value in entry.items() if name.startswith("attempts") and value}
            assert counted == {f"attempts{name}": n for name, (n, _) in user.attempts.items() if n}

    @invariant()
    def the_sessions_listed_are_those_that_live(self) -> None:
        """Of one user after each step, of each in turn."""
        users = sorted(getattr(self, "users", {}))
        if not users:
            return
        self.looked += 1
        email = users[self.looked % len(users)]
        listed = {session.id for session in self.accounts.sessions.of_user(self.user_id(email))}
        assert listed == {session.id for session in self.users[email].sessions if session.lives(self.clock.now)}


_numbers = iter(range(1_000_000))


def _picked(things: list[Any], pick: int) -> Any:
    return things[pick % len(things)]


@contextmanager
def memory() -> Iterator[None]:
    """Moto in place of AWS, for as long as it lasts."""
    from moto import mock_aws

    forget_clients()
    with mock_aws(), pytest.MonkeyPatch.context() as environment:
        environment.delenv("AWS_ENDPOINT_URL", raising=False)
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        environment.setenv("AWS_ACCESS_KEY_ID", "test")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "test")
        yield
    forget_clients()


@pytest.mark.timeout(900)  # 2,000 steps take minutes where others work beside them
def test_accounts_and_the_model_of_their_rules_never_disagree() -> None:
    runs = -(-STEPS // LEAST_OF_THEM)
    with memory():
        run_state_machine_as_test(
            AccountsMachine,
            settings=settings(
                max_examples=runs,
                stateful_step_count=STEPS_A_RUN,
                deadline=None,
                database=None,
                derandomize=ASKED is None,
                phases=[Phase.generate],  # making a failing run shorter takes longer than reading it
                suppress_health_check=list(HealthCheck),
            ),
        )
