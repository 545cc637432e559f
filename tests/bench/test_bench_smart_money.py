"""The comparison of smart-money features is run by the environment that has the library, wherever it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.bench.smart_money import measured, rows

TOLD = {
    "seconds": {"1000": {"ours": [0.001] * 3, "theirs": [0.25] * 3}},
    "agreement": {"gaps": {"both": 7, "ours alone": 0, "theirs alone": 2}, "older": {"theirs alone": 4}},
}


def interpreter(folder: Path, script: str) -> None:
    python = folder / "bench" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)


def test_the_environment_that_was_moved_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interpreter(tmp_path, f"echo '{json.dumps(TOLD)}'")
    monkeypatch.setenv("FUSIONTRADE_VENVS", str(tmp_path))
    (row,) = rows()
    assert (row.what, row.target) == ("12 smart-money columns, 1,000 rows", 100.0)
    assert row.note == "events of the library that are ours, 3,000 rows: gaps: 7 of its 9"


def test_a_comparison_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interpreter(tmp_path, "echo no such library >&2; exit 3")
    monkeypatch.setenv("FUSIONTRADE_VENVS", str(tmp_path))
    with pytest.raises(RuntimeError, match="ended with 3: no such library"):
        measured()
