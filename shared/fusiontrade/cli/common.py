"""What the commands share: their options, the signed-in call, and how a failure becomes a sentence and an exit code."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

from fusiontrade.cli.api import FAILED, NOT_FOUND, NOT_SIGNED_IN, UNAVAILABLE, USAGE, Api, CommandFailure
from fusiontrade.cli.sessions import Sessions, folder_of, token_for
from fusiontrade.errors import FusionTradeError, InvalidInput, NotFound, Unavailable

__all__ = [
    "LOCAL_STACK",
    "ApiUrl",
    "AsJson",
    "failures_are_exits",
    "patiently",
    "print_json",
    "sessions_here",
    "signed_in",
    "tell",
    "waiting",
]

Answer = TypeVar("Answer")
ApiUrl = Annotated[str, typer.Option("--api", envvar="FUSIONTRADE_API", help="Root of the stack to talk to.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON and nothing else.")]
LOCAL_STACK = "http://127.0.0.1:2001"


def tell(text: str) -> None:
    """Say something that is no answer."""
    typer.echo(text, err=True)


def sessions_here() -> Sessions:
    """Return the sessions of the person at this terminal."""
    return Sessions(folder_of(os.environ))


def signed_in(stack: Api, call: Callable[[str], Answer]) -> Answer:
    """Return ``call`` with a good token; a demo session that a restarted stack no longer knows is made anew."""
    sessions = sessions_here()
    token = token_for(stack, sessions, now=time.time(), tell=tell)
    try:
        return call(token)
    except CommandFailure as failure:
        if failure.code != NOT_SIGNED_IN:
            raise
    return call(token_for(stack, sessions, now=time.time(), tell=tell, refused=token))


def patiently(stack: Api, call: Callable[[str], Answer], *, until: float) -> Answer:
    """Return ``call`` signed in; where the API says when to ask again, and that is before ``until``, ask again.

    ``until`` is an instant of `time.monotonic`.
    """
    while True:
        try:
            return signed_in(stack, call)
        except CommandFailure as failure:
            wait = failure.retry_after
            if wait is None or time.monotonic() + wait > until:
                raise
            tell(f"{failure}; waiting {wait} s")
            time.sleep(wait)


def print_json(value: Any) -> None:
    """Print an answer as JSON."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Show that work goes on, where a person is looking."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(text):
        yield


@contextmanager
def failures_are_exits() -> Iterator[None]:
    """End the command with a sentence and an exit code where something fails."""
    try:
        yield
    except CommandFailure as failure:
        tell(f"fusiontrade: {failure}")
        raise typer.Exit(failure.code) from None
    except FusionTradeError as error:
        tell(f"fusiontrade: {error}")
        raise typer.Exit(_code_of(error)) from None
    except OSError as error:
        tell(f"fusiontrade: {error}")
        raise typer.Exit(FAILED) from None


def _code_of(error: FusionTradeError) -> int:
    codes = {InvalidInput: USAGE, NotFound: NOT_FOUND, Unavailable: UNAVAILABLE}
    return next((code for kind, code in codes.items() if isinstance(error, kind)), FAILED)
