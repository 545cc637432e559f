"""Whether somebody can find out which addresses have an account: by words, by mails, by time."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from fusiontrade.accounts.credentials.passwords import Passwords
from fusiontrade.accounts.users import Users
from fusiontrade.settings import Settings
from tests.contract.security.conftest import PASSWORD, Call, Client, Inbox
from tests.support.http_api import Answer

SAMPLES = 24
OVERLAP = (0.15, 0.85)
"""The chance that a call for a known address is slower than one for an unknown address: 0.5 where time tells nothing;
24 of each that differ in nothing leave these bounds once in thirty thousand runs (they are 4.1 standard deviations)."""


def seen(answer: Answer) -> tuple[object, ...]:
    """All that a client can compare."""
    varying = {"x-request-id", "ratelimit", "retry-after"}
    headers = {name: value for name, value in answer.headers.items() if name not in varying}
    return answer.status, {**answer.json(), "request_id": ""}, headers, answer.cookies


@pytest.mark.parametrize("path", ["/register", "/forgot-password", "/resend-verification", "/login"])
@pytest.mark.parametrize("known", ["ada@example.com", "unverified@example.com"])
def test_attacker_reads_the_same_answer_for_known_and_unknown_addresses(
    ada: Client, stranger: Client, path: str, known: str
) -> None:
    ada.register("unverified@example.com")
    answers = []
    for email in (known, "nobody@example.com"):
        body = {"email": email}
        if path in ("/register", "/login"):
            body["password"] = "not the password of anybody"
        if path == "/register":
            body["full_name"] = "Eve"
        answers.append(seen(stranger("POST", path, body)))
    assert answers[0] == answers[1]


def test_attacker_learns_nothing_by_mail_and_the_owner_is_told(ada: Client, stranger: Client, inbox: Inbox) -> None:
    inbox.all().clear()
    stranger.register("ada@example.com", "a password of eve", "Eve <script>")
    stranger("POST", "/forgot-password", {"email": "nobody@example.com"})
    stranger("POST", "/resend-verification", {"email": "nobody@example.com"})
    stranger("POST", "/resend-verification", {"email": "ada@example.com"})
    told = [(mail.kind, mail.to, mail.name) for mail in inbox.all()]
    assert told[0] == ("already_registered", "ada@example.com", "Ada")
    assert [(kind, to) for kind, to, _ in told[1:]] == [("nobody", "nobody@example.invalid")] * 3


def chance_to_be_slower(known: Callable[[int], Answer], unknown: Callable[[int], Answer]) -> float:
    """Call both in turn; return the share of pairs in which the known one took longer (Mann and Whitney's U / n²)."""

    def timed(call: Callable[[int], Answer], n: int) -> float:
        started = time.perf_counter()
        call(n)
        return time.perf_counter() - started

    slow, fast = [], []
    for n in range(SAMPLES):
        for call, times in ((known, slow), (unknown, fast))[:: 1 if n % 2 else -1]:
            times.append(timed(call, n))
    return sum(a > b for a in slow for b in fast) / SAMPLES**2


def caller(auth: Call, n: int, name: str) -> Client:
    """Each call comes from an address of its own, so that no limit is met."""
    return Client(auth, address=f"10.{len(name)}.0.{n}")


@pytest.fixture
def auth_settings(auth_settings: Settings) -> Settings:
    """Settings with as much work for a password as there is in the cloud: a stopwatch has to see it."""
    real = Passwords()
    return auth_settings.model_copy(
        update={"password_memory_kib": real.memory_kib, "password_iterations": real.iterations}
    )


@pytest.fixture
def crowd(users: Users) -> None:
    hashed = Passwords().hash(PASSWORD)
    for n in range(SAMPLES):
        profile = users.new_profile(f"known{n}@example.com", "Somebody", verified=n % 2 == 0)
        users._table.transact(*users.writes_to_create(profile, hashed))


CALLS: dict[str, Callable[[Client, str], Answer]] = {
    "login": lambda client, email: client.login(email, "a wrong password"),
    "register": lambda client, email: client.register(email),
    "forgot": lambda client, email: client("POST", "/forgot-password", {"email": email}),
    "resend": lambda client, email: client("POST", "/resend-verification", {"email": email}),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.usefixtures("crowd")
def test_attacker_with_a_stopwatch_cannot_tell_known_from_unknown_addresses(auth: Call, name: str) -> None:
    send = CALLS[name]
    send(Client(auth), "warm@example.com")

    def chance() -> float:
        return chance_to_be_slower(
            lambda n: send(caller(auth, n, name), f"known{n}@example.com"),
            lambda n: send(caller(auth, n, name), f"unknown{n}@example.com"),
        )

    assert OVERLAP[0] <= chance() <= OVERLAP[1]


@pytest.mark.usefixtures("crowd")
def test_the_stopwatch_would_notice_a_login_that_works_for_known_addresses_only(
    auth: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Passwords.verify

    def lazy(self: Passwords, password: str, stored: str | None) -> bool:
        return stored is not None and real(self, password, stored)

    monkeypatch.setattr(Passwords, "verify", lazy)
    send = CALLS["login"]
    send(Client(auth), "warm@example.com")
    chance = chance_to_be_slower(
        lambda n: send(caller(auth, n, "login"), f"known{n}@example.com"),
        lambda n: send(caller(auth, n, "login"), f"unknown{n}@example.com"),
    )
    assert chance > OVERLAP[1]
