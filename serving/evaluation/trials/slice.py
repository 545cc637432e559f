"""The calibration slice of an LSTM bundle as trials see it: the earlier part to fit on, the later part to judge.

Always true: nothing of the judged slice is read; maps of probabilities are fitted anew on the earlier part, since the
bundle's own know the later one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusiontrade.inference.probabilities import logits
from serving.bundle import Bundle
from serving.calibration import Maps
from serving.evaluation.answering import run_bundle
from serving.evaluation.held_out import HeldOut, taken
from serving.evaluation.study.judged import read
from serving.training.judging.calibrate import fit_binary
from serving.training.judging.references import calibration_rows
from serving.training.prepared import batches_of, prepared_as

__all__ = ["Lane", "Slice", "slice_of"]

Floats = NDArray[np.float64]
_EARLIER = 0.4
_FEWEST = 300  # rows of a series that are judged


@dataclass(frozen=True, eq=False)
class Lane:
    """One series in the order of time.

    Parameters
    ----------
    held
        Its n rows: what came, and what each baseline said.
    quantiles
        (n, 5) of the next change in ATR, as the graph says.
    chances, leans
        (n, CHANCES) probabilities through the maps of the earlier part, and their leans.
    usual_square
        (CHANCES,) mean square of the leans of the earlier part, over all series.
    late
        (n,) whether a row is of the later part.
    """

    held: HeldOut
    quantiles: Floats
    chances: Floats
    leans: Floats
    usual_square: Floats
    late: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Slice:
    """The series of a bundle that have rows enough to be judged."""

    timeframe: str
    lanes: tuple[Lane, ...]


def slice_of(bundle: Bundle, data: Path) -> Slice:
    """Return the calibration slice of ``bundle``, read from the folder of candles it was trained on.

    Raises
    ------
    fusiontrade.errors.InvalidInput, ValueError
        If the folder cannot be read or lacks its series.
    """
    candles = read(data, bundle.card.timeframe, [bundle.card])
    prepared = prepared_as(bundle.card, candles.pool)
    rows = prepared.slices.calibration
    rows = rows[np.argsort(candles.pool.entry[rows], kind="stable")]
    held = calibration_rows(replace(prepared, slices=replace(prepared.slices, calibration=rows)))
    outputs = run_bundle(bundle, batches_of(prepared, "indicators"), rows)
    cut = np.quantile(held.entry, _EARLIER)
    earlier, late = held.known_at <= cut, held.entry > cut
    raw = np.concatenate((outputs["touch"], outputs["win"]), axis=1).astype(np.float64)
    maps = Maps.of(fit_binary(raw[earlier, head], held.came[earlier, head])[0] for head in range(raw.shape[1]))
    chances = np.clip(maps.apply(raw), 1e-6, 1.0 - 1e-6)
    leans = logits(chances) - logits(chances)[earlier].mean(axis=0)
    quantiles = np.sort(outputs["quantiles"].astype(np.float64), axis=1)
    squares = np.square(leans[earlier]).mean(axis=0)
    lanes = tuple(
        Lane(taken(held, own), quantiles[own], chances[own], leans[own], squares, late[own])
        for own in _by_series(held, late)
    )
    return Slice(str(bundle.card.timeframe), lanes)


def _by_series(held: HeldOut, late: NDArray[np.bool_]) -> Iterator[NDArray[np.intp]]:
    for place in np.unique(held.place):
        rows = np.flatnonzero(held.place == place)
        if late[rows].sum() >= _FEWEST:
            yield rows
