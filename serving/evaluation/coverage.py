"""Does an interval hold its share everywhere: overall, when volatility is high or low, and month by month?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serving.evaluation.metrics import Figure, Sample

__all__ = [
    "ROLLING",
    "coverage_by_month",
    "coverage_by_volatility",
    "inside",
    "lowest_rolling",
    "months",
    "quintile_spread",
    "spread_by_chance",
    "volatility_quintiles",
]

Floats = NDArray[np.floating]
QUINTILES = 5
ROLLING = 500
"""Bars of a rolling coverage."""
_DRAWS = 2000


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


def quintile_spread(held: NDArray[np.float64], quintile: NDArray[np.intp]) -> float:
    """Return the largest less the smallest coverage of a quintile; ``held``, ``quintile`` as of the functions above."""
    counts = np.bincount(quintile, minlength=QUINTILES)
    return float(np.ptp(np.bincount(quintile, held, minlength=QUINTILES)[counts > 0] / counts[counts > 0]))


def spread_by_chance(rows: int, coverage: float, seed: int) -> float:
    """Return what the spread over quintiles stays below in 95 % of samples whose coverage is the same in all five.

    Parameters
    ----------
    rows, coverage
        Of the sample: its bars, drawn independently, and the share of them that is inside.
    """
    size = max(rows // QUINTILES, 1)
    drawn = np.random.default_rng(seed).binomial(size, coverage, (_DRAWS, QUINTILES)) / size
    return float(np.quantile(np.ptp(drawn, axis=1), 0.95))


def lowest_rolling(held: NDArray[np.float64], instants: NDArray[np.int64], bars: int = ROLLING) -> float:
    """Return the least share of ``bars`` judged bars in a row that were inside; NaN of fewer bars.

    Parameters
    ----------
    held, instants
        (n,) from `inside`, and the instants, in any order, of one series.
    """
    if len(held) < bars:
        return float("nan")
    sums = np.cumsum(np.concatenate(([0.0], held[np.argsort(instants, kind="stable")])))
    return float((sums[bars:] - sums[:-bars]).min() / bars)


def coverage_by_month(
    sample: Sample, held: NDArray[np.float64], instants: NDArray[np.int64]
) -> tuple[list[str], list[Figure]]:
    """Return the months and the coverage of each; a month's interval is that of its own days."""
    names, number = months(instants)
    return names, sample.by_group(held, None, number, len(names))
