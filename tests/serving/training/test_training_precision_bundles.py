"""The precision of bundles: what training writes, what the command writes over it, and what both decide by."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_bundles import card_content
from training_data import candles, two_series, write_folder

from fusiontrade.market.timeframes import Timeframe
from serving.bundle import Bundle, load_bundle
from serving.card import ModelCard
from serving.training import TrainingConfig, pool_of, prepare, train_bundle
from serving.training.adopt import main as adopt
from serving.training.precision.__main__ import main
from serving.training.precision.intraday import held_out_rows, reader_of
from serving.training.prepared import Prepared

CONFIG = TrainingConfig(batch=128, epochs=1, rows_per_epoch=256, bootstrap=10)
FRAMES = two_series()


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(pool_of(Timeframe.H1, FRAMES), CONFIG)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data") / "mine", *(frame for frame, _ in FRAMES))


@pytest.fixture(scope="module")
def bundles(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundles")
    train_bundle(prepared, "patchtst", CONFIG, out)
    return out


@pytest.fixture(scope="module")
def stored(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same training, told to store weights in 16 bits."""
    config = replace(CONFIG, precision="f16")
    return load_bundle(train_bundle(prepared, "patchtst", config, tmp_path_factory.mktemp("stored")))


def report_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text())


def files_of(folder: Path) -> dict[str, str]:
    return json.loads((folder / "manifest.json").read_text())["files"]


def test_training_chooses_on_held_out_windows_and_reports_every_variant(bundles: Path, prepared: Prepared) -> None:
    bundle = load_bundle(bundles / "patchtst-1h")
    found = report_of(bundle.folder)["precision"]
    assert bundle.card.precision == found["chosen"] == found["judged"] == "f32"
    assert set(found["variants"]) == {"int8", "bf16", "f16"}
    assert found["slice"] == "calibration"
    assert found["windows"] == min(8192, len(prepared.slices.calibration))
    assert found["to"] < report_of(bundle.folder)["slices"]["test"]["from"]
    assert found["from"] > report_of(bundle.folder)["slices"]["validation"]["to"]
    for figures in found["variants"].values():
        assert 0.9 < figures["agreement"] <= 1.0
        assert figures["bytes"] < found["f32"]["bytes"]
        assert figures["refused"]
    assert "model.f32.onnx" not in files_of(bundle.folder)


def test_times_stand_outside_the_manifest(bundles: Path) -> None:
    folder = bundles / "patchtst-1h"
    timed = json.loads((folder / "run.json").read_text())["precision_microseconds"]
    assert set(timed) == {"f32", "int8", "bf16", "f16"}
    assert "run.json" not in files_of(folder)
    assert "measured" not in (folder / "report.json").read_text()


def test_a_precision_that_was_asked_for_is_calibrated_judged_and_served(
    stored: Bundle, bundles: Path, prepared: Prepared, tmp_path: Path
) -> None:
    f32 = load_bundle(bundles / "patchtst-1h")
    found = report_of(stored.folder)["precision"]
    assert stored.card.precision == found["chosen"] == found["judged"] == "f16"
    assert stored.card.config["training"]["precision"] == "f16"
    assert found["variants"]["f16"]["agreement"] >= 0.995
    assert found["variants"]["f16"]["refused"] is None
    assert (stored.folder / "model.f32.onnx").read_bytes() == (f32.folder / "model.onnx").read_bytes()
    assert "model.f32.onnx" in files_of(stored.folder)
    before, after = (report_of(one.folder)["figures"]["pooled"]["log_loss_skill"]["value"] for one in (f32, stored))
    assert after == pytest.approx(before, abs=1e-3)
    again = train_bundle(prepared, "patchtst", replace(CONFIG, precision="f16"), tmp_path)
    assert files_of(again) == files_of(stored.folder)


def test_the_command_tells_the_figures_of_training_and_changes_nothing_else(
    bundles: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--bundles", str(bundles), "--data", str(data), "--out", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[2].strip() for line in lines] == ["variant", "---", "f32", "int8", "bf16", "f16"]
    before, after = bundles / "patchtst-1h", tmp_path / "patchtst-1h"
    same = ("model.json", "model.onnx", "weights.safetensors")
    assert {name: files_of(after)[name] for name in same} == {name: files_of(before)[name] for name in same}
    earlier, later = report_of(before)["precision"], report_of(after)["precision"]
    for name, figures in later["variants"].items():
        assert figures["agreement"] == pytest.approx(earlier["variants"][name]["agreement"], abs=1e-3)
    assert {key: value for key, value in report_of(after).items() if key != "precision"} == {
        key: value for key, value in report_of(before).items() if key != "precision"
    }


def test_the_command_changes_the_precision_and_finds_the_way_back(bundles: Path, data: Path, tmp_path: Path) -> None:
    out = shutil.copytree(bundles, tmp_path / "bundles")
    here = ["--bundles", str(out), "--data", str(data), "--out", str(out)]
    original = load_bundle(out / "patchtst-1h")
    assert main([*here, "--precision", "bf16"]) == 0
    changed = load_bundle(out / "patchtst-1h")
    assert changed.card.precision == "bf16"
    assert changed.card.version != original.card.version
    assert report_of(changed.folder)["precision"]["judged"] == "f32"
    assert (changed.folder / "model.f32.onnx").is_file()
    assert main([*here, "--precision", "auto"]) == 0
    back = load_bundle(out / "patchtst-1h")
    assert back.card == original.card
    assert files_of(back.folder)["model.onnx"] == files_of(bundles / "patchtst-1h")["model.onnx"]
    assert "model.f32.onnx" not in files_of(back.folder)


def test_a_bundle_that_lost_its_f32_graph_is_said_so(
    stored: Bundle, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(stored.folder, tmp_path / "in" / "patchtst-1h")
    (tmp_path / "in" / "patchtst-1h" / "model.f32.onnx").unlink()
    manifest = tmp_path / "in" / "patchtst-1h" / "manifest.json"
    files = json.loads(manifest.read_text())
    del files["files"]["model.f32.onnx"]
    manifest.write_text(json.dumps(files))
    assert main(["--bundles", str(tmp_path / "in"), "--data", str(data), "--out", str(tmp_path / "out")]) == 2
    assert "patchtst-1h is f16 and has no model.f32.onnx to choose from: train it anew" in capsys.readouterr().err


def test_the_command_says_what_is_missing(bundles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = write_folder(tmp_path / "data", candles("ETH-USD", 2000, 5))
    assert main(["--bundles", str(bundles), "--data", str(other), "--out", str(tmp_path / "out")]) == 2
    assert "has no 1h bars of the symbols of patchtst-1h" in capsys.readouterr().err
    assert main(["--bundles", str(tmp_path), "--data", str(other), "--out", str(tmp_path / "out")]) == 2
    assert f"nothing chosen: {tmp_path} holds no bundles" in capsys.readouterr().err


def test_a_bundle_that_adopts_a_symbol_stays_of_its_precision(stored: Bundle, tmp_path: Path) -> None:
    other = write_folder(tmp_path / "data", candles("ETH-USD", 3300, 5))
    options = ["--bundles", str(stored.folder.parent), "--data", str(other), "--symbols", "ETH-USD"]
    assert adopt([*options, "--out", str(tmp_path / "out")]) == 0
    adopted = load_bundle(tmp_path / "out" / "patchtst-1h")
    assert adopted.card.precision == "f16"
    assert "model.f32.onnx" in files_of(adopted.folder)


def test_a_setting_that_does_not_exist_is_said_with_those_that_do() -> None:
    wrong: Any = "int4"
    with pytest.raises(ValueError, match="precision must be one of auto, f32, int8, bf16, f16, got 'int4'"):
        TrainingConfig(precision=wrong)


def test_held_out_rows_are_spread_over_all_series() -> None:
    rows = np.arange(100_000)
    found = held_out_rows(rows)
    assert len(found) == 8192
    assert (found[0], found[-1]) == (0, 99_999)
    assert np.diff(found).max() <= 13
    np.testing.assert_array_equal(held_out_rows(rows[:500]), rows[:500])


def card_of(kind: str, **changes: Any) -> ModelCard:
    return ModelCard.model_validate_json(json.dumps(card_content(kind, "1h") | changes))


def lstm_outputs(rows: int, **changes: Any) -> dict[str, np.ndarray]:
    neutral = {
        "direction": np.zeros(rows),
        "change": np.zeros(rows),
        "quantiles": np.tile(np.linspace(-1, 1, 5), (rows, 1)),
        "touch": np.tile(np.tile([2.0, 1.0, -1.0, -2.0, -3.0], 3), (rows, 1)),
        "win": np.full((rows, 2), -1.0),
        "log_range": np.zeros(rows),
    }
    return {name: np.asarray(value, np.float32) for name, value in (neutral | changes).items()}


def test_an_lstm_decides_votes_of_those_who_may_touches_wins_and_strength() -> None:
    whose = [("EURUSD=X", "fx"), ("BTC-USD", "crypto"), ("^GSPC", "index")]
    outputs = lstm_outputs(3, direction=[1.0, -1.0, 1.0], change=[0.0, 0.1, 0.4])
    outputs["touch"][1, 0] = 1.9  # above 1 ATR a little less likely than below
    outputs["win"][2] = (-0.2, -0.4)  # 0.450 and 0.401: break even is 1.5 / 3.5
    reading = reader_of(card_of("lstm"), whose)(outputs)
    assert reading.decisions["vote"].tolist() == [1, -1]  # "any" never votes
    assert reading.decisions["strength"].tolist() == [0, 1, 2]  # confidence 0, 1/4, 1
    assert reading.decisions["likelier_side"].tolist() == [0, 0, 0]
    assert [reading.decisions[f"touch_up_{level}"].tolist() for level in ("1", "1.5", "2")] == [
        [1] * 3,
        [1] * 3,
        [0] * 3,
    ]
    assert reading.decisions["win_long"].tolist() == [0, 0, 0]  # no likelier than its target, touched with 0.27
    assert reading.values["probability"].shape == (3, 18)
    assert reading.values["quantile_atr"].shape == (3, 5)
    outputs["touch"][2, 2] = outputs["touch"][2, 7] = 1.0
    assert reader_of(card_of("lstm"), whose)(outputs).decisions["win_long"].tolist() == [0, 0, 1]
    assert reader_of(card_of("lstm"), whose)(outputs).decisions["win_short"].tolist() == [0, 0, 0]


def test_a_patchtst_decides_by_its_likeliest_class_and_votes_where_it_may() -> None:
    outputs = {"classes": np.asarray([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 20.0]], np.float32)}
    whose = [("EURUSD=X", None)] * 3
    reading = reader_of(card_of("patchtst"), whose)(outputs)
    assert reading.decisions["likeliest_class"].tolist() == [0, 1, 2]
    assert reading.decisions["vote"].tolist() == [1, 0, -1]
    assert reading.decisions["strength"].tolist() == [1, 1, 2]
    assert "vote" not in reader_of(card_of("patchtst", abstains=True), whose)(outputs).decisions
