"""What every family of indicators starts from: the columns of a frame, and the units model inputs are measured in.

All thresholds are relative to the close, so multiplying every price by a constant changes no decision here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import talib

from fusiontrade.market.candles import CandleFrame, Floats
from serving.features.rolling import ema, lag, rolling_sum

__all__ = ["ATR_BARS", "WINDOW", "Bars", "Column", "Columns"]

WINDOW = 600
"""Bars a row may depend on, itself included."""

ATR_BARS = 14
_VOLATILITY_BARS = 100
_LEAST_UNIT = 1e-7  # of the close: a thousandth of a pip; below it a market is flat and no unit of measure
_NOTHING = 1e-10  # of the close: a price difference below it is rounding

Column = tuple[str, Floats, Floats]
"""Name, raw values for display, scale-free values for models; the latter two (n,) float64."""

Columns = Iterator[Column]


@dataclass(frozen=True, eq=False)
class Bars:
    """Columns of one frame, all (n,) float64.

    Parameters
    ----------
    open, high, low, close
        Prices in the quote currency.
    volume
        In base units, or None where the market has none.
    previous
        The close one bar earlier; NaN in the first row.
    true_range
        Wilder's true range; NaN in the first row.
    atr
        Average true range of 14 bars, Wilder's average.
    unit
        ``atr``, but at least 1e-7 of the close: the unit of price distances.
    nothing
        The price difference that counts as none: 1e-10 of the close.
    volatility
        Root mean square of the newest 100 log returns, at least 1e-7.
    ema_12, ema_26
        Exponential moving averages of the close.
    """

    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats | None
    previous: Floats
    true_range: Floats
    atr: Floats
    unit: Floats
    nothing: Floats
    volatility: Floats
    ema_12: Floats
    ema_26: Floats

    @classmethod
    def of(cls, frame: CandleFrame) -> Bars:
        """Return the columns of ``frame``."""
        open_, high, low, close = (
            np.ascontiguousarray(column, np.float64) for column in (frame.open, frame.high, frame.low, frame.close)
        )
        previous = lag(close, 1)
        log_returns = np.log(close / previous)
        mean_square = rolling_sum(log_returns * log_returns, _VOLATILITY_BARS) / _VOLATILITY_BARS
        atr = np.asarray(talib.ATR(high, low, close, ATR_BARS), np.float64)
        return cls(
            open=open_,
            high=high,
            low=low,
            close=close,
            volume=None if frame.volume is None else np.ascontiguousarray(frame.volume, np.float64),
            previous=previous,
            true_range=np.asarray(talib.TRANGE(high, low, close), np.float64),
            atr=atr,
            unit=np.maximum(atr, _LEAST_UNIT * close),
            nothing=_NOTHING * close,
            volatility=np.maximum(np.sqrt(mean_square), _LEAST_UNIT),
            ema_12=ema(close, 12),
            ema_26=ema(close, 26),
        )

    @property
    def typical(self) -> Floats:
        """(n,): mean of high, low and close."""
        return (self.high + self.low + self.close) / 3.0

    def at_least(self, length: Floats) -> Floats:
        """Return the price difference, raised to the least one that is a unit of measure."""
        return np.maximum(length, _LEAST_UNIT * self.close)

    def distance(self, line: Floats, bars: int) -> Floats:
        """Return how far ``line`` is above the close, in ATR times the root of the ``bars`` it is made of."""
        return (line - self.close) / self.unit / math.sqrt(bars)
