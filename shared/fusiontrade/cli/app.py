"""The commands: parse, ask the platform, show. Everything a person reads goes to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

import fusiontrade
from fusiontrade.cli.api import NOT_SIGNED_IN, Api, CommandFailure
from fusiontrade.cli.elsewhere import WithCommandsOfOthers
from fusiontrade.cli.sessions import Sessions, folder_of, sign_in, token_for

__all__ = ["app"]

app = typer.Typer(
    name="fusiontrade",
    cls=WithCommandsOfOthers,
    help="Forecasts, and what they are worth. Talks to any stack, local or deployed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Answer = TypeVar("Answer")
ApiUrl = Annotated[str, typer.Option("--api", envvar="FUSIONTRADE_API", help="Root of the stack to talk to.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON and nothing else.")]
LOCAL_STACK = "http://127.0.0.1:2001"


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"fusiontrade {fusiontrade.__version__}")
        raise typer.Exit


@app.callback()
def _common(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Forecasts, and what they are worth."""


@app.command()
def login(
    email: Annotated[str, typer.Option(prompt=True, help="The account's address.")],
    password: Annotated[
        str, typer.Option(prompt=True, hide_input=True, envvar="FUSIONTRADE_PASSWORD", help="Asked for if not given.")
    ],
    api: ApiUrl = LOCAL_STACK,
) -> None:
    """Sign in and keep the session for the other commands."""
    with _failures_are_exits():
        sessions = _sessions()
        session = sign_in(Api(api), sessions, email, password, now=time.time())
        minutes = round((session.expires_at - time.time()) / 60)
        typer.echo(f"signed in as {email} at {api} for {minutes} minutes; kept in {sessions.file}")


@app.command()
def signal(
    symbol: Annotated[str, typer.Argument(help="Yahoo's symbol, e.g. EURUSD=X, GC=F, BTC-USD.")],
    as_of: Annotated[
        str | None, typer.Option(help="A past instant with a zone, e.g. 2025-07-31T12:00:00Z: as it was then.")
    ] = None,
    as_json: AsJson = False,
    api: ApiUrl = LOCAL_STACK,
) -> None:
    """Show the fused forecast of a symbol."""
    with _failures_are_exits():
        stack = Api(api)
        with _waiting(f"asking for {symbol}"):
            forecast = _signed_in(stack, lambda token: stack.fusion(symbol, token=token, as_of=as_of))
        if as_json:
            _print_json(forecast)
            return
        from fusiontrade.cli.render import forecast_view

        Console().print(forecast_view(forecast))


@app.command()
def doctor(as_json: AsJson = False, api: ApiUrl = "") -> None:
    """Check this installation and say what to do; exits with 1 if something has to be put right."""
    from fusiontrade.cli.doctor import Level, Place, examine

    with _failures_are_exits():
        place = Place.of(os.environ, Path(fusiontrade.__file__).parent)
        stack = Api(api or f"http://127.0.0.1:{place.port}")
        console, findings = Console(), []
        colours = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}
        for finding in examine(place, stack, lambda: _signed_in(stack, lambda token: _proven(stack, token))):
            findings.append(finding)
            if not as_json:
                remedy = f"\n       → {finding.remedy}" if finding.remedy else ""
                console.print(f"[{colours[finding.level]}]{finding.level:5}[/]", end=" ")
                console.print(f"{finding.check}: {finding.told}{remedy}", markup=False, highlight=False)
        if as_json:
            _print_json([{**vars(finding), "level": finding.level.value} for finding in findings])
        if any(finding.level is Level.FAIL for finding in findings):
            raise typer.Exit(1)


def _signed_in(stack: Api, call: Callable[[str], Answer]) -> Answer:
    """Return ``call`` with a good token; a demo session that a restarted stack no longer knows is made anew."""
    sessions = _sessions()

    def tell(text: str) -> None:
        typer.echo(text, err=True)

    token = token_for(stack, sessions, now=time.time(), tell=tell)
    try:
        return call(token)
    except CommandFailure as failure:
        if failure.code != NOT_SIGNED_IN:
            raise
    return call(token_for(stack, sessions, now=time.time(), tell=tell, refused=token))


def _proven(stack: Api, token: str) -> str:
    """Return ``token`` after the API took it."""
    stack.me(token)
    return token


def _sessions() -> Sessions:
    return Sessions(folder_of(os.environ))


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


@contextmanager
def _waiting(text: str) -> Iterator[None]:
    """Show that work goes on, where a person is looking."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(text):
        yield


@contextmanager
def _failures_are_exits() -> Iterator[None]:
    try:
        yield
    except CommandFailure as failure:
        typer.echo(f"fusiontrade: {failure}", err=True)
        raise typer.Exit(failure.code) from None
    except OSError as error:
        typer.echo(f"fusiontrade: {error}", err=True)
        raise typer.Exit(1) from None
