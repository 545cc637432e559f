"""The swing vectors with named layouts: 29 of context, 541 with the embedding, 551 for the veto."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from serving.features.swing.alignment import ALIGNMENT, alignment
from serving.features.swing.smart_money import SMART_MONEY, smart_money
from serving.features.swing.technical import TECHNICAL, technical

__all__ = [
    "CONTEXT_NAMES",
    "EMBEDDING_NAMES",
    "PREDICTION_NAMES",
    "SWING_NAMES",
    "SWING_VERSION",
    "UNCERTAINTY_NAMES",
    "VETO_NAMES",
    "context",
    "swing_vectors",
    "veto_vectors",
]

SWING_VERSION = "1"
"""Changes whenever a definition of a column or of the price window changes a number."""

CONTEXT_NAMES: tuple[str, ...] = (*ALIGNMENT, *SMART_MONEY, *TECHNICAL)
"""29: alignment 5, smart money 12, technical 12."""
EMBEDDING_NAMES: tuple[str, ...] = tuple(f"kronos_{place}" for place in range(512))
SWING_NAMES: tuple[str, ...] = (*EMBEDDING_NAMES, *CONTEXT_NAMES)
"""541: the embedding, then the context."""
PREDICTION_NAMES: tuple[str, ...] = tuple(
    f"{model}_return_{days}d" for model in ("stockformer", "tft") for days in (3, 5, 10)
)
"""6: the returns both models predict over 3, 5 and 10 sessions, as fractions."""
UNCERTAINTY_NAMES: tuple[str, ...] = ("stockformer_uncertainty", "tft_uncertainty", "tft_width", "tft_entropy")
"""4: both models' uncertainty, the width from P10 to P90 of the TFT's 3-day return, the entropy of its attention."""
VETO_NAMES: tuple[str, ...] = (*SWING_NAMES, *PREDICTION_NAMES, *UNCERTAINTY_NAMES)
"""551: the swing vector, then what the two models said of it."""


def context(frame: CandleFrame, finer: Mapping[Timeframe, CandleFrame] | None = None) -> NDArray[np.float32]:
    """Return (n, 29) float32, `CONTEXT_NAMES`, of daily bars; NaN in the 599 warm-up rows, every later row finite.

    Parameters
    ----------
    frame
        Checked, finished daily bars, oldest first; 600 or more.
    finer
        Bars of the same symbol at 4h and 1h, where there are any; without them those alignments are 0.

    Raises
    ------
    BadCandles
        If the bars are not daily, or fewer than 600.
    """
    return np.concatenate((alignment(frame, finer), smart_money(frame), technical(frame)), axis=1)


def swing_vectors(embeddings: ArrayLike, contexts: ArrayLike) -> NDArray[np.float32]:
    """Return (k, 541) float32, `SWING_NAMES`, of (k, 512) embeddings and the (k, 29) context of the same rows."""
    return _joined((embeddings, len(EMBEDDING_NAMES), "embeddings"), (contexts, len(CONTEXT_NAMES), "contexts"))


def veto_vectors(vectors: ArrayLike, predictions: ArrayLike, uncertainties: ArrayLike) -> NDArray[np.float32]:
    """Return (k, 551) float32, `VETO_NAMES`.

    Parameters
    ----------
    vectors
        (k, 541) of `swing_vectors`.
    predictions
        (k, 6) in the order of `PREDICTION_NAMES`.
    uncertainties
        (k, 4) in the order of `UNCERTAINTY_NAMES`.
    """
    return _joined(
        (vectors, len(SWING_NAMES), "vectors"),
        (predictions, len(PREDICTION_NAMES), "predictions"),
        (uncertainties, len(UNCERTAINTY_NAMES), "uncertainties"),
    )


def _joined(*parts: tuple[ArrayLike, int, str]) -> NDArray[np.float32]:
    """Return the parts beside each other; raises `ValueError` where one has another width than its names."""
    arrays = [np.asarray(values, np.float32) for values, _, _ in parts]
    for array, (_, width, name) in zip(arrays, parts, strict=True):
        if array.ndim != 2 or array.shape[1] != width:
            raise ValueError(f"{name} must be (rows, {width}), got {array.shape}")
    return np.concatenate(arrays, axis=1)
