"""From candles to a bundle: what serving loads is what torch computed, and the same inputs give the same bytes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from training_data import candles, two_series

from fusiontrade.market.timeframes import Timeframe
from serving.bundle import Bundle, load_bundle
from serving.card import HEADS
from serving.features import BARS_NEEDED, lstm_inputs, patchtst_inputs
from serving.forecasting import lstm_forecasts, patchtst_forecasts
from serving.models import LstmConfig, LstmModel, PatchTstConfig, PatchTstForecaster
from serving.training import TrainingConfig, pool_of, prepare, train_bundle
from serving.training.__main__ import main
from serving.training.prepared import Prepared

CONFIG = TrainingConfig(batch=128, epochs=1, rows_per_epoch=512, bootstrap=10)


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(pool_of(Timeframe.H1, two_series()), CONFIG)


@pytest.fixture(scope="module")
def lstm(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_bundle(prepared, "lstm", CONFIG, tmp_path_factory.mktemp("first"))


@pytest.fixture(scope="module")
def patchtst(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_bundle(prepared, "patchtst", CONFIG, tmp_path_factory.mktemp("first"))


def manifest(folder: Path) -> dict[str, str]:
    return json.loads((folder / "manifest.json").read_text())["files"]


def test_an_lstm_bundle_loads_and_its_graph_answers_what_torch_answers(lstm: Path) -> None:
    bundle = load_bundle(lstm)
    model = LstmModel(LstmConfig(calendar=8))
    model.load_state_dict(load_file(lstm / "weights.safetensors"))
    features, calendar = lstm_inputs(candles("BTC-USD", 900, 9), list(range(700, 764)))
    assert bundle.card.scaler is not None
    scaled = bundle.card.scaler.apply(features)
    answers = bundle.graph.run({"features": scaled, "calendar": calendar})
    _assert_equal_to_torch(model, (scaled, calendar), answers)


def test_a_patchtst_bundle_loads_and_its_graph_answers_what_torch_answers(patchtst: Path) -> None:
    bundle = load_bundle(patchtst)
    model = PatchTstForecaster(PatchTstConfig(calendar=8))
    model.load_state_dict(load_file(patchtst / "weights.safetensors"))
    inputs = patchtst_inputs(candles("BTC-USD", 900, 9), list(range(700, 764)))
    answers = bundle.graph.run(dict(zip(model.inputs, inputs, strict=True)))
    _assert_equal_to_torch(model, inputs, answers)


def _assert_equal_to_torch(
    model: torch.nn.Module, inputs: tuple[np.ndarray, ...], answers: dict[str, np.ndarray]
) -> None:
    model.eval()
    with torch.no_grad():
        expected = model(*map(torch.from_numpy, inputs))
    for name, values in zip(model.outputs, expected, strict=True):
        assert np.abs(answers[name] - values.numpy()).max() <= 1e-4
        assert answers[name].std() > 0


@pytest.mark.parametrize("kind", ["lstm", "patchtst"])
def test_training_again_in_another_folder_gives_the_same_manifest(
    kind: str, prepared: Prepared, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    first: Path = request.getfixturevalue(kind)
    again = train_bundle(prepared, kind, CONFIG, tmp_path / "elsewhere")
    assert manifest(again) == manifest(first)
    assert set(manifest(first)) == {"model.json", "model.onnx", "report.json", "weights.safetensors"}
    assert (first / "run.json").exists()
    assert not (first.parent / ".checkpoints").exists()


def test_bars_of_the_test_slice_change_neither_weights_nor_calibration(
    lstm: Path, prepared: Prepared, tmp_path: Path
) -> None:
    cut = prepared.slices.cuts[2]
    altered = []
    for frame, rollover in two_series():
        late = frame.close_time > cut
        prices = {name: np.where(late, 1.7, 1.0) * getattr(frame, name) for name in ("open", "high", "low", "close")}
        altered.append((replace(frame, **prices), rollover))
    after = train_bundle(prepare(pool_of(Timeframe.H1, altered), CONFIG), "lstm", CONFIG, tmp_path)
    assert manifest(after)["weights.safetensors"] == manifest(lstm)["weights.safetensors"]
    before_card, after_card = load_bundle(lstm).card, load_bundle(after).card
    assert after_card.scaler == before_card.scaler
    assert after_card.calibration == before_card.calibration
    assert (after_card.thresholds, after_card.interval) == (before_card.thresholds, before_card.interval)
    assert after_card.metrics != before_card.metrics


@pytest.mark.parametrize("kind", ["lstm", "patchtst"])
def test_no_file_of_a_bundle_names_a_folder(kind: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(kind)
    here = [str(folder.parent), str(Path(__file__).parents[2]), str(Path.home()), "site-packages"]
    for path in folder.iterdir():
        content = path.read_bytes()
        assert not [place for place in here if place.encode() in content]


def test_the_card_tells_what_was_trained_and_how(lstm: Path, prepared: Prepared) -> None:
    card = load_bundle(lstm).card
    assert card.universe == ("BTC-USD", "EURUSD=X")
    assert card.config["training"]["batch"] == 128
    assert card.windows.train[1] < card.windows.calibration[0] < card.windows.calibration[1] < card.windows.test[0]
    assert [one.sha256 for one in card.data.series] == [one.sha256 for one in prepared.data.series]
    assert set(card.calibration) == set(HEADS["lstm"])
    assert {"coverage_90", "pinball_ratio", "touch_up_1_auc", "direction_log_loss_skill"} <= set(card.metrics)


def test_the_report_sets_figures_beside_baselines_and_excludes_rollover_for_pairs_only(lstm: Path) -> None:
    report = json.loads((lstm / "report.json").read_text())
    assert report["rollover_hours_left_out"] == ["EURUSD=X"]
    assert report["export"]["largest_difference_from_torch"] <= 1e-4
    assert {"baseline_persistence_accuracy", "baseline_logistic_direction_auc"} <= set(report["figures"]["pooled"])
    assert set(report["figures"]["by_symbol"]) == {"BTC-USD", "EURUSD=X"}
    figure = report["figures"]["pooled"]["either_touch_auc"]
    assert figure["low"] <= figure["value"] <= figure["high"]
    assert figure["n"] == report["slices"]["test"]["rows"]


@pytest.mark.parametrize("kind", ["lstm", "patchtst"])
def test_the_bundle_answers_through_serving(kind: str, request: pytest.FixtureRequest) -> None:
    bundle: Bundle = load_bundle(request.getfixturevalue(kind))
    frame = candles("BTC-USD", BARS_NEEDED, 11)
    if kind == "patchtst":
        one = patchtst_forecasts(bundle.card, bundle.graph.run(_named(bundle, patchtst_inputs(frame))))[0]
        assert one.up + one.flat + one.down == pytest.approx(1)
        return
    assert bundle.card.scaler is not None
    features, calendar = lstm_inputs(frame)
    outputs = bundle.graph.run({"features": bundle.card.scaler.apply(features), "calendar": calendar})
    answer = lstm_forecasts(bundle.card, outputs, frame.close[-1:], np.asarray([1.0]))[0]
    assert answer.interval_90[0] < answer.interval_90[1]
    assert sorted(answer.touch_up, reverse=True) == answer.touch_up


def _named(bundle: Bundle, inputs: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
    return dict(zip(("candles", "calendar"), inputs, strict=True))


def test_the_command_trains_from_a_folder_of_parquet_bars(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    data.mkdir()
    frame = candles("BTC-USD", 2600, 2)
    table = {name: getattr(frame, name) for name in ("open", "high", "low", "close", "volume")}
    pq.write_table(pa.table({"timestamp": frame.time.astype("datetime64[ms]"), **table}), data / "btc.parquet")
    (data / "instruments.toml").write_text('[symbols."BTC-USD"]\nfiles = { "1h" = "btc.parquet" }\n')
    arguments = ["--data", str(data), "--out", str(tmp_path / "out"), "--models", "lstm", "--timeframes", "1h"]
    small = ["--epochs", "1", "--rows-per-epoch", "256", "--batch", "128", "--bootstrap", "10", "--without-weights"]
    assert main(arguments + small) == 0
    assert "lstm-1h epoch 1/1" in capsys.readouterr().out
    assert load_bundle(tmp_path / "out" / "lstm-1h").card.universe == ("BTC-USD",)
    assert not (tmp_path / "out" / "lstm-1h" / "weights.safetensors").exists()


def test_the_command_says_what_is_wrong_with_its_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "instruments.toml" in capsys.readouterr().err
    assert main(["--data", str(tmp_path), "--out", str(tmp_path / "out"), "--batch", "0"]) == 2
    assert "batch must be at least 1" in capsys.readouterr().err
