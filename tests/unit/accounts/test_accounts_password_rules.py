"""Which passwords may be chosen."""

from __future__ import annotations

import gzip
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusiontrade.accounts.credentials import password_rules
from fusiontrade.accounts.credentials.password_rules import check_password, read_list
from fusiontrade.accounts.credentials.passwords import MAX_LENGTH, MIN_LENGTH
from fusiontrade.errors import InvalidInput


@pytest.mark.parametrize(
    "password",
    [
        "1234567890",
        "qwertyuiop",
        "QwertyUIOP",
        "password123",
        "Password123",
        "ｐａｓｓｗｏｒｄ１２３",
        "aaaaaaaaaaaaaaaa",
        "abababababab",
        "fusiontrade",
        "FusionTrade2026!",
        "my-Fusion-Trade-pw",
        "FU$1ONTR4D3 forever",
    ],
)
def test_a_password_that_many_would_try_first_is_refused_and_not_quoted(password: str) -> None:
    with pytest.raises(InvalidInput) as error:
        check_password(password, field="body/new_password")
    assert error.value.field == "body/new_password"
    assert password not in str(error.value)


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery",
        "           x           y        ",
        "😀 🐴 🔋 📎 ✂️ 🎈",
        "x" + "long sentence " * 9,
        "DevTest123!",
        "пароль на языке",
        "no digits no capitals",
    ],
)
def test_long_passwords_spaces_emoji_and_any_composition_are_taken(password: str) -> None:
    check_password(password)


@pytest.mark.parametrize("length", [0, MIN_LENGTH - 1, MAX_LENGTH + 1, 1_000_000])
def test_the_length_is_looked_at_first(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as watched:
        watched.setattr(password_rules, "read_list", lambda: pytest.fail("it was looked into"))
        with pytest.raises(InvalidInput, match="10 to 128 characters"):
            check_password("ab c" * (length // 4) + "x" * (length % 4))


@given(st.sampled_from(sorted(read_list())))
def test_every_listed_password_is_refused_in_any_case(password: str) -> None:
    for spelling in (password, password.upper(), password.title()):
        if MIN_LENGTH <= len(spelling) <= MAX_LENGTH:
            with pytest.raises(InvalidInput):
                check_password(spelling)


def test_the_list_is_small_sorted_and_says_where_it_comes_from() -> None:
    folder = files("fusiontrade.accounts.credentials")
    packed = folder.joinpath("common_passwords.txt.gz").read_bytes()
    words = gzip.decompress(packed).decode().splitlines()
    assert words == sorted(set(words))
    assert len(words) == 2432
    assert len(packed) < 20_000
    assert min(map(len, words)) >= MIN_LENGTH
    about = folder.joinpath("common_passwords.LICENSES.txt").read_text(encoding="utf-8")
    assert "Django Software Foundation" in about
    assert "Daniel Wolf" in about
