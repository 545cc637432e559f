"""``fusiontrade mail``: what a laptop's stack would have sent, with its codes and links."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

import fusiontrade
from fusiontrade.cli.api import NOT_FOUND, USAGE, CommandFailure
from fusiontrade.cli.common import AsJson, failures_are_exits, print_json

if TYPE_CHECKING:
    from email.message import EmailMessage

__all__ = ["Letter", "letters_in", "mail", "outbox_of"]

_KIND_HEADER = "X-FusionTrade-Mail"
_LINK = re.compile(r"https?://\S+")
_CODE = re.compile(r"[?&]code=([A-Za-z0-9._~%-]+)")
_LOOK_AGAIN_SECONDS = 0.2


@dataclass(frozen=True)
class Letter:
    """One mail of the outbox; ``at`` is ISO-8601, ``code`` and ``link`` are None where it has none."""

    file: str
    at: str
    kind: str
    to: str
    subject: str
    code: str | None
    link: str | None
    text: str


def mail(
    number: Annotated[int | None, typer.Argument(min=1, help="Show this one, 1 is the newest.")] = None,
    *,
    to: Annotated[str | None, typer.Option(help="Only to this address.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only of this kind: verification, reset, ...")] = None,
    code: Annotated[bool, typer.Option("--code", help="Print the newest one's code and nothing else.")] = False,
    link: Annotated[bool, typer.Option("--link", help="Print the newest one's link and nothing else.")] = False,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait until there is one.")] = 0.0,
    outbox: Annotated[Path | None, typer.Option(envvar="MAIL_OUTBOX", help="The outbox folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the mails that the local stack wrote, newest first, or show one."""
    with failures_are_exits():
        folder = outbox or outbox_of(os.environ, Path(fusiontrade.__file__).parent)
        found = _awaited(folder, to, kind, wait)
        if code or link:
            typer.echo(_part(_newest(found, folder, number), "code" if code else "link"))
        elif number is not None:
            _show(_newest(found, folder, number), as_json=as_json)
        elif as_json:
            print_json([{name: value for name, value in asdict(each).items() if name != "text"} for each in found])
        elif found:
            Console().print(_table(found))
        else:
            typer.echo(f"no mail in {folder}")


def outbox_of(environ: Mapping[str, str], package: Path) -> Path:
    """Return the outbox of the stack that this installation would run."""
    if state := environ.get("FUSIONTRADE_STATE"):
        return Path(state).expanduser() / "outbox"
    root = package.parents[1]
    if not (root / "template.yaml").is_file():
        raise CommandFailure("there is no local stack here: name its outbox folder with --outbox", USAGE)
    return root / ".local" / "outbox"


def letters_in(folder: Path, *, to: str | None = None, kind: str | None = None) -> list[Letter]:
    """Return the mails of a folder, newest first; one that vanishes while it is read is left out."""
    from fusiontrade.clock import parse_iso

    found = []
    for file in folder.glob("*.eml"):
        try:
            written, content = file.stat().st_mtime_ns, file.read_bytes()
        except FileNotFoundError:
            continue
        letter = _letter(file.name, content)
        if to in (None, letter.to) and kind in (None, letter.kind):
            found.append((written, letter))
    return [letter for _, letter in sorted(found, key=lambda each: (parse_iso(each[1].at), each[0]), reverse=True)]


def _letter(name: str, content: bytes) -> Letter:
    from email import message_from_string
    from email.policy import default

    message: Any = message_from_string(content.decode("utf-8", "replace"), policy=default)
    text = _text_of(message)
    link = _LINK.search(text)
    code = _CODE.search(link.group()) if link else None
    addresses = message["To"].addresses if message["To"] is not None else ()
    return Letter(
        file=name,
        at=_instant(message),
        kind=_printable(str(message[_KIND_HEADER] or "")),
        to=_printable(", ".join(each.addr_spec for each in addresses)),
        subject=_printable(str(message["Subject"] or "")),
        code=code.group(1) if code else None,
        link=link.group() if link else None,
        text=text,
    )


def _text_of(message: EmailMessage) -> str:
    part = message.get_body(("plain",))
    lines = str(part.get_content()).splitlines() if part is not None else []
    return "\n".join(_printable(line) for line in lines)


def _instant(message: Any) -> str:
    """Return when, to the millisecond where the Message-ID tells it, so that two of one second keep their order."""
    from fusiontrade.clock import iso

    date = message["Date"]
    seconds = int(date.datetime.timestamp()) if date is not None and date.datetime is not None else 0
    fraction = re.search(r"<\d{8}T\d{6}\.(\d{3})Z\.", str(message["Message-ID"] or ""))
    return iso(seconds * 1000 + (int(fraction.group(1)) if fraction else 0))


def _printable(text: str) -> str:
    """Return ``text`` without what a terminal would obey."""
    return "".join(each if each.isprintable() else " " for each in text)


def _awaited(folder: Path, to: str | None, kind: str | None, seconds: float) -> list[Letter]:
    until = time.monotonic() + seconds
    while not (found := letters_in(folder, to=to, kind=kind)) and time.monotonic() < until:
        time.sleep(_LOOK_AGAIN_SECONDS)
    return found


def _newest(found: Sequence[Letter], folder: Path, number: int | None) -> Letter:
    index = (number or 1) - 1
    if index >= len(found):
        told = f"there are {len(found)} such mails" if found else "there is no such mail"
        raise CommandFailure(f"{told} in {folder}", NOT_FOUND)
    return found[index]


def _part(letter: Letter, name: str) -> str:
    value: str | None = getattr(letter, name)
    if value is None:
        raise CommandFailure(f"the mail {letter.subject!r} to {letter.to} holds no {name}", NOT_FOUND)
    return value


def _show(letter: Letter, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(letter))
        return
    typer.echo(f"to       {letter.to}\nsubject  {letter.subject}\nat       {letter.at}\nfile     {letter.file}\n")
    typer.echo(letter.text)


def _table(letters: Sequence[Letter]) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("#", justify="right")
    for name in ("at", "kind", "to"):
        table.add_column(name, no_wrap=name != "to", overflow="fold")
    table.add_column("code, or where it leads", overflow="fold")
    for number, letter in enumerate(letters, 1):
        told = letter.code or letter.link or ""
        table.add_row(str(number), letter.at.removesuffix("Z").replace("T", " ")[:19], letter.kind, letter.to, told)
    return table
