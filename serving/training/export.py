"""From torch to ONNX, and the proof that both give the same numbers.

Always true of an exported graph: its batch axis is free, it is float32, nothing in it names a folder or a source
file, and the same weights give the same bytes.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from serving.models.protocol import Forecaster

__all__ = ["TOLERANCE", "ExportFailure", "export", "largest_difference", "run_graph"]

TOLERANCE = 1e-4
"""Largest difference between an output of torch and of ONNX Runtime that is accepted."""
_OPSET = 18
_BATCH, _SAMPLES = "batch", "samples"


class ExportFailure(Exception):
    """The exported graph does not give the numbers that torch gives."""


def export(model: torch.nn.Module) -> bytes:
    """Return ``model`` (one of `serving.models`, in evaluation mode) as a serialised ONNX graph."""
    model.eval()
    forecaster: Forecaster = model
    names = {"input_names": list(forecaster.inputs), "output_names": list(forecaster.outputs)}
    with _quiet():
        if forecaster.exporter == "dynamo":
            axes = tuple({0: torch.export.Dim(_BATCH)} for _ in forecaster.inputs)
            program = torch.onnx.export(
                model,
                forecaster.example(3),
                **names,
                dynamo=True,
                opset_version=_OPSET,
                dynamic_shapes=axes,
                verbose=False,
            )
            graph = program.model_proto
        else:
            axes_by_name = {name: {0: _BATCH} for name in (*forecaster.inputs, *forecaster.outputs)}
            for name in forecaster.sampled:
                axes_by_name[name][1] = _SAMPLES
            buffer = io.BytesIO()
            torch.onnx.export(
                model,
                forecaster.example(1),
                buffer,
                **names,
                dynamo=False,
                opset_version=_OPSET,
                dynamic_axes=axes_by_name,
            )
            graph = onnx.load_from_string(buffer.getvalue())
    _strip(graph)
    onnx.checker.check_model(graph)
    return bytes(graph.SerializeToString(deterministic=True))


def run_graph(
    graph: bytes, batches: Iterator[dict[str, NDArray[np.float32]]], outputs: tuple[str, ...]
) -> dict[str, NDArray[np.float32]]:
    """Return the outputs of a serialised graph over batches of named inputs, joined, by name; one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    parts = [session.run(list(outputs), batch) for batch in batches]
    return {name: np.concatenate([part[place] for part in parts]) for place, name in enumerate(outputs)}


def largest_difference(
    torch_outputs: dict[str, NDArray[np.float32]], onnx_outputs: dict[str, NDArray[np.float32]]
) -> float:
    """Return the largest absolute difference over all outputs.

    Raises
    ------
    ExportFailure
        If it is above `TOLERANCE`, or a shape or name differs, or a number is not finite.
    """
    if {n: v.shape for n, v in torch_outputs.items()} != {n: v.shape for n, v in onnx_outputs.items()}:
        raise ExportFailure("torch and ONNX Runtime disagree on names or shapes of the outputs")
    worst = max(float(np.abs(values - onnx_outputs[name]).max()) for name, values in torch_outputs.items())
    if not worst <= TOLERANCE:
        raise ExportFailure(f"ONNX Runtime differs from torch by {worst:.2e}, more than {TOLERANCE:.0e}")
    return worst


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' remarks (deprecations, missing packages we do not use) off the terminal."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _strip(graph: onnx.ModelProto) -> None:
    """Remove what names source files, modules or folders."""
    graph.producer_version = graph.doc_string = ""
    del graph.metadata_props[:]
    parts = [graph.graph, *graph.graph.node, *graph.graph.initializer, *graph.graph.value_info, *graph.functions]
    for part in [*parts, *graph.graph.input, *graph.graph.output]:
        part.doc_string = ""
        if hasattr(part, "metadata_props"):
            del part.metadata_props[:]
