"""Who is asking: the bearer token of a request, and what its holder may do.

Always true here: without valid credentials a 401 problem, with too few rights a 403 problem, and never a route that
forgets, because the identity is a parameter of the routes that need one. Tokens are checked by
`fusiontrade.accounts.tokens`; the keys come from the secret through a short cache.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Annotated

from fusiontrade.accounts.identity import Identity, Tier
from fusiontrade.clock import system_clock
from fusiontrade.cloud.secrets import Secrets
from fusiontrade.errors import Forbidden, StateUnavailable, Unauthenticated
from fusiontrade.settings import Settings
from fusiontrade.snapshots import after_restore
from fusiontrade.startup import uncollected
from fusiontrade.web.framework import Depends, HTTPAuthorizationCredentials, HTTPBearer, Request

if TYPE_CHECKING:
    from fusiontrade.accounts.tokens import SigningKeys, Tokens

__all__ = ["CurrentUser", "Identity", "current_user", "load_ahead", "require", "signing_keys_of", "tokens_of"]

_bearer = HTTPBearer(
    scheme_name="bearer", bearerFormat="JWT", auto_error=False, description="The access token that login returns."
)
_RANK: dict[Tier, int] = {"free": 0, "pro": 1, "admin": 2}


@cache
def signing_keys_of(settings: Settings) -> Callable[[], SigningKeys]:
    """Return the read of the signing keys, cached for minutes; parsed again only where their text has changed.

    The read raises `StateUnavailable` where there are no usable keys: the caller's token is not to blame.
    """
    with uncollected():
        from fusiontrade.accounts.tokens import SigningKeys

    arn = settings.need("signing_keys_secret_arn")
    secrets = Secrets()
    parsed = lru_cache(maxsize=1)(SigningKeys.from_json)

    def read() -> SigningKeys:
        text = secrets.read(arn)
        try:
            return parsed(text)
        except ValueError as error:
            raise StateUnavailable(str(error)) from None

    return read


@cache
def tokens_of(settings: Settings) -> Tokens:
    """Return the issuer and checker of access tokens that ``settings`` describe."""
    with uncollected():
        from fusiontrade.accounts.tokens import Tokens

    return Tokens(
        signing_keys_of(settings),
        issuer=settings.token_issuer,
        audience=settings.token_audience,
        seconds=settings.token_seconds,
        clock=system_clock,
    )


def load_ahead() -> None:
    """Import what the first token needs, before a snapshot; no key is read, nothing signed."""
    with uncollected():
        import fusiontrade.accounts.tokens  # noqa: F401


@after_restore
def _forget() -> None:
    """Keys are cached by a clock that stood still in the snapshot."""
    tokens_of.cache_clear()
    signing_keys_of.cache_clear()


def current_user(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Identity:
    """Return whom the bearer token speaks for: a FastAPI dependency.

    Raises
    ------
    Unauthenticated
        If there is no bearer token, or an invalid one.
    """
    if credentials is None:
        raise Unauthenticated("send the access token that login returns as Authorization: Bearer <token>")
    return tokens_of(request.app.state.settings).verify(credentials.credentials)


CurrentUser = Annotated[Identity, Depends(current_user)]
"""Type of a route's parameter that is the signed-in user."""


def require(*, tier: Tier = "free", verified: bool = True) -> Callable[[Identity], Identity]:
    """Return a dependency that lets through users of at least ``tier`` whose address is verified where asked."""

    def allowed(user: CurrentUser) -> Identity:
        if verified and not user.is_verified:
            raise Forbidden("verify your e-mail address first; the code is in the mail we sent")
        if _RANK[user.tier] < _RANK[tier]:
            raise Forbidden(f"this needs the {tier} tier; yours is {user.tier}")
        return user

    return allowed
