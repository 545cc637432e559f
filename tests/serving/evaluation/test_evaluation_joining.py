"""Studies of different parts become one; what does not belong together is refused."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path

import pytest
from sample_study import sample_study

from serving.evaluation.joining import joined, main


def test_parts_are_kept_and_targets_reckoned_over_all_of_them(tmp_path: Path) -> None:
    hours, quarters = sample_study(), sample_study()
    quarters["timeframes"] = {"15m": quarters["timeframes"]["1h"]}
    quarters["run"]["seconds_by_part"] = {"15m": 5.0}
    quarters["warnings"] = ["1d: swing-1d was not judged, the folder of candles has no daily table."]
    for name, one in (("a", hours), ("b", quarters)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "evaluation.json").write_text(json.dumps(one))
    assert main([str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert list(found["timeframes"]) == ["15m", "1h"]
    assert found["timeframes"]["1h"] == hours["timeframes"]["1h"]
    assert {row["timeframe"] for row in found["acceptance"]} == {"15m", "1h"}
    assert found["run"]["seconds_by_part"] == {"1h": 60.0, "15m": 5.0}
    assert [warning.split(":")[0] for warning in found["warnings"]] == ["15m", "1h", "1d"]
    assert (tmp_path / "out" / "evaluation.html").is_file()


def test_a_part_that_was_judged_twice_and_other_settings_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="timeframe 1h is in two of the studies"):
        joined([sample_study(), sample_study()])
    other = deepcopy(sample_study())
    other["settings"]["resamples"] += 1
    with pytest.raises(ValueError, match="other settings"):
        joined([sample_study(), other])
    assert main([str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "not joined" in capsys.readouterr().err


def test_what_no_study_judged_is_told_once_and_not_where_one_of_them_did() -> None:
    several = [sample_study() for _ in range(3)]
    for one, name in zip(several, ("15m", "30m", "1h"), strict=True):
        one["timeframes"] = {name: one["timeframes"]["1h"]}
        one["warnings"] = ["1d: swing-1d was not judged, the folder of candles has no daily table.", "Of all."]
    assert joined(several)["warnings"][-2:] == several[0]["warnings"]
    several[1] |= {"warnings": ["Of all."], "cross_sections": {"nifty100": {}}}
    found = joined(several)
    assert found["warnings"].count("Of all.") == 1
    assert not [warning for warning in found["warnings"] if warning.startswith("1d: ")]
