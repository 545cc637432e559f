"""Slim graphs: what torch answers, from a fraction of the nodes; or a refusal."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import nn

from serving.models import LstmConfig, LstmModel, PatchTstConfig, PatchTstForecaster
from serving.training.export import export, run_graph
from serving.training.fit import deterministic
from serving.training.slimming import SlimFailure, slim

Model = LstmModel | PatchTstForecaster


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with deterministic(1):
        yield


def lived(model: Model) -> Model:
    """Give what a fresh network has as zeros and ones the numbers of one that was trained."""
    generator = torch.Generator().manual_seed(3)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm1d):
            part.running_mean = torch.randn(part.num_features, generator=generator)
            part.running_var = torch.rand(part.num_features, generator=generator) + 0.5
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


@pytest.fixture(scope="module", params=["lstm", "other harmonics", "patchtst", "other layers"])
def exported(request: pytest.FixtureRequest) -> tuple[Model, bytes]:
    torch.manual_seed(1)
    made: dict[str, Model] = {
        "lstm": LstmModel(LstmConfig()),
        "other harmonics": LstmModel(LstmConfig(day_harmonics=3, week_harmonics=5, hidden=(24, 16, 8))),
        "patchtst": PatchTstForecaster(PatchTstConfig()),
        "other layers": PatchTstForecaster(PatchTstConfig(layers=1, width=24, attention_heads=2, feed_forward=40)),
    }
    model = lived(made[request.param])
    return model, export(model)


def windows(model: Model, rows: int) -> dict[str, np.ndarray]:
    """Random inputs: calendars are sines and cosines, the first row has none."""
    random = np.random.default_rng(rows)
    found = {}
    for name, example in zip(model.inputs, model.example(rows), strict=True):
        found[name] = random.normal(0.0, 1.0, tuple(example.shape)).astype(np.float32)
    angles = random.uniform(0.0, 2 * np.pi, (*found["calendar"].shape[:-1], 4))
    found["calendar"][...] = np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(found["calendar"].shape)
    found["calendar"][0] = 0.0
    return found


@pytest.mark.parametrize("rows", [1, 5])
def test_a_slim_graph_gives_what_torch_gives(exported: tuple[Model, bytes], rows: int) -> None:
    model, graph = exported
    given = windows(model, rows)
    with torch.no_grad():
        answers = model(*(torch.from_numpy(given[name]) for name in model.inputs))
    found = run_graph(slim(graph), iter([given]), tuple(model.outputs))
    for name, answer in zip(model.outputs, answers, strict=True):
        assert found[name].shape == tuple(answer.shape)
        np.testing.assert_allclose(found[name], answer.numpy(), rtol=0, atol=2e-5, err_msg=name)


def test_it_has_less_than_a_third_of_the_nodes_and_the_same_inputs_and_outputs(exported: tuple[Model, bytes]) -> None:
    before, after = (onnx.load_from_string(graph) for graph in (exported[1], slim(exported[1])))
    assert 3 * len(after.graph.node) < len(before.graph.node)
    assert list(after.graph.input) == list(before.graph.input)
    assert list(after.graph.output) == list(before.graph.output)


def test_the_same_graph_gives_the_same_bytes(exported: tuple[Model, bytes]) -> None:
    assert slim(exported[1]) == slim(exported[1])


def test_a_graph_of_another_form_is_refused() -> None:
    answer = helper.make_tensor_value_info("classes", onnx.TensorProto.FLOAT, ["batch", 3])
    candles = helper.make_tensor_value_info("candles", onnx.TensorProto.FLOAT, ["batch", 3])
    graph = helper.make_graph([helper.make_node("Relu", ["candles"], ["classes"])], "other", [candles], [answer])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    with pytest.raises(SlimFailure, match="not of a known form"):
        slim(model.SerializeToString())


def test_patches_that_overlap_are_refused() -> None:
    torch.manual_seed(1)
    graph = export(PatchTstForecaster(PatchTstConfig(layers=1, patch_stride=6)).eval())
    with pytest.raises(SlimFailure, match="overlap"):
        slim(graph)
