"""The two files of a study: strict JSON, and a page beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sample_study import sample_study

from serving.evaluation.study.report import finite, write


def test_what_is_no_finite_number_becomes_null() -> None:
    assert finite({"a": float("nan"), 1: (float("inf"), 0.5, None, "x", True)}) == {
        "a": None,
        "1": [None, 0.5, None, "x", True],
    }


def test_both_files_are_written_and_the_json_is_strict(tmp_path: Path) -> None:
    study = sample_study()
    study["timeframes"]["1h"]["lstm"]["figures"]["all"]["log_range_r2"] = {"value": float("nan"), "n": 5}

    def refused(constant: str) -> Any:
        raise AssertionError(f"{constant} is no JSON")

    written, page = write(study, tmp_path / "new" / "folder")
    content = json.loads(written.read_text(encoding="utf-8"), parse_constant=refused)
    assert content["timeframes"]["1h"]["lstm"]["figures"]["all"]["log_range_r2"]["value"] is None
    assert content["timeframes"]["1h"]["lstm"]["figures"]["all"]["pinball_ratio"]["value"] == pytest.approx(0.95)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert "log range of the next 4 bars: R²" in text
    assert "nan</td>" not in text
