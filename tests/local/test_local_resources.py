"""What a first start archives: whole, verified bundles by model and version, and no other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fusiontrade.clock import system_clock
from fusiontrade.cloud.tables import Table
from fusiontrade.registry.bundles import Bundles
from fusiontrade.registry.versions import Registry
from infra.local.resources import register_served, upload_bundles
from tests.support.aws_fixtures import *  # noqa: F403 - pytest finds fixtures by name in this module
from tests.support.registry_desk import MemoryObjects, bundle_files

PROMOTED = "bbbbbbbbbbbb"
STARTERS = Path(__file__).resolve().parents[2] / "serving" / "starter"


class Archive(dict[str, bytes]):
    """The bucket's port over a dictionary, which keeps the order of writing."""

    def put(self, key: str, body: bytes) -> None:
        self[key] = body


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(STARTERS / "lstm-1h", tmp_path / "lstm-1h")
    return tmp_path


def test_bundle_is_archived_by_model_and_version_with_its_manifest_last(folder: Path) -> None:
    archive = Archive()
    upload_bundles(archive, folder)  # type: ignore[arg-type]
    version = json.loads((folder / "lstm-1h" / "model.json").read_text())["version"]
    assert set(archive) == {f"bundles/lstm-1h/{version}/{f.name}" for f in (folder / "lstm-1h").iterdir()}
    assert list(archive)[-1] == f"bundles/lstm-1h/{version}/manifest.json"


def test_a_folder_that_is_not_finished_is_no_bundle(folder: Path) -> None:
    (folder / "lstm-1h").rename(folder / ".lstm-1h.fresh")
    archive = Archive()
    upload_bundles(archive, folder)  # type: ignore[arg-type]
    assert archive == {}


def test_archived_version_is_left_alone(folder: Path) -> None:
    archive = Archive()
    upload_bundles(archive, folder)  # type: ignore[arg-type]
    kept = dict.fromkeys(archive, b"as it was")
    archive.update(kept)
    upload_bundles(archive, folder)  # type: ignore[arg-type]
    assert archive == kept


@pytest.mark.parametrize(
    ("name", "content"),
    [("model.json", b"{"), ("model.json", b"[]"), ("model.json", b"{}"), ("model.onnx", b"another graph")],
    ids=["half-a-card", "list", "empty-card", "changed-graph"],
)
def test_bundle_that_must_not_serve_is_passed_over_and_stops_nothing(folder: Path, name: str, content: bytes) -> None:
    (folder / "lstm-1h" / name).write_bytes(content)
    archive = Archive()
    upload_bundles(archive, folder)  # type: ignore[arg-type]
    assert archive == {}


def test_where_another_version_was_promoted_a_bundle_to_begin_with_is_a_candidate(
    folder: Path, models_table_name: str
) -> None:
    registry, archive = Registry(Table(models_table_name), system_clock), MemoryObjects()
    bundles = Bundles(archive)
    upload_bundles(archive, folder)  # type: ignore[arg-type]
    version = json.loads((folder / "lstm-1h" / "model.json").read_text())["version"]
    for name, content in bundle_files(PROMOTED).items():
        archive.put(bundles.prefix("lstm-1h", PROMOTED) + name, content)
    registry.register(bundles.take_in(bundles.prefix("lstm-1h", PROMOTED), created_at=1))
    registry.promote("lstm-1h", PROMOTED)
    assert register_served(registry, bundles, folder, 2, first_alone=True) == []
    statuses = {one.version: one.status for one in registry.page(10)[0]}
    assert statuses == {PROMOTED: "ACTIVE", version: "CANDIDATE"}
    assert register_served(registry, bundles, folder, 2) == ["lstm-1h"]
    assert registry.active() == {"lstm-1h": version}
