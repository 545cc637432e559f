"""The exponent that frees an interval's width of what unrest does to it, chosen on the calibration slice.

A network that makes intervals too narrow on calm days and too wide on wild ones, or the other way round, covers its
share over both and on neither. Widths are multiplied by (ATR / what it usually is) to a power, before outcomes move
the sides: the power whose coverage differs least between calm and wild.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusiontrade.inference.intervals import corrected, walk
from serving.evaluation.coverage import inside, quintile_spread, volatility_quintiles
from serving.forecasting import widened

__all__ = ["Ranges", "fitted_exponent"]

_TRIED = (0.0, -0.05, 0.05, -0.1, 0.1, -0.15, 0.15, -0.2, 0.2, -0.25, 0.25, -0.3, 0.3)  # of equals the first is taken
_FEWEST = 500  # rows of a series whose quintiles say something


@dataclass(frozen=True, eq=False)
class Ranges:
    """n intervals of one series in the order of time, in ATR from the close, and what they were to hold.

    Parameters
    ----------
    low, high, outcome
        (n,) the 5 and 95 % quantiles of the next change, and that change.
    unrest
        (n,) log of the ATR over what it usually is.
    volatility
        (n,) ATR as a share of the close.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    outcome: NDArray[np.float64]
    unrest: NDArray[np.float64]
    volatility: NDArray[np.float64]


def fitted_exponent(series: Sequence[Ranges]) -> tuple[float, dict[str, float]]:
    """Return the exponent of least spread of coverage over quintiles of volatility, and the spread of each tried.

    The spread is the mean over the series of 500 rows or more, intervals moved by their outcomes as they are served;
    without such a series the exponent is 0 and nothing is tried.
    """
    enough = [one for one in series if len(one.low) >= _FEWEST]
    if not enough:
        return 0.0, {}
    spreads = {exponent: float(np.mean([_spread(one, exponent) for one in enough])) for exponent in _TRIED}
    best = min(spreads, key=lambda exponent: spreads[exponent])
    return best, {f"{exponent:g}": round(spread, 6) for exponent, spread in sorted(spreads.items())}


def _spread(one: Ranges, exponent: float) -> float:
    low, high = widened(one.low, one.high, one.unrest, exponent)
    lower, upper, _, _ = walk(low, high, one.outcome)
    held = inside(*corrected(low, high, lower, upper), one.outcome)
    alone = np.zeros(len(held), np.intp)
    return quintile_spread(held, volatility_quintiles(one.volatility, np.ones(len(held)), alone))
