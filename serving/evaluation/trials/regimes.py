"""Which of several regimes of volatility a bar is in, told by the bars before it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["regimes"]

_BARS = 500


def regimes(volatility: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Return (n,) 0 to ``count - 1``: the rank of each bar's volatility among those of the 500 bars before it."""
    found = np.zeros(len(volatility), np.intp)
    for row, one in enumerate(volatility):
        before = volatility[max(0, row - _BARS) : row + 1]
        found[row] = min(int((before < one).mean() * count), count - 1)
    return found
