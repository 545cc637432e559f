"""What a Kronos graph is fed, computed from one window of bars and nothing else: numpy alone.

Always true here: the statistics of a window are those of its own bars, so a window that ends at bar t knows nothing of
any later bar, nor of any bar before its first.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from fusiontrade.errors import InvalidInput
from fusiontrade.market.candles import CandleFrame

__all__ = ["CHANNELS", "CLIP", "STAMPS", "columns_of", "normalised", "stamps_of", "windows_of"]

CHANNELS = ("open", "high", "low", "close", "volume", "amount")
STAMPS = ("minute", "hour", "weekday", "day", "month")
CLIP = 5.0
"""Standard deviations beyond which a normalised value is cut."""

_TINY = 1e-5  # added to a standard deviation: a column that does not move becomes zeros
_MINUTE, _HOUR, _DAY = 60_000, 3_600_000, 86_400_000
_THURSDAY = 3  # the weekday of 1970-01-01, Monday 0


def columns_of(frame: CandleFrame) -> NDArray[np.float64]:
    """Return (n, 6) open, high, low, close, volume, amount.

    Where the market has no volume it is 0; amount is volume times the mean of the four prices.
    """
    prices = np.stack((frame.open, frame.high, frame.low, frame.close), axis=1)
    volume = np.zeros(len(frame)) if frame.volume is None else frame.volume
    with np.errstate(over="ignore", invalid="ignore"):  # what leaves the range is refused by `normalised`
        return np.column_stack((prices, volume, volume * prices.mean(axis=1)))


def normalised(ohlcva: ArrayLike) -> NDArray[np.float32]:
    """Return windows whose columns have mean 0 and standard deviation 1 over their own bars, cut at ±`CLIP`.

    Parameters
    ----------
    ohlcva
        (..., T, 6) open, high, low, close, volume, amount.

    Returns
    -------
    (..., T, 6) float32: (v − mean) / (population standard deviation + 1e-5).

    Raises
    ------
    InvalidInput
        If the last axis is not the six columns, there is no bar, or a number is not finite or so large that its
        column's deviation is not.
    """
    values = np.asarray(ohlcva, np.float64)
    if values.ndim < 2 or values.shape[-1] != len(CHANNELS) or not values.shape[-2]:
        raise InvalidInput("bars", f"windows are (..., T, {len(CHANNELS)}), these are {values.shape}")
    if not np.isfinite(values).all():
        raise InvalidInput("bars", "a window holds a number that is not finite")
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviation = values.mean(axis=-2, keepdims=True), values.std(axis=-2, keepdims=True)
    if not np.isfinite(deviation).all():
        raise InvalidInput("bars", "a window holds numbers too large to be compared")
    scaled = (values - mean) / (deviation + _TINY)
    return np.asarray(np.clip(scaled, -CLIP, CLIP), np.float32)


def stamps_of(timestamps_ms: ArrayLike) -> NDArray[np.int64]:
    """Return (..., 5) minute, hour, weekday (Monday 0), day of month and month of UTC times (...) in ms since 1970."""
    time = np.asarray(timestamps_ms, np.int64)
    days = time // _DAY
    months = days.astype("datetime64[D]").astype("datetime64[M]")
    day = (days.astype("datetime64[D]") - months.astype("datetime64[D]")).astype(np.int64) + 1
    month = months.astype(np.int64) % 12 + 1
    clock = (time % _HOUR // _MINUTE, time % _DAY // _HOUR, (days + _THURSDAY) % 7)
    return np.stack((*clock, day, month), axis=-1)


def windows_of(frame: CandleFrame, length: int, rows: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return what a graph takes for the windows of ``length`` bars that end at each of ``rows``.

    Returns
    -------
    (n, length, 6) float32 bars, each normalised by itself, and (n, length, 5) int64 stamps.

    Raises
    ------
    InvalidInput
        If a row has fewer than ``length`` bars up to itself, or is not in the frame.
    """
    ends = np.asarray(rows, np.int64)
    if ends.size and not (length - 1 <= ends.min() and ends.max() < len(frame)):
        raise InvalidInput("rows", f"windows of {length} bars end at {length - 1} … {len(frame) - 1} of this frame")
    if not ends.size:
        return np.empty((0, length, len(CHANNELS)), np.float32), np.empty((0, length, len(STAMPS)), np.int64)
    bars = sliding_window_view(columns_of(frame), length, axis=0)[ends - length + 1].swapaxes(1, 2)
    time = sliding_window_view(frame.time, length)[ends - length + 1]
    return normalised(bars), stamps_of(time)
