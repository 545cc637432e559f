"""The auth function: ``/api/v1/auth`` and the public signing keys. Parse, one call of the product, respond."""

from __future__ import annotations

import os
from typing import Annotated

from fusiontrade.accounts import documents
from fusiontrade.accounts.admission.gate import LimitReached
from fusiontrade.accounts.admission.sessions import Device
from fusiontrade.accounts.by_mail.registration import Asked
from fusiontrade.accounts.credentials.known_devices import LIFE_SECONDS
from fusiontrade.accounts.credentials.password_rules import read_list
from fusiontrade.accounts.profiles import Profile
from fusiontrade.accounts.service import Accounts, passwords_of
from fusiontrade.cloud.encryption import Encryption
from fusiontrade.cloud.session import read_ahead
from fusiontrade.cloud.tables import ConditionFailed
from fusiontrade.errors import NotFound, Unauthenticated
from fusiontrade.settings import Settings
from fusiontrade.web import create_app, handler_of, problems
from fusiontrade.web.answering.idempotency import Claimed, Once, OnceOfAddress
from fusiontrade.web.asking.authentication import (
    CurrentUser,
    Identity,
    load_ahead,
    require,
    signing_keys_of,
    tokens_of,
)
from fusiontrade.web.asking.callers import ClientDevice
from fusiontrade.web.asking.cookies import RefreshCookie, clear_refresh, set_device, set_refresh
from fusiontrade.web.asking.derived import derivation_of, gate_of
from fusiontrade.web.asking.rate_limits import counted, counted_by_address, show
from fusiontrade.web.framework import APIRouter, Depends, Path, Request, Response

auth = APIRouter(prefix="/api/v1/auth", tags=["auth"])
keys = APIRouter(tags=["auth"])

_MAILED = documents.Message(message="if the address can be written to, a mail is on its way; look into your inbox")
_RESET = documents.Message(
    message="the password is changed, every device signed out and every API key ended; sign in with the new one"
)
_CHANGED = documents.Message(message="the password is changed and every other device signed out; API keys stay")
_OVER = "this session is over; sign in again"
_GONE = "this account is no more; sign in again"


def current_accounts(request: Request) -> Accounts:
    """Return the accounts of ``request``, with the application's limits and clock: a FastAPI dependency."""
    state = request.app.state
    return Accounts.of(state.settings, derivation_of(state.settings), gate_of(request), state.clock)


Here = Annotated[Accounts, Depends(current_accounts)]
VerifiedUser = Annotated[Identity, Depends(require())]


@auth.post(
    "/register",
    operation_id="register",
    status_code=202,
    response_model=documents.Message,
    dependencies=[Depends(counted_by_address("register"))],
    responses=problems(409, 429, 503),
)
def register(
    given: documents.NewUser, request: Request, accounts: Here, once: OnceOfAddress, device: ClientDevice
) -> Response:
    """Ask for an account; the code that verifies the address comes by mail."""
    asked = _asked(request, once, device)
    make = accounts.registration.register
    try:
        return once.done(_MAILED, status=202, writes=make(given.email, given.password, given.full_name, asked))
    except ConditionFailed:  # registered by another request in between: now as for any address that has an account
        return once.done(_MAILED, status=202, writes=make(given.email, given.password, given.full_name, asked))


@auth.post("/login", operation_id="login", responses=problems(401, 409, 429, 503))
def login(
    given: documents.Credentials, request: Request, response: Response, accounts: Here, device: ClientDevice
) -> documents.SignedIn:
    """Sign in with an e-mail address and a password."""
    counted(request, lambda: accounts.sign_ins.count_at(device, given.email))
    signed = accounts.sign_ins.sign_in(given.email, given.password, device, request_id=_request_id(request))
    set_refresh(response, signed.opened.refresh_token, signed.opened.expires_in)
    set_device(response, signed.device_token, LIFE_SECONDS)
    return _signed_in(request, signed.profile, signed.opened.session_id)


@auth.post("/refresh", operation_id="refresh", responses=problems(401, 403, 409, 415, 429, 503))
def refresh(
    *,
    request: Request,
    response: Response,
    accounts: Here,
    device: ClientDevice,
    token: RefreshCookie,
    given: documents.Nothing | None = None,
) -> documents.SignedIn:
    """Get a new access token for the refresh cookie, which changes at every use."""
    del given
    if token is None:
        raise Unauthenticated("there is no refresh cookie; sign in")
    try:
        rotated = accounts.sessions.rotate(token, device)
        profile = accounts.users.profile(rotated.user_id)
    except LimitReached as refused:
        show(request, refused.allowance)
        raise
    except NotFound:
        raise Unauthenticated(_GONE) from None
    show(request, rotated.allowance)
    set_refresh(response, rotated.refresh_token, rotated.expires_in)
    return _signed_in(request, profile, rotated.session_id)


@auth.post("/logout", operation_id="logout", responses=problems(401, 409, 429, 503))
def logout(user: CurrentUser, response: Response, accounts: Here) -> documents.Message:
    """Sign this device out: its refresh cookie and its access tokens are worthless from now on."""
    accounts.sign_out(user)
    clear_refresh(response)
    return documents.Message(message="signed out")


@auth.get("/me", operation_id="getMe", responses=problems(401, 429, 503))
def me(user: CurrentUser, accounts: Here) -> documents.Me:
    """Show the signed-in user's own account."""
    try:
        return documents.Me.of(accounts.users.profile(user.user_id))
    except NotFound:
        raise Unauthenticated(_GONE) from None


@auth.put("/me", operation_id="changeMe", responses=problems(401, 409, 429, 503))
def change_me(given: documents.ChangeOfProfile, user: CurrentUser, request: Request, accounts: Here) -> documents.Me:
    """Change the signed-in user's own account; what is left out stays."""
    changes = given.model_dump(include={"full_name", "segment"} & given.model_fields_set)
    token: str | None = ""
    if "hf_token" in given.model_fields_set:
        token = None if given.hf_token is None else _sealed(request, user, given.hf_token)
    try:
        return documents.Me.of(accounts.users.change(user.user_id, user.email, changes, hf_token=token))
    except NotFound:
        raise Unauthenticated(_GONE) from None


@auth.post(
    "/verify-email",
    operation_id="verifyEmail",
    dependencies=[Depends(counted_by_address("codes"))],
    responses=problems(409, 429, 503),
)
def verify_email(given: documents.Code, accounts: Here) -> documents.Message:
    """Prove that an address is yours with the code that was mailed to it."""
    accounts.registration.verify(given.code)
    return documents.Message(message="the address is verified; sign in, or refresh if you are signed in")


@auth.post(
    "/resend-verification",
    operation_id="resendVerification",
    status_code=202,
    response_model=documents.Message,
    dependencies=[Depends(counted_by_address("mail"))],
    responses=problems(409, 429, 503),
)
def resend_verification(
    given: documents.EmailOnly, request: Request, accounts: Here, once: OnceOfAddress, device: ClientDevice
) -> Response:
    """Ask for a new code that verifies the address; codes that were mailed before are worthless then."""
    writes = accounts.registration.resend(given.email, _asked(request, once, device))
    return once.done(_MAILED, status=202, writes=writes)


@auth.post(
    "/forgot-password",
    operation_id="forgotPassword",
    status_code=202,
    response_model=documents.Message,
    dependencies=[Depends(counted_by_address("mail"))],
    responses=problems(409, 429, 503),
)
def forgot_password(
    given: documents.EmailOnly, request: Request, accounts: Here, once: OnceOfAddress, device: ClientDevice
) -> Response:
    """Ask for a code that sets a new password; it is good for 15 minutes."""
    writes = accounts.recovery.forgot(given.email, _asked(request, once, device))
    return once.done(_MAILED, status=202, writes=writes)


@auth.post(
    "/reset-password",
    operation_id="resetPassword",
    dependencies=[Depends(counted_by_address("codes"))],
    response_model=documents.Message,
    responses=problems(409, 429, 503),
)
def reset_password(given: documents.NewPassword, request: Request, accounts: Here, once: OnceOfAddress) -> Response:
    """Set a new password with the code that was mailed; every device is signed out and every API key worthless."""
    return accounts.recovery.reset(
        given.code,
        given.new_password,
        lambda writes: once.done(_RESET, writes=writes),
        request_id=_request_id(request),
    )


@auth.post(
    "/change-password",
    operation_id="changePassword",
    response_model=documents.Message,
    responses=problems(401, 409, 429, 503),
)
def change_password(
    given: documents.ChangeOfPassword, user: CurrentUser, request: Request, accounts: Here, once: Once
) -> Response:
    """Set a new password with the current one; every other device is signed out, API keys stay as they are."""
    return accounts.recovery.change(
        user,
        given.current_password,
        given.new_password,
        lambda writes: once.done(_CHANGED, writes=writes),
        request_id=_request_id(request),
    )


@auth.get("/sessions", operation_id="listSessions", responses=problems(401, 429, 503))
def list_sessions(user: CurrentUser, accounts: Here) -> documents.Sessions:
    """List the devices that are signed in."""
    found = accounts.sessions.of_user(user.user_id)
    return documents.Sessions(items=[documents.Session.of(session, user.session_id) for session in found])


@auth.delete(
    "/sessions/{session_id}", operation_id="endSession", status_code=204, responses=problems(401, 404, 409, 429, 503)
)
def end_session(session_id: Annotated[str, Path(max_length=64)], user: CurrentUser, accounts: Here) -> None:
    """Sign one device out."""
    accounts.sessions.close(user.user_id, session_id)


@auth.post(
    "/api-keys",
    operation_id="createApiKey",
    status_code=201,
    response_model=documents.ShownApiKey,
    responses=problems(401, 403, 404, 409, 429, 503),
)
def create_api_key(
    given: documents.NewApiKey, user: VerifiedUser, request: Request, accounts: Here, once: Once
) -> Response:
    """Make a key for a program; its text is shown this once."""
    made, writes = accounts.api_keys.new(user.user_id, given.name, given.scopes, once.id("api-key"))
    shown = documents.ShownApiKey(**documents.shown_key(made.key), key=made.text)
    alive = gate_of(request).key_made(user.user_id, user.session_id, user.issued_at)  # a reset may have come since
    try:
        return once.done(shown, status=201, writes=[*writes, alive])
    except ConditionFailed as refused:
        if refused.index == len(writes):
            raise Unauthenticated(_OVER) from None
        raise


@auth.get("/api-keys", operation_id="listApiKeys", responses=problems(401, 429, 503))
def list_api_keys(user: CurrentUser, accounts: Here) -> documents.ApiKeys:
    """List the keys, without their texts."""
    return documents.ApiKeys(items=[documents.ApiKey.of(key) for key in accounts.api_keys.of_user(user.user_id)])


@auth.delete(
    "/api-keys/{key_id}", operation_id="deleteApiKey", status_code=204, responses=problems(401, 404, 409, 429, 503)
)
def delete_api_key(key_id: Annotated[str, Path(max_length=64)], user: CurrentUser, accounts: Here) -> None:
    """Make a key worthless at once."""
    accounts.api_keys.delete(user.user_id, key_id)


@keys.get("/.well-known/jwks.json", operation_id="getSigningKeys", responses=problems(503))
def signing_keys(request: Request, response: Response) -> documents.PublicKeys:
    """Publish the keys that access tokens verify with."""
    response.headers["Cache-Control"] = "public, max-age=300"
    return documents.PublicKeys.model_validate(signing_keys_of(request.app.state.settings)().public())


def _signed_in(request: Request, profile: Profile, session_id: str) -> documents.SignedIn:
    identity = Identity(profile.id, profile.email, profile.subscription_tier, session_id, profile.is_verified)
    token = tokens_of(request.app.state.settings).issue(identity)
    return documents.SignedIn(access_token=token.text, expires_in=token.expires_in, user=documents.User.of(profile))


def _sealed(request: Request, user: Identity, token: str) -> str:
    key = request.app.state.settings.need("accounts_key_arn")
    return Encryption(key).encrypt(token, user_id=user.user_id, purpose="hf_token")


def _asked(request: Request, once: Claimed, device: Device) -> Asked:
    return Asked(once.id("user"), once.id("code"), device, _request_id(request))


def _request_id(request: Request) -> str:
    return str(request.scope["fusiontrade.request_id"])


app = create_app("auth", [auth, keys], Settings.from_environment(os.environ))


def ahead() -> None:
    """Do before a snapshot what the first sign-in would do."""
    load_ahead()
    passwords_of(app.state.settings).prepare()
    read_list()
    read_ahead("dynamodb", "secretsmanager", "sqs", "kms")


handler = handler_of(app, ahead)
