"""Access tokens: what is accepted, and everything that is not."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from fusiontrade.accounts.admission.tokens import Identity, SigningKeys, Tokens
from fusiontrade.errors import Unauthenticated

NOW = 1_750_000_000
ADA = Identity("a1", "ada@example.com", "pro", "s1", True)
KEYS = SigningKeys.generate()
OTHER_KEYS = SigningKeys.generate()


def tokens(now: int = NOW, keys: SigningKeys = KEYS, **more: Any) -> Tokens:
    options = {"issuer": "https://issuer", "audience": "api", "seconds": 1800, **more}
    return Tokens(lambda: keys, clock=lambda: now * 1000, **options)


def claims(**changed: Any) -> dict[str, Any]:
    full = {
        "iss": "https://issuer", "aud": "api", "sub": "a1", "jti": "j1", "iat": NOW, "exp": NOW + 1800, "use": "access",
        "sid": "s1", "email": "ada@example.com", "tier": "pro", "verified": True, **changed,
    }  # fmt: skip
    return {name: value for name, value in full.items() if value is not None}


def signed(content: dict[str, Any], *, kid: str | None = KEYS.current, keys: SigningKeys = KEYS) -> str:
    header = {"alg": "ES256"} | ({"kid": kid} if kid is not None else {})
    return jwt.encode(header, content, keys.keys[-1], algorithms=["ES256"])


def part(content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def test_an_issued_token_gives_the_identity_back_until_its_end() -> None:
    token = tokens().issue(ADA)
    assert token.expires_in == 1800
    assert tokens(NOW + 1799).verify(token.text) == ADA


def test_a_token_says_who_made_it_for_whom_and_which_key_signed() -> None:
    decoded = jwt.decode(tokens().issue(ADA).text, KEYS.keys[0], algorithms=["ES256"])
    assert decoded.header["kid"] == KEYS.current
    assert {name: decoded.claims[name] for name in ("iss", "aud", "iat", "exp", "sub", "tier")} == {
        "iss": "https://issuer", "aud": "api", "iat": NOW, "exp": NOW + 1800, "sub": "a1", "tier": "pro",
    }  # fmt: skip


def test_two_tokens_of_one_user_have_different_ids() -> None:
    first, second = (jwt.decode(tokens().issue(ADA).text, KEYS.keys[0], algorithms=["ES256"]) for _ in range(2))
    assert first.claims["jti"] != second.claims["jti"]


def test_a_token_tells_its_session_and_when_it_was_signed() -> None:
    identity = tokens(NOW + 60).verify(tokens().issue(ADA).text)
    assert (identity.session_id, identity.issued_at, identity.scopes) == ("s1", NOW, None)


def test_a_token_signed_on_a_machine_whose_clock_is_ahead_is_good_at_once() -> None:
    assert tokens(NOW).verify(tokens(NOW + 3).issue(ADA).text) == ADA


def test_a_clock_that_is_behind_adds_nothing_to_the_life_of_a_token() -> None:
    with pytest.raises(Unauthenticated):
        tokens(NOW + 1800).verify(tokens(NOW).issue(ADA).text)


def test_the_helper_of_these_tests_signs_what_is_accepted() -> None:
    assert tokens().verify(signed(claims())) == ADA


HEADER, _, SIGNATURE = signed(claims()).split(".")
FORGED = {
    "expired": signed(claims(exp=NOW - 1)),
    "without exp": signed(claims(exp=None)),
    "exp as text": signed(claims(exp="never")),
    "of another issuer": signed(claims(iss="https://evil")),
    "without issuer": signed(claims(iss=None)),
    "for another audience": signed(claims(aud="other")),
    "a refresh token": signed(claims(use="refresh")),
    "without use": signed(claims(use=None)),
    "without subject": signed(claims(sub=None)),
    "with an empty subject": signed(claims(sub="")),
    "without id": signed(claims(jti=None)),
    "of an unknown tier": signed(claims(tier="root")),
    "verified by a text": signed(claims(verified="yes")),
    "without session": signed(claims(sid=None)),
    "with an empty session": signed(claims(sid="")),
    "without iat": signed(claims(iat=None)),
    "signed a minute from now": signed(claims(iat=NOW + 60)),
    "signed at a text": signed(claims(iat="now")),
    "not yet valid": signed(claims(nbf=NOW + 600)),
    "without kid": signed(claims(), kid=None),
    "with an unknown kid": signed(claims(), kid="unknown"),
    "signed by another key under our kid": signed(claims(), keys=OTHER_KEYS),
    "alg none": f"{part({'alg': 'none', 'kid': KEYS.current})}.{part(claims())}.",
    "alg HS256 with the public key": jwt.encode(
        {"alg": "HS256", "kid": KEYS.current},
        claims(),
        OctKey.import_key(json.dumps(KEYS.public())),
        algorithms=["HS256"],
    ),
    "with a changed payload": f"{HEADER}.{part(claims(tier='admin'))}.{SIGNATURE}",
    "with a list as payload": f"{HEADER}.{part([1])}.{SIGNATURE}",
    "empty": "",
    "words": "not a token at all",
    "two parts": "a.b",
    "five parts": "a.b.c.d.e",
    "not ascii": "é.é.é",
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED.keys())
def test_a_forged_token_is_refused_in_the_same_words(forged: str) -> None:
    with pytest.raises(Unauthenticated, match=r"^the access token is not valid or no longer valid; sign in again$"):
        tokens().verify(forged)


def test_signing_keys_that_cannot_be_read_are_not_blamed_on_the_token() -> None:
    def unreadable() -> SigningKeys:
        return SigningKeys.from_json("not a key set")

    checker = Tokens(unreadable, issuer="https://issuer", audience="api", seconds=60, clock=lambda: NOW * 1000)
    with pytest.raises(ValueError, match="signing keys secret"):
        checker.verify(signed(claims()))


def test_a_key_that_the_token_brings_itself_is_not_used() -> None:
    own = ECKey.generate_key("P-256")
    header = {"alg": "ES256", "kid": KEYS.current, "jwk": own.as_dict(private=False)}
    with pytest.raises(Unauthenticated):
        tokens().verify(jwt.encode(header, claims(), own, algorithms=["ES256"]))


def test_after_a_rotation_the_older_key_still_verifies_and_the_new_one_signs() -> None:
    old_token = tokens().issue(ADA).text
    rotated = SigningKeys.generate(KEYS.keys)
    assert tokens(keys=rotated).verify(old_token) == ADA
    new_token = tokens(keys=rotated).issue(ADA).text
    assert tokens(keys=rotated).verify(new_token) == ADA
    with pytest.raises(Unauthenticated):
        tokens().verify(new_token)


def test_keys_survive_their_secret_and_publish_only_public_parts() -> None:
    again = SigningKeys.from_json(KEYS.to_json())
    assert tokens(keys=again).verify(tokens().issue(ADA).text) == ADA
    (public,) = again.public()["keys"]
    assert set(public) == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    assert (public["kid"], public["alg"], public["crv"]) == (KEYS.current, "ES256", "P-256")


@pytest.mark.parametrize(
    "text", ["", "secret words", "[]", "{}", '{"current": "a", "keys": []}', '{"current": 1, "keys": [{}]}']
)
def test_a_secret_that_holds_no_keys_is_refused_without_quoting_it(text: str) -> None:
    with pytest.raises(ValueError, match="signing keys") as refused:
        SigningKeys.from_json(text)
    assert "secret words" not in str(refused.value)
