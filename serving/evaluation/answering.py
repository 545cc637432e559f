"""What served graphs say of rows of a pool: raw outputs of one, calibrated answers of several in the mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fusiontrade.inference.contract import SEQUENCE_KINDS, ModelKind
from serving.forecasting import LstmAnswers

if TYPE_CHECKING:
    from serving.bundle import Bundle
    from serving.training.dataset import LstmBatches, PatchTstBatches

__all__ = ["averaged", "run_bundle"]

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


def averaged(members: Sequence[LstmAnswers], weights: Sequence[float] | None = None) -> LstmAnswers:
    """Return the mean of several models' calibrated answers to the same rows.

    What held for each member holds for the mean: probabilities that fall with distance, quantiles that rise. It votes
    where its mean probability leaves its mean band.

    Parameters
    ----------
    weights
        One a member, not negative, with a sum above 0; None: every member has the same.
    """
    means = {
        one.name: np.average([getattr(member, one.name) for member in members], axis=0, weights=weights)
        for one in fields(LstmAnswers)
    }
    return LstmAnswers(**means)
