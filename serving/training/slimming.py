"""The graph of an exported network, written anew with a quarter of its nodes: the same weights, the same answers.

An exporter writes down what torch did, node by node; at a batch of one ONNX Runtime then spends more time between
nodes than in them. Always true of a slim graph: inputs and outputs are those of the exported one, no weight was
trained or rounded, and `slim` has compared both over random windows within `TOLERANCE`.

PatchTST: batch normalisations are affine in evaluation, so they and the biases of residual branches go into the next
weights; query, key, value and their softmax are one ``Attention`` node of ONNX Runtime, bias and GELU one
``BiasGelu``. LSTM: layers follow each other time first, without transposing in between; sines and cosines of multiples
of an angle are Chebyshev polynomials of its own, in double precision; all heads are one product.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["TOLERANCE", "SlimFailure", "slim"]

TOLERANCE = 1e-4
"""Largest difference to an output of the exported graph that is accepted."""

_OPSET = 18
_RUNTIME = "com.microsoft"
Array = NDArray[Any]


class SlimFailure(Exception):
    """The graph is not of the form that is known here, or its slim form gives other numbers."""


def slim(content: bytes) -> bytes:
    """Return the slim form of an exported graph of `serving.models`.

    Raises
    ------
    SlimFailure
        If it is none of them, or the slim form does not give its numbers.
    """
    model = onnx.load_from_string(content)
    read = _Read(model)
    try:
        made = _patchtst(read) if read.outputs == ("classes",) else _lstm(read)
    except (KeyError, StopIteration, IndexError, ValueError) as error:
        raise SlimFailure(f"this graph is not of a known form: {error!r}") from error
    graph = helper.make_graph(made.nodes, "slim", list(model.graph.input), list(model.graph.output), made.constants)
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_RUNTIME, 1)]
    slimmed = helper.make_model(graph, opset_imports=opsets, ir_version=model.ir_version)
    onnx.checker.check_model(slimmed)
    result = bytes(slimmed.SerializeToString(deterministic=True))
    _compare(content, result)
    return result


class _Read:
    """An exported graph, asked for its weights."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = list(model.graph.node)
        self.outputs = tuple(one.name for one in model.graph.output)
        self.sizes = {one.name: one.type.tensor_type.shape.dim[-1].dim_value for one in model.graph.input}
        self._arrays: dict[str, Array] = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
        for node in self.nodes:
            if node.op_type == "Constant":
                self._arrays[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)

    def array(self, name: str) -> Array:
        """Return an initializer or constant; raises `KeyError`."""
        return self._arrays[name]

    def user(self, name: str, kind: str) -> onnx.NodeProto:
        """Return the node of ``kind`` that takes ``name``."""
        return next(node for node in self.nodes if node.op_type == kind and name in node.input)

    def maker(self, name: str) -> onnx.NodeProto:
        """Return the node that gives ``name``."""
        return next(node for node in self.nodes if name in node.output)

    def linear(self, bias: str) -> tuple[Array, Array]:
        """Return weights (in, out) and bias of the product whose bias this is."""
        add = self.user(bias, "Add")
        product = self.maker(next(name for name in add.input if name != bias))
        return self.array(product.input[1]).astype(np.float64), self.array(bias).astype(np.float64)

    def affine(self, name: str) -> tuple[Array, Array]:
        """Return factor and shift of a batch normalisation in evaluation."""
        node = self.user(f"{name}.weight", "BatchNormalization")
        weight, bias, mean, variance = (self.array(one).astype(np.float64) for one in node.input[1:5])
        epsilon = next((one.f for one in node.attribute if one.name == "epsilon"), 1e-5)
        factor = weight / np.sqrt(variance + epsilon)
        return factor, bias - mean * factor


class _Made:
    """A graph in the making."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: Any, dtype: type = np.float32) -> str:
        name = f"w{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(value, dtype, order="C"), name))
        return name

    def add(self, kind: str, *inputs: str, to: str | None = None, domain: str = "", **attributes: Any) -> str:
        name = to or f"v{len(self.nodes)}"
        if kind == "Cast":
            attributes["to"] = attributes.pop("to_type")
        self.nodes.append(helper.make_node(kind, list(inputs), [name], domain=domain, **attributes))
        return name

    def shape(self, *sizes: int) -> str:
        return self.constant(sizes, np.int64)


def _patchtst(read: _Read) -> _Made:
    made = _Made()
    patches = next(read.array(node.input[1]) for node in read.nodes if node.op_type == "Gather")
    count, length = patches.shape
    if not np.array_equal(patches, np.arange(count * length).reshape(count, length)):
        raise ValueError("patches that overlap")
    unit = read.array(read.user("candles", "Div").input[1])
    embedding, shift = read.linear("encoder.encoder.embedder.input_embedding.bias")
    position = read.array("encoder.encoder.positional_encoder.position_enc").astype(np.float64)
    width = embedding.shape[1]
    scaled = made.add("Mul", "candles", made.constant(1.0 / unit.astype(np.float64)))
    rows = made.add("Reshape", made.add("Transpose", scaled, perm=[0, 2, 1]), made.shape(-1, count, length))
    hidden = made.add("Add", made.add("MatMul", rows, made.constant(embedding)), made.constant(position + shift))
    left_out = np.zeros(width)  # biases of residual branches, added where they are next multiplied
    for layer in _layers(read):
        hidden, left_out = _encoder_layer(made, read, layer, hidden, left_out)
    mean = made.add("ReduceMean", hidden, made.shape(1), keepdims=0)
    last = made.add("Gather", hidden, made.constant(count - 1, np.int64), axis=1)
    channels = len(unit)
    summary = made.add("Reshape", made.add("Concat", mean, last, axis=1), made.shape(-1, 2 * width * channels))
    dense = read.array("dense.weight").astype(np.float64)  # (out, in)
    bias = read.array("dense.bias") + dense[:, : 2 * width * channels] @ np.tile(left_out, 2 * channels)
    joined = made.add("Concat", summary, "calendar", "volatility", axis=1)
    inner = made.add("Gemm", joined, made.constant(dense), made.constant(bias), transB=1)
    inner = made.add("Gelu", inner, domain=_RUNTIME)
    head = (made.constant(read.array("head.weight")), made.constant(read.array("head.bias")))
    made.add("Gemm", inner, *head, transB=1, to="classes")
    return made


def _layers(read: _Read) -> list[str]:
    names = [name for node in read.nodes for name in node.input]
    found = {match[1] for name in names if (match := re.match(r"(encoder\.encoder\.layers\.\d+)\.", name))}
    return sorted(found, key=lambda name: int(name.rpartition(".")[2]))


def _encoder_layer(made: _Made, read: _Read, layer: str, hidden: str, left_out: Array) -> tuple[str, Array]:
    """Add one layer, normalised before each of its branches; return its output and the biases it left out."""
    factor, shift = read.affine(f"{layer}.norm_sublayer1.batchnorm")
    parts = [read.linear(f"{layer}.self_attn.{one}_proj.bias") for one in "qkv"]
    weights = np.concatenate([weight for weight, _ in parts], axis=1)
    bias = (left_out * factor + shift) @ weights + np.concatenate([one for _, one in parts])
    heads = _attention_heads(read, f"{layer}.self_attn.q_proj.bias")
    attended = made.add(
        "Attention",
        hidden,
        made.constant(factor[:, None] * weights),
        made.constant(bias),
        domain=_RUNTIME,
        num_heads=heads,
    )
    weights, bias = read.linear(f"{layer}.self_attn.out_proj.bias")
    hidden = made.add("Add", hidden, made.add("MatMul", attended, made.constant(weights)))
    left_out = left_out + bias
    factor, shift = read.affine(f"{layer}.norm_sublayer3.batchnorm")
    weights, bias = read.linear(f"{layer}.ff.0.bias")
    bias = (left_out * factor + shift) @ weights + bias
    inner = made.add("MatMul", hidden, made.constant(factor[:, None] * weights))
    inner = made.add("BiasGelu", inner, made.constant(bias), domain=_RUNTIME)
    weights, bias = read.linear(f"{layer}.ff.3.bias")
    return made.add("Add", hidden, made.add("MatMul", inner, made.constant(weights))), left_out + bias


def _attention_heads(read: _Read, bias: str) -> int:
    projected = read.user(bias, "Add").output[0]
    return int(read.array(read.user(projected, "Reshape").input[1])[-2])


def _lstm(read: _Read) -> _Made:
    made = _Made()
    joined = made.add("Concat", "features", "calendar", axis=2)
    hidden = made.add("Transpose", joined, perm=[1, 0, 2])  # time first
    layers = [node for node in read.nodes if node.op_type == "LSTM"]
    for place, node in enumerate(layers):
        weights = [made.constant(read.array(name)) for name in node.input[1:4]]
        size = next(one.i for one in node.attribute if one.name == "hidden_size")
        name, last = f"lstm{place}", place == len(layers) - 1
        outputs = ["", f"{name}_last"] if last else [name]
        made.nodes.append(helper.make_node("LSTM", [hidden, *weights], outputs, hidden_size=size))
        hidden = made.add("Squeeze", outputs[-1], made.shape(0 if last else 1))
        norm = read.user(f"normalise.{place}.weight", "LayerNormalization")
        epsilon = next((one.f for one in norm.attribute if one.name == "epsilon"), 1e-5)
        gain = [made.constant(read.array(f"normalise.{place}.{one}")) for one in ("weight", "bias")]
        hidden = made.add("LayerNormalization", hidden, *gain, axis=-1, epsilon=epsilon)
    newest = made.constant(-1, np.int64)
    ahead = made.add("Gather", "calendar", newest, axis=1)
    features = made.add("Gather", "features", newest, axis=1)
    groups = _angles(read)
    present = made.add("Concat", ahead, "volatility", *_harmonics(made, ahead, groups), axis=1)
    order = _order(read.sizes["calendar"] + read.sizes["volatility"], groups)
    first = read.array("dense_1.weight").copy()
    first[:, -len(order) :] = first[:, -len(order) :][:, order]
    dense = made.add("Concat", hidden, features, present, axis=1)
    for name, matrix in (("dense_1", first), ("dense_2", read.array("dense_2.weight"))):
        bias = made.constant(read.array(f"{name}.bias"))
        inner = made.add("Gemm", dense, made.constant(matrix), bias, transB=1)
        dense = made.add("Mul", inner, made.add("Sigmoid", inner))
    _heads(made, read, dense, present, order)
    return made


def _angles(read: _Read) -> list[tuple[int, int, int]]:
    """Return for each angle the calendar's columns of its sine and cosine, and how many multiples of it are used."""
    joined = next(node for node in read.nodes if node.op_type == "Concat" and "volatility" in node.input)
    sources = [read.maker(read.maker(name).input[0]) for name in joined.input[2:]]  # behind an Unsqueeze each
    starts = [place for place in range(0, len(sources), 2) if sources[place].op_type == "Gather"]
    column = [int(read.array(node.input[1])) for node in sources if node.op_type == "Gather"]
    ends = [*starts[1:], len(sources)]
    counts = [(end - start) // 2 for start, end in zip(starts, ends, strict=True)]
    return list(zip(column[::2], column[1::2], counts, strict=True))


def _order(before: int, groups: Sequence[tuple[int, int, int]]) -> list[int]:
    """Return where each column of the present stood in the exported graph: sines and cosines took turns there."""
    pairs = sum(count for *_, count in groups)
    return [
        *range(before),
        *(before + 2 * pair for pair in range(pairs)),
        *(before + 2 * pair + 1 for pair in range(pairs)),
    ]


def _harmonics(made: _Made, ahead: str, groups: Sequence[tuple[int, int, int]]) -> tuple[str, str]:
    """Add sines and cosines of 1..n times each angle, from the Chebyshev polynomials of its cosine.

    cos kθ = T_k(cos θ), sin kθ = sin θ U_{k-1}(cos θ) (Abramowitz and Stegun, 22.3.15 and 22.3.16). Two zeros, which
    mean that there is no calendar, stay zeros. In double precision: the coefficients grow and cancel each other.
    """
    most, pairs = max(count for *_, count in groups), sum(count for *_, count in groups)
    first, second = np.zeros((2, len(groups), most + 1, pairs))
    chosen, place = np.zeros((len(groups), pairs)), 0
    for group, (_, _, count) in enumerate(groups):
        for multiple in range(1, count + 1):
            of_cosine = chebyshev.cheb2poly([0.0] * multiple + [1.0])
            of_sine = chebyshev.chebder([0.0] * multiple + [1.0]) / multiple  # U_{k-1} = T_k' / k
            first[group, : multiple + 1, place] = of_cosine
            second[group, :multiple, place] = chebyshev.cheb2poly(of_sine)
            chosen[group, place] = 1.0
            place += 1
    exact = made.add("Cast", ahead, to_type=TensorProto.DOUBLE)
    sine, cosine = (
        made.add("Gather", exact, made.constant([group[side] for group in groups], np.int64), axis=1) for side in (0, 1)
    )
    raised = made.add("Unsqueeze", cosine, made.shape(2))
    powers = made.add("Pow", raised, made.constant(np.arange(most + 1), np.float64))
    powers = made.add("Reshape", powers, made.shape(-1, len(groups) * (most + 1)))
    which = made.constant(chosen, np.float64)
    length = made.add("Add", made.add("Mul", sine, sine), made.add("Mul", cosine, cosine))
    found = []
    for polynomials, factor in ((second, sine), (first, length)):
        value = made.add("MatMul", powers, made.constant(polynomials.reshape(-1, pairs), np.float64))
        value = made.add("Mul", value, made.add("MatMul", factor, which))
        found.append(made.add("Cast", value, to_type=TensorProto.FLOAT))
    return found[0], found[1]


def _heads(made: _Made, read: _Read, dense: str, present: str, order: Sequence[int]) -> None:
    """Add all heads as one product, and part what comes out."""
    names = list(read.outputs)
    weights = [read.array(f"heads.{name}.weight") for name in names]
    direct = [_direct(read, f"heads.{name}.weight", len(order))[order] for name in names]
    bias = made.constant(np.concatenate([read.array(f"heads.{name}.bias") for name in names]))
    base = made.add("Gemm", present, made.constant(np.concatenate(direct, axis=1)), bias)
    answers = made.add("Gemm", dense, made.constant(np.concatenate(weights)), base, transB=1)
    sizes = [len(one) for one in weights]
    parts = [name if size > 1 else f"{name}_column" for name, size in zip(names, sizes, strict=True)]
    made.nodes.append(helper.make_node("Split", [answers, made.shape(*sizes)], parts, axis=1))
    for name, part in zip(names, parts, strict=True):
        if part != name:
            made.add("Squeeze", part, made.shape(1), to=name)


def _direct(read: _Read, weight: str, width: int) -> Array:
    """Return the weights (present, out) that a head has past the dense layers; zeros where it has none."""
    product = read.user(weight, "Gemm").output[0]
    added = [node for node in read.nodes if node.op_type == "Add" and product in node.input]
    if not added:
        return np.zeros((width, len(read.array(weight))))
    other = next(name for name in added[0].input if name != product)
    return read.array(read.maker(other).input[1])


def _compare(exported: bytes, slimmed: bytes) -> None:
    """Run both over random windows, some without a calendar; raise where they differ."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        sessions = [
            onnxruntime.InferenceSession(one, options, providers=["CPUExecutionProvider"])
            for one in (exported, slimmed)
        ]
    except Exception as error:  # ONNX Runtime has no base class of its errors
        raise SlimFailure(f"ONNX Runtime cannot read it: {str(error).splitlines()[0]}") from error
    random = np.random.default_rng(17)
    for rows in (1, 2, 7, 16):
        windows = {one.name: _random(random, one.name, (rows, *one.shape[1:])) for one in sessions[0].get_inputs()}
        names = [one.name for one in sessions[0].get_outputs()]
        for name, one, other in zip(names, *(session.run(names, windows) for session in sessions), strict=True):
            if one.shape != other.shape or not np.abs(one - other).max() <= TOLERANCE:
                raise SlimFailure(f"{name} of {rows} windows differs from the exported graph's")


def _random(random: np.random.Generator, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return a random input; a calendar is sines and cosines, or zeros."""
    values = random.normal(0.0, 1.0, shape)
    if name == "calendar":
        angles = random.uniform(0.0, 2 * np.pi, (*shape[:-1], shape[-1] // 2))
        values[..., 0::2], values[..., 1::2] = np.sin(angles), np.cos(angles)
        values[-1] *= random.integers(2)
    return values.astype(np.float32)
