"""``fusiontrade mail`` on an outbox that the product wrote."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from fusiontrade.cli.api import CommandFailure
from fusiontrade.cli.mail import outbox_of
from fusiontrade.cloud.mail import Outbox
from fusiontrade.mails import Kind, Mail
from fusiontrade.mails.rendering import Letterhead, render

HEAD = Letterhead("http://localhost:5173", "FusionTrade AI <no-reply@fusiontrade.ai>")
AT = 1_750_000_000_000


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    return tmp_path / "outbox"


def put(
    outbox: Path, kind: Kind, code: str | None = None, *, to: str = "ada@example.com", at: int = AT, name: str = "Ada"
) -> None:
    Outbox(outbox).send(render(Mail(kind, to, name, code, at), HEAD))


def test_mails_are_listed_newest_first_with_their_codes(command: Any, outbox: Path) -> None:
    put(outbox, "verification", "a" * 64)
    put(outbox, "reset", "b" * 64, at=AT + 1)  # within the same second
    put(outbox, "password_changed", at=AT + 60_000)
    result = command.run("mail", MAIL_OUTBOX=str(outbox))
    assert result.exit_code == 0
    kinds = [line.replace("│", " ").split()[3] for line in result.stdout.splitlines() if line.strip()[:1].isdigit()]
    assert kinds == ["password_changed", "reset", "verification"]
    shown = "".join(result.stdout.split())
    assert "http://localhost:5173/forgot-password" in shown
    told = json.loads(command.run("mail", "--json", MAIL_OUTBOX=str(outbox)).stdout)
    assert [(each["kind"], each["code"]) for each in told] == [
        ("password_changed", None), ("reset", "b" * 64), ("verification", "a" * 64),
    ]  # fmt: skip
    assert told[1] == {
        "file": told[1]["file"],
        "at": "2025-06-15T15:06:40.001Z",
        "kind": "reset",
        "to": "ada@example.com",
        "subject": "Reset your password - FusionTrade AI",
        "code": "b" * 64,
        "link": f"http://localhost:5173/reset-password?code={'b' * 64}",
    }
    assert (outbox / told[1]["file"]).is_file()


def test_a_script_gets_the_newest_code_or_link_alone(command: Any, outbox: Path) -> None:
    put(outbox, "verification", "old")
    put(outbox, "verification", "new", at=AT + 1000)
    put(outbox, "verification", "other", at=AT + 2000, to="bob@example.com")
    put(outbox, "reset", "reset", at=AT + 3000)
    words = ("mail", "--to", "ada@example.com", "--kind", "verification", "--outbox", str(outbox))
    assert command.run(*words, "--code").stdout == "new\n"
    assert command.run(*words, "--link").stdout == "http://localhost:5173/verify-email?code=new\n"
    assert command.run(*words[:-2], "2", "--code", "--outbox", str(outbox)).stdout == "old\n"


def test_one_mail_is_shown_as_it_reads(command: Any, outbox: Path) -> None:
    put(outbox, "reset", "c" * 64, name="Žofie")
    result = command.run("mail", "1", "--outbox", str(outbox))
    assert result.exit_code == 0
    assert "to       ada@example.com\nsubject  Reset your password - FusionTrade AI" in result.stdout
    assert "Hello Žofie," in result.stdout
    assert f"\n{'c' * 64}\n" in result.stdout
    assert "<p" not in result.stdout
    assert "Hello Žofie," in json.loads(command.run("mail", "1", "--json", "--outbox", str(outbox)).stdout)["text"]


def test_no_mail_is_no_failure_for_a_list_and_no_such_thing_for_a_code(command: Any, outbox: Path) -> None:
    assert command.run("mail", "--outbox", str(outbox)).stdout == f"no mail in {outbox}\n"
    assert json.loads(command.run("mail", "--json", "--outbox", str(outbox)).stdout) == []
    missing = command.run("mail", "--code", "--outbox", str(outbox))
    assert (missing.exit_code, missing.stdout) == (4, "")
    put(outbox, "password_changed")
    assert command.run("mail", "--code", "--outbox", str(outbox)).exit_code == 4
    assert "there are 1 such mails" in command.run("mail", "2", "--outbox", str(outbox)).stderr


def test_a_mail_that_comes_while_it_is_waited_for_is_found(command: Any, outbox: Path) -> None:
    def later() -> None:
        time.sleep(0.3)
        put(outbox, "verification", "late")

    writer = threading.Thread(target=later)
    writer.start()
    result = command.run("mail", "--code", "--wait", "20", "--outbox", str(outbox))
    writer.join()
    assert result.stdout == "late\n"


def test_what_lies_in_the_folder_cannot_move_the_terminal(command: Any, outbox: Path) -> None:
    outbox.mkdir()
    hostile = "From: a@b.c\nTo: x@y.z\nSubject: =?utf-8?q?=1B[2J=1B]0;owned=07?=\n\n\x1b[31mred http://h/?code=x\x07\n"
    (outbox / "hostile.eml").write_text(hostile)
    (outbox / "binary.eml").write_bytes(bytes(range(256)))
    (outbox / "empty.eml").touch()
    for words in ((), ("1",), ("2",), ("3",), ("--json",)):
        result = command.run("mail", *words, "--outbox", str(outbox))
        assert result.exit_code == 0, result.output
        assert not {"\x1b", "\x07"} & set(result.stdout)


def test_the_outbox_is_the_local_stacks_unless_named(tmp_path: Path) -> None:
    package = tmp_path / "shared" / "fusiontrade"
    assert outbox_of({"FUSIONTRADE_STATE": "/state"}, package) == Path("/state/outbox")
    with pytest.raises(CommandFailure, match="--outbox"):
        outbox_of({}, package)
    (tmp_path / "template.yaml").touch()
    assert outbox_of({}, package) == tmp_path / ".local" / "outbox"
