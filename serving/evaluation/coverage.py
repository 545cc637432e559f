"""Does an interval hold its share everywhere: overall, when volatility is high or low, and month by month?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serving.evaluation.metrics import Figure, Sample

__all__ = ["coverage_by_month", "coverage_by_volatility", "inside", "months", "volatility_quintiles"]

Floats = NDArray[np.floating]
QUINTILES = 5


def inside(low: Floats, high: Floats, value: Floats) -> NDArray[np.float64]:
    """Return (n,) 1 where the value came within the interval, its ends included, else 0."""
    return ((low <= value) & (value <= high)).astype(np.float64)


def volatility_quintiles(atr: Floats, close: Floats, place: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return (n,) the quintile 0-4 of ATR / close among the rows of the same series.

    Volatility is that of the forecast's own instant, so nothing of the outcome chooses the group.

    Parameters
    ----------
    atr, close
        (n,) ATR(14) and close of the newest bar of each forecast, in price.
    place
        (n,) number of each row's series.
    """
    volatility = atr / close
    found = np.zeros(len(volatility), np.intp)
    for one in np.unique(place):
        rows = np.flatnonzero(place == one)
        order = np.argsort(volatility[rows], kind="stable")
        found[rows[order]] = np.arange(len(rows)) * QUINTILES // len(rows)
    return found


def months(instants: NDArray[np.int64]) -> tuple[list[str], NDArray[np.intp]]:
    """Return the calendar months (UTC, ``2024-11``) that occur, in order, and (n,) the number of each row's month."""
    month = np.asarray(instants, np.int64).astype("datetime64[ms]").astype("datetime64[M]")
    names, number = np.unique(month, return_inverse=True)
    return [str(name) for name in names], number.astype(np.intp)


def coverage_by_volatility(
    sample: Sample, held: NDArray[np.float64], quintile: NDArray[np.intp]
) -> tuple[list[Figure], Figure]:
    """Return the coverage of each volatility quintile, lowest first, and the largest less the smallest of them.

    Parameters
    ----------
    held, quintile
        (n,) from `inside` and `volatility_quintiles`, of the sample's rows.
    """
    return sample.by_group(held, None, quintile, QUINTILES), sample.spread(held, quintile, QUINTILES)


def coverage_by_month(
    sample: Sample, held: NDArray[np.float64], instants: NDArray[np.int64]
) -> tuple[list[str], list[Figure]]:
    """Return the months and the coverage of each; a month's interval is that of its own days."""
    names, number = months(instants)
    return names, sample.by_group(held, None, number, len(names))
