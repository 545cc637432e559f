"""The auth function: ``/api/v1/auth`` and the public signing keys. Parse, one call of the product, respond."""

from __future__ import annotations

import os
from functools import cache
from typing import Annotated, Any, Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field

from fusiontrade.accounts.passwords import MAX_LENGTH, Passwords
from fusiontrade.accounts.users import Profile, Users
from fusiontrade.clock import iso, system_clock
from fusiontrade.cloud.session import read_ahead
from fusiontrade.cloud.tables import Table
from fusiontrade.errors import NotFound, Unauthenticated
from fusiontrade.settings import Settings
from fusiontrade.snapshots import after_restore
from fusiontrade.web import create_app, handler_of, problems
from fusiontrade.web.authentication import CurrentUser, Identity, load_ahead, signing_keys_of, tokens_of
from fusiontrade.web.framework import APIRouter, Depends, Request, Response

auth = APIRouter(prefix="/api/v1/auth", tags=["auth"])
keys = APIRouter(tags=["auth"])

Email = Annotated[str, Field(max_length=254, pattern=r"^[^@]+@[^@]+$")]
Tier = Literal["free", "pro", "admin"]


class Credentials(BaseModel):
    """Who wants to sign in."""

    # the examples are the laptop's demo account, so that the call shown in /docs works as it stands
    email: Annotated[Email, Field(examples=["devtest@fusiontrade.ai"])]
    password: Annotated[str, Field(min_length=1, max_length=MAX_LENGTH, examples=["DevTest123!"])]


class User(BaseModel):
    """A user, as the user sees it."""

    id: str
    email: str
    full_name: str
    is_verified: bool
    subscription_tier: Tier
    segment: str | None
    created_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]


class Me(User):
    """The signed-in user's own account."""

    has_hf_token: bool


class SignedIn(BaseModel):
    """An access token and whom it speaks for."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - the name of the scheme
    expires_in: Annotated[int, Field(description="Seconds the access token is good for.")]
    user: User


class PublicKey(BaseModel):
    """The public part of one signing key (RFC 7517)."""

    model_config = ConfigDict(extra="forbid")

    kty: Literal["EC"]
    crv: Literal["P-256"]
    x: str
    y: str
    kid: str
    use: Literal["sig"]
    alg: Literal["ES256"]


class PublicKeys(BaseModel):
    """The keys that access tokens verify with (a JWK set)."""

    keys: list[PublicKey]


@cache
def users_of(settings: Settings) -> Users:
    """Return the users that ``settings`` point at; made at the first request."""
    return Users(Table(settings.need("accounts_table")), Passwords.of(settings), system_clock)


def current_users(request: Request) -> Users:
    """Return the users of ``request``: a FastAPI dependency."""
    return users_of(request.app.state.settings)


Accounts = Annotated[Users, Depends(current_users)]


@auth.post("/login", operation_id="login", responses=problems(401, 429, 503))
def login(given: Credentials, request: Request, users: Accounts) -> SignedIn:
    """Sign in with an e-mail address and a password."""
    profile = users.sign_in(given.email, given.password)
    identity = Identity(profile.id, profile.email, profile.subscription_tier, uuid4().hex, profile.is_verified)
    token = tokens_of(request.app.state.settings).issue(identity)
    return SignedIn(access_token=token.text, expires_in=token.expires_in, user=User(**_shown(profile)))


@auth.get("/me", operation_id="getMe", responses=problems(401, 503))
def me(user: CurrentUser, users: Accounts) -> Me:
    """Show the signed-in user's own account."""
    try:
        profile = users.profile(user.user_id)
    except NotFound:
        raise Unauthenticated("this account is no more; sign in again") from None
    return Me(**_shown(profile), has_hf_token=profile.has_hf_token)


@keys.get("/.well-known/jwks.json", operation_id="getSigningKeys", responses=problems(503))
def signing_keys(request: Request, response: Response) -> PublicKeys:
    """Publish the keys that access tokens verify with."""
    response.headers["Cache-Control"] = "public, max-age=300"
    return PublicKeys.model_validate(signing_keys_of(request.app.state.settings)().public())


def _shown(profile: Profile) -> dict[str, Any]:
    return {
        "id": profile.id,
        "email": profile.email,
        "full_name": profile.full_name,
        "is_verified": profile.is_verified,
        "subscription_tier": profile.subscription_tier,
        "segment": profile.segment,
        "created_at": iso(profile.created_at),
    }


app = create_app("auth", [auth, keys], Settings.from_environment(os.environ))


def ahead() -> None:
    """Do before a snapshot what the first sign-in would do."""
    load_ahead()
    Passwords.of(app.state.settings).prepare()
    read_ahead("dynamodb", "secretsmanager")


after_restore(users_of.cache_clear)
handler = handler_of(app, ahead)
