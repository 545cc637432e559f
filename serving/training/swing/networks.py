"""Both networks of a daily bundle: fitted, exported, and their graphs proven; what graphs say of a table's rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from serving.models import stockformer, tft
from serving.swing.forecasting import Outputs
from serving.training.export import export, largest_difference, run_graph
from serving.training.fit import Epoch, fit, predict
from serving.training.swing.config import SwingConfig
from serving.training.swing.table import SwingBatches, SwingSlices, SwingTable

__all__ = ["INPUTS", "NETWORKS", "FittedNetwork", "fitted_network", "said_by", "trees_say"]

Rows = NDArray[np.intp]
Told = Callable[[str], None]
NETWORKS: dict[str, tuple[Any, Any]] = {
    "stockformer": (stockformer.StockformerModel, stockformer.PRESETS),
    "tft": (tft.TftModel, tft.PRESETS),
}
"""By name the model and its presets."""
INPUTS = ("prices", "embedding", "context")
"""What both graphs take, in the order of `SwingBatches.inputs`."""
_PROOF = 256
_BATCH = 1024


@dataclass(frozen=True, eq=False)
class FittedNetwork:
    """A network as its graph, with how it was fitted and how far the graph's answers lie from torch's."""

    graph: bytes
    weights: dict[str, torch.Tensor]
    epochs: list[Epoch]
    difference: float
    parameters: int


def fitted_network(
    name: str,
    table: SwingTable,
    slices: SwingSlices,
    config: SwingConfig,
    *,
    checkpoint: Path,
    identity: str,
    told: Told,
) -> FittedNetwork:
    """Fit one of `NETWORKS`, export it, and prove the graph on windows of the calibration slice.

    Parameters
    ----------
    checkpoint
        File that an interrupted fit is continued from, if it was of the same ``identity``.
    """
    kind, presets = NETWORKS[name]
    torch.manual_seed(config.fitting.seed)
    model = kind(presets[config.preset])
    batches = SwingBatches(table)

    def progress(epoch: Epoch) -> None:
        told(
            f"{name} epoch {epoch.number}/{config.fitting.epochs}: loss {epoch.training_loss:.5f}, "
            f"validation {epoch.validation_loss:.5f}, {epoch.seconds:.0f} s"
        )

    epochs = fit(
        model,
        batches,
        slices.train,
        slices.validation,
        config.fitting,
        checkpoint=checkpoint,
        identity=hashlib.sha256(f"{name}{identity}".encode()).hexdigest(),
        progress=progress,
    )
    graph = export(model)
    proof = slices.calibration[:: max(1, len(slices.calibration) // _PROOF)]
    difference = largest_difference(predict(model, batches, proof), _answers(graph, batches, proof, model.outputs))
    parameters = sum(one.numel() for one in model.parameters())
    weights = {key: value.contiguous() for key, value in model.state_dict().items()}
    return FittedNetwork(graph, weights, epochs, difference, parameters)


def said_by(graphs: Mapping[str, bytes], table: SwingTable, rows: Rows) -> dict[str, Outputs]:
    """Return the raw outputs of the networks' graphs for ``rows``, by the networks' names."""
    batches = SwingBatches(table)
    return {name: _answers(graph, batches, rows, NETWORKS[name][0].outputs) for name, graph in graphs.items()}


def trees_say(graph: bytes, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (n,) the raw probabilities of the veto's graph for (n, 551) vectors."""
    parts = ({"features": vectors[start : start + _BATCH]} for start in range(0, len(vectors), _BATCH))
    return run_graph(graph, parts, ("probability",))["probability"]


def _answers(
    graph: bytes, batches: SwingBatches, rows: Rows, outputs: tuple[str, ...]
) -> dict[str, NDArray[np.float32]]:
    parts = (rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH))
    return run_graph(graph, (dict(zip(INPUTS, batches.inputs(part), strict=True)) for part in parts), outputs)
