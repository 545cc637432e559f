"""The bundles that ship: serving takes them, torch gives the same numbers, and they vote both ways on real candles.

Starters carry no torch weights, so the proof against torch reads them back out of the graph.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from training_data import candles

from fusiontrade.inference.contract import ModelKind
from fusiontrade.market.timeframes import INTRADAY, Timeframe
from serving.bundle import Bundle, load_bundle
from serving.features import PATCHTST_BARS_NEEDED, atr, lstm_inputs, patchtst_inputs
from serving.forecasting import class_probabilities, lstm_answers
from serving.models import LstmConfig, LstmModel, PatchTstConfig, PatchTstForecaster
from serving.training.candles import read_candles

ROOT = Path(__file__).resolve().parents[2]
STARTER = ROOT / "serving" / "starter"
REAL = Path(os.environ.get("FUSIONTRADE_REAL_DATA", ROOT.parent / "shared" / "data"))
DEFAULTS = ("EURUSD=X", "GC=F", "BTC-USD", "USDJPY=X")
ALL = [f"{kind}-{timeframe}" for kind in ("lstm", "patchtst") for timeframe in INTRADAY]


def starter(model_id: str) -> Bundle:
    return load_bundle(STARTER / model_id)


def inputs_of(bundle: Bundle, windows: tuple[np.ndarray, np.ndarray]) -> dict[str, np.ndarray]:
    """The graph's inputs, the indicators scaled as the card says."""
    if bundle.card.scaler is None:
        return {"candles": windows[0], "calendar": windows[1]}
    return {"features": bundle.card.scaler.apply(windows[0]), "calendar": windows[1]}


def lstm_weights(graph: onnx.GraphProto) -> dict[str, torch.Tensor]:
    """The state dict behind an exported LSTM; ONNX orders gates input, output, forget, cell; torch i, f, g, o."""
    stored = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    state = {name: values for name, values in stored.items() if not name.startswith("onnx::")}
    layers = [node for node in graph.node if node.op_type == "LSTM"]
    for number, node in enumerate(layers):
        weight, recurrent, bias = (stored[name][0] for name in node.input[1:4])
        parts = {"weight_ih_l0": weight, "weight_hh_l0": recurrent}
        parts |= dict(zip(("bias_ih_l0", "bias_hh_l0"), np.split(bias, 2), strict=True))
        for name, values in parts.items():
            gates = np.split(values, 4)
            state[f"recurrent.{number}.{name}"] = np.concatenate([gates[0], gates[2], gates[3], gates[1]])
    return {name: torch.from_numpy(values.copy()) for name, values in state.items()}


def patchtst_weights(graph: onnx.GraphProto) -> dict[str, torch.Tensor]:
    """The state dict behind an exported PatchTST; a linear layer's weight is the matrix before the add of its bias."""
    stored = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    state = {name: values for name, values in stored.items() if "." in name}
    bias_after = {
        given: other
        for node in graph.node
        if node.op_type == "Add"
        for given, other in (node.input, reversed(node.input))
        if other.endswith(".bias")
    }
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in stored and node.output[0] in bias_after:
            state[bias_after[node.output[0]].removesuffix("bias") + "weight"] = stored[node.input[1]].T
    return {name: torch.from_numpy(values.copy()) for name, values in state.items()}


@pytest.mark.parametrize("model_id", ALL)
def test_a_starter_is_verified_small_and_without_training_weights(model_id: str) -> None:
    bundle = starter(model_id)
    files = {path.name for path in (STARTER / model_id).iterdir()}
    assert files == {"model.json", "model.onnx", "report.json", "manifest.json", "run.json"}
    assert sum(path.stat().st_size for path in (STARTER / model_id).iterdir()) < 1_000_000
    assert f"{bundle.card.kind}-{bundle.card.timeframe}" == model_id
    assert set(DEFAULTS) <= set(bundle.card.universe)


@pytest.mark.parametrize("model_id", ALL)
def test_the_graph_of_a_starter_gives_what_torch_gives_with_the_same_weights(model_id: str) -> None:
    bundle = starter(model_id)
    graph = onnx.load(STARTER / model_id / "model.onnx").graph
    frame, rows = candles("BTC-USD", 1000, 3), list(range(700, 1000))
    if bundle.card.kind == "lstm":
        model: torch.nn.Module = LstmModel(LstmConfig(**bundle.card.config["model"]))
        found, windows = model.load_state_dict(lstm_weights(graph)), lstm_inputs(frame, rows)
    else:
        model = PatchTstForecaster(PatchTstConfig(**bundle.card.config["model"]))
        found, windows = model.load_state_dict(patchtst_weights(graph), strict=False), patchtst_inputs(frame, rows)
    assert {name.rpartition(".")[2] for name in found.missing_keys} <= {"class_weights", "num_batches_tracked"}
    assert not found.unexpected_keys
    inputs = inputs_of(bundle, windows)
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
    assert set(report["figures"]["by_symbol"]) >= set(DEFAULTS)


@pytest.mark.parametrize("timeframe", list(INTRADAY))
def test_a_vote_never_stands_against_the_probability_beside_it(timeframe: Timeframe) -> None:
    limits = starter(f"lstm-{timeframe}").card.thresholds
    assert limits is not None
    assert limits.abstain_below < 0.5 < limits.abstain_above
    assert limits.abstain_below > 0


def votes(bundle: Bundle, symbol: str, rows_wanted: int) -> np.ndarray:
    """Votes +1, 0, -1 of a bundle over moments spread across a symbol's real history."""
    (frame, _), *_ = read_candles(REAL, bundle.card.timeframe, (symbol,))
    rows = np.linspace(PATCHTST_BARS_NEEDED + 100, len(frame) - 1, rows_wanted).astype(np.intp)
    if bundle.card.kind == "patchtst":
        chosen = class_probabilities(bundle.card, bundle.graph.run(inputs_of(bundle, patchtst_inputs(frame, rows))))
        return 1 - chosen.argmax(axis=1)
    outputs = bundle.graph.run(inputs_of(bundle, lstm_inputs(frame, rows)))
    answers = lstm_answers(bundle.card, outputs, frame.close[rows], atr(frame)[rows])
    limits = bundle.card.thresholds
    assert limits is not None
    assert np.isfinite(answers.low).all()
    assert (answers.low < answers.high).all()
    up, down = answers.probability_up > limits.abstain_above, answers.probability_up < limits.abstain_below
    return up.astype(int) - down.astype(int)


@pytest.mark.real_data
@pytest.mark.skipif(not (REAL / "instruments.toml").exists(), reason=f"no real candles at {REAL}")
@pytest.mark.parametrize("symbol", DEFAULTS)
@pytest.mark.parametrize("kind", ["lstm", "patchtst"])
def test_over_its_timeframes_a_kind_votes_both_ways_on_real_candles(kind: ModelKind, symbol: str) -> None:
    found = np.concatenate(
        [votes(starter(f"{kind}-{timeframe}"), symbol, 200) for timeframe in map(Timeframe, INTRADAY)]
    )
    assert (found > 0).sum() >= 10
    assert (found < 0).sum() >= 10
