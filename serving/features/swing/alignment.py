"""Alignment: does each of five timeframes point up, down or neither?

A timeframe points up (+1) where close > EMA 9 > EMA 21 of its own bars, down (-1) where both are reversed, else it is
0; also where it is absent. Weeks and months are put together from the daily bars themselves, and count only when they
are over: their end (Monday, or the first of a month, 00:00 UTC) must have been reached when the daily bar closes. Their
averages are taken over the periods that closed within the newest 600 bars, weights normalised, so a row depends on
those bars alone; a timeframe with fewer than nine of them is 0. Bars of 4h and 1h are given, if there are any: the
newest that was finished when the daily bar closed counts, none from before the daily bar opened.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import talib
from numpy.typing import NDArray

from fusiontrade.errors import BadCandles
from fusiontrade.market.candles import CandleFrame, Floats
from fusiontrade.market.timeframes import Timeframe
from serving.features.bars import WINDOW
from serving.features.columns import needs
from serving.features.rolling import unwrapped

__all__ = ["ALIGNMENT", "alignment", "of_days"]

ALIGNMENT: tuple[str, ...] = ("alignment_1M", "alignment_1W", "alignment_1D", "alignment_4H", "alignment_1H")
"""Names of the columns, the longest timeframe first; values are -1, 0 and +1."""

_FAST, _SLOW = 9, 21
_DAY_MS = Timeframe.D1.milliseconds
_MONDAY = 3  # 1970-01-01 was a Thursday
_NOTHING = 1e-10  # of the close: a difference below it is rounding
_FINER = (Timeframe.H4, Timeframe.H1)

Places = NDArray[np.intp]


def alignment(frame: CandleFrame, finer: Mapping[Timeframe, CandleFrame] | None = None) -> NDArray[np.float32]:
    """Return (n, 5) float32, `ALIGNMENT`; NaN in the 599 warm-up rows.

    Parameters
    ----------
    frame
        Checked, finished daily bars, oldest first; 600 or more.
    finer
        Bars of the same symbol at 4h and 1h, where there are any.

    Raises
    ------
    BadCandles
        If the bars are not daily, or fewer than 600.
    """
    of_days(frame)
    needs(frame, WINDOW)
    columns = np.zeros((len(ALIGNMENT), len(frame)), np.float32)
    months = frame.time.astype("datetime64[ms]").astype("datetime64[M]")
    days = frame.time // _DAY_MS
    columns[0] = _periods(frame, months.astype(np.int64), (months + 1).astype("datetime64[ms]").astype(np.int64))
    weeks = (days + _MONDAY) // 7
    columns[1] = _periods(frame, weeks, ((weeks + 1) * 7 - _MONDAY) * _DAY_MS)
    columns[2] = _votes(frame.close, _average(frame.close, _FAST), _average(frame.close, _SLOW))
    for column, timeframe in zip(columns[3:], _FINER, strict=True):
        if finer is not None and timeframe in finer:
            column[:] = _of_finer(frame, finer[timeframe])
    columns[:, : WINDOW - 1] = np.nan
    return np.ascontiguousarray(columns.T)


def of_days(frame: CandleFrame) -> None:
    """Raise `BadCandles` where ``frame`` has no daily bars."""
    if frame.timeframe is not Timeframe.D1:
        raise BadCandles([f"{frame.symbol} {frame.timeframe}: swing features are made of daily bars"])


def _votes(close: Floats, fast: Floats, slow: Floats) -> Floats:
    nothing = _NOTHING * close
    with np.errstate(invalid="ignore"):
        up = (close - fast > nothing) & (fast - slow > nothing)
        down = (fast - close > nothing) & (slow - fast > nothing)
    return up.astype(np.float64) - down


def _average(close: Floats, bars: int) -> Floats:
    """Return (n,) the exponential average of a column, NaN before it has begun."""
    return np.asarray(unwrapped(talib.EMA)(close, bars), np.float64)


def _periods(frame: CandleFrame, period: NDArray[np.int64], ends: NDArray[np.int64]) -> Floats:
    """Return (n,) the votes of the periods that were over at each bar's close.

    Parameters
    ----------
    period, ends
        (n,) number of the period each bar belongs to, and the instant at which that period is over, ms.
    """
    last = np.flatnonzero(np.diff(period, append=period[-1:] + 1))  # the row of each period's close
    close = frame.close[last]
    newest = np.searchsorted(ends[last], frame.close_time, side="right") - 1
    oldest = np.searchsorted(last, np.arange(len(frame)) - WINDOW + 1)
    enough = newest - oldest + 1 >= _FAST
    newest, oldest = newest[enough], oldest[enough]
    votes = np.zeros(len(frame))
    fast, slow = (_within(close, oldest, newest, bars) for bars in (_FAST, _SLOW))
    votes[enough] = _votes(close[newest], fast, slow)
    return votes


def _within(close: Floats, oldest: Places, newest: Places, bars: int) -> Floats:
    """Return (k,) the exponential average of the closes ``oldest`` to ``newest`` alone, weights summing to one.

    An average E over all of them obeys E[newest] = (their weighted sum) + q^count · E[oldest - 1] whatever it was
    started with, so what is older is taken away exactly.
    """
    begun = np.concatenate((np.full(bars, close[0]), close))
    averages = _average(begun, bars)[bars - 1 :]  # one value before the first close
    kept = (1.0 - 2.0 / (bars + 1)) ** (newest - oldest + 1.0)
    return np.asarray((averages[newest + 1] - kept * averages[oldest]) / (1.0 - kept))


def _of_finer(frame: CandleFrame, finer: CandleFrame) -> Floats:
    """Return (n,) the vote of the newest finer bar of each day, 0 where the day has none."""
    if len(finer) < _SLOW:
        return np.zeros(len(frame))
    votes = _votes(finer.close, _average(finer.close, _FAST), _average(finer.close, _SLOW))
    at = np.searchsorted(finer.close_time, frame.close_time, side="right") - 1
    of_the_day = (at >= 0) & (finer.time[np.maximum(at, 0)] >= frame.time)
    return np.where(of_the_day, votes[np.maximum(at, 0)], 0.0)
