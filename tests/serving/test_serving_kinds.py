"""Whatever walks a folder of forecasters passes over the bundles of other kinds that lie beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_bundles import build_bundle

from serving.bundle import ELSEWHERE
from serving.engine import load_engine
from serving.lookahead.reading import bundle_folders


@pytest.mark.parametrize("kind", sorted(ELSEWHERE))
def test_a_bundle_of_another_kind_is_no_forecaster(tmp_path: Path, kind: str) -> None:
    build_bundle(tmp_path, "lstm", "1h")
    other = tmp_path / f"{kind}-any"
    other.mkdir()
    (other / "model.json").write_text(json.dumps({"kind": kind}))
    (other / "manifest.json").write_text("{}")
    assert [folder.name for folder in bundle_folders(tmp_path)] == ["lstm-1h"]
    engine = load_engine(tmp_path)
    assert [bundle.card.model_id for bundle in engine.bundles.values()] == ["lstm-1h"]
    assert engine.refused == ()
