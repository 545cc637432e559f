"""Raw outputs of a served graph for rows of a pool."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fusiontrade.inference.contract import SEQUENCE_KINDS, ModelKind

if TYPE_CHECKING:
    from serving.bundle import Bundle
    from serving.training.dataset import LstmBatches, PatchTstBatches

__all__ = ["run_bundle"]

_INPUTS: dict[ModelKind, tuple[str, ...]] = {
    **dict.fromkeys(SEQUENCE_KINDS, ("features", "calendar", "volatility")),
    "patchtst": ("candles", "calendar", "volatility"),
}
_BATCH = 1024


def run_bundle(
    bundle: Bundle, batches: LstmBatches | PatchTstBatches, rows: NDArray[np.intp]
) -> dict[str, NDArray[np.float32]]:
    """Return the outputs of the bundle's graph by name, each with a row for each of ``rows`` (n,)."""
    names = _INPUTS[bundle.card.kind]
    parts = []
    for start in range(0, len(rows), _BATCH):
        inputs = batches.inputs(rows[start : start + _BATCH])
        parts.append(bundle.graph.run(dict(zip(names, inputs, strict=True))))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
