"""The pure rules around users: spelling of addresses, growing waits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusiontrade.accounts.credentials.attempts import FREE_ATTEMPTS, seconds_to_wait
from fusiontrade.accounts.profiles import normal_email, written_email
from fusiontrade.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("  Ada@Example.COM\t", "ada@example.com"),
        ("STRASSE@x.de", "strasse@x.de"),
        ("straße@x.de", "strasse@x.de"),
        ("A\u030angström@x.se", "ångström@x.se"),
        ("ada@example.com.", "ada@example.com"),
        ("ada@example.com .. ", "ada@example.com"),
        ("ada@example\u3002com", "ada@example.com"),
        ("ada@\uff25xample.com\uff0e", "ada@example.com"),
        ("ada@Bücher.Example", "ada@xn--bcher-kva.example"),
        ("ada@bu\u0308cher.example.", "ada@xn--bcher-kva.example"),
        ("ada@XN--BCHER-KVA.example", "ada@xn--bcher-kva.example"),
        ("ada@straße.example", "ada@xn--strae-oqa.example"),
        ("ada@under_score.example", "ada@under_score.example"),
    ],
)
def test_an_address_has_one_spelling(text: str, normal: str) -> None:
    assert normal_email(text) == normal


@pytest.mark.parametrize("domain", ["", ".", " . ", "☃.net", "a..ü", "-ü.de", "ü" * 70 + ".de", "ü\u200d.de", "\uff0e"])
def test_a_domain_that_cannot_exist_is_refused(domain: str) -> None:
    with pytest.raises(InvalidInput, match="behind the @"):
        normal_email(f"ada@{domain}")


@given(
    st.text(max_size=40),
    st.one_of(
        st.text("abcXYZ.-_1 \t", max_size=20),
        st.text(max_size=6),
        st.from_regex(r"[äÖßéαж\uff21]{1,5}\.[a-z]{2,3}\.?"),
    ),
)
def test_the_one_spelling_is_final(name: str, domain: str) -> None:
    try:
        normal = normal_email(f"{name}@{domain}")
    except InvalidInput:
        return
    assert normal_email(normal) == normal
    assert normal.rpartition("@")[2].isascii()
    assert normal_email(f" {name}@{domain}. ") == normal


def test_mail_goes_to_the_address_as_it_was_written_without_the_root() -> None:
    assert written_email(" Ada@Bücher.Example. ") == "Ada@Bücher.Example"


def test_an_address_that_grows_past_a_key_when_normalised_is_refused() -> None:
    grows = "\N{MUSICAL SYMBOL EIGHTH NOTE}"  # 4 bytes, 12 in its normal form
    assert len(normal_email(grows * 80 + "@x").encode()) == 962
    with pytest.raises(InvalidInput, match="too long"):
        normal_email(grows * 252 + "@x")


def test_the_first_wrong_passwords_cost_nothing() -> None:
    assert [seconds_to_wait(attempts, 0) for attempts in range(FREE_ATTEMPTS)] == [0] * FREE_ATTEMPTS


def test_waits_grow_to_five_minutes_and_end() -> None:
    assert [seconds_to_wait(FREE_ATTEMPTS + n, 0) for n in range(9)] == [2, 5, 15, 30, 60, 120, 300, 300, 300]
    assert seconds_to_wait(1000, 299.2) == 1
    assert seconds_to_wait(1000, 300) == 0
