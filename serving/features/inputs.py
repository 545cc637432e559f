"""Model inputs: windows over the indicators (LSTM family) and over the candles themselves (PatchTST).

A row's input is a function of bars up to and including that row. Served and training inputs of one bar are the same
numbers: both come from here, serving from the newest `BARS_NEEDED` bars, training from the whole history.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fusiontrade.errors import BadCandles
from fusiontrade.market.candles import CandleFrame, Floats
from serving.features.bars import WINDOW, Bars
from serving.features.calendar import calendar_columns
from serving.features.columns import CLIP, indicators, needs
from serving.features.rolling import rolling_sum
from serving.features.volume import volume_level

__all__ = [
    "BARS_NEEDED",
    "CANDLE_CHANNELS",
    "LSTM_LENGTH",
    "PATCHTST_BARS_NEEDED",
    "PATCHTST_LENGTH",
    "CandleWindows",
    "Inputs",
    "LstmWindows",
    "Rows",
    "candle_window",
    "gather",
]

Rows = NDArray[np.intp] | list[int]
Inputs = NDArray[np.float32]
_Number = TypeVar("_Number", np.float32, np.float64)

LSTM_LENGTH = 60
PATCHTST_LENGTH = 120
BARS_NEEDED = WINDOW + LSTM_LENGTH - 1
"""Bars behind one LSTM input, its last bar included."""
PATCHTST_BARS_NEEDED = WINDOW
"""Bars behind one PatchTST input: its 120, and those that say what is usual."""

CANDLE_CHANNELS: tuple[str, ...] = ("open", "high", "low", "close", "volume")
_PRICE_CLIP = 50.0  # ATR


def gather(matrix: NDArray[_Number], rows: Rows, length: int) -> NDArray[_Number]:
    """Return (k, length, columns): the ``length`` rows of ``matrix`` that end at each of the k ``rows``."""
    last = np.asarray(rows, np.intp)
    return np.take(matrix, last[:, None] + np.arange(1 - length, 1), axis=0)


@dataclass(frozen=True, eq=False)
class LstmWindows:
    """Indicators and calendar of one frame, computed once and cut into windows on demand.

    Parameters
    ----------
    features
        (n, 50) float32: `Indicators.scaled`.
    calendar
        (n, C) float32.
    """

    features: Inputs
    calendar: Inputs

    @classmethod
    def of(cls, frame: CandleFrame) -> LstmWindows:
        """Return the windows of ``frame``; raises `BadCandles` where it has fewer than 659 bars."""
        needs(frame, BARS_NEEDED)
        return cls(np.ascontiguousarray(indicators(frame).scaled), calendar_columns(frame.time, frame.timeframe))

    @property
    def rows(self) -> NDArray[np.intp]:
        """Every row that has a full window of valid rows behind it."""
        return np.arange(BARS_NEEDED - 1, len(self.features))

    def gather(self, rows: Rows) -> tuple[Inputs, Inputs]:
        """Return (k, 60, 50) features and (k, 60, C) calendar of the windows that end at ``rows``."""
        chosen = _checked(rows, BARS_NEEDED, len(self.features))
        return gather(self.features, chosen, LSTM_LENGTH), gather(self.calendar, chosen, LSTM_LENGTH)


@dataclass(frozen=True, eq=False)
class CandleWindows:
    """Candles of one frame as model inputs, cut into windows on demand.

    Parameters
    ----------
    prices
        (n, 4) float64: logarithms of open, high, low, close.
    unit
        (n,) float64: ATR(14) relative to the close.
    volume
        (n, 2) float64: volume, and its mean over the newest 600 bars; zeros where the market has none.
    calendar
        (n, C) float32.
    """

    prices: Floats
    unit: Floats
    volume: Floats
    calendar: Inputs

    @classmethod
    def of(cls, frame: CandleFrame) -> CandleWindows:
        """Return the windows of ``frame``; raises `BadCandles` where it has fewer than 600 bars."""
        needs(frame, PATCHTST_BARS_NEEDED)
        bars = Bars.of(frame, len(frame))
        traded = np.zeros(len(frame)) if bars.volumes is None else bars.volumes
        return cls(
            prices=np.log(np.stack([bars.opens, bars.highs, bars.lows, bars.closes], axis=1)),
            unit=bars.unit / bars.close,
            volume=np.stack([traded, rolling_sum(traded, WINDOW) / WINDOW], axis=1),
            calendar=calendar_columns(frame.time, frame.timeframe),
        )

    @property
    def rows(self) -> NDArray[np.intp]:
        """Every row whose window and ATR are valid."""
        return np.arange(PATCHTST_BARS_NEEDED - 1, len(self.prices))

    def gather(self, rows: Rows) -> tuple[Inputs, Inputs]:
        """Return (k, 120, 5) candles and (k, C) calendar of the windows that end at ``rows``.

        Prices are log distances from the window's last close in units of its last ATR; volume is the logarithm
        relative to the mean of the 600 bars up to the row (0 where the market has none).
        """
        chosen = _checked(rows, PATCHTST_BARS_NEEDED, len(self.prices))
        prices = gather(self.prices, chosen, PATCHTST_LENGTH)
        traded = gather(self.volume, chosen, PATCHTST_LENGTH)[..., 0]
        return candle_window(prices, traded, self.unit[chosen], self.volume[chosen, 1]), self.calendar[chosen]


def candle_window(prices: Floats, traded: Floats, unit: Floats, usual: Floats) -> Inputs:
    """Return (k, 120, 5) the model inputs of k windows of candles.

    Parameters
    ----------
    prices
        (k, 120, 4) logarithms of open, high, low, close.
    traded
        (k, 120) volume; zeros where the market has none.
    unit
        (k,) ATR(14) relative to the close, of each window's last bar.
    usual
        (k,) mean volume of the 600 bars up to each window's last.
    """
    candles = np.empty((*traded.shape, len(CANDLE_CHANNELS)), np.float32)
    distances = (prices - prices[:, -1:, 3:]) / unit[:, None, None]
    candles[..., :4] = np.clip(distances, -_PRICE_CLIP, _PRICE_CLIP)
    level = volume_level(traded, np.broadcast_to(usual[:, None], traded.shape))
    candles[..., 4] = np.clip(level, -CLIP, CLIP)
    return candles


def _checked(rows: Rows, bars_needed: int, available: int) -> NDArray[np.intp]:
    """Return the rows as an array, or raise `BadCandles` where one has too few bars up to and including it."""
    chosen = np.asarray(rows, np.intp)
    if len(chosen) and not (chosen.min() >= bars_needed - 1 and chosen.max() < available):
        raise BadCandles(
            [f"rows must lie between {bars_needed - 1} and {available - 1}: each needs {bars_needed} bars"]
        )
    return chosen
