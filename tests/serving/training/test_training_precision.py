"""Graphs of lower precision: which one is chosen, what is refused and why, and what each of them computes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fusiontrade.errors import BundleRefused
from serving.training.precision import cost
from serving.training.precision.choosing import REQUIRED, Choice, Reading, choose
from serving.training.precision.cost import counted, session_of
from serving.training.precision.variants import VARIANTS, NoVariant, int8, stored

Array = np.ndarray
bf16, f16 = stored(TensorProto.BFLOAT16), stored(TensorProto.FLOAT16)


def graph(*layers: Array, gemm: bool = False) -> bytes:
    """``y = relu(x W1) W2 …``; with ``gemm`` each product is a Gemm of transposed weights and a bias of 0.5."""
    nodes, constants, given = [], [], "x"
    for place, weights in enumerate(layers):
        last = place == len(layers) - 1
        product = "y" if last else f"p{place}"
        held = weights.T if gemm else weights
        constants.append(numpy_helper.from_array(np.ascontiguousarray(held, np.float32), f"w{place}"))
        if gemm:
            constants.append(numpy_helper.from_array(np.full(weights.shape[1], 0.5, np.float32), f"b{place}"))
            nodes.append(helper.make_node("Gemm", [given, f"w{place}", f"b{place}"], [product], transB=1))
        else:
            nodes.append(helper.make_node("MatMul", [given, f"w{place}"], [product]))
        if not last:
            nodes.append(helper.make_node("Relu", [product], [given := f"r{place}"]))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])
        for name, size in (("x", layers[0].shape[0]), ("y", layers[-1].shape[1]))
    ]
    made = helper.make_graph(nodes, "small", ends[:1], ends[1:], constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def normal(*shape: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).normal(0.0, 1.0, shape).astype(np.float32)


def windows(width: int, rows: int = 600) -> dict[str, Array]:
    """Noise around a level of either sign."""
    return {"x": normal(rows, width, seed=9) + np.sign(normal(rows, 1, seed=8))}


def signs(outputs: Any) -> Reading:
    """One decision, the sign of the first output; all outputs are compared."""
    return Reading({"sign": np.sign(outputs["y"][:, 0]).astype(np.int64)}, {"answer": outputs["y"].astype(np.float64)})


def run(content: bytes, x: Array) -> Array:
    return np.asarray(session_of(content).run(None, {"x": x})[0])


NARROW = graph(normal(8, 16), normal(16, 3))
WIDE = graph(np.concatenate([np.ones((640, 1)), normal(640, 639)], axis=1))


def test_a_wide_graph_whose_decisions_agree_is_served_as_integers() -> None:
    choice = choose(WIDE, windows(640), signs)
    figures = choice.report["variants"]["int8"]
    assert choice.precision == choice.report["chosen"] == "int8"
    assert choice.graph == int8(WIDE)
    assert REQUIRED <= figures["agreement"] <= 1.0
    assert figures["agreement"] == figures["least_agreement"]
    assert max(figures["counted_ratio"].values()) < 0.9
    assert figures["refused"] is None
    assert choice.report["variants"]["bf16"]["refused"] == "agrees, but int8 is better"
    assert len(choice.graph) < len(WIDE) / 3


def test_the_share_that_agrees_is_counted_over_windows_and_each_kind_of_decision() -> None:
    def two(outputs: Any) -> Reading:
        """The second decision is whether a number is what f32 says, which no rounded product gives twice in a row."""
        first = signs(outputs)
        same = np.isclose(outputs["y"][:, 1], run(NARROW, windows(8)["x"])[:, 1], atol=2e-3, rtol=0)
        return Reading(dict(first.decisions) | {"exact": same.astype(np.int64)}, first.values)

    choice = choose(NARROW, windows(8), two, setting="bf16")
    figures = choice.report["variants"]["bf16"]
    x = windows(8)["x"]
    f32, other = run(NARROW, x), run(bf16(NARROW), x)
    sign, exact = (
        (np.sign(f32[:, 0]) == np.sign(other[:, 0])).mean(),
        np.isclose(f32[:, 1], other[:, 1], atol=2e-3, rtol=0).mean(),
    )
    assert figures["agreement_by_decision"] == pytest.approx({"sign": sign, "exact": exact}, abs=1e-6)
    assert figures["agreement"] == pytest.approx((sign + exact) / 2, abs=1e-6)
    assert figures["least_agreed"] == "exact"
    assert figures["largest_difference"]["answer"] == pytest.approx(np.abs(f32 - other).max(), rel=0.01)
    assert choice.precision == "f32"
    assert figures["refused"] is not None
    assert "of exact: 99.5% are required of each" in figures["refused"]


def test_one_kind_of_decision_that_differs_is_not_hidden_by_many_that_agree() -> None:
    weights = normal(8, 3)
    weights[0, 0], weights[1:, 0] = 4e4, 1e-2

    def reader(outputs: Any) -> Reading:
        many = {f"easy {place}": np.ones(len(outputs["y"]), np.int64) for place in range(999)}
        return Reading(many | dict(signs(outputs).decisions), {})

    given = windows(8)
    given["x"][:, 0] = 0.0
    figures = choose(graph(weights), given, reader, setting="int8").report["variants"]["int8"]
    assert figures["agreement"] >= 0.999
    assert figures["least_agreed"] == "sign"
    assert figures["refused"].startswith("99.9")


def test_weights_with_an_outlier_are_refused_as_integers_and_f32_stays() -> None:
    """Beside 40,000 in its column every other weight is rounded to nothing."""
    weights = normal(320, 320)
    weights[0, 0], weights[1:, 0] = 4e4, 1e-2
    given = windows(320)
    given["x"][:, 0] = 0.0
    content = graph(weights)
    for setting in ("auto", "int8"):
        choice = choose(content, given, signs, setting=setting, variants={"int8": int8})
        assert choice.precision == "f32"
        assert choice.graph == content
        assert choice.report["variants"]["int8"]["agreement"] == 0.0
        assert choice.report["variants"]["int8"]["chosen"] is False
        assert choice.report["variants"]["int8"]["refused"].startswith("0.0000% of all decisions agree with f32")


def test_a_variant_that_is_not_finite_is_refused(request: pytest.FixtureRequest) -> None:
    def broken(content: bytes) -> bytes:
        model = onnx.load_from_string(content)
        values = numpy_helper.to_array(model.graph.initializer[0]).copy()
        values[:, 0] = np.nan
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(values, model.graph.initializer[0].name))
        return bytes(model.SerializeToString())

    choice = choose(WIDE, windows(640), signs, setting="int8", variants={"int8": broken})
    assert choice.precision == "f32"
    assert choice.report["variants"]["int8"]["refused"] == "y is not finite for every window"


def test_weights_too_large_for_sixteen_bits_are_refused_not_made_infinite() -> None:
    weights = normal(8, 3)
    weights[2, 1] = 7e4
    with pytest.raises(NoVariant, match="w0 holds weights beyond 65504"):
        f16(graph(weights))
    refused = choose(graph(weights), windows(8), signs).report["variants"]["f16"]
    assert refused == {"refused": "w0 holds weights beyond 65504, the largest of this precision", "chosen": False}
    assert np.isfinite(run(bf16(graph(weights)), windows(8)["x"])).all()


def test_one_scale_for_a_whole_batch_is_refused_for_an_item_would_depend_on_its_neighbours(tmp_path: Path) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization")

    def dynamic(content: bytes) -> bytes:
        (tmp_path / "f32.onnx").write_bytes(content)
        logging.disable(logging.WARNING)
        try:
            quantization.quantize_dynamic(tmp_path / "f32.onnx", tmp_path / "int8.onnx")
        finally:
            logging.disable(logging.NOTSET)
        return (tmp_path / "int8.onnx").read_bytes()

    choice = choose(WIDE, windows(640), signs, setting="int8", variants={"int8": dynamic})
    figures = choice.report["variants"]["int8"]
    assert choice.precision == "f32"
    assert figures["refused"] == "what it says of a window depends on what rides with it"
    assert figures["largest_difference_alone"]["value"] > 0.1
    ours = choose(WIDE, windows(640), signs).report["variants"]["int8"]["largest_difference_alone"]
    assert ours["value"] <= 1e-4
    assert ours["same"]


def test_what_serving_would_not_open_is_refused_with_its_words() -> None:
    def accept(content: bytes, precision: str) -> None:
        raise BundleRefused(f"no {precision} here")

    choice = choose(WIDE, windows(640), signs, accept=accept)
    assert choice.precision == "f32"
    assert choice.report["variants"]["int8"]["refused"] == "serving refuses it: no int8 here"


def test_a_narrow_graph_stays_f32_unless_another_precision_is_asked_for() -> None:
    given = windows(8)
    auto = choose(NARROW, given, signs, variants={"bf16": bf16, "f16": f16})
    assert auto.precision == "f32"
    assert (
        "agrees, but is not cheaper: counted cost against f32 1 at 1, 1 at 16"
        in auto.report["variants"]["f16"]["refused"]
    )
    asked = choose(NARROW, given, signs, setting="f16")
    assert (asked.precision, asked.graph) == ("f16", f16(NARROW))
    f32 = choose(NARROW, given, signs, setting="f32")
    assert f32.precision == "f32"
    assert f32.report["variants"]["f16"]["refused"] == "agrees, but f32 was asked for"


def test_weights_are_stored_in_half_where_that_saves_a_mebibyte() -> None:
    large = graph(normal(32, 20_000), normal(20_000, 3))
    choice = choose(large, windows(32, 200), signs, variants={"f16": f16})
    assert choice.precision == "f16"
    assert len(large) - len(choice.graph) > 1 << 20
    assert choice.report["variants"]["f16"]["counted_ratio"] == {"1": 1.0, "16": 1.0}


def test_the_choice_and_its_figures_are_the_same_every_time_and_no_clock_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_clock() -> float:
        raise AssertionError("a choice read the clock")

    monkeypatch.setattr(cost.time, "perf_counter", no_clock)
    first, again = (choose(WIDE, windows(640), signs) for _ in range(2))
    assert first.report == again.report
    assert first.graphs == again.graphs
    assert set(first.graphs) == {"f32", *VARIANTS}


def test_the_medians_of_each_graph_are_measured_for_a_batch_of_one_and_of_sixteen() -> None:
    choice: Choice = choose(NARROW, windows(8), signs)
    timings = cost.measured(choice.graphs, windows(8, 16))
    assert {name: set(one) for name, one in timings.items()} == {name: {"1", "16"} for name in choice.graphs}
    assert all(value > 0 for one in timings.values() for value in one.values())


@pytest.mark.parametrize("gemm", [False, True])
def test_integer_products_lie_within_their_rounding(*, gemm: bool) -> None:
    weights, x = normal(300, 40), normal(50, 300, seed=4)
    content = graph(weights, gemm=gemm)
    row, column = np.abs(x).max(axis=1, keepdims=True) / 127, np.abs(weights).max(axis=0) / 63
    most = (
        np.abs(x).sum(axis=1, keepdims=True) * column / 2
        + np.abs(weights).sum(axis=0) * row / 2
        + 300 * row * column / 4
    )
    difference = np.abs(run(int8(content), x) - run(content, x))
    assert (difference <= most).all()
    assert 0 < difference.max() < 0.02 * np.abs(run(content, x)).max()


def test_a_row_of_zeros_is_the_bias_and_rows_of_other_sizes_do_not_touch_it() -> None:
    content = int8(graph(normal(30, 4), gemm=True))
    x = np.stack([np.zeros(30, np.float32), 1e6 * normal(30), 1e-6 * normal(30)])
    answers = run(content, x)
    np.testing.assert_allclose(answers[0], 0.5, atol=1e-6)
    np.testing.assert_array_equal(answers[2], run(content, x[2:])[0])
    np.testing.assert_allclose(answers[1] / 1e6, x[1] / 1e6 @ normal(30, 4), atol=0.15)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_does_not_become_one_in_an_integer_product(bad: float) -> None:
    """ONNX Runtime's largest of a row passes over a NaN, and rounds it to a whole number."""
    x = normal(3, 30)
    x[1, 29] = bad
    answers = run(int8(graph(normal(30, 4), gemm=True)), x)
    assert not np.isfinite(answers[1]).any()
    assert np.isfinite(answers[[0, 2]]).all()


def test_beside_wide_products_the_narrow_ones_stay_as_they_are() -> None:
    model = onnx.load_from_string(int8(graph(normal(320, 320), normal(320, 3))))
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("MatMulIntegerToFloat") == 1
    assert kinds.count("MatMul") == 1


@pytest.mark.parametrize(("make", "kind", "bits"), [(bf16, TensorProto.BFLOAT16, 8), (f16, TensorProto.FLOAT16, 11)])
def test_stored_weights_are_the_nearest_of_their_kind(make: Callable[[bytes], bytes], kind: int, bits: int) -> None:
    weights = normal(60, 60)
    model = onnx.load_from_string(make(graph(weights)))
    assert [one.data_type for one in model.graph.initializer] == [kind]
    made = run(make(graph(weights)), np.eye(60, dtype=np.float32))
    exponent = np.floor(np.log2(np.abs(weights)))
    assert (np.abs(made - weights) <= 2.0 ** (exponent - bits) * 1.0001).all()
    assert (made != weights).any()


@pytest.mark.parametrize("make", [int8, bf16, f16])
def test_the_same_graph_gives_the_same_bytes_and_keeps_inputs_and_outputs(make: Callable[[bytes], bytes]) -> None:
    assert make(NARROW) == make(NARROW)
    before, after = (onnx.load_from_string(one) for one in (NARROW, make(NARROW)))
    assert list(after.graph.input) == list(before.graph.input)
    assert list(after.graph.output) == list(before.graph.output)


def test_a_graph_without_weights_has_no_variants() -> None:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in ("x", "y")]
    made = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "none", ends[:1], ends[1:])
    content = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()
    with pytest.raises(NoVariant, match="no MatMul or Gemm by constant weights"):
        int8(content)
    with pytest.raises(NoVariant, match="no weights"):
        bf16(content)


def test_costs_are_counted_from_products_weights_and_nodes() -> None:
    found = counted(WIDE, windows(640, 1))
    macs = 640 * 640
    assert found["1"] == pytest.approx(0.9 + 4 * macs / 40_000, abs=0.01)  # reading the weights takes longer
    assert found["16"] == pytest.approx(0.9 + 16 * macs / 75_000, abs=0.01)
    assert counted(bf16(WIDE), windows(640, 1)) == found
    integers = counted(int8(WIDE), windows(640, 1))
    nodes = len(onnx.load_from_string(int8(WIDE)).graph.node)
    assert integers["16"] == pytest.approx(0.9 * nodes + 16 * (macs / 450_000 + 1280 * 0.0007), abs=0.01)


def test_what_several_products_take_is_rounded_once() -> None:
    model = onnx.load_from_string(graph(normal(30, 4)))
    model.graph.node.append(helper.make_node("MatMul", ["x", "other"], ["z"]))
    model.graph.initializer.append(numpy_helper.from_array(normal(30, 6, seed=5), "other"))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 6]))
    content = int8(model.SerializeToString())
    kinds = [node.op_type for node in onnx.load_from_string(content).graph.node]
    assert (kinds.count("QuantizeLinear"), kinds.count("MatMulIntegerToFloat")) == (1, 2)
    x = normal(5, 30, seed=6)
    for answer, weights in zip(
        session_of(content).run(None, {"x": x}), (normal(30, 4), normal(30, 6, seed=5)), strict=True
    ):
        np.testing.assert_allclose(answer, x @ weights, atol=0.5)
