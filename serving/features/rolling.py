"""Moving sums, averages and extremes over the past of a column.

Every function here is causal and of one shape: (n,) float64 in, (n,) float64 out, NaN where the past is too short.
A rolling sum is never a difference of two long sums: its rounding error depends on its own window alone, and a window
of zeros sums to zero exactly (`sma` is TA-Lib's running sum, for prices and rates only). Exponential averages are
TA-Lib's; what they still remember of bars older than 600 is below 1e-18 of the newest for the periods used (27 at
most), so where they are started does not matter.
"""

from __future__ import annotations

import numpy as np
import talib

from fusiontrade.market.candles import Floats

__all__ = ["ema", "highest", "lag", "lowest", "ratio", "rolling_std", "rolling_sum", "sma", "wilder"]


def lag(column: Floats, bars: int) -> Floats:
    """Return the column as it was ``bars`` rows earlier."""
    out = np.full(len(column), np.nan)
    out[bars:] = column[: len(column) - bars]
    return out


def ratio(above: Floats, below: Floats, *, smallest: Floats | float, otherwise: Floats | float) -> Floats:
    """Return ``above / below``, and ``otherwise`` where ``below`` is not greater than ``smallest`` (not negative)."""
    usable = below > smallest
    return np.where(usable, above / np.where(usable, below, 1.0), otherwise)


def rolling_sum(column: Floats, bars: int) -> Floats:
    """Return the sum of the newest ``bars`` values at every row.

    The column is cut into blocks as long as the window; each window is the tail of one block and the head of the
    next (van Herk, Gil and Werman), so nothing older than the window ever enters, not even as a rounding error.
    """
    rows = len(column)
    blocks = -(-rows // bars)
    grid = np.zeros((blocks, bars))
    grid.reshape(-1)[:rows] = column
    head = grid.cumsum(axis=1)
    tail = grid[:, ::-1].cumsum(axis=1)[:, ::-1].copy()
    tail[:, 0] = 0.0
    out = np.full(rows, np.nan)
    out[bars - 1 :] = head.reshape(-1)[bars - 1 : rows] + tail.reshape(-1)[: max(0, rows - bars + 1)]
    return out


def rolling_std(column: Floats, bars: int) -> Floats:
    """Return the population standard deviation of the newest ``bars`` values, exactly 0 where they are all equal.

    Sums are of differences from the newest value: the mean of squares less the square of the mean loses digits on
    prices, whose spread is a ten-thousandth of their size.
    """
    total, squares = np.zeros(len(column)), np.zeros(len(column))
    for back in range(1, bars):
        difference = lag(column, back) - column
        total += difference
        squares += difference * difference
    mean = total / bars
    return np.asarray(np.sqrt(np.maximum(squares / bars - mean * mean, 0.0)), np.float64)


def sma(column: Floats, bars: int) -> Floats:
    """Return the simple moving average (for columns without large outliers: TA-Lib keeps a running sum)."""
    return np.asarray(talib.SMA(column, bars), np.float64)


def ema(column: Floats, bars: int) -> Floats:
    """Return the exponential moving average, weight ``2 / (bars + 1)`` on the newest value."""
    return np.asarray(talib.EMA(column, bars), np.float64)


def wilder(column: Floats, bars: int) -> Floats:
    """Return Wilder's moving average: weight ``1 / bars`` on the newest value."""
    return ema(column, 2 * bars - 1)


def highest(column: Floats, bars: int) -> Floats:
    """Return the greatest of the newest ``bars`` values."""
    return np.asarray(talib.MAX(column, bars), np.float64)


def lowest(column: Floats, bars: int) -> Floats:
    """Return the least of the newest ``bars`` values."""
    return np.asarray(talib.MIN(column, bars), np.float64)
