"""One ONNX graph in one ONNX Runtime session, checked against the contract of its kind before anyone may use it.

Always true of a `Graph`: its inputs and outputs are those of its kind, its weights are of the precision its card names,
and it answered neutral windows, one and two at a time, with finite numbers of the right shapes. `Graph.run` may be
called from several threads at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fusiontrade.errors import BundleRefused
from fusiontrade.inference.contract import SEQUENCE_KINDS, TOUCH_LEVELS, ModelKind
from serving.protobuf import weight_types

if TYPE_CHECKING:
    from serving.card import ModelCard, Precision

__all__ = ["EXTERNAL_DATA", "Graph", "Stop", "open_graph", "precision_of", "session_of"]

Array = NDArray[np.float32]

_SEQUENCE: dict[str, tuple[int, ...]] = {
    "direction": (),
    "change": (),
    "quantiles": (5,),
    "touch": (3 * len(TOUCH_LEVELS),),
    "win": (2,),
    "log_range": (),
}
_OUTPUTS: dict[ModelKind, dict[str, tuple[int, ...]]] = {
    **dict.fromkeys(SEQUENCE_KINDS, _SEQUENCE),
    "patchtst": {"classes": (3,)},
}
_SAMPLED = 1 + 3 * len(TOUCH_LEVELS) + 2  # direction, touches, wins
_UINT8, _INT8, _FLOAT16, _BFLOAT16 = 2, 3, 10, 16  # of onnx.TensorProto.DataType
_INTEGERS = {_UINT8, _INT8}
EXTERNAL_DATA = b"\x0a\x08location"
"""protobuf: the key of a tensor's external file"""


class Stop:
    """Ends one run from another thread, between two nodes of the graph (those of loops included)."""

    def __init__(self) -> None:
        import onnxruntime

        self.options = onnxruntime.RunOptions()
        self.options.log_severity_level = 4
        self.asked = False

    def now(self) -> None:
        """Let the run raise at its next node."""
        self.asked = self.options.terminate = True


@dataclass(frozen=True, eq=False)
class Graph:
    """A session, the names it answers with, and the (samples, columns) masks that every window is sampled with."""

    session: Any
    outputs: tuple[str, ...]
    masks: Array | None = None

    def run(self, inputs: Mapping[str, Array], stop: Stop | None = None) -> dict[str, Array]:
        """Return the raw outputs by name, batch axis first; raises whatever ONNX Runtime raises."""
        options = None if stop is None else stop.options
        if self.masks is not None and "masks" not in inputs:
            rows = len(next(iter(inputs.values())))
            inputs = {**inputs, "masks": np.ascontiguousarray(np.broadcast_to(self.masks, (rows, *self.masks.shape)))}
        return dict(zip(self.outputs, self.session.run(list(self.outputs), dict(inputs), options), strict=True))


def open_graph(content: bytes, card: ModelCard, *, device: str = "cpu", threads: int = 1) -> Graph:
    """Return the checked graph of ``content``.

    Raises
    ------
    BundleRefused
        If ONNX Runtime cannot read it, it names files outside itself, its weights are of another precision than the
        card's, its inputs or outputs are not those of its kind, or its self-test fails.
    """
    if EXTERNAL_DATA in content:
        raise BundleRefused("the graph keeps weights in files outside itself")
    session = session_of(content, device, threads)
    if (precision := precision_of(content)) != card.precision:
        raise BundleRefused(f"the graph is {precision}, its card says {card.precision}")
    inputs = _inputs(card)
    _check_inputs(session, inputs)
    masks = None if card.dropout is None else card.dropout.masks
    expected = _OUTPUTS[card.kind] | ({} if masks is None else {"samples": (len(masks), _SAMPLED)})
    found = {output.name: output.type for output in session.get_outputs()}
    if set(found) != set(expected):
        raise BundleRefused(f"the graph answers {sorted(found)}, a {card.kind} has to answer {sorted(expected)}")
    for name, kind in found.items():
        if kind != "tensor(float)":
            raise BundleRefused(f"output {name!r} is {kind}, it has to be tensor(float)")
    graph = Graph(session, tuple(expected), masks)
    for batch in (1, 2):
        _self_test(graph, inputs, expected, batch)
    return graph


def session_of(content: bytes, device: str, threads: int) -> Any:
    """Return an ONNX Runtime session of ``content``; parameters and errors as for `open_graph`."""
    import onnxruntime

    available = onnxruntime.get_available_providers()
    if device == "cuda" and "CUDAExecutionProvider" not in available:
        raise BundleRefused(f"device is cuda, but this ONNX Runtime has {', '.join(available)} only")
    providers = ["CPUExecutionProvider"]
    if device != "cpu" and "CUDAExecutionProvider" in available:
        providers.insert(0, "CUDAExecutionProvider")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what fails is raised and logged by us, in one line
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(content, options, providers=providers)
    except Exception as error:
        raise BundleRefused(f"ONNX Runtime cannot read the graph: {_first_line(error)}") from None
    if device == "cuda" and "CUDAExecutionProvider" not in session.get_providers():
        raise BundleRefused("device is cuda, but ONNX Runtime found no usable GPU and fell back to the CPU")
    return session


def precision_of(content: bytes) -> Precision:
    """Return the precision of a graph that ONNX Runtime could read: that of its most compressed weights."""
    try:
        types = weight_types(content)
    except ValueError as error:  # ONNX Runtime passes over fields that no ONNX has
        raise BundleRefused(f"the precision of the graph cannot be told: {error}") from None
    if types & _INTEGERS:
        return "int8"
    return "bf16" if _BFLOAT16 in types else "f16" if _FLOAT16 in types else "f32"


def _inputs(card: ModelCard) -> dict[str, tuple[int, ...]]:
    """Return the shape of each input without its batch axis; 0 is an axis that is free too."""
    sequence, columns, calendar = card.features.sequence, len(card.features.columns), len(card.features.calendar)
    volatility = (len(card.features.volatility),)
    if card.is_sequence:
        masks = {} if card.dropout is None else {"masks": (0, card.dropout.columns)}
        return {"features": (sequence, columns), "calendar": (sequence, calendar), "volatility": volatility} | masks
    return {"candles": (sequence, columns), "calendar": (calendar,), "volatility": volatility}


def _check_inputs(session: Any, expected: Mapping[str, tuple[int, ...]]) -> None:
    found = {node.name: node for node in session.get_inputs()}
    if set(found) != set(expected):
        raise BundleRefused(f"the graph takes {sorted(found)}, it has to take {sorted(expected)}")
    for name, shape in expected.items():
        batch, *rest = found[name].shape or [1]
        fits = len(rest) == len(shape) and all(
            axis == size or (size == 0 and not isinstance(axis, int)) for axis, size in zip(rest, shape, strict=False)
        )
        if found[name].type != "tensor(float)" or isinstance(batch, int) or not fits:
            raise BundleRefused(
                f"input {name!r} is {found[name].type} {found[name].shape}, "
                f"it has to be tensor(float) ['batch', {', '.join(map(str, shape))}]"
            )


def _self_test(
    graph: Graph, inputs: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], batch: int
) -> None:
    """Run ``batch`` neutral windows (ones for prices, zeros for what is scaled) and check what comes back."""
    neutral = {
        name: np.full((batch, *shape), 1.0 if name == "candles" else 0.0, np.float32)
        for name, shape in inputs.items()
        if name != "masks"
    }
    try:
        outputs = graph.run(neutral)
    except Exception as error:
        raise BundleRefused(f"the graph fails its self-test: {_first_line(error)}") from None
    for name, shape in expected.items():
        if outputs[name].shape != (batch, *shape):
            raise BundleRefused(
                f"output {name!r} of {batch} windows has shape {outputs[name].shape}, not {(batch, *shape)}"
            )
        if not np.isfinite(outputs[name]).all():
            raise BundleRefused(f"output {name!r} is not finite for a neutral window")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
