"""``fusiontrade journal``: what was forecast, what became of it, and whether the chances given were true."""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, BinaryIO
from urllib.parse import quote

import typer
from rich.console import Console

from fusiontrade.cli.api import FAILED, UNAVAILABLE, USAGE, Api, CommandFailure
from fusiontrade.cli.common import (
    LOCAL_STACK,
    ApiUrl,
    AsJson,
    failures_are_exits,
    patiently,
    print_json,
    signed_in,
    tell,
    waiting,
)
from fusiontrade.cli.journal_files import joined_csv, joined_json

__all__ = ["app"]

app = typer.Typer(help="The journal: forecasts written down before the outcome, and settled.", no_args_is_help=True)

PATH = "/api/v1/journal"
_MOST_OF_A_PAGE = 200
_MOST_BYTES = 5 * 1024 * 1024
_LOOK_AGAIN_SECONDS = 1.0
_PATIENCE_SECONDS = 120.0
"""For a part of an export after the first one: a large journal takes more calls than a minute allows."""


class Status(StrEnum):
    """What became of an entry."""

    PENDING = "PENDING"
    WIN = "WIN"
    LOSS = "LOSS"
    EXPIRED = "EXPIRED"


class Form(StrEnum):
    """How a journal is written into a file."""

    CSV = "csv"
    JSON = "json"


Symbol = Annotated[str | None, typer.Option(help="Only this symbol, e.g. EURUSD=X.")]
Interval = Annotated[str | None, typer.Option(help="Only this timeframe: 15m, 30m, 1h, 4h.")]
Since = Annotated[str | None, typer.Option("--from", help="Only from this instant on, e.g. 2025-07-31T12:00:00Z.")]
Until = Annotated[str | None, typer.Option("--to", help="Only before this instant.")]


@app.command("list")
def list_entries(
    *,
    status: Annotated[Status | None, typer.Option(case_sensitive=False, help="Only what became this.")] = None,
    symbol: Symbol = None,
    interval: Interval = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many entries.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Go on where an earlier list ended.")] = None,
    as_json: AsJson = False,
    api: ApiUrl = LOCAL_STACK,
) -> None:
    """List your entries, newest first."""
    with failures_are_exits():
        stack, filters = Api(api), _filters(symbol, interval, since, until, status=status and status.value)
        with waiting("reading the journal"):
            items, following = signed_in(stack, lambda token: _pages(stack, token, filters, limit, cursor))
        if as_json:
            print_json({"items": items, "next_cursor": following})
            return
        from fusiontrade.cli.journal_views import entries_view

        console = Console()
        console.print(entries_view(items, console.width))
        if following:
            tell(f"there are more: fusiontrade journal list --cursor {following}")


@app.command()
def show(
    entry_id: Annotated[str, typer.Argument(help="Its id, as the list shows it.")],
    as_json: AsJson = False,
    api: ApiUrl = LOCAL_STACK,
) -> None:
    """Show one entry whole."""
    with failures_are_exits():
        stack, path = Api(api), f"{PATH}/{quote(entry_id, safe='')}"
        entry = signed_in(stack, lambda token: stack.asked("GET", path, token=token, holds=("id", "status")))
        if as_json:
            print_json(entry)
            return
        from fusiontrade.cli.journal_views import entry_view

        Console().print(entry_view(entry))


@app.command()
def stats(
    *,
    symbol: Symbol = None,
    interval: Interval = None,
    since: Since = None,
    until: Until = None,
    as_json: AsJson = False,
    api: ApiUrl = LOCAL_STACK,
) -> None:
    """Show what your entries came to."""
    with failures_are_exits():
        stack, filters = Api(api), _filters(symbol, interval, since, until)
        with waiting("adding up"):
            told = signed_in(
                stack,
                lambda token: stack.asked("GET", f"{PATH}/stats", token=token, params=filters, holds=("total",)),
            )
        if as_json:
            print_json(told)
            return
        from fusiontrade.cli.journal_views import statistics_view

        Console().print(statistics_view(told))


@app.command()
def verify(
    wait: Annotated[bool, typer.Option(help="Wait until it is done.")] = True,
    seconds: Annotated[float, typer.Option("--timeout", min=1, help="Seconds to wait at most.")] = 300.0,
    as_json: AsJson = False,
    api: ApiUrl = LOCAL_STACK,
) -> None:
    """Check every pending entry of yours against the market now."""
    with failures_are_exits():
        stack = Api(api)
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        job = signed_in(
            stack,
            lambda token: stack.asked(
                "POST", f"{PATH}/verify-now", token=token, headers=headers, holds=("id", "status")
            ),
        )
        if wait:
            with waiting("checking pending entries against the market"):
                job = _finished(stack, job, seconds)
        if as_json:
            print_json(job)
        else:
            from fusiontrade.cli.journal_views import job_line

            typer.echo(job_line(job))
        if job["status"] == "FAILED":
            raise typer.Exit(FAILED)


@app.command()
def export(
    *,
    form: Annotated[Form, typer.Option("--format", help="What to write.")] = Form.CSV,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The file; without it, this terminal.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    symbol: Symbol = None,
    interval: Interval = None,
    since: Since = None,
    until: Until = None,
    api: ApiUrl = LOCAL_STACK,
) -> None:
    """Write your journal, newest entries first, into a file."""
    with failures_are_exits():
        stack, filters = Api(api), _filters(symbol, interval, since, until, format=form.value)
        if output is not None and output.exists() and not force:
            raise CommandFailure(f"{output} is there already; write over it with --force", USAGE)
        join = joined_csv if form is Form.CSV else joined_json
        with waiting("exporting"), _target(output) as into:
            size = sum(into.write(part) for part in join(_parts(stack, filters)))
        if output is not None:
            tell(f"{size:,} bytes are in {output}")


@app.command("import")
def import_entries(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="An older predictions_log.csv.")],
    as_json: AsJson = False,
    api: ApiUrl = LOCAL_STACK,
) -> None:
    """Take over an older log: all of its rows or, where one is wrong, none; each wrong row is named."""
    with failures_are_exits():
        stack, content = Api(api), file.read_bytes()
        if len(content) > _MOST_BYTES:
            raise CommandFailure(f"{file} has {len(content):,} bytes, at most {_MOST_BYTES:,} go in one import", USAGE)
        headers = {"Content-Type": "text/csv; charset=utf-8", "Idempotency-Key": uuid.uuid4().hex}

        def send(token: str) -> dict[str, Any]:
            sent = {"headers": headers, "content": content}
            return stack.asked("POST", f"{PATH}/import", token=token, holds=("imported", "errors"), **sent)

        with waiting(f"importing {file.name}"):
            report = signed_in(stack, send)
        if as_json:
            print_json(report)
        else:
            from fusiontrade.cli.journal_views import import_view

            Console().print(import_view(report))
        if report["errors"]:
            raise typer.Exit(FAILED)


def _filters(
    symbol: str | None, interval: str | None, since: str | None, until: str | None, **more: str | None
) -> dict[str, str]:
    chosen = {"symbol": symbol, "interval": interval, "from": since, "to": until, **more}
    return {name: value for name, value in chosen.items() if value is not None}


def _pages(
    stack: Api, token: str, filters: dict[str, str], limit: int, cursor: str | None
) -> tuple[list[dict[str, Any]], str | None]:
    """Return up to ``limit`` entries and where the next one is, None at the end."""
    items: list[dict[str, Any]] = []
    while len(items) < limit:
        asked = (
            filters | {"limit": str(min(limit - len(items), _MOST_OF_A_PAGE))} | ({"cursor": cursor} if cursor else {})
        )
        page = stack.asked("GET", PATH, token=token, params=asked, holds=("items", "next_cursor"))
        items += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    return items, cursor


def _finished(stack: Api, job: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Return the job when it has succeeded or failed; a refusal for now is waited out."""
    until, path = time.monotonic() + seconds, f"/api/v1/ml/jobs/{quote(str(job['id']), safe='')}"

    def ask(token: str) -> dict[str, Any]:
        return stack.asked("GET", path, token=token, holds=("id", "status"))

    while job["status"] not in ("SUCCEEDED", "FAILED"):
        if time.monotonic() >= until:
            raise CommandFailure(f"the job {job['id']} is not done yet; it goes on without this command", UNAVAILABLE)
        time.sleep(_LOOK_AGAIN_SECONDS)
        job = patiently(stack, ask, until=until)
    return job


def _parts(stack: Api, query: dict[str, str]) -> Iterator[bytes]:
    """Give the parts of an export as they come, each a whole file of its own."""
    following: dict[str, str] | None = query
    patience = 0.0

    def ask(token: str) -> tuple[bytes, dict[str, str] | None]:
        return stack.download(f"{PATH}/export", token=token, params=following)

    while following is not None:
        content, following = patiently(stack, ask, until=time.monotonic() + patience)
        yield content
        patience = _PATIENCE_SECONDS


@contextmanager
def _target(output: Path | None) -> Iterator[BinaryIO]:
    """Give what to write to; a file is there whole or not at all."""
    if output is None:
        yield sys.stdout.buffer
        return
    partial = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
