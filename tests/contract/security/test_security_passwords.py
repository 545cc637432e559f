"""What is tried with passwords: weak ones, huge ones, and whether strong ones are turned away."""

from __future__ import annotations

from typing import Any

import argon2
import pytest

from tests.contract.security.conftest import NEW, PASSWORD, Client, Inbox

STRONG = [
    "a sentence of more than sixty-four characters, with spaces and commas in it",
    "   spaces  at  both  ends   ",
    "🦉🐴🔋📎🎈🚲🌍🍞🎻🧊",
    "x" * 63 + "y" * 64 + "z",
]
WEAK = ["1234567890", "Password123", "QWERTYUIOP", "aaaaaaaaaaaaa", "fusiontrade1", "Fusion Trade 2026", "short"]


@pytest.mark.parametrize("password", WEAK)
def test_attacker_cannot_count_on_a_common_password_or_the_products_name(
    ada: Client, inbox: Inbox, password: str
) -> None:
    ada("POST", "/forgot-password", {"email": "ada@example.com"})
    code = inbox.code("reset", "ada@example.com")
    answers = [
        ada.register("new@example.com", password),
        ada("POST", "/reset-password", {"code": code, "new_password": password}),
        ada("POST", "/change-password", {"current_password": PASSWORD, "new_password": password}),
    ]
    assert [answer.status for answer in answers] == [422] * 3
    pointers = [answer.json()["errors"][0]["pointer"] for answer in answers]
    assert pointers == ["/body/password", "/body/new_password", "/body/new_password"]
    assert all(password not in answer.text for answer in answers)
    assert ada("POST", "/reset-password", {"code": code, "new_password": NEW}).status == 200  # the code is not spent


@pytest.mark.parametrize("password", STRONG)
def test_honest_user_may_choose_any_long_password_and_sign_in_with_it(ada: Client, inbox: Inbox, password: str) -> None:
    assert ada.register("new@example.com", password).status == 202
    assert ada.login("new@example.com", password).status == 200
    ada("POST", "/forgot-password", {"email": "ada@example.com"})
    body = {"code": inbox.code("reset", "ada@example.com"), "new_password": password}
    assert ada("POST", "/reset-password", body).status == 200
    assert ada.login("ada@example.com", password).status == 200
    assert ada.login("ada@example.com", password[:-1]).status == 401  # nothing is cut off


@pytest.mark.parametrize("size", [129, 500_000])
def test_attacker_cannot_make_us_hash_a_huge_password(ada: Client, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    huge = "x y " * (size // 4) + "z"
    for method in ("hash", "verify"):
        monkeypatch.setattr(argon2.PasswordHasher, method, lambda *_, **__: pytest.fail("it was hashed"))
    body: dict[str, Any] = {"current_password": huge, "new_password": huge}
    answers = [
        ada.register("new@example.com", huge),
        ada.login("ada@example.com", huge),
        ada("POST", "/change-password", body),
        ada("POST", "/reset-password", {"code": "c" * 64, "new_password": huge}),
    ]
    assert [answer.status for answer in answers] == [422] * 4
    assert all(len(answer.text) < 2000 for answer in answers)
    assert ada.login("ada@example.com", "x" * 1_000_000).status == 422
    assert ada.login("ada@example.com", "x" * 1_100_000).status == 413


def test_attacker_with_a_signed_in_browser_still_needs_the_password_and_is_slowed_down(ada: Client) -> None:
    guesses = [
        ada("POST", "/change-password", {"current_password": f"guess number {n}", "new_password": NEW})
        for n in range(6)
    ]
    assert [answer.status for answer in guesses] == [422] * 5 + [429]
    assert guesses[0].json()["errors"][0]["pointer"] == "/body/current_password"
    assert int(guesses[-1].headers["retry-after"]) >= 1
