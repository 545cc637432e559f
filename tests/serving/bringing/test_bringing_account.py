"""``models pull --account``: fetched with the hub token of an account, by whoever has a way to accounts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fusiontrade.errors import InvalidInput
from serving.bringing import hub
from serving.bringing.command import app

WORDS = ("pull", "owner/name", "--account", "ada@example.com", "--out")


class Reach:
    """The part of `fusiontrade.cli.elsewhere.Reach` that is needed here."""

    def hub_token(self, email: str) -> str:
        if email != "ada@example.com":
            raise InvalidInput("--account", f"{email} has no hub token")
        return "hf_of_ada"


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    found: list[str | None] = []

    def pull(repository: Any, out: Path, *, token: str | None, **more: Any) -> Path:
        found.append(token)
        return out

    monkeypatch.setattr(hub, "pull", pull)
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_machine")
    return found


def test_an_accounts_token_goes_before_the_machines_and_is_not_shown(tokens: list[str | None], tmp_path: Path) -> None:
    told = CliRunner().invoke(app, [*WORDS, str(tmp_path)], obj=Reach())
    assert told.exit_code == 0, told.output
    CliRunner().invoke(app, ["pull", "owner/name", "--out", str(tmp_path)], obj=Reach())
    assert tokens == ["hf_of_ada", "hf_of_the_machine"]
    assert "hf_of" not in told.output


def test_an_account_without_one_and_a_command_without_accounts_say_so(tokens: list[str | None], tmp_path: Path) -> None:
    other = ["eve@example.com" if word == "ada@example.com" else word for word in WORDS]
    told = CliRunner().invoke(app, [*other, str(tmp_path)], obj=Reach())
    assert told.exit_code != 0
    assert "eve@example.com has no hub token" in told.stderr
    told = CliRunner().invoke(app, [*WORDS, str(tmp_path)])
    assert told.exit_code != 0
    assert "fusiontrade models pull" in told.stderr
    assert tokens == []
