"""What a graph costs: counted, which is the same in every run, and measured, which is not.

The count is a roofline over the products by constant weights, and a fee for every node. Its rates were fitted to one
core (decision 080) and are no forecast of seconds elsewhere: only the ratio of two graphs of one network is used.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

__all__ = ["BATCHES", "Timings", "counted", "measured", "session_of"]

BATCHES = (1, 16)
"""Windows in a run: one at a time, and a full batch."""

_NODE = 0.9  # µs between two nodes
_MACS = {"float": 75_000.0, "integer": 450_000.0}  # multiplications per µs
_BYTES = 40_000.0  # of weights read per µs
_ROW_VALUE = 0.0007  # µs to make a value an integer, or a float again
_SECONDS = 1.5  # spent on measuring a batch, shared by all graphs
_MOST_ROUNDS, _FEWEST_ROUNDS = 200, 5

Inputs = Mapping[str, NDArray[np.float32]]
Timings = dict[str, dict[str, float]]
"""By variant and batch: median µs of a run."""


def session_of(content: bytes) -> Any:
    """Return a session of one thread on the CPU; raises what ONNX Runtime raises."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def counted(content: bytes, window: Inputs) -> dict[str, float]:
    """Return the counted µs of a run by batch (``"1"``, ``"16"``).

    Parameters
    ----------
    content
        A serialised graph whose batch axis comes first in its inputs.
    window
        One window, (1, ...) each.
    """
    model = onnx.load_from_string(content)
    held = {one.name: one for one in model.graph.initializer}
    held |= {node.output[0]: held[node.input[0]] for node in model.graph.node if _is_load(node, held)}
    products = [one for one in (_product(node, held) for node in model.graph.node) if one is not None]
    rows = _rows(model, sorted({one.given for one in products}), window)
    fixed = _NODE * sum(not _is_load(node, held) for node in model.graph.node)
    rounded = {one.given: one.taken for one in products if one.integer}  # once, whoever takes them
    rounding = _ROW_VALUE * sum(rows[given] * taken for given, taken in rounded.items())
    return {
        str(batch): round(
            fixed + batch * rounding + sum(one.microseconds(batch * rows[one.given]) for one in products), 2
        )
        for batch in BATCHES
    }


def measured(graphs: Mapping[str, bytes], windows: Inputs) -> Timings:
    """Return the median µs of a run of each graph, the graphs taking turns; of up to 16 of ``windows``."""
    sessions = {name: session_of(content) for name, content in graphs.items()}
    found: Timings = {name: {} for name in graphs}
    for batch in BATCHES:
        given = {name: np.ascontiguousarray(values[:batch]) for name, values in windows.items()}
        taken: dict[str, list[float]] = {name: [] for name in graphs}
        for session in sessions.values():
            session.run(None, given)
        until = time.perf_counter() + _SECONDS
        for turn in range(_MOST_ROUNDS):
            if turn >= _FEWEST_ROUNDS and time.perf_counter() > until:
                break
            for name, session in sessions.items():
                begun = time.perf_counter()
                session.run(None, given)
                taken[name].append(time.perf_counter() - begun)
        for name, seconds in taken.items():
            found[name][str(batch)] = round(1e6 * statistics.median(seconds), 1)
    return found


@dataclass(frozen=True)
class _Product:
    """A product by constant weights: its input, and for each row multiplications, values in and out; and how."""

    given: str
    macs: int
    weight_bytes: float
    taken: int
    given_back: int
    integer: bool

    def microseconds(self, rows: float) -> float:
        rate = _MACS["integer" if self.integer else "float"]
        work = max(rows * self.macs / rate, self.weight_bytes / _BYTES)
        return work + (rows * self.given_back * _ROW_VALUE if self.integer else 0.0)


def _is_load(node: onnx.NodeProto, held: Mapping[str, onnx.TensorProto]) -> bool:
    """Whether a node makes stored weights float32: done once, when the graph is loaded."""
    return node.op_type == "Cast" and node.input[0] in held and held[node.input[0]].data_type != TensorProto.FLOAT


def _product(node: onnx.NodeProto, held: Mapping[str, onnx.TensorProto]) -> _Product | None:
    weights = [held[name] for name in node.input[1:] if name in held and len(held[name].dims) >= 2]
    if not weights or node.input[0] in held or node.op_type not in _PRODUCTS:
        return None
    sizes = [int(np.prod(one.dims)) for one in weights]
    integer = weights[0].data_type in (TensorProto.INT8, TensorProto.UINT8)
    return _Product(
        given=node.input[0],
        macs=sum(sizes),
        weight_bytes=sum(sizes) * (1.0 if integer else 4.0),
        taken=int(weights[0].dims[-2]),
        given_back=int(weights[0].dims[-1]),
        integer=integer,
    )


_PRODUCTS = {"MatMul", "Gemm", "LSTM", "GRU", "RNN", "Attention", "Conv", "MatMulInteger", "MatMulIntegerToFloat"}


def _rows(model: onnx.ModelProto, names: Sequence[str], window: Inputs) -> dict[str, float]:
    """Return how many rows one window brings to each of the products' inputs, seen while running it."""
    shapes = {name: values.shape for name, values in window.items()}
    if asked := [name for name in names if name not in shapes]:
        seen = onnx.ModelProto()
        seen.CopyFrom(model)
        outputs = {one.name for one in model.graph.output}
        seen.graph.output.extend(onnx.ValueInfoProto(name=name) for name in asked if name not in outputs)
        answers = session_of(seen.SerializeToString()).run(asked, dict(window))
        shapes |= {name: value.shape for name, value in zip(asked, answers, strict=True)}
    return {name: float(np.prod(shapes[name][:-1])) for name in names}
