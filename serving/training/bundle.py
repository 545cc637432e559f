"""The last step: card, graph, report and manifest in one folder, complete or not there at all.

``run.json`` holds what differs between two equal runs (dates, timings) and stands outside the manifest.
"""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from serving.bundle import GRAPH, REPORT, RUN, load_bundle, write_card, write_manifest
from serving.card import ModelCard

__all__ = ["F32_GRAPH", "WEIGHTS", "Finished", "libraries", "write_bundle"]

WEIGHTS = "weights.safetensors"
F32_GRAPH = "model.f32.onnx"
_LIBRARIES = ("torch", "transformers", "onnx", "onnxruntime", "numpy", "scikit-learn", "TA-Lib")


@dataclass(frozen=True, eq=False)
class Finished:
    """What a training run hands over; ``weights`` None leaves the torch weights out.

    ``f32_graph`` is the graph that ``graph`` was made from; it is kept where ``graph`` is of another precision.
    """

    card: ModelCard
    graph: bytes
    report: Mapping[str, Any]
    run: Mapping[str, Any]
    weights: Mapping[str, torch.Tensor] | None = None
    f32_graph: bytes | None = None


def write_bundle(finished: Finished, out: Path) -> Path:
    """Write the bundle to ``out/<model id>``, in place of an older one, and return that folder.

    Raises
    ------
    fusiontrade.errors.BundleRefused
        If serving would refuse what was written; the older bundle is then left as it was.
    """
    folder, fresh = out / finished.card.model_id, out / f".{finished.card.model_id}.fresh"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    (fresh / GRAPH).write_bytes(finished.graph)
    write_card(fresh, finished.card)
    _write(fresh / REPORT, finished.report)
    if finished.card.precision != "f32" and finished.f32_graph is not None:
        (fresh / F32_GRAPH).write_bytes(finished.f32_graph)
    if finished.weights is not None:
        save_file({name: value.contiguous() for name, value in finished.weights.items()}, fresh / WEIGHTS)
    write_manifest(fresh)
    _write(fresh / RUN, finished.run)
    load_bundle(fresh)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)
    return folder


def libraries() -> dict[str, str]:
    """Return the versions of the libraries that shape a bundle."""
    return {name: importlib.metadata.version(name) for name in _LIBRARIES}


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
