"""From candles to a bundle: what serving loads is what torch computed, and the same inputs give the same bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training_data import candles, two_series, write_folder

from fusiontrade.errors import BundleRefused
from fusiontrade.inference.contract import CHANCES, CandleColumns, ForecastItem, ForecastRequest
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from serving.bundle import Bundle, load_bundle, write_card, write_manifest
from serving.card import HEADS
from serving.engine import Engine
from serving.features import BARS_NEEDED, lstm_inputs, patchtst_inputs, unrest_of, usual_week, volatility_columns
from serving.forecasting import widened
from serving.models import LstmConfig, LstmModel, PatchTstConfig, PatchTstForecaster
from serving.training import TrainingConfig, pool_of, prepare, train_bundle
from serving.training.__main__ import main
from serving.training.bundle import Finished, write_bundle
from serving.training.dataset import LstmBatches, PatchTstBatches
from serving.training.judging.judge import subjects, walked_answers
from serving.training.judging.references import held_out
from serving.training.judging.walking import STILL
from serving.training.prepared import Prepared, prepared_as
from serving.training.recalibrate import main as recalibrate
from serving.training.recalibrate import recalibrated

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


def inputs_of(bundle: Bundle, frame: CandleFrame, rows: list[int]) -> dict[str, np.ndarray]:
    """The graph's inputs of some rows, as serving makes them."""
    card = bundle.card
    volatility = volatility_columns(frame, usual_week(card.season, frame, "crypto"))[rows]
    scaled = {"volatility": card.volatility_scaler.apply(volatility)}
    if card.scaler is None:
        return dict(zip(("candles", "calendar"), patchtst_inputs(frame, rows), strict=True)) | scaled
    features, calendar = lstm_inputs(frame, rows)
    return {"features": card.scaler.apply(features), "calendar": calendar} | scaled


@pytest.mark.parametrize("kind", ["lstm", "patchtst"])
def test_a_bundle_loads_and_its_graph_answers_what_torch_answers(kind: str, request: pytest.FixtureRequest) -> None:
    bundle = load_bundle(request.getfixturevalue(kind))
    sizes: Any = bundle.card.config["model"]
    model = LstmModel(LstmConfig(**sizes)) if kind == "lstm" else PatchTstForecaster(PatchTstConfig(**sizes))
    model.load_state_dict(load_file(bundle.folder / "weights.safetensors"))
    inputs = inputs_of(bundle, candles("BTC-USD", 900, 9), list(range(700, 764)))
    _assert_equal_to_torch(model, inputs, bundle.graph.run(inputs))


def _assert_equal_to_torch(
    model: torch.nn.Module, inputs: dict[str, np.ndarray], answers: dict[str, np.ndarray]
) -> None:
    model.eval()
    with torch.no_grad():
        expected = model(*(torch.from_numpy(inputs[name]) for name in model.inputs))
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
    fitted = ("scaler", "season", "volatility_scaler", "calibration", "directions", "centres", "unrest_exponent")
    for name in (*fitted, "adjustments", "thresholds"):
        assert getattr(after_card, name) == getattr(before_card, name), name
    assert after_card.metrics != before_card.metrics


@pytest.mark.parametrize("kind", ["lstm", "patchtst"])
def test_no_file_of_a_bundle_names_a_folder(kind: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(kind)
    here = [str(folder.parent), str(Path(__file__).parents[3]), str(Path.home()), "site-packages"]
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
    assert set(card.season) == set(card.directions) == set(card.adjustments) == {"any", "fx", "crypto", *card.universe}
    assert card.season["BTC-USD"] == tuple(prepared.season["BTC-USD"].tolist())
    assert card.volatility_scaler.center == pytest.approx(prepared.volatility_scaler.center, abs=1e-9)


def test_a_pool_prepared_by_the_card_alone_is_the_pool_the_bundle_was_made_of(lstm: Path, prepared: Prepared) -> None:
    again = prepared_as(load_bundle(lstm).card, prepared.pool)
    for name in ("train", "validation", "calibration", "test"):
        np.testing.assert_array_equal(getattr(again.slices, name), getattr(prepared.slices, name))
    assert again.data == prepared.data
    rows = prepared.slices.test
    ours, theirs = (LstmBatches(one.pool, one.scaler, one.volatility).inputs(rows) for one in (prepared, again))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("kind", ["lstm", "patchtst"])
def test_what_the_engine_answers_is_what_was_judged(
    kind: str, prepared: Prepared, request: pytest.FixtureRequest
) -> None:
    """One row of the test slice: candles over the wire give the raw numbers that evaluation saw."""
    bundle: Bundle = load_bundle(request.getfixturevalue(kind))
    pool, row = prepared.pool, prepared.slices.test[[7]]
    series = pool.series[int(pool.series_of(row)[0])]
    place = int(row[0] - pool.starts[pool.series_of(row)[0]])
    frame = series.frame.rows(slice(0, place + 1)).tail(720)
    item = ForecastItem(
        symbol=series.symbol, timeframe=frame.timeframe, candles=CandleColumns.of(frame), market=series.market
    )
    (answer,) = Engine({(bundle.card.kind, frame.timeframe): bundle}).answer(ForecastRequest(items=[item])).items
    if kind == "patchtst":
        names, batches = ("candles", "calendar", "volatility"), PatchTstBatches(pool, prepared.volatility)
        raw = bundle.graph.run(dict(zip(names, batches.inputs(row), strict=True)))
        expected = bundle.card.calibration["classes"].apply(raw["classes"])[0]
        assert answer.patchtst is not None
        assert (answer.patchtst.up, answer.patchtst.flat, answer.patchtst.down) == pytest.approx(expected, abs=1e-5)
        return
    names = ("features", "calendar", "volatility")
    inputs = LstmBatches(pool, prepared.scaler, prepared.volatility).inputs(row)
    raw = bundle.graph.run(dict(zip(names, inputs, strict=True)))
    assert answer.lstm is not None
    assert answer.lstm.change == pytest.approx(float(raw["change"][0]), abs=1e-5)
    assert answer.lstm.state.as_of == bundle.card.windows.calibration[1] + bundle.card.timeframe.milliseconds
    own = bundle.card.adjustments[series.symbol]
    state = answer.lstm.state
    for name in ("lower", "offsets", "slopes", "bends"):
        assert getattr(state, name) == getattr(own, name)
    low, high = np.sort(raw["quantiles"][0].astype(np.float64))[[0, -1]]
    ends = widened(low, high, unrest_of(series.lstm.features[place]), bundle.card.unrest_exponent)
    assert answer.lstm.interval_raw == pytest.approx(frame.close[-1] + np.array(ends) * series.atr[place], rel=1e-6)


def test_a_market_that_abstains_has_no_log_loss_skill_at_all(lstm: Path, prepared: Prepared) -> None:
    card, held = load_bundle(lstm).card, held_out(prepared)
    assert {rule.abstain_above for rule in card.directions.values()} == {1.0}  # coins thrown: nothing to vote on
    names = ("features", "calendar", "volatility")
    inputs = LstmBatches(prepared.pool, prepared.scaler, prepared.volatility).inputs(prepared.slices.test)
    outputs = load_bundle(lstm).graph.run(dict(zip(names, inputs, strict=True)))
    answers = walked_answers(card, outputs, held, subjects(prepared.pool))
    np.testing.assert_array_equal(answers.probability_up, held.rate_direction)
    assert not answers.vote.any()
    figures = json.loads((lstm / "report.json").read_text())["figures"]
    for name in ("pooled", *figures["by_symbol"]):
        one = figures["pooled"] if name == "pooled" else figures["by_symbol"][name]
        assert one["direction_log_loss_skill"] == {
            "value": 0.0,
            "low": 0.0,
            "high": 0.0,
            "n": one["direction_log_loss_skill"]["n"],
        }


REPORTS: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("model_id", lambda report: report.update(model_id="lstm-4h")),
    ("timeframe", lambda report: report.update(timeframe="4h")),
    ("data_fingerprint", lambda report: report.update(data_fingerprint="0" * 64)),
    ("figures", lambda report: report.pop("figures")),
    ("coverage_90", lambda report: report["figures"]["pooled"]["coverage_90"].update(value=0.5)),
    ("model_id", lambda report: report.clear()),
]


@pytest.mark.parametrize(("named", "change"), REPORTS)
def test_a_bundle_whose_report_is_not_its_own_is_not_written_and_the_older_one_stays(
    named: str, change: Callable[[dict[str, Any]], object], lstm: Path, tmp_path: Path
) -> None:
    card, graph = load_bundle(lstm).card, (lstm / "model.onnx").read_bytes()
    report = json.loads((lstm / "report.json").read_text())
    folder = write_bundle(Finished(card, graph, report, {}), tmp_path)
    change(wrong := json.loads(json.dumps(report)))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(BundleRefused, match=rf"report\.json .*{named}"):
        write_bundle(Finished(card, graph, wrong, {}), tmp_path)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert load_bundle(folder).card == card


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
@pytest.mark.parametrize("symbol", ["BTC-USD", "DOGE-USD", "^GSPC"])
def test_the_bundle_answers_markets_it_knows_and_others(kind: str, symbol: str, request: pytest.FixtureRequest) -> None:
    bundle: Bundle = load_bundle(request.getfixturevalue(kind))
    frame = candles(symbol, BARS_NEEDED, 11)
    item = ForecastItem(symbol=symbol, timeframe=frame.timeframe, candles=CandleColumns.of(frame))
    (answer,) = Engine({(bundle.card.kind, frame.timeframe): bundle}).answer(ForecastRequest(items=[item])).items
    assert answer.error is None
    if kind == "patchtst":
        assert answer.patchtst is not None
        assert answer.patchtst.up + answer.patchtst.flat + answer.patchtst.down == pytest.approx(1)
        return
    assert answer.lstm is not None
    assert answer.lstm.interval_90[0] < answer.lstm.interval_90[1]
    assert sorted(answer.lstm.touch_up, reverse=True) == answer.lstm.touch_up


def test_the_command_trains_from_a_folder_of_parquet_bars(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_folder(tmp_path / "data", candles("BTC-USD", 2600, 2))
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


# --- calibrated anew --------------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def changed(folder: Path, to: Path, **fields: Any) -> Path:
    """A copy of a bundle whose card has other fields, as its maker could have written it."""
    copy = copytree(folder, to / folder.name)
    write_card(copy, load_bundle(folder).card.model_copy(update=fields))
    write_manifest(copy)
    return copy


@pytest.mark.parametrize("kind", ["lstm", "patchtst"])
def test_a_bundle_calibrated_anew_is_byte_for_byte_what_its_training_wrote(
    kind: str, prepared: Prepared, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(kind)
    again = write_bundle(recalibrated(folder, prepared.pool), tmp_path)
    assert contents(again) == contents(folder)


def test_a_bundle_calibrated_otherwise_comes_out_as_todays_training_writes_it(
    lstm: Path, prepared: Prepared, tmp_path: Path
) -> None:
    still = {"unrest_exponent": 0.9, "centres": (0.0,) * CHANCES, "adjustments": {"any": STILL}}
    older = changed(lstm, tmp_path / "older", **still)
    assert contents(older)["model.json"] != contents(lstm)["model.json"]
    again = write_bundle(recalibrated(older, prepared.pool), tmp_path / "again")
    assert contents(again) == contents(lstm)


def test_an_adopted_bundle_is_not_calibrated_anew(lstm: Path, prepared: Prepared, tmp_path: Path) -> None:
    own = load_bundle(lstm).card.data.series
    folder = changed(lstm, tmp_path, adopted=(own[0].model_copy(update={"symbol": "ETH-USD"}),))
    with pytest.raises(ValueError, match="lstm-1h was adopted by ETH-USD"):
        recalibrated(folder, prepared.pool)


def test_a_bundle_scaled_otherwise_than_todays_training_scales_is_not_calibrated_anew(
    lstm: Path, prepared: Prepared, tmp_path: Path
) -> None:
    """Its graph would be asked what it was never taught."""
    scaler = load_bundle(lstm).card.volatility_scaler
    shifted = scaler.model_copy(update={"center": (scaler.center[0] + 1e-6, *scaler.center[1:])})
    folder = changed(lstm, tmp_path, volatility_scaler=shifted)
    with pytest.raises(ValueError, match="lstm-1h was prepared otherwise"):
        recalibrated(folder, prepared.pool)


def test_the_command_calibrates_the_kinds_it_is_told_and_no_other_candles(
    lstm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_folder(tmp_path / "data", *(frame for frame, _ in two_series()))
    out = tmp_path / "out"
    arguments = ["--bundles", str(lstm.parent), "--out", str(out)]
    assert recalibrate([*arguments, "--data", str(data), "--models", "lstm, gru"]) == 0
    assert capsys.readouterr().out == f"wrote {out / 'lstm-1h'}\n"
    assert manifest(out / "lstm-1h") == manifest(lstm)

    other = write_folder(tmp_path / "other", candles("BTC-USD", 3300, 3), candles("EURUSD=X", 2400, 1, volume=False))
    before = contents(out / "lstm-1h")
    assert recalibrate([*arguments, "--data", str(other)]) == 2
    assert "lstm-1h was trained on other candles: BTC-USD, EURUSD=X must be the same" in capsys.readouterr().err
    assert contents(out / "lstm-1h") == before


def test_the_command_without_a_bundle_to_calibrate_says_so(
    lstm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for chosen in (["--bundles", str(tmp_path)], ["--bundles", str(lstm.parent), "--models", "patchtst"]):
        assert recalibrate([*chosen, "--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
        assert "nothing recalibrated" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
