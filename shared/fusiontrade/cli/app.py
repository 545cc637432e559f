"""The commands: parse, ask the platform, show. Everything a person reads goes to stdout, everything else to stderr."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import fusiontrade
from fusiontrade.cli import accounts, mail, training
from fusiontrade.cli import journal as journal_commands
from fusiontrade.cli.api import Api
from fusiontrade.cli.common import (
    LOCAL_STACK,
    ApiUrl,
    AsJson,
    failures_are_exits,
    print_json,
    sessions_here,
    signed_in,
    waiting,
)
from fusiontrade.cli.elsewhere import Reach, WithCommandsOfOthers
from fusiontrade.cli.sessions import sign_in

__all__ = ["app"]

app = typer.Typer(
    name="fusiontrade",
    cls=WithCommandsOfOthers,
    help="Forecasts, and what they are worth. Talks to any stack, local or deployed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"fusiontrade {fusiontrade.__version__}")
        raise typer.Exit


@app.callback()
def _common(
    context: typer.Context,
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Forecasts, and what they are worth."""
    context.obj = Reach()


@app.command()
def login(
    email: Annotated[str, typer.Option(prompt=True, help="The account's address.")],
    password: Annotated[
        str, typer.Option(prompt=True, hide_input=True, envvar="FUSIONTRADE_PASSWORD", help="Asked for if not given.")
    ],
    api: ApiUrl = LOCAL_STACK,
) -> None:
    """Sign in and keep the session for the other commands."""
    with failures_are_exits():
        sessions = sessions_here()
        session = sign_in(Api(api), sessions, email, password, now=time.time())
        minutes = round((session.expires_at - time.time()) / 60)
        typer.echo(f"signed in as {email} at {api} for {minutes} minutes; kept in {sessions.file}")


@app.command()
def signal(
    symbol: Annotated[str, typer.Argument(help="Yahoo's symbol, e.g. EURUSD=X, GC=F, BTC-USD.")],
    as_of: Annotated[
        str | None, typer.Option(help="A past instant with a zone, e.g. 2025-07-31T12:00:00Z: as it was then.")
    ] = None,
    journal: Annotated[bool, typer.Option("--journal", help="Write it into your journal, to be settled.")] = False,
    as_json: AsJson = False,
    api: ApiUrl = LOCAL_STACK,
) -> None:
    """Show the fused forecast of a symbol."""
    with failures_are_exits():
        stack = Api(api)
        with waiting(f"asking for {symbol}"):
            forecast = signed_in(stack, lambda token: stack.fusion(symbol, token=token, as_of=as_of, journal=journal))
        if as_json:
            print_json(forecast)
            return
        from fusiontrade.cli.render import forecast_view

        Console().print(forecast_view(forecast))


@app.command()
def doctor(as_json: AsJson = False, api: ApiUrl = "") -> None:
    """Check this installation and say what to do; exits with 1 if something has to be put right."""
    from fusiontrade.cli.doctor import Level, Place, examine

    with failures_are_exits():
        place = Place.of(os.environ, Path(fusiontrade.__file__).parent)
        stack = Api(api or f"http://127.0.0.1:{place.port}")
        console, findings = Console(), []
        colours = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}
        for finding in examine(place, stack, lambda: signed_in(stack, lambda token: _proven(stack, token))):
            findings.append(finding)
            if not as_json:
                remedy = f"\n       → {finding.remedy}" if finding.remedy else ""
                console.print(f"[{colours[finding.level]}]{finding.level:5}[/]", end=" ")
                console.print(f"{finding.check}: {finding.told}{remedy}", markup=False, highlight=False)
        if as_json:
            print_json([{**vars(finding), "level": finding.level.value} for finding in findings])
        if any(finding.level is Level.FAIL for finding in findings):
            raise typer.Exit(1)


def _proven(stack: Api, token: str) -> str:
    """Return ``token`` after the API took it."""
    stack.me(token)
    return token


app.add_typer(journal_commands.app, name="journal")
app.add_typer(accounts.app, name="accounts")
app.command("mail")(mail.mail)
for command in (training.train, training.backtest, training.registry, training.promote):
    app.command()(command)
