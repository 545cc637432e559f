"""The product's own features as feature sets: everything a graph is fed, a bar a row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from serving.features import (
    CALENDAR,
    CANDLE_CHANNELS,
    INDICATORS,
    PATCHTST_BARS_NEEDED,
    PATCHTST_LENGTH,
    VOLATILITY,
    WINDOW,
    CandleWindows,
    calendar_columns,
    indicators,
    slots_a_week,
    volatility_columns,
)
from serving.features.swing import (
    ALIGNMENT,
    PRICE_LENGTH,
    SMART_MONEY,
    TECHNICAL,
    alignment,
    price_windows,
    smart_money,
    technical,
)
from serving.lookahead.checks.futures import FeatureSet

__all__ = ["our_features"]


def our_features(timeframe: Timeframe) -> Sequence[FeatureSet]:
    """Return the inputs of the graphs, unscaled; what only daily models see is there at 1d alone."""
    # any week will do: what a market is used to comes from its card, not from these bars
    week = 1.0 + 0.5 * np.sin(np.arange(slots_a_week(timeframe)))

    def volatility(frame: CandleFrame) -> NDArray[np.float32]:
        return volatility_columns(frame, week)

    return (
        FeatureSet("indicators", lambda frame: indicators(frame).scaled, WINDOW, INDICATORS),
        FeatureSet("calendar", lambda frame: calendar_columns(frame.time, frame.timeframe), WINDOW, CALENDAR),
        FeatureSet("volatility", volatility, WINDOW, VOLATILITY),
        FeatureSet("candle windows", _candles, PATCHTST_BARS_NEEDED, _channels(PATCHTST_LENGTH)),
        FeatureSet("smart money", smart_money, WINDOW, SMART_MONEY),
        FeatureSet("technical", technical, WINDOW, TECHNICAL),
        *(_DAILY if timeframe is Timeframe.D1 else ()),
    )


def _channels(length: int) -> tuple[str, ...]:
    return tuple(f"{channel}[{age}]" for age in range(1 - length, 1) for channel in CANDLE_CHANNELS)


def _candles(frame: CandleFrame) -> NDArray[np.float32]:
    """Return (n, 120 x 5) the candle window that ends at each row; NaN while warming up."""
    windows = CandleWindows.of(frame)
    table = np.full((len(frame), PATCHTST_LENGTH * len(CANDLE_CHANNELS)), np.nan, np.float32)
    table[windows.rows] = windows.gather(windows.rows)[0].reshape(len(windows.rows), -1)
    return table


def _prices(frame: CandleFrame) -> NDArray[np.float32]:
    """Return (n, 120 x 5) the price window that ends at each row; NaN in the first 119."""
    return price_windows(frame).reshape(len(frame), -1)


_DAILY = (
    FeatureSet("price windows", _prices, PRICE_LENGTH, _channels(PRICE_LENGTH)),
    FeatureSet("alignment", alignment, WINDOW, ALIGNMENT),
)
