"""Moving sums, averages and extremes over the past of a column.

Every function here is causal and works along the last axis, which ends with the newest bar: of one series (n,) or of
several at once (series, n). Those that take ``rows`` return the newest ``rows`` values; the column needs as many bars
before them as the window is long.

A moving sum is never a difference of two longer sums: a window is put together from blocks of 1, 2, 4, ... bars, or
from what it has in common with its neighbours and what not, so its rounding error depends on its own bars alone, and a
window of zeros sums to zero exactly. Exponential averages are
TA-Lib's; what they still remember of bars older than 600 is below 1e-18 of the newest for the periods used (27 at
most), so where they are started does not matter.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import talib

from fusiontrade.market.candles import Floats

_LARGE = 4_096  # values of one part: larger parts are not worked on together, as they leave the cache
_FEW = 4  # rows are few beside a window as long as this many times their number

__all__ = [
    "by_series",
    "ema",
    "highest",
    "lag",
    "lowest",
    "mean_and_deviation",
    "mean_of",
    "newest",
    "ratio",
    "rolling_sum",
    "sums_of",
    "unwrapped",
    "wilder",
]


def by_series(function: Callable[..., Floats], *columns: Floats, **settings: float) -> Floats:
    """Return a function of TA-Lib, which knows one series at a time, of each of the series in ``columns``."""
    function = unwrapped(function)
    if columns[0].ndim == 1:
        return np.asarray(function(*columns, **settings), np.float64)
    if len(columns[0]) == 1:
        return np.asarray(function(*(column[0] for column in columns), **settings), np.float64)[None]
    out = np.empty((len(columns[0]), columns[0].shape[1]))
    for place, series in enumerate(zip(*columns, strict=True)):
        out[place] = function(*series, **settings)
    return out


def unwrapped(function: Callable[..., Floats]) -> Callable[..., Floats]:
    """Return a function of TA-Lib without the wrapper it has where pandas is installed: half of the time it takes."""
    found: Callable[..., Floats] = getattr(function, "__wrapped__", function)
    return found


def newest(column: Floats, rows: int, ago: int = 0) -> Floats:
    """Return the newest ``rows`` values of a column, as it was ``ago`` bars earlier."""
    return column[..., -rows - ago : -ago] if ago else column[..., -rows:]


def lag(column: Floats, bars: int) -> Floats:
    """Return the column as it was ``bars`` rows earlier, NaN where that is before its start."""
    out = np.empty(column.shape)
    out[..., :bars] = np.nan
    out[..., bars:] = column[..., : max(0, column.shape[-1] - bars)]
    return out


def ratio(above: Floats, below: Floats, *, smallest: Floats | float, otherwise: Floats | float) -> Floats:
    """Return ``above / below``, and ``otherwise`` where ``below`` is not greater than ``smallest`` (not negative)."""
    out = np.empty(below.shape)
    out[...] = otherwise
    return np.divide(above, below, out=out, where=below > smallest)


def rolling_sum(column: Floats, bars: int) -> Floats:
    """Return the sum of the newest ``bars`` values at every row, NaN where there are not as many."""
    out = np.full(column.shape, np.nan)
    if (rows := column.shape[-1] - bars + 1) > 0:
        out[..., bars - 1 :] = sums_of(column, bars, rows=rows)[0]
    return out


def mean_of(column: Floats, bars: int, *, rows: int) -> Floats:
    """Return the mean of ``bars`` values."""
    return sums_of(column, bars, rows=rows)[0] / bars


def sums_of(column: Floats, *windows: int, rows: int) -> list[Floats]:
    """Return the sums of as many values as each of ``windows`` says."""
    if rows == 1:
        sums = newest(column, max(windows))[..., ::-1].cumsum(axis=-1)
        return [sums[..., bars - 1 : bars] for bars in windows]
    if column.ndim > 1 and column[0].size > _LARGE:
        each = [sums_of(one, *windows, rows=rows) for one in column]
        return [np.array(sums) for sums in zip(*each, strict=True)]
    short = [bars for bars in windows if bars < _FEW * rows]
    blocks = _blocks(np.add, column, max(short), rows) if short else []
    return [_joined(blocks, bars, rows) if bars < _FEW * rows else _around_core(column, bars, rows) for bars in windows]


def mean_and_deviation(column: Floats, bars: int, *, rows: int) -> tuple[Floats, Floats]:
    """Return mean and population standard deviation of ``bars`` values, the latter 0 where all are equal.

    The squares of blocks are put together as Chan, Golub and LeVeque (1983) do: the mean of squares less the square
    of the mean loses digits on prices, whose spread is a ten-thousandth of their size.
    """
    if column.ndim > 1 and column[0].size > _LARGE:
        means, deviations = zip(*(mean_and_deviation(one, bars, rows=rows) for one in column), strict=True)
        return np.array(means), np.array(deviations)
    blocks = _blocks(np.add, column, bars, rows)
    squares = [np.zeros(blocks[0].shape)]
    for digit, block in enumerate(blocks[:-1]):
        size = 1 << digit
        apart = block[..., size:] - block[..., :-size]
        apart *= apart
        apart *= 0.5 / size
        if digit:
            apart += squares[-1][..., size:]
            apart += squares[-1][..., :-size]
        squares.append(apart)
    total, square, joined = None, None, 0
    for digit, block in enumerate(blocks):
        if bars >> digit & 1:
            size, part, of_part = 1 << digit, newest(block, rows, joined), newest(squares[digit], rows, joined)
            if total is None or square is None:
                total, square = part, of_part
            else:
                apart = total / joined - part / size
                square = square + of_part + apart * apart * (joined * size / (joined + size))
                total = total + part
            joined += size
    return np.asarray(total) / bars, np.sqrt(np.asarray(square) / bars)


def ema(column: Floats, bars: int) -> Floats:
    """Return (..., n) the exponential moving average of a whole column, weight ``2 / (bars + 1)`` on the newest."""
    return by_series(talib.EMA, column, timeperiod=bars)


def wilder(column: Floats, bars: int) -> Floats:
    """Return (..., n) Wilder's moving average of a whole column: weight ``1 / bars`` on the newest value."""
    return ema(column, 2 * bars - 1)


def highest(column: Floats, *windows: int, rows: int) -> list[Floats]:
    """Return the greatest of as many values as each of ``windows`` says."""
    return _extremes(np.maximum, column, windows, rows)


def lowest(column: Floats, *windows: int, rows: int) -> list[Floats]:
    """Return the least of as many values as each of ``windows`` says."""
    return _extremes(np.minimum, column, windows, rows)


def _extremes(
    extreme: Callable[[Floats, Floats], Floats], column: Floats, windows: tuple[int, ...], rows: int
) -> list[Floats]:
    blocks, found = _blocks(extreme, column, max(windows), rows), []
    for bars in windows:
        block = blocks[bars.bit_length() - 1]
        found.append(extreme(newest(block, rows), newest(block, rows, ago=bars - (1 << bars.bit_length() - 1))))
    return found


def _blocks(join: Callable[[Floats, Floats], Floats], column: Floats, bars: int, rows: int) -> list[Floats]:
    """Return 1, 2, 4, ... consecutive values joined, as far as ``bars`` has them; each ends with the newest bar."""
    blocks, size = [newest(column, rows + bars - 1)], 1
    while 2 * size <= bars:
        block = blocks[-1]
        blocks.append(join(block[..., size:], block[..., :-size]))
        size *= 2
    return blocks


def _around_core(column: Floats, bars: int, rows: int) -> Floats:
    """Return the sums of ``bars`` values of few rows: what their windows share, and what is older or newer."""
    column = newest(column, rows + bars - 1)
    sums = np.empty((*column.shape[:-1], rows))
    sums[...] = column[..., rows - 1 : bars].sum(axis=-1, keepdims=True)
    if rows > 1:
        sums[..., :-1] += column[..., rows - 2 :: -1].cumsum(axis=-1)[..., ::-1]
        sums[..., 1:] += column[..., bars:].cumsum(axis=-1)
    return sums


def _joined(blocks: list[Floats], bars: int, rows: int) -> Floats:
    """Return the sums of ``bars`` values: one block for each binary digit, the smallest with the newest bars."""
    total, joined = None, 0
    for digit, block in enumerate(blocks):
        if bars >> digit & 1:
            part = newest(block, rows, joined)
            total = part if total is None else total + part
            joined += 1 << digit
    return np.asarray(total)
