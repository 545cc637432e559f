"""Intervals of figures measured on time series: a stationary bootstrap over days.

Bars of one day, of all symbols, share their weather, so whole days are drawn, in runs of geometric length
(Politis and Romano, 1994). A resample is how often each day was drawn; every figure is a function of such weights.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["day_numbers", "day_weights"]

_DAY_MS = 86_400_000


def day_numbers(instants: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return (n,) the rank of each instant's UTC day among the days that occur."""
    return np.unique(instants // _DAY_MS, return_inverse=True)[1].astype(np.intp)


def day_weights(days: int, resamples: int, seed: int, mean_run: float = 5.0) -> NDArray[np.float64]:
    """Return (resamples, days): how often each day is drawn in each resample.

    Parameters
    ----------
    days, resamples
        Sizes, at least 1.
    mean_run
        Mean length in days of the runs that are drawn together.
    """
    random = np.random.default_rng(seed)
    fresh = random.random((resamples, days)) < 1 / mean_run
    fresh[:, 0] = True
    starts = random.integers(0, days, (resamples, days))
    positions = np.arange(days)
    begun = np.maximum.accumulate(np.where(fresh, positions, 0), axis=1)
    drawn = (np.take_along_axis(starts, begun, axis=1) + positions - begun) % days
    flat = (drawn + np.arange(resamples)[:, None] * days).ravel()
    return np.bincount(flat, minlength=resamples * days).reshape(resamples, days).astype(np.float64)
