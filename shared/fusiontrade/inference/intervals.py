"""Adaptive conformal correction of 90 % intervals: each side is widened after a miss and narrowed after a hit.

Quantile tracking (Gibbs and Candès, 2021; Angelopoulos, Candès and Tibshirani, 2023), a step for every outcome:
``side += RATE * (missed - 0.05)``, in shares of the raw interval's width, so one state serves calm and wild days and
every unit of price. Over T outcomes the misses of a side exceed 5 % by at most (change of the side) / (RATE · T),
whatever the market does, as long as no outcome lies more than two widths beyond the raw interval, where a side ends.

Always true: a correction is made of outcomes that were known when the forecast was made; the same outcomes in the
same order give the same state; corrected bounds never cross; an outcome that is missing, or an interval without a
width, teaches nothing. Pure: no I/O, no clock.
"""

from __future__ import annotations

import math
from typing import overload

import numpy as np
from numpy.typing import NDArray

__all__ = ["NARROWEST", "RATE", "WIDEST", "advance", "corrected", "walk"]

Floats = NDArray[np.float64]

RATE = 0.005
"""Step of a side per outcome, in shares of the interval's width."""
NARROWEST, WIDEST = -0.4, 2.0
"""Where a side ends, in shares of the width; above -0.5 the bounds cannot cross."""
_MISSED = 0.05  # nominal share of outcomes beyond each side


@overload
def corrected(low: float, high: float, lower: float, upper: float) -> tuple[float, float]: ...
@overload
def corrected(low: Floats, high: Floats, lower: Floats | float, upper: Floats | float) -> tuple[Floats, Floats]: ...
def corrected(
    low: Floats | float, high: Floats | float, lower: Floats | float, upper: Floats | float
) -> tuple[Floats | float, Floats | float]:
    """Return the interval with each side moved outwards by its share of the raw width; any common shape."""
    width = high - low
    return low - lower * width, high + upper * width


def advance(lower: float, upper: float, low: float, high: float, outcome: float) -> tuple[float, float]:
    """Return the sides after the raw interval (low, high) met its outcome.

    They stay as they are where ``outcome`` is NaN or infinite, or ``high`` is not above ``low``.
    """
    if not (0.0 < high - low < math.inf and math.isfinite(outcome)):
        return lower, upper
    below, above = corrected(low, high, lower, upper)
    return _moved(lower, outcome < below), _moved(upper, outcome > above)


def walk(
    low: Floats, high: Floats, outcome: Floats, lower: float = 0.0, upper: float = 0.0
) -> tuple[Floats, Floats, float, float]:
    """Return the sides each of n forecasts was corrected by, and those after the last.

    Parameters
    ----------
    low, high, outcome
        (n,) raw intervals and what came true, of one series in the order of time; one outcome is known before the
        next forecast is made. An outcome that is not known is NaN.
    lower, upper
        The sides to start from.

    Returns
    -------
    (n,) lower, (n,) upper, and the two sides after the last outcome.
    """
    lowers, uppers = [lower], [upper]
    for row in zip(low.tolist(), high.tolist(), outcome.tolist(), strict=True):
        lower, upper = advance(lower, upper, *row)
        lowers.append(lower)
        uppers.append(upper)
    return np.array(lowers[:-1], np.float64), np.array(uppers[:-1], np.float64), lower, upper


def _moved(side: float, missed: bool) -> float:
    return min(max(side + RATE * (missed - _MISSED), NARROWEST), WIDEST)
