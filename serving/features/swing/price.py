"""The price window of the swing models: 120 bars, each column measured by its own mean and deviation in the window."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fusiontrade.errors import BadCandles
from fusiontrade.market.candles import CandleFrame
from serving.features.inputs import CANDLE_CHANNELS, Rows, gather

__all__ = ["PRICE_LENGTH", "price_windows"]

PRICE_LENGTH = 120
_CLIP = 3.0
_NOTHING = 1e-10  # of the mean: a deviation below it is rounding


def price_windows(frame: CandleFrame, rows: Rows | None = None) -> NDArray[np.float32]:
    """Return (k, 120, 5) float32 within ±1: open, high, low, close, volume of the windows that end at ``rows``.

    Each value is its distance from the mean of its column in the window in population standard deviations, cut to ±3
    and divided by 3; 0 in a column that does not vary, and in that of volume where the market has none.

    Parameters
    ----------
    frame
        Checked, finished bars, oldest first.
    rows
        k rows of the frame, none before row 119. Default: every row, windows of the first 119 NaN.

    Raises
    ------
    BadCandles
        If a row has fewer than 120 bars up to and including it.
    """
    chosen = np.arange(PRICE_LENGTH - 1, len(frame)) if rows is None else np.asarray(rows, np.intp)
    if len(chosen) and not (chosen.min() >= PRICE_LENGTH - 1 and chosen.max() < len(frame)):
        raise BadCandles(
            [f"{frame.symbol} {frame.timeframe}: rows must lie between {PRICE_LENGTH - 1} and {len(frame) - 1}"]
        )
    volume = np.zeros(len(frame)) if frame.volume is None else frame.volume
    columns = np.stack((frame.open, frame.high, frame.low, frame.close, volume), axis=1).astype(np.float64)
    windows = gather(columns, chosen, PRICE_LENGTH)
    mean = windows.mean(axis=1, keepdims=True)
    windows -= mean
    deviation = np.sqrt(np.square(windows).mean(axis=1, keepdims=True))
    varies = deviation > _NOTHING * mean
    scaled = np.divide(windows, deviation, out=np.zeros(windows.shape), where=np.broadcast_to(varies, windows.shape))
    known = np.asarray(np.clip(scaled, -_CLIP, _CLIP) / _CLIP, np.float32)
    if rows is not None:
        return known
    warming = np.full((min(PRICE_LENGTH - 1, len(frame)), PRICE_LENGTH, len(CANDLE_CHANNELS)), np.nan, np.float32)
    return np.concatenate((warming, known))
