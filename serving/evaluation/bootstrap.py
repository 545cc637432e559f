"""Intervals of figures measured on time series: a stationary bootstrap over days.

Bars of one day, of all symbols, share their weather, so whole days are drawn, in runs of geometric length
(Politis and Romano, 1994; drawn by `arch`). A resample is how often each day was drawn; every figure is a function of
such weights, so one set of draws serves all figures of a slice.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["MEAN_RUN", "day_numbers", "day_weights"]

MEAN_RUN = 5.0
"""Mean length of a run in days: a week of trading.

`arch.bootstrap.optimal_block_length` of loss differences on candles of 2024 lies between 1 and 4 days in nine series of
ten, and the intervals of 5-day runs differ from those of 1-day runs by less than a tenth, so the longer is taken.
"""
_DAY_MS = 86_400_000


def day_numbers(instants: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return (n,) the rank of each instant's UTC day among the days that occur."""
    return np.unique(instants // _DAY_MS, return_inverse=True)[1].astype(np.intp)


def day_weights(days: int, resamples: int, seed: int, mean_run: float = MEAN_RUN) -> NDArray[np.float64]:
    """Return (resamples, days): how often each day is drawn in each resample.

    Parameters
    ----------
    days, resamples
        Sizes, at least 1.
    seed
        The same seed gives the same draws in every process.
    mean_run
        Mean length in days of the runs that are drawn together, at least 1.
    """
    from arch.bootstrap import StationaryBootstrap

    if mean_run < 1:
        raise ValueError(f"mean_run is a number of days, at least 1, got {mean_run}")
    generator = np.random.default_rng(seed)
    draws = StationaryBootstrap(mean_run, np.arange(days), seed=generator)  # type: ignore[arg-type]  # takes fractions
    weights = np.empty((resamples, days))
    for resample in weights:
        resample[:] = np.bincount(draws.update_indices(), minlength=days)
    return weights
