"""Password hashing: the parameters, the cap, and equal work for nobody."""

from __future__ import annotations

import re

import argon2
import pytest

from fusiontrade.accounts.credentials.passwords import MAX_LENGTH, Passwords
from fusiontrade.settings import Settings

PASSWORDS = Passwords()


def test_a_hash_is_argon2id_with_the_configured_parameters() -> None:
    settings = Settings.from_environment({"STAGE": "local", "PASSWORD_ITERATIONS": "3"})
    assert re.match(r"\$argon2id\$v=19\$m=19456,t=3,p=1\$", Passwords.of(settings).hash("ten letters"))


def test_two_hashes_of_one_password_differ_and_both_verify() -> None:
    first, second = PASSWORDS.hash("ten letters"), PASSWORDS.hash("ten letters")
    assert first != second
    assert PASSWORDS.verify("ten letters", first)
    assert PASSWORDS.verify("ten letters", second)
    assert not PASSWORDS.verify("ten lettert", first)


def test_long_passwords_spaces_and_emoji_are_accepted() -> None:
    password = "  a long sentence with spaces at both ends, and 🦉 " * 2
    assert PASSWORDS.verify(password, PASSWORDS.hash(password))


def test_two_spellings_of_the_same_characters_are_the_same_password() -> None:
    assert PASSWORDS.verify("Ångström ﬁve", PASSWORDS.hash("A\u030angstro\u0308m five"))


@pytest.mark.parametrize("length", [0, 9, MAX_LENGTH + 1])
def test_a_password_of_the_wrong_length_is_not_hashed(length: int) -> None:
    with pytest.raises(ValueError, match="10 to 128 characters"):
        PASSWORDS.hash("x" * length)


def hashings(monkeypatch: pytest.MonkeyPatch, password: str, stored: str | None) -> list[str]:
    seen: list[str] = []
    real = argon2.PasswordHasher.verify

    def counted(self: argon2.PasswordHasher, hash: str | bytes, password: str | bytes) -> bool:
        seen.append(str(hash).rsplit("$", 2)[0])
        return real(self, hash, password)

    with monkeypatch.context() as counting:
        counting.setattr(argon2.PasswordHasher, "verify", counted)
        assert not PASSWORDS.verify(password, stored)
    return seen


def test_nobody_costs_the_same_hashing_as_somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    somebody = PASSWORDS.hash("ten letters")
    assert hashings(monkeypatch, "another one", None) == hashings(monkeypatch, "another one", somebody)


def test_the_stand_in_for_nobody_has_no_password_of_its_own() -> None:
    assert not PASSWORDS.verify("nobody has this password", None)


def test_a_megabyte_is_refused_without_any_hashing(monkeypatch: pytest.MonkeyPatch) -> None:
    somebody = PASSWORDS.hash("ten letters")
    assert hashings(monkeypatch, "x" * 1_000_000, somebody) == []


def test_a_broken_stored_hash_verifies_nothing() -> None:
    assert not PASSWORDS.verify("ten letters", "$argon2id$broken")
