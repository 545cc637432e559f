"""The same graph in lower precision, for any network: products are found by what they are, not by whose they are.

Always true of a variant: inputs and outputs are those of the f32 graph, in float32; the same graph gives the same
bytes; ONNX Runtime's CPU provider runs it on x86 and on arm64 without anything new at serving time; and what it says
of a window does not depend on the windows that ride with it. A NaN that enters an int8 product leaves it as NaN.

``int8``: MatMul and Gemm by constant weights become integer products; where some of them are wide enough for that to
pay, those alone, for a narrow one loses more than it gains. Weights have one scale for each output column and seven
bits, so that processors without VNNI, whose 16-bit sums saturate, give the same numbers; activations have one scale for
each row, found when they come, once for all products that take them. (`onnxruntime.quantization` finds one for the
whole batch.)
``bf16``, ``f16``: weights are stored in 16 bits and become f32 when the graph is loaded. Arithmetic stays f32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from serving.card import Precision

__all__ = ["VARIANTS", "NoVariant", "int8", "stored"]

_RUNTIME = "com.microsoft"
_WEIGHT_TOP = 63  # seven bits
_ROW_TOP = 127
_ZERO = 128  # of unsigned activations
_WIDE = 100.0  # products a value: 200 × 200 and wider, where integers began to gain (decision 080)
_TINY = 1e-30  # the scale of a row of zeros
_LARGEST = {TensorProto.FLOAT16: 65504.0, TensorProto.BFLOAT16: 3.3e38}
Array = NDArray[Any]


class NoVariant(Exception):
    """The graph has nothing that this precision applies to."""


def int8(content: bytes) -> bytes:
    """Return the graph with integer products; raises `NoVariant` where it has no product by constant weights."""
    model = onnx.load_from_string(content)
    constants = {one.name: one for one in model.graph.initializer}
    found = [_weights(node, constants) for node in model.graph.node]
    widths = [_width(weights) for weights in found if weights is not None]
    if not widths:
        raise NoVariant("the graph has no MatMul or Gemm by constant weights")
    least = _WIDE if max(widths) >= _WIDE else 0.0
    nodes: list[onnx.NodeProto] = []
    integers = _Integers()
    for node, weights in zip(model.graph.node, found, strict=True):
        if weights is None or _width(weights) < least:
            nodes.append(node)
        else:
            nodes.extend(integers.product(node, weights))
    return _rebuilt(model, nodes, integers.constants.values())


def stored(kind: int) -> Callable[[bytes], bytes]:
    """Return what writes a graph's weights (two axes or more) as tensors of ``kind``, made float32 when it is loaded.

    It raises `NoVariant` where there are no weights, or one is too large for ``kind``.
    """

    def made(content: bytes) -> bytes:
        model = onnx.load_from_string(content)
        casts: list[onnx.NodeProto] = []
        kept: list[onnx.TensorProto] = []
        for one in model.graph.initializer:
            if one.data_type != TensorProto.FLOAT or len(one.dims) < 2:
                kept.append(one)
                continue
            values = numpy_helper.to_array(one)
            if not np.abs(values).max(initial=0.0) <= _LARGEST[kind]:
                raise NoVariant(f"{one.name} holds weights beyond {_LARGEST[kind]:g}, the largest of this precision")
            name = f"{one.name}_stored"
            kept.append(helper.make_tensor(name, kind, values.shape, _halves(values, kind), raw=True))
            casts.append(helper.make_node("Cast", [name], [one.name], to=TensorProto.FLOAT))
        if not casts:
            raise NoVariant("the graph has no weights")
        del model.graph.initializer[:]
        return _rebuilt(model, [*casts, *model.graph.node], kept)

    return made


def _halves(values: Array, kind: int) -> bytes:
    """Return float32 values rounded to the nearest of 16 bits, ties to even, little-endian."""
    if kind == TensorProto.FLOAT16:
        return values.astype("<f2").tobytes()
    bits = np.ascontiguousarray(values, "<f4").view(np.uint32)
    return (bits + 0x7FFF + (bits >> 16 & 1) >> 16).astype("<u2").tobytes()


VARIANTS: dict[Precision, Callable[[bytes], bytes]] = {
    "int8": int8,
    "bf16": stored(TensorProto.BFLOAT16),
    "f16": stored(TensorProto.FLOAT16),
}
"""What makes each variant of a serialised f32 graph."""


def _width(weights: Array) -> float:
    """Return what decides whether integers pay: products made by each value that is rounded or scaled back."""
    return float(weights.size / sum(weights.shape))


def _weights(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> Array | None:
    """Return (in, out) float32 weights of a plain product, None for every other node."""
    if node.domain or node.op_type not in ("MatMul", "Gemm") or node.input[1] not in constants:
        return None
    held = constants[node.input[1]]
    if held.data_type != TensorProto.FLOAT or len(held.dims) != 2:
        return None
    set_to = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    if set_to.get("transA") or {set_to.get("alpha", 1.0), set_to.get("beta", 1.0)} != {1.0}:
        return None
    values: Array = numpy_helper.to_array(held)
    return values.T if set_to.get("transB") else values


class _Integers:
    """The integer products of one graph: their nodes are returned, their constants gathered."""

    def __init__(self) -> None:
        self.constants: dict[str, onnx.TensorProto] = {}
        self._rounded: dict[str, tuple[str, str]] = {}

    def product(self, node: onnx.NodeProto, weights: Array) -> list[onnx.NodeProto]:
        """Return the nodes that take the place of a product."""
        made: list[onnx.NodeProto] = []
        name, bias = f"{node.output[0]}_int8", node.input[2] if len(node.input) > 2 else ""
        if node.input[0] not in self._rounded:
            self._rounded[node.input[0]] = self._rows(node.input[0], made)
        row, whole = self._rounded[node.input[0]]
        top = np.abs(weights).max(axis=0)
        scale = np.where(top > 0, top / _WEIGHT_TOP, 1.0).astype(np.float32)
        parts = [
            whole,
            self._constant(f"{name}_weights", np.round(weights / scale), np.int8),
            self._constant("int8_step", 1.0 / _ROW_TOP, np.float32),
            self._constant(f"{name}_scale", scale, np.float32),
            self._constant("int8_zero", _ZERO, np.uint8),
        ]
        product = _step(made, "MatMulIntegerToFloat", *parts, to=f"{name}_shares", domain=_RUNTIME)
        product = _step(made, "Mul", product, row, to=f"{name}_scaled" if bias else node.output[0])
        if bias:
            _step(made, "Add", product, bias, to=node.output[0])
        return made

    def _rows(self, given: str, made: list[onnx.NodeProto]) -> tuple[str, str]:
        """Add what rounds each row of ``given``; return the names of its scales and of the whole numbers."""
        name, last = f"{given}_int8", self._constant("int8_last_axis", [-1], np.int64)
        largest = _step(made, "ReduceMax", _step(made, "Abs", given, to=f"{name}_abs"), last, to=f"{name}_largest")
        tiny = self._constant("int8_tiny", _TINY, np.float32)
        largest = _step(made, "Max", largest, tiny, to=f"{name}_positive")
        # the largest of a row passes over a NaN in it, the sum does not
        total = _step(made, "ReduceSum", given, last, to=f"{name}_sum")
        doubt = _step(made, "Mul", total, self._constant("int8_none", 0.0, np.float32), to=f"{name}_doubt")
        row = _step(made, "Add", largest, doubt, to=f"{name}_row")
        share = _step(made, "Div", given, row, to=f"{name}_share")
        unit = self._constant("int8_step", 1.0 / _ROW_TOP, np.float32)
        zero = self._constant("int8_zero", _ZERO, np.uint8)
        return row, _step(made, "QuantizeLinear", share, unit, zero, to=f"{name}_whole")

    def _constant(self, name: str, value: Any, dtype: type) -> str:
        self.constants.setdefault(name, numpy_helper.from_array(np.array(value, dtype, order="C"), name))
        return name


def _step(made: list[onnx.NodeProto], kind: str, *inputs: str, to: str, domain: str = "") -> str:
    made.append(helper.make_node(kind, list(inputs), [to], domain=domain))
    return to


def _rebuilt(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], added: Any) -> bytes:
    """Return the model with other nodes, with ``added`` constants, and without those that nothing uses any more."""
    used = {name for node in nodes for name in node.input}
    kept = [one for one in (*model.graph.initializer, *added) if one.name in used]
    graph = helper.make_graph(nodes, model.graph.name, list(model.graph.input), list(model.graph.output), kept)
    opsets = {one.domain: one.version for one in model.opset_import} | {_RUNTIME: 1}
    made = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in sorted(opsets.items())],
        ir_version=model.ir_version,
    )
    return bytes(made.SerializeToString(deterministic=True))
