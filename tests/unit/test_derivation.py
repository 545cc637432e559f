"""Values derived from one secret."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusiontrade.derivation import FEWEST_CHARACTERS, Derivation
from fusiontrade.errors import StateUnavailable

SECRET = "x" * FEWEST_CHARACTERS
DERIVATION = Derivation(lambda: SECRET)
PARTS = st.lists(st.text(st.characters(codec="utf-8"), max_size=8), min_size=1, max_size=4)


def test_the_value_is_the_hmac_of_the_parts_with_their_lengths() -> None:
    import hashlib
    import hmac

    message = b"\0\0\0\0\0\0\0\x06cursor" + b"\0\0\0\0\0\0\0\x02\xc3\xa9"
    assert DERIVATION.mac("cursor", "é") == hmac.new(SECRET.encode(), message, hashlib.sha256).digest()


@given(PARTS, PARTS)
def test_different_parts_have_different_values(first: list[str], second: list[str]) -> None:
    assert (DERIVATION.mac(*first) == DERIVATION.mac(*second)) is (first == second)


def test_another_secret_gives_another_value() -> None:
    assert Derivation(lambda: "y" * 40).mac("a", "b") != DERIVATION.mac("a", "b")


@pytest.mark.parametrize("secret", ["", "x" * (FEWEST_CHARACTERS - 1)])
def test_a_secret_that_anybody_could_guess_is_not_used(secret: str) -> None:
    with pytest.raises(StateUnavailable):
        Derivation(lambda: secret).mac("a")
