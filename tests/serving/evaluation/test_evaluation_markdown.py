"""The documentation's tables come from a study, or from the reports beside the bundles, figure by figure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sample_study import sample_study

from serving.evaluation.markdown import main
from serving.evaluation.study.report import write

REPORT = {
    "kind": "patchtst",
    "slices": {"test": {"rows": 12345, "from": "2024-05-06T01:00:00Z"}},
    "figures": {
        "pooled": {
            "accuracy": {"value": 0.41, "low": 0.4, "high": 0.42, "n": 12345},
            "up_ece": {"value": 0.01, "noise_floor": 0.004, "n": 12345},
            "baseline_logistic_accuracy": {"value": 0.4, "low": 0.39, "high": 0.41, "n": 12345},
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
    assert lines[2] == "| figure | 15m | 4h |"
    assert "| rows judged | 12,345 | 12,345 |" in lines
    cell = "0.4100 [0.4000, 0.4200]"
    assert f"| accuracy of the likeliest class | {cell} | {cell} |" in lines
    assert "| … logistic regression | 0.4000 [0.3900, 0.4100] | 0.4000 [0.3900, 0.4100] |" in lines
    assert "| up: ECE | 0.0100 (floor 0.0040) | 0.0100 (floor 0.0040) |" in lines


def test_a_study_is_printed_with_its_targets_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(sample_study(), tmp_path)
    assert main([str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "**Targets set before training, and what was reached**"
    assert "| +1 ATR touched: AUC | 0.6500 [0.6400, 0.6600] |" in lines
    assert not [line for line in lines if "each series**" in line]
    assert main([str(tmp_path), "--series"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if "each series**" in line]


def test_a_folder_with_neither_is_said_with_the_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    told = capsys.readouterr()
    assert told.out == ""  # a page that the output goes to stays as it was
    assert "run make evaluate" in told.err


def test_files_that_cannot_be_used_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "evaluation.json").write_text("{half")
    assert main([str(tmp_path)]) == 2
    assert "evaluation.json is no JSON" in capsys.readouterr().err
    write(sample_study(), tmp_path)
    assert main([str(tmp_path), "--into", str(tmp_path / "absent.md")]) == 2
    assert "absent.md" in capsys.readouterr().err


def test_figures_replace_what_stands_between_the_marks_of_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(sample_study(), tmp_path)
    page = tmp_path / "page.md"
    page.write_text("above\n<!-- figures -->\nold\n<!-- end of figures -->\nbelow\n")
    for _ in range(2):
        assert main([str(tmp_path), "--into", str(page)]) == 0
        text = page.read_text()
        assert text.startswith("above\n<!-- figures -->\n\n**Targets")
        assert text.endswith("|\n\n<!-- end of figures -->\nbelow\n")
        assert "old" not in text
    page.write_text("no marks")
    assert main([str(tmp_path), "--into", str(page)]) == 2
    assert "has no lines <!-- figures -->" in capsys.readouterr().err
