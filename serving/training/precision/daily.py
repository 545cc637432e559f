"""What is decided from the raw outputs of the daily networks, and how much of it a graph of lower precision keeps.

From each network and horizon: whether a stock rises, its score being above what its map calls nothing, and whether it
is in the better half of its day and universe, which is what ranks go by. A daily bundle has one precision for all of
its graphs and is served in f32; the report tells what the others would change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusiontrade.inference.swing import HORIZONS
from serving.training.precision.choosing import Inputs, Reader, Reading, choose

__all__ = ["compared", "reader_of"]


def compared(f32: bytes, windows: Inputs, centre: Sequence[float], group: NDArray[np.intp]) -> dict[str, Any]:
    """Return the report on a network's graph.

    Parameters
    ----------
    windows
        Its inputs for n held-out windows, (n, ...) each.
    centre
        By horizon, the score that its map calls nothing.
    group
        (n,) number of each window's day and universe, rising.
    """
    return choose(f32, windows, reader_of(centre, group), setting="f32").report


def reader_of(centre: Sequence[float], group: NDArray[np.intp]) -> Reader:
    """Return what reads raw outputs of a network; parameters as for `compared`."""
    edges = np.searchsorted(group, np.arange(int(group.max(initial=-1)) + 2))

    def read(outputs: Mapping[str, NDArray[np.float32]]) -> Reading:
        scores = np.asarray(outputs["returns"], np.float64)
        middle = np.concatenate(
            [np.broadcast_to(np.median(scores[a:b], axis=0), scores[a:b].shape) for a, b in pairwise(edges)]
        )
        decisions = {}
        for place, days in enumerate(HORIZONS):
            decisions[f"rises_{days}d"] = (scores[:, place] > centre[place]).astype(np.int64)
            decisions[f"better_half_{days}d"] = (scores[:, place] > middle[:, place]).astype(np.int64)
        return Reading(decisions, {"score": scores})

    return read
