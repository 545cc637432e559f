"""The command in a folder of its own, and a small pool of the product's own making."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training_data import two_series
from typer.testing import CliRunner, Result

from fusiontrade.market.timeframes import Timeframe
from serving.lookahead.command import app
from serving.training.config import TrainingConfig
from serving.training.dataset import Pool, Slices, pool_of, split


@dataclass(frozen=True)
class Lookahead:
    """Runs ``fusiontrade lookahead`` in ``folder``, where a user's modules and files are."""

    folder: Path

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "160", "NO_COLOR": "1"})

    def checks(self, *arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
        """Return the exit code and the checks of ``--json`` by name."""
        result = self.run(*arguments, "--json")
        assert result.stderr == "", result.stderr
        content = json.loads(result.stdout)
        assert content["clean"] == (result.exit_code == 0)
        return result.exit_code, {check["name"]: check for check in content["checks"]}

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def save(self, name: str, arrays: Mapping[str, Any]) -> None:
        np.savez(self.folder / name, **arrays)


@pytest.fixture
def lookahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lookahead:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return Lookahead(tmp_path)


@pytest.fixture(scope="session")
def pool() -> Pool:
    return pool_of(Timeframe.H1, two_series())


@pytest.fixture(scope="session")
def slices(pool: Pool) -> Slices:
    return split(pool, TrainingConfig())
