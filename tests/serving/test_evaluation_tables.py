"""The tables of docs/training.md come from the reports, figure by figure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from serving.evaluation.__main__ import main

REPORT = {
    "kind": "patchtst",
    "slices": {"test": {"rows": 12345, "from": "2024-05-06T01:00:00Z"}},
    "figures": {
        "pooled": {
            "accuracy": {"value": 0.41, "low": 0.4, "high": 0.42, "n": 12345},
            "up_ece": {"value": 0.01, "noise_floor": 0.004, "n": 12345},
        }
    },
}


def test_each_bundle_is_a_column_in_the_order_of_timeframes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for timeframe in ("4h", "15m"):
        folder = tmp_path / f"patchtst-{timeframe}"
        folder.mkdir()
        (folder / "report.json").write_text(json.dumps(REPORT | {"timeframe": timeframe}))
    assert main([str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| patchtst | 15m | 4h |"
    assert "| rows of the test slice | 12,345 | 12,345 |" in lines
    cell = "0.4100 [0.4000, 0.4200]"
    assert f"| accuracy of the likeliest class | {cell} | {cell} |" in lines
    assert "| up: ECE | 0.0100 (floor 0.0040) | 0.0100 (floor 0.0040) |" in lines
    assert "| … base rate | – | – |" in lines


def test_a_folder_without_reports_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "no report.json" in capsys.readouterr().out
