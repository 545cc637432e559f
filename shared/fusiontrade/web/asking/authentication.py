"""Who is asking: the bearer token or API key of a request, and what its holder may do.

Always true here: without valid credentials a 401 problem, with too few rights a 403 problem, and never a route that
forgets, because the identity is a parameter of the routes that need one. A valid token is not enough: the user's gate
item says whether its session still lives, in the update that counts the request, and which tier the user has by now.
Who has not verified an address reaches the auth function and no other. Signatures are checked by
`fusiontrade.accounts.admission.tokens`; the keys come from the secret through a short cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Annotated

from fusiontrade.accounts.identity import Identity, Scope, Tier
from fusiontrade.clock import system_clock
from fusiontrade.cloud.secrets import Secrets
from fusiontrade.errors import Forbidden, StateUnavailable, Unauthenticated
from fusiontrade.settings import Settings
from fusiontrade.snapshots import after_restore
from fusiontrade.startup import uncollected
from fusiontrade.web.asking.derived import accounts_of, derivation_of, gate_of
from fusiontrade.web.asking.rate_limits import group_of, show
from fusiontrade.web.framework import APIKeyHeader, Depends, HTTPAuthorizationCredentials, HTTPBearer, Request

if TYPE_CHECKING:
    from fusiontrade.accounts.admission.tokens import SigningKeys, Tokens

__all__ = [
    "CurrentUser",
    "Identity",
    "caller_with",
    "current_user",
    "load_ahead",
    "require",
    "signing_keys_of",
    "tokens_of",
]

_bearer = HTTPBearer(
    scheme_name="bearer", bearerFormat="JWT", auto_error=False, description="The access token that login returns."
)
_key = APIKeyHeader(
    name="X-API-Token", scheme_name="key", auto_error=False, description="A machine key of /api/v1/auth/api-keys."
)
_OF_ACCOUNTS = "auth"
_UNVERIFIED = "verify your e-mail address first; the code is in the mail we sent"
_RANK: dict[Tier, int] = {"free": 0, "pro": 1, "admin": 2}


@cache
def signing_keys_of(settings: Settings) -> Callable[[], SigningKeys]:
    """Return the read of the signing keys, cached for minutes; parsed again only where their text has changed.

    The read raises `StateUnavailable` where there are no usable keys: the caller's token is not to blame.
    """
    with uncollected():
        from fusiontrade.accounts.admission.tokens import SigningKeys

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
        from fusiontrade.accounts.admission.tokens import Tokens

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
        import fusiontrade.accounts.admission.gate
        import fusiontrade.accounts.admission.tokens  # noqa: F401


@after_restore
def _forget() -> None:
    """Keys are cached by a clock that stood still in the snapshot."""
    tokens_of.cache_clear()
    signing_keys_of.cache_clear()


def current_user(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Identity:
    """Return whom the bearer token speaks for, counted and still signed in: a FastAPI dependency.

    Raises
    ------
    Unauthenticated
        If there is no bearer token, an invalid one, or one of a session that has ended.
    LimitReached
        If the user asks too often.
    Forbidden
        If the address is not verified and this is not the auth function.
    """
    if credentials is None:
        raise Unauthenticated("send the access token that login returns as Authorization: Bearer <token>")
    user = tokens_of(request.app.state.settings).verify(credentials.credentials)
    return _admitted(request, user, user.session_id)


def _admitted(request: Request, user: Identity, session_id: str | None) -> Identity:
    from fusiontrade.accounts.admission.gate import LimitReached

    try:
        admission = gate_of(request).admit(
            user.user_id,
            group_of(request),
            session_id=session_id,
            issued_at=user.issued_at,
            key_made_at=user.key_made_at,
        )
    except LimitReached as refused:
        show(request, refused.allowance)
        raise
    show(request, admission.allowance)
    if admission.tier is not None:
        user = replace(user, tier=admission.tier)
    if not user.is_verified and request.app.state.service != _OF_ACCOUNTS:
        raise Forbidden(_UNVERIFIED)
    return user


CurrentUser = Annotated[Identity, Depends(current_user)]
"""Type of a route's parameter that is the signed-in user."""


def require(*, tier: Tier = "free", verified: bool = True) -> Callable[[Identity], Identity]:
    """Return a dependency that lets through users of at least ``tier`` whose address is verified where asked."""

    def allowed(user: CurrentUser) -> Identity:
        return _entitled(user, tier, verified)

    return allowed


def caller_with(scope: Scope, *, tier: Tier = "free") -> Callable[..., Identity]:
    """Return a dependency that takes an API key with ``scope``, or a bearer token, of a verified user of ``tier``."""

    def allowed(
        request: Request,
        key: Annotated[str | None, Depends(_key)],
        credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    ) -> Identity:
        if key is None:
            return _entitled(current_user(request, credentials), tier, verified=True)
        user = _holder_of(request, key)
        if user.scopes is None or scope not in user.scopes:
            raise Forbidden(f"this key may not do that; make one with the scope {scope}")
        return _entitled(user, tier, verified=True)

    return allowed


def _holder_of(request: Request, key: str) -> Identity:
    from fusiontrade.accounts.credentials.api_keys import ApiKeys

    state = request.app.state
    keys = ApiKeys(accounts_of(state.settings), derivation_of(state.settings), state.clock)
    return _admitted(request, keys.find(key), None)


def _entitled(user: Identity, tier: Tier, verified: bool) -> Identity:
    if verified and not user.is_verified:
        raise Forbidden(_UNVERIFIED)
    if _RANK[user.tier] < _RANK[tier]:
        raise Forbidden(f"this needs the {tier} tier; yours is {user.tier}")
    return user
