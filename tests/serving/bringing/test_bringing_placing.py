"""How one folder takes the place of another, and what a kill in between leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.sealed import put_in_place


def folder(place: Path, content: str) -> Path:
    place.mkdir(parents=True)
    (place / "file").write_text(content)
    return place


def test_a_folder_takes_the_place_of_another_and_nothing_else_stays(tmp_path: Path) -> None:
    put_in_place(folder(tmp_path / ".fresh", "new"), folder(tmp_path / "model", "old"))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model" / "file").read_text() == "new"


def test_what_a_killed_exchange_had_put_aside_is_kept_until_another_is_there(tmp_path: Path) -> None:
    aside = folder(tmp_path / ".model.old", "old")
    with pytest.raises(OSError, match="No such file"):
        put_in_place(tmp_path / "none", tmp_path / "model")
    assert (tmp_path / "model" / "file").read_text() == "old"
    (tmp_path / "model").rename(aside)
    put_in_place(folder(tmp_path / ".fresh", "new"), tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model" / "file").read_text() == "new"


@pytest.mark.parametrize("target", ["elsewhere", "nowhere", None])
def test_a_link_or_a_file_gives_way_and_what_a_link_leads_to_stays(tmp_path: Path, target: str | None) -> None:
    folder(tmp_path / "elsewhere", "mine")
    for turn in ("first", "second"):
        (tmp_path / "place").mkdir(exist_ok=True)
        model = tmp_path / "place" / "model"
        if model.is_dir():
            (model / "file").unlink()
            model.rmdir()
        if target is None:
            model.write_text("a file")
        else:
            model.symlink_to(tmp_path / target)
        put_in_place(folder(tmp_path / "place" / ".fresh", turn), model)
        assert [path.name for path in (tmp_path / "place").iterdir()] == ["model"]
        assert not model.is_symlink()
        assert (model / "file").read_text() == turn
    assert (tmp_path / "elsewhere" / "file").read_text() == "mine"
