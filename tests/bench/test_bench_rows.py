"""What the bench makes of two lists of seconds, and how a later run is compared with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.bench import page
from infra.bench.rows import Paired, Row, paired, read, table, written


def row(ratio: float, *, what: str = "this", target: float | None = 4.0) -> Row:
    return Row.of(what, "that", Paired(2.0, ratio, ratio - 0.5, ratio + 0.5), target)


def test_a_ratio_is_the_median_over_neighbouring_runs_and_not_of_medians() -> None:
    found = Paired.of([1.0, 2.0, 4.0], [4.0, 4.0, 40.0])
    assert (found.milliseconds, found.ratio) == (2000.0, 4.0)
    assert (found.low, found.high) == (2.0, 10.0)


def test_both_sides_are_called_in_turn_and_as_often() -> None:
    calls: list[str] = []
    paired(lambda: calls.append("ours"), lambda: calls.append("theirs"), rounds=2, repeat=2)
    assert calls == ["ours", "theirs"] + 2 * (2 * ["ours"] + 2 * ["theirs"])


@pytest.mark.parametrize(
    ("ratio", "target", "met", "verdict"),
    [(4.0, 4.0, True, "met"), (3.99, 4.0, False, "MISSED"), (0.1, None, None, "")],
)
def test_a_row_is_met_from_its_target_on(ratio: float, target: float | None, met: bool | None, verdict: str) -> None:
    assert (row(ratio, target=target).met, row(ratio, target=target).verdict) == (met, verdict)


def test_a_later_run_says_how_much_a_ratio_has_changed(tmp_path: Path) -> None:
    written(tmp_path / "bench.json", [row(4.0)], "2026-01-01")
    (line,) = table([row(5.0)], read(tmp_path / "bench.json"))
    assert line.endswith("+25 %")
    assert table([row(5.0, what="something new")], read(tmp_path / "bench.json"))[0].endswith("met")


def test_rows_that_were_not_measured_again_are_kept(tmp_path: Path) -> None:
    place = tmp_path / "bench.json"
    written(place, [row(4.0), row(1.0, what="other")], "2026-01-01")
    written(place, [row(3.0)], "2026-02-02")
    kept = {one["what"]: (one["ratio"], one["met"], one["date"]) for one in json.loads(place.read_text())["rows"]}
    assert kept == {"this": (3.0, False, "2026-02-02"), "other": (1.0, False, "2026-01-01")}
    assert read(tmp_path / "absent.json") == {}


def test_the_page_keeps_its_words_and_shows_the_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "PAGE", tmp_path / "performance.md")
    monkeypatch.setattr(page, "PUBLISHED", tmp_path / "performance.json")
    page.PAGE.write_text(f"before\n{page._BEGIN}\nold\n{page._END}\nafter\n", encoding="utf-8")
    page.publish([row(3.0)], "2026-01-01")
    text = page.PAGE.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert "| this | that | 2.00 ms | 3.00× (2.50–3.50) | 4.00× | **missed** | 2026-01-01 |" in text


def test_a_page_without_its_marks_is_not_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "PAGE", tmp_path / "performance.md")
    monkeypatch.setattr(page, "PUBLISHED", tmp_path / "performance.json")
    page.PAGE.write_text("words alone\n", encoding="utf-8")
    with pytest.raises(RuntimeError, match="lost its marks"):
        page.publish([row(3.0)], "2026-01-01")
    assert page.PAGE.read_text(encoding="utf-8") == "words alone\n"
