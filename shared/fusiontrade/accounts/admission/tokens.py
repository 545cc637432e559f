"""Access tokens: JWTs signed with ES256 by one of a small set of keys, checked by the public parts of all of them.

Always true here: one algorithm and no other is accepted; ``kid``, ``iss``, ``aud``, ``sub``, ``jti``, ``iat``, ``exp``
and ``use`` must be there and right; a token made for another use (a refresh token) is never an access token. The
secret holds a JWK set plus the ``kid`` that signs now, so that keys rotate
(`fusiontrade.accounts.admission.key_rotation`) while older ones still verify.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast, get_args

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from fusiontrade.accounts.identity import Identity, Tier
from fusiontrade.clock import Clock
from fusiontrade.errors import Unauthenticated

__all__ = ["ALGORITHM", "AccessToken", "Identity", "SigningKeys", "Tier", "Tokens", "fresh_key"]

ALGORITHM = "ES256"
_CURVE = "P-256"
_ACCESS = "access"
_SKEW_SECONDS = 5
"""How far the clock of the machine that signed may be ahead of ours."""

_CLAIMS = ("sub", "jti", "email", "sid")


@dataclass(frozen=True)
class AccessToken:
    """A signed token and the seconds it is good for."""

    text: str
    expires_in: int


def fresh_key() -> ECKey:
    """Return a new key with a ``kid`` of its own."""
    return ECKey.generate_key(_CURVE, {"kid": secrets.token_hex(8), "use": "sig", "alg": ALGORITHM})


@dataclass(frozen=True)
class SigningKeys:
    """Private keys by ``kid``, newest last; ``current`` names the one that signs."""

    current: str
    keys: tuple[ECKey, ...]

    def __post_init__(self) -> None:
        if self.current not in [key.kid for key in self.keys]:
            raise ValueError(f"the signing keys do not hold the current one, {self.current!r}")

    @classmethod
    def generate(cls, older: Sequence[ECKey] = ()) -> SigningKeys:
        """Return ``older`` plus a fresh key that signs from now on."""
        fresh = fresh_key()
        return cls(str(fresh.kid), (*older, fresh))

    @classmethod
    def from_json(cls, text: str) -> SigningKeys:
        """Return the keys that the secret ``text`` holds: ``{"current": kid, "keys": [JWK, ...]}``.

        Raises
        ------
        ValueError
            If the text is something else; the message never quotes it.
        """
        try:
            document = json.loads(text)
            keys = tuple(ECKey.import_key(key) for key in document["keys"])
            return cls(document["current"], keys)
        except (JoseError, KeyError, TypeError, ValueError):
            raise ValueError('the signing keys secret is not {"current": kid, "keys": [EC P-256 JWK, ...]}') from None

    def to_json(self) -> str:
        """Return the secret's text; it holds the private parts."""
        return json.dumps({"current": self.current, "keys": [key.as_dict(private=True) for key in self.keys]})

    def public(self) -> dict[str, Any]:
        """Return the JWK set of the public parts, as ``/.well-known/jwks.json`` gives it."""
        return {"keys": [key.as_dict(private=False) for key in self.keys]}


class Tokens:
    """Issues and checks access tokens.

    Parameters
    ----------
    keys : callable
        Returns the present `SigningKeys`; called for every token, so it should be a cached read.
    issuer, audience : str
        What ``iss`` and ``aud`` must say.
    seconds : int
        Life of a token.
    clock : Clock
        The present instant, ms.
    """

    def __init__(
        self, keys: Callable[[], SigningKeys], *, issuer: str, audience: str, seconds: int, clock: Clock
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._seconds = seconds
        self._clock = clock

    def issue(self, identity: Identity) -> AccessToken:
        """Return a token that speaks for ``identity`` from now on."""
        now = self._clock() // 1000
        keys = self._keys()
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": identity.user_id,
            "jti": secrets.token_urlsafe(16),
            "iat": now,
            "exp": now + self._seconds,
            "use": _ACCESS,
            "sid": identity.session_id,
            "email": identity.email,
            "tier": identity.tier,
            "verified": identity.is_verified,
        }
        signer = next(key for key in keys.keys if key.kid == keys.current)
        text = jwt.encode({"alg": ALGORITHM, "kid": keys.current}, claims, signer, algorithms=[ALGORITHM])
        return AccessToken(text, self._seconds)

    def verify(self, text: str) -> Identity:
        """Return whom the token speaks for.

        Raises
        ------
        Unauthenticated
            If it is not ours, not for us, not an access token, malformed or past its time; the words are always the
            same, so that they teach a forger nothing.
        """
        keys = self._keys().keys  # outside: keys that cannot be read are our fault, not the token's
        try:
            return self._identity(text, keys)
        except (JoseError, KeyError, TypeError, ValueError, AttributeError):
            raise Unauthenticated("the access token is not valid or no longer valid; sign in again") from None

    def _identity(self, text: str, keys: Sequence[ECKey]) -> Identity:
        token = jwt.decode(text, lambda signed: _named(keys, signed), algorithms=[ALGORITHM])
        claims = token.claims
        now = self._clock() // 1000
        registry = jwt.JWTClaimsRegistry(
            now=now,
            leeway=_SKEW_SECONDS,
            iss={"essential": True, "value": self._issuer},
            aud={"essential": True, "value": self._audience},
            exp={"essential": True},
            iat={"essential": True},
            use={"essential": True, "value": _ACCESS},
            **{name: {"essential": True} for name in _CLAIMS},  # type: ignore[arg-type]
        )
        registry.validate(claims)
        if claims["exp"] <= now:  # the leeway is for clocks that disagree on the beginning, not for a longer life
            raise ValueError("exp")
        if claims["tier"] not in get_args(Tier) or not isinstance(claims["verified"], bool):
            raise ValueError("tier")
        user_id, _, email, session_id = (_text(claims[name]) for name in _CLAIMS)
        tier, verified, issued_at = cast(Tier, claims["tier"]), claims["verified"], int(claims["iat"])
        return Identity(user_id, email, tier, session_id, verified, issued_at)


def _named(keys: Sequence[ECKey], token: Any) -> ECKey:
    """Return the key that the header names: a token without our ``kid`` is refused, none is tried blindly."""
    kid = token.headers()["kid"]
    for key in keys:
        if key.kid == kid:
            return key
    raise ValueError("kid")


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("a claim is not text")
    return value
