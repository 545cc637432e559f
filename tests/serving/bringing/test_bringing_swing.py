"""A daily bundle comes from a hub like any other: its graphs run before it takes its place."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from invented_stocks import CONFIG, invented, stock, tiny_networks
from loopback import serving

from fusiontrade.errors import BundleRefused
from serving.bringing.hub import Repository, pull
from serving.bringing.placing import verified
from serving.bundle import write_manifest
from serving.sealed import SealedCard
from serving.swing import load_swing
from serving.swing.card import SwingCard
from serving.training.swing import train_swing

NAME = "Owner/swing"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with tiny_networks():
        return train_swing(invented(), CONFIG, tmp_path_factory.mktemp("made"))


def rewritten(folder: Path, **changes: object) -> None:
    """Change the card of a bundle so that it names its content again."""
    files = {
        path.name: path.read_bytes() for path in folder.iterdir() if path.name not in {"manifest.json", "run.json"}
    }
    card: SealedCard = SwingCard.model_validate_json(files["model.json"]).model_copy(update=changes)
    (folder / "model.json").write_text(json.dumps(card.stamped(files).model_dump(mode="json")))
    write_manifest(folder)


def test_a_daily_bundle_is_pulled_and_its_graphs_answer(bundle: Path, tmp_path: Path) -> None:
    assert verified(bundle) == "swing-1d"
    with serving(bundle, repository=NAME) as hub:
        folder = pull(Repository.parse(NAME), tmp_path / "out", endpoint=hub.url)
    frame = stock("S1", 1, bars=620).frame
    own, other = (load_swing(place).answer({"it": frame}).forecasts["it"] for place in (bundle, folder))
    assert (folder.name, own.returns) == ("swing-1d", other.returns)


def test_a_daily_bundle_that_serving_would_refuse_takes_no_place(bundle: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(bundle, broken)
    (broken / "tft.onnx").write_bytes((broken / "veto.onnx").read_bytes())
    with pytest.raises(BundleRefused, match=r"tft\.onnx has sha256"):
        verified(broken)
    rewritten(broken)
    with serving(broken, repository=NAME) as hub, pytest.raises(BundleRefused, match="the graph takes"):
        pull(Repository.parse(NAME), tmp_path / "out", endpoint=hub.url)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".bringing.lock"]
    shutil.rmtree(broken)
    shutil.copytree(bundle, broken)
    rewritten(broken, features="other")
    with pytest.raises(BundleRefused, match="asks for version other, this is"):
        verified(broken)
