"""Longer bars from shorter ones, on the market's own grid.

No bucket is answered before it is over: a bucket counts only when its end on the grid has been reached by the instant
up to which the bars are known, whatever bars it then holds (a market that closed early leaves buckets with fewer). So
later bars change nothing in what was answered before, and their absence changes nothing either.
"""

from __future__ import annotations

import numpy as np

from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.grids import FX_GRID, NSE_GRID, NYSE_GRID, UTC_GRID, Grid, grid_of
from fusiontrade.market.timeframes import Timeframe

__all__ = ["FX_GRID", "NSE_GRID", "NYSE_GRID", "UTC_GRID", "Grid", "grid_of", "resample"]


def resample(
    frame: CandleFrame, timeframe: Timeframe, grid: Grid, *, start: int | None = None, end: int | None = None
) -> CandleFrame:
    """Return ``frame`` in longer bars: first open, highest high, lowest low, last close, summed volume.

    Parameters
    ----------
    frame
        (n,) checked bars, finished ones only.
    timeframe
        A multiple of the frame's own; the frame itself is returned where it is the same.
    grid
        Where the longer bars open: `grid_of` the symbol.
    start
        Instant since which the frame lacks no bar that there was, ms. A first bucket that opened before it is left out.
        Default: the first bar's open time.
    end
        Instant up to which the frame lacks no bar that there was, ms. Buckets that end later are left out.
        Default: the last bar's close time.

    Returns
    -------
    CandleFrame
        (m,) bars in order, m >= 0; buckets without a bar are left out, not filled.

    Raises
    ------
    ValueError
        If ``timeframe`` is no multiple of the frame's.
    """
    if timeframe is frame.timeframe:
        return frame
    if timeframe.milliseconds % frame.timeframe.milliseconds or timeframe.milliseconds < frame.timeframe.milliseconds:
        raise ValueError(f"bars of {frame.timeframe} cannot be put together to bars of {timeframe}")
    if not len(frame):
        return CandleFrame(
            frame.symbol, timeframe, frame.time, frame.open, frame.high, frame.low, frame.close, frame.volume
        )
    whole = _join(frame, timeframe, grid)
    known_from = int(frame.time[0]) if start is None else start
    known_to = int(frame.close_time[-1]) if end is None else end
    return whole.rows((whole.time >= known_from) & (grid.ends(whole.time, timeframe) <= known_to))


def _join(frame: CandleFrame, timeframe: Timeframe, grid: Grid) -> CandleFrame:
    """Return every bucket that holds a bar, complete or not."""
    opens = grid.opens(frame.time, timeframe)
    first = np.flatnonzero(np.diff(opens, prepend=opens[:1] - 1))
    last = np.append(first[1:], len(frame)) - 1
    return CandleFrame(
        frame.symbol,
        timeframe,
        opens[first],
        frame.open[first],
        np.maximum.reduceat(frame.high, first),
        np.minimum.reduceat(frame.low, first),
        frame.close[last],
        None if frame.volume is None else np.add.reduceat(frame.volume, first),
    )
