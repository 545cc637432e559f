"""The bundles that ship: serving takes them, torch gives the same numbers, and they vote both ways on real candles."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training_data import candles

from fusiontrade.clock import parse_iso
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.symbols import parse_symbol
from fusiontrade.market.timeframes import INTRADAY, Timeframe
from serving.bundle import ELSEWHERE, Bundle, kind_of, load_bundle
from serving.calibration import Platt
from serving.features import (
    PATCHTST_BARS_NEEDED,
    atr,
    lstm_inputs,
    patchtst_inputs,
    unrest_of,
    usual_week,
    volatility_columns,
)
from serving.forecasting import Newest, Subject, class_probabilities, lstm_answers
from serving.models import ARCHITECTURES
from serving.swing import load_swing
from serving.training.candles import read_candles

ROOT = Path(__file__).resolve().parents[2]
STARTER = ROOT / "serving" / "starter"
REAL = Path(os.environ.get("FUSIONTRADE_REAL_DATA", ROOT.parent / "shared" / "data"))
JUDGED_FROM = "2024-11-01T00:00:00Z"
DEFAULTS = ("EURUSD=X", "GC=F", "BTC-USD", "USDJPY=X")
FUSED = [f"{kind}-{timeframe}" for kind in ("lstm", "patchtst") for timeframe in INTRADAY]
SHIPPED = sorted(path.parent for path in STARTER.glob("*/manifest.json"))
ALL = [path.name for path in SHIPPED if kind_of(path) in ARCHITECTURES]


def starter(model_id: str) -> Bundle:
    return load_bundle(STARTER / model_id)


def subject(symbol: str) -> Subject:
    return symbol, parse_symbol(symbol).asset_class.value


def inputs_of(bundle: Bundle, frame: CandleFrame, rows: list[int]) -> dict[str, np.ndarray]:
    """The graph's inputs of some rows, scaled as the card says."""
    card = bundle.card
    volatility = volatility_columns(frame, usual_week(card.season, frame, subject(frame.symbol)[1]))[rows]
    scaled = {"volatility": card.volatility_scaler.apply(volatility)}
    if card.scaler is None:
        return dict(zip(("candles", "calendar"), patchtst_inputs(frame, rows), strict=True)) | scaled
    features, calendar = lstm_inputs(frame, rows)
    masks = {} if card.dropout is None else {"masks": np.repeat(card.dropout.masks[None], len(rows), axis=0)}
    return {"features": card.scaler.apply(features), "calendar": calendar} | scaled | masks


def test_every_fused_kind_ships_for_every_timeframe_and_all_starters_are_small() -> None:
    assert set(FUSED) <= set(ALL)
    assert {kind_of(path) for path in SHIPPED} <= {*ARCHITECTURES, *ELSEWHERE}
    assert sum(path.stat().st_size for path in STARTER.rglob("*") if path.is_file()) < 20_000_000


@pytest.mark.skipif(not (STARTER / "swing-1d").is_dir(), reason="no daily starter is shipped yet")
def test_the_daily_starter_loads_and_says_what_it_was_measured_at() -> None:
    card, report = load_swing(STARTER / "swing-1d").card, json.loads((STARTER / "swing-1d" / "report.json").read_text())
    assert set(card.universes) == {"nifty100", "sp500"}
    assert card.windows.calibration[1] < parse_iso("2021-01-01T00:00:00Z") <= card.windows.test[0]
    assert card.metrics
    assert all(metric.value == report["figures"]["pooled"][name]["value"] for name, metric in card.metrics.items())
    assert all(one["largest_difference_from_torch"] <= 1e-4 for one in report["models"].values())
    if card.encoder is not None:
        folder = STARTER / card.encoder.partition("@")[0]
        assert json.loads((folder / "model.json").read_text())["version"] == card.encoder.partition("@")[2]


@pytest.mark.parametrize("model_id", ALL)
def test_a_starter_is_verified_and_small(model_id: str) -> None:
    bundle = starter(model_id)
    files = {path.name for path in (STARTER / model_id).iterdir()}
    assert files == {"model.json", "model.onnx", "weights.safetensors", "report.json", "manifest.json", "run.json"}
    assert sum(path.stat().st_size for path in (STARTER / model_id).iterdir()) < 1_000_000
    assert f"{bundle.card.kind}-{bundle.card.timeframe}" == model_id
    assert set(DEFAULTS) <= set(bundle.card.universe)


@pytest.mark.parametrize("model_id", ALL)
def test_the_graph_of_a_starter_gives_what_torch_gives_with_the_same_weights(model_id: str) -> None:
    bundle = starter(model_id)
    hourly, rows = candles("BTC-USD", 1000, 3), list(range(700, 1000, 4))
    length = bundle.card.timeframe.milliseconds
    frame = replace(hourly, timeframe=bundle.card.timeframe, time=hourly.time[0] + length * np.arange(1000))
    sizes: Any = bundle.card.config["model"]
    made = ARCHITECTURES[bundle.card.kind]
    model = made(made.config_type(**sizes))
    model.load_state_dict(load_file(STARTER / model_id / "weights.safetensors"))
    inputs = inputs_of(bundle, frame, rows)
    answers = bundle.graph.run(inputs)
    model.eval()
    with torch.no_grad():
        expected = model(*(torch.from_numpy(inputs[name]) for name in model.inputs))
    worst = max(
        float(np.abs(answers[name] - values.numpy()).max())
        for name, values in zip(model.outputs, expected, strict=True)
    )
    assert worst <= 1e-4
    reported = json.loads((STARTER / model_id / "report.json").read_text())["export"]["largest_difference_from_torch"]
    assert reported <= 1e-4


@pytest.mark.parametrize("model_id", ALL)
def test_the_card_carries_the_figures_of_its_report(model_id: str) -> None:
    card, report = starter(model_id).card, json.loads((STARTER / model_id / "report.json").read_text())
    assert card.metrics
    for name, metric in card.metrics.items():
        assert metric.value == report["figures"]["pooled"][name]["value"]
    assert [epoch["number"] for epoch in report["training"]["epochs"]][-1] >= report["training"]["best_epoch"]
    for head in report["curves"]["heads"].values():
        assert head["roc"]["true_positive_rate"][-1] == 1.0
    assert set(report["figures"]["by_symbol"]) >= set(DEFAULTS)


@pytest.mark.parametrize("model_id", ALL)
def test_a_starter_was_made_of_bars_before_the_slice_it_is_judged_on(model_id: str) -> None:
    card = starter(model_id).card
    judged = parse_iso(JUDGED_FROM)
    assert card.config["training"]["judged_from"] == JUDGED_FROM
    assert card.windows.validation is not None
    assert card.windows.train[1] < card.windows.validation[0] < card.windows.validation[1]
    assert card.windows.validation[1] < card.windows.calibration[0] < card.windows.calibration[1] < judged
    assert card.windows.test[0] >= judged


@pytest.mark.parametrize("model_id", ALL)
def test_a_starter_knows_the_season_of_its_markets_and_of_those_to_come(model_id: str) -> None:
    card = starter(model_id).card
    kinds = {subject(symbol)[1] for symbol in card.universe}
    assert {"any", *kinds} <= set(card.season) <= {"any", *kinds, *card.universe}
    if card.is_sequence:
        assert {"any", *kinds, *DEFAULTS} <= set(card.directions)
        assert {"any", *kinds, *DEFAULTS} <= set(card.adjustments)
    week = np.asarray(card.season["EURUSD=X"]).reshape(7, -1)
    assert (week[5] == 0).all()  # Saturday
    assert (np.asarray(card.season["BTC-USD"]) > 0).all()


@pytest.mark.parametrize("model_id", [name for name in ALL if not name.startswith("patchtst")])
def test_a_market_abstains_from_everything_or_votes_with_the_probability_beside_it(model_id: str) -> None:
    for rule in starter(model_id).card.directions.values():
        if (rule.abstain_below, rule.abstain_above) == (0.0, 1.0):
            assert isinstance(rule.calibration, Platt)
            assert rule.calibration.a == 0.0
        else:
            assert 0.0 < rule.abstain_below < 0.5 < rule.abstain_above < 1.0


def votes(bundle: Bundle, symbol: str, rows_wanted: int) -> np.ndarray:
    """Votes +1, 0, -1 of a bundle over moments spread across a symbol's real history."""
    (frame, _), *_ = read_candles(REAL, bundle.card.timeframe, (symbol,))
    rows = np.linspace(PATCHTST_BARS_NEEDED + 100, len(frame) - 1, rows_wanted).astype(np.intp)
    outputs = bundle.graph.run(inputs_of(bundle, frame, rows.tolist()))
    if bundle.card.kind == "patchtst":
        return 1 - class_probabilities(bundle.card, outputs).argmax(axis=1)
    unrest = unrest_of(lstm_inputs(frame, rows.tolist())[0][:, -1])
    newest = Newest(frame.close[rows], atr(frame)[rows], unrest)
    answers = lstm_answers(bundle.card, outputs, newest, [subject(symbol)] * len(rows))
    assert np.isfinite(answers.low).all()
    assert (answers.low < answers.high).all()
    return answers.vote


needs_real_candles = pytest.mark.skipif(not (REAL / "instruments.toml").exists(), reason=f"no real candles at {REAL}")


@pytest.mark.real_data
@needs_real_candles
@pytest.mark.parametrize("symbol", DEFAULTS)
def test_over_its_timeframes_the_patchtst_votes_both_ways_on_real_candles(symbol: str) -> None:
    found = np.concatenate([votes(starter(f"patchtst-{timeframe}"), symbol, 200) for timeframe in INTRADAY])
    assert (found > 0).sum() >= 10
    assert (found < 0).sum() >= 10


@pytest.mark.real_data
@needs_real_candles
@pytest.mark.parametrize("timeframe", list(INTRADAY))
@pytest.mark.parametrize("symbol", DEFAULTS)
def test_the_lstm_votes_both_ways_where_it_may_and_never_where_it_may_not(symbol: str, timeframe: Timeframe) -> None:
    bundle = starter(f"lstm-{timeframe}")
    found, rule = votes(bundle, symbol, 1600), bundle.card.directions[symbol]
    if (rule.abstain_below, rule.abstain_above) == (0.0, 1.0):
        assert not found.any()
    else:
        assert (found > 0).sum() >= 10
        assert (found < 0).sum() >= 10
