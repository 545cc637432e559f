"""``fusiontrade accounts``: what an operator does to accounts, on the Accounts table itself.

Always true here: nothing is reached but the stack that is named; without a name it is the one on this machine, with
credentials that open nothing else.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusiontrade.cli.api import USAGE, CommandFailure
from fusiontrade.cli.common import AsJson, failures_are_exits, print_json

if TYPE_CHECKING:
    from fusiontrade.accounts.users import Profile, Users

__all__ = ["app", "hub_token"]

app = typer.Typer(help="Make accounts and give them tiers: for the operator of a stack.", no_args_is_help=True)

LOCAL_TABLE = "fusiontrade-local-AccountsTable"
_LOCAL_KEY = "alias/fusiontrade-local-AccountsKey"
_LOCAL_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}


class Tier(StrEnum):
    """What an account may do."""

    FREE = "free"
    PRO = "pro"
    ADMIN = "admin"


Stack = Annotated[
    str | None,
    typer.Option(
        "--stack",
        envvar="FUSIONTRADE_STACK",
        help="The deployed stack, with your AWS credentials and region; this machine's own where none is named.",
    ),
]
TableName = Annotated[
    str | None,
    typer.Option("--table", envvar="ACCOUNTS_TABLE", help="The Accounts table by its own name instead of --stack."),
]


@app.command()
def create(
    email: Annotated[str, typer.Argument(help="The account's address.")],
    *,
    name: Annotated[str, typer.Option("--name", help="The user's full name.")] = "",
    tier: Annotated[Tier, typer.Option(help="What the account may do.")] = Tier.FREE,
    password: Annotated[
        str,
        typer.Option(
            prompt=True,
            hide_input=True,
            confirmation_prompt=True,
            envvar="FUSIONTRADE_PASSWORD",
            help="Asked for if not given.",
        ),
    ] = "",
    verified: Annotated[bool, typer.Option(help="Whether the address counts as proven.")] = True,
    stack: Stack = None,
    table: TableName = None,
    as_json: AsJson = False,
) -> None:
    """Make an account; the password's rules hold for operators too."""
    with failures_are_exits():
        from fusiontrade.accounts.credentials.password_rules import check_password

        _check_address(email)
        check_password(password)
        users = _users(stack, table)
        made = users.create(email, password, name or email.partition("@")[0], tier=tier.value, verified=verified)
        _tell(made, "made", as_json=as_json)


@app.command()
def promote(
    email: Annotated[str, typer.Argument(help="The account's address.")],
    tier: Annotated[Tier, typer.Option(help="What the account may do from now on.")] = Tier.PRO,
    stack: Stack = None,
    table: TableName = None,
    as_json: AsJson = False,
) -> None:
    """Give an account another tier, up or down; its next access token says so, within half an hour."""
    with failures_are_exits():
        _check_address(email)
        _tell(_users(stack, table).set_tier(email, tier.value), "now", as_json=as_json)


def hub_token(email: str) -> str:
    """Return the hub token that the owner of an account has given, for what is fetched in their name; never shown.

    The stack is the one that ``FUSIONTRADE_STACK`` names; else the table and key are those of ``ACCOUNTS_TABLE`` and
    ``ACCOUNTS_KEY_ARN``, or this machine's.

    Raises
    ------
    InvalidInput
        If there is no such account, or it has no hub token.
    StateUnavailable
        If the stack does not answer.
    """
    from fusiontrade.cloud.encryption import Encryption, Undecipherable
    from fusiontrade.cloud.stacks import physical_name
    from fusiontrade.errors import InvalidInput

    _check_address(email)
    stack = os.environ.get("FUSIONTRADE_STACK")
    users = _users(stack, None if stack else os.environ.get("ACCOUNTS_TABLE"))
    key = physical_name(stack, "AccountsKey") if stack else os.environ.get("ACCOUNTS_KEY_ARN") or _LOCAL_KEY
    profile = users.by_email(email)
    sealed = None if profile is None else users.sealed_hub_token(profile.id)
    if profile is None or sealed is None:
        told = "has no hub token" if profile is not None else "is no account's address"
        raise InvalidInput("--account", f"{email} {told}: its owner gives one with PUT /api/v1/auth/me, hf_token")
    try:
        return Encryption(key).decrypt(sealed, user_id=profile.id, purpose="hf_token")
    except Undecipherable:
        raise InvalidInput(
            "--account", f"the hub token of {email} cannot be read: its owner has to give it anew"
        ) from None


def _users(stack: str | None, table: str | None) -> Users:
    """Return the users of the stack that was named."""
    from fusiontrade.accounts.credentials.passwords import Passwords
    from fusiontrade.accounts.users import Users
    from fusiontrade.clock import system_clock
    from fusiontrade.cloud.stacks import physical_name
    from fusiontrade.cloud.tables import Table

    if stack and table:
        raise CommandFailure("name the stack or the table, not both", USAGE)
    if stack:
        name = physical_name(stack, "AccountsTable")
    elif table:
        name = table
    else:
        name = LOCAL_TABLE
        os.environ.pop("AWS_PROFILE", None)
        port = os.environ.get("FUSIONTRADE_EMULATOR_PORT") or "4566"
        os.environ.update({**_LOCAL_CREDENTIALS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"})
    return Users(Table(name), Passwords(), system_clock)


def _check_address(email: str) -> None:
    local, _, domain = email.strip().rpartition("@")
    if not local or not domain or not email.isprintable() or " " in email.strip():
        raise CommandFailure(f"{email!r} is no e-mail address", USAGE)


def _tell(profile: Profile, what: str, *, as_json: bool) -> None:
    if as_json:
        print_json(_shown(profile))
        return
    proven = "verified" if profile.is_verified else "not verified"
    typer.echo(f"{profile.email} is {what} {profile.subscription_tier}, {proven} (id {profile.id})")


def _shown(profile: Profile) -> dict[str, Any]:
    from fusiontrade.clock import iso

    return {**asdict(profile), "created_at": iso(profile.created_at)}
