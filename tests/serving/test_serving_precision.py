"""A bundle says in which precision its weights are kept, and serving believes the graph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_bundles import build_bundle, patchtst_graph

from fusiontrade.errors import BundleRefused
from serving.bundle import CARD, ELSEWHERE, MANIFEST, kind_of, load_bundle, read_bundle, write_card, write_manifest
from serving.protobuf import weight_types
from serving.training.precision.variants import VARIANTS

STARTER = Path(__file__).resolve().parents[2] / "serving" / "starter"
FORECASTERS = sorted(path.parent for path in STARTER.glob(f"*/{MANIFEST}") if kind_of(path.parent) not in ELSEWHERE)


def patchtst(folder: Path, precision: str, graph: bytes) -> Path:
    return build_bundle(folder, "patchtst", graph=graph, precision=precision)


@pytest.mark.parametrize("precision", ["f32", *VARIANTS])
def test_a_bundle_of_each_precision_loads_and_answers_nearly_what_f32_answers(precision: Any, tmp_path: Path) -> None:
    graph = patchtst_graph() if precision == "f32" else VARIANTS[precision](patchtst_graph())
    bundle = load_bundle(patchtst(tmp_path / "other", precision, graph))
    assert bundle.card.precision == precision
    plain = load_bundle(build_bundle(tmp_path, "patchtst"))
    card = bundle.card
    random = np.random.default_rng(1)
    inputs = {
        "candles": random.normal(1.0, 0.1, (5, 120, 5)).astype(np.float32),
        "calendar": random.normal(0.0, 1.0, (5, len(card.features.calendar))).astype(np.float32),
        "volatility": random.normal(0.0, 1.0, (5, len(card.features.volatility))).astype(np.float32),
    }
    np.testing.assert_allclose(bundle.graph.run(inputs)["classes"], plain.graph.run(inputs)["classes"], atol=0.01)


@pytest.mark.parametrize(
    ("said", "made"), [("int8", "f32"), ("f32", "int8"), ("bf16", "f16"), ("f16", "bf16"), ("bf16", "f32")]
)
def test_a_graph_of_another_precision_than_its_card_says_is_refused(said: str, made: Any, tmp_path: Path) -> None:
    graph = patchtst_graph() if made == "f32" else VARIANTS[made](patchtst_graph())
    with pytest.raises(BundleRefused, match=f"the graph is {made}, its card says {said}"):
        load_bundle(patchtst(tmp_path, said, graph))


def test_an_unknown_precision_is_refused_by_its_name(tmp_path: Path) -> None:
    folder = build_bundle(tmp_path, "patchtst")
    content = json.loads((folder / CARD).read_text()) | {"precision": "int4"}
    (folder / CARD).write_text(json.dumps(content))
    write_manifest(folder)
    with pytest.raises(BundleRefused, match=r"model\.json: precision: Input should be 'f32', 'int8', 'bf16' or 'f16'"):
        load_bundle(folder)


def test_a_card_without_the_field_is_f32_and_keeps_its_version(tmp_path: Path) -> None:
    folder = build_bundle(tmp_path, "patchtst")
    content = json.loads((folder / CARD).read_text())
    assert content.pop("precision") == "f32"
    (folder / CARD).write_text(json.dumps(content))
    write_manifest(folder)
    card = load_bundle(folder).card
    assert (card.precision, card.version) == ("f32", content["version"])


def test_another_precision_is_another_version(tmp_path: Path) -> None:
    folder = build_bundle(tmp_path, "patchtst")
    card = read_bundle(folder).card
    assert write_card(folder, card.model_copy(update={"precision": "int8"})).version != card.version


@pytest.mark.parametrize("folder", FORECASTERS, ids=lambda folder: folder.name)
def test_types_of_weights_are_those_that_onnx_reads(folder: Path) -> None:
    content = (folder / "model.onnx").read_bytes()
    model = onnx.load_from_string(content)
    assert weight_types(content) == {one.data_type for one in model.graph.initializer if len(one.dims) >= 2}


@pytest.mark.parametrize("packed", [False, True])
def test_axes_are_counted_however_they_are_written(*, packed: bool) -> None:
    """Writers may put each axis in a field of its own, or all into one."""
    tensor = bytes([0x0A, 3, 0x80, 0x02, 2]) if packed else bytes([0x08, 0x80, 0x02, 0x08, 2])  # 256 × 2
    tensor += bytes([0x10, TensorProto.INT8])
    graph = bytes([0x2A, len(tensor)]) + tensor
    assert weight_types(bytes([0x08, 8, 0x3A, len(graph)]) + graph) == {TensorProto.INT8}


def test_vectors_and_single_numbers_are_no_weights() -> None:
    constants = [numpy_helper.from_array(np.zeros(shape, np.int8), f"c{len(shape)}") for shape in ((), (3,))]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:], constants)
    assert weight_types(helper.make_model(graph).SerializeToString()) == set()


@pytest.mark.parametrize("content", [b"\x3a\x05ab", b"\x08\x80", b"\x0b", b"\xff" * 12, b"\x3a\x03\x2a\x05x"])
def test_bytes_that_are_no_message_are_an_error_not_a_loop(content: bytes) -> None:
    with pytest.raises(ValueError, match="no protobuf message"):
        weight_types(content)


@pytest.mark.parametrize("folder", FORECASTERS, ids=lambda folder: folder.name)
def test_a_starter_is_of_the_precision_that_its_report_chose_before_the_judged_slice(folder: Path) -> None:
    found = json.loads((folder / "report.json").read_text())["precision"]
    assert load_bundle(folder).card.precision == found["chosen"] == found["judged"]
    assert (found["setting"], found["slice"], found["windows"]) == ("auto", "calibration", 8192)
    assert found["to"] < "2024-11-01"
    assert found["f32"]["bytes"] == (folder / "model.onnx").stat().st_size
    assert set(found["variants"]) == set(VARIANTS)
    for figures in found["variants"].values():
        assert figures["chosen"] is False
        if "agreement" not in figures:
            assert figures["refused"]  # the graph has nothing that this precision applies to
            continue
        agrees = min(figures["agreement"], figures["least_agreement"]) >= 0.995
        assert figures["refused"].startswith("agrees, but is not cheaper") == agrees
