"""The 50 indicators of a frame.

Always true: row t is a function of bars t-599..t alone, in training and in serving (exponential averages remember
older bars by less than 1e-18 of their value); rows before the 600th are marked, never filled; every other row is
finite, whatever the bars, as long as no price or volume exceeds 1e100; multiplying all prices, or all volumes, by a
constant does not change `Indicators.scaled`.
Definitions, neutral values and what differs from TA-Lib and `ta` are listed in docs/features.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusiontrade.errors import BadCandles
from fusiontrade.market.candles import CandleFrame, Floats
from serving.features.bars import WINDOW, Bars
from serving.features.other import other
from serving.features.price import momentum, price
from serving.features.trend import trend
from serving.features.volatility import volatility
from serving.features.volume import volume

__all__ = ["CLIP", "FEATURE_VERSION", "INDICATORS", "Indicators", "atr", "indicators", "needs", "unrest_of"]

FEATURE_VERSION = "2"
"""Changes whenever a definition below changes a number; a bundle of another version is not served."""

CLIP = 10.0
"""Model inputs are cut to this size."""

INDICATORS: tuple[str, ...] = (
    *("returns", "log_returns", "price_change", "high_low_range", "body_ratio"),
    *("volume_change", "volume_ma", "volume_std", "obv", "vpt"),
    *("rsi", "stoch_k", "stoch_d", "williams_r", "roc", "momentum", "ultimate_oscillator"),
    *("sma_20", "sma_50", "sma_200", "ema_12", "ema_26", "macd", "macd_signal", "macd_histogram"),
    *("adx", "cci", "trix", "dpo"),
    *("bb_upper", "bb_middle", "bb_lower", "bb_width", "atr", "keltner_upper", "keltner_lower"),
    *("cmf", "fi", "adi", "ease_of_movement", "vwap"),
    *("ichimoku_a", "ichimoku_b", "parabolic_sar", "kst", "kst_signal", "ulcer_index", "pgo", "ppo", "ppo_signal"),
)
"""Names of the columns, in order."""

_LINES = {
    **{"sma_20": 20, "sma_50": 50, "sma_200": 200, "ema_12": 12, "ema_26": 26},
    **{"bb_upper": 20, "bb_lower": 20, "keltner_upper": 20, "keltner_lower": 20, "ichimoku_a": 26, "ichimoku_b": 52},
    "parabolic_sar": 20,  # of the order of a trend between two reversals
}
"""Prices, and the bars each is made of: models see their distances from the close, in ATR times the root of these."""
_MOVES = {
    **{"price_change": 1, "high_low_range": 1, "momentum": 10, "dpo": 20},
    **{"macd": 1, "macd_signal": 1, "macd_histogram": 1},
}
"""Differences of prices, and the bars each took: models see them in ATR times the root of these."""

_PLACE = {name: place for place, name in enumerate(INDICATORS)}
_UNREST = _PLACE["atr"]
_IN_ATR = {name: slot for slot, name in enumerate((*_LINES, *_MOVES))}
_PLACES = [_PLACE[name] for name in _IN_ATR]
_PER_ROOT = 1.0 / np.sqrt(np.array([*_LINES.values(), *_MOVES.values()], np.float64))
_FAMILIES = (price, volume, momentum, trend, volatility, other)


@dataclass(frozen=True, eq=False)
class Indicators:
    """The indicators of n bars.

    Parameters
    ----------
    raw
        (n, 50) float64: values as a chart shows them, in prices, percent or volume. NaN in warm-up rows, and in
        `VOLUME_COLUMNS` where the market has no volume.
    scaled
        (n, 50) float32: scale-free model inputs within ±10; NaN in warm-up rows, 0 in masked columns.
    valid
        (n,) bool: False in the 599 warm-up rows.
    """

    raw: Floats
    scaled: NDArray[np.float32]
    valid: NDArray[np.bool_]


def needs(frame: CandleFrame, bars: int) -> None:
    """Raise `BadCandles` where ``frame`` has fewer than ``bars`` bars."""
    if len(frame) < bars:
        raise BadCandles([f"{frame.symbol} {frame.timeframe}: needs {bars} bars, has {len(frame)}"])


def indicators(frame: CandleFrame) -> Indicators:
    """Return the indicators of every bar of a checked ``frame``.

    Raises
    ------
    BadCandles
        If the frame has fewer than 600 bars, so that no row could be valid.
    """
    needs(frame, WINDOW)
    rows = len(frame)
    bars = Bars.of(frame, rows - WINDOW + 1)
    raw, scaled = _blocks(rows)
    raw[:, : WINDOW - 1] = np.nan
    scaled[:, : WINDOW - 1] = np.nan
    _fill(bars, scaled[:, WINDOW - 1 :], raw[:, WINDOW - 1 :])
    return Indicators(raw=raw.T, scaled=scaled.T, valid=np.arange(rows) >= WINDOW - 1)


def unrest_of(scaled: NDArray[np.float32]) -> Floats:
    """Return (...) the log of the ATR(14) over the mean true range of the newest 599 bars: 0 is as usual.

    Parameters
    ----------
    scaled
        (..., 50) rows of `Indicators.scaled`.
    """
    return scaled[..., _UNREST].astype(np.float64)


def _blocks(rows: int) -> tuple[Floats, NDArray[np.float32]]:
    """Return (50, rows) float64 and float32 of one piece of memory.

    Two pieces of ten thousand rows go back to the system at every call and come again page by page, a quarter of the
    time of all; one of this size is asked for in large pages, or kept by the allocator.
    """
    cells = len(INDICATORS) * rows
    block = np.empty(cells * 12, np.uint8)
    raw, scaled = block[: cells * 8].view(np.float64), block[cells * 8 :].view(np.float32)
    return raw.reshape(-1, rows), scaled.reshape(-1, rows)


def model_inputs(bars: Bars) -> NDArray[np.float32]:
    """Return (frames, rows, 50) `Indicators.scaled` of the rows that are asked for, of several frames at once."""
    scaled = np.empty((len(INDICATORS), *bars.close.shape), np.float32)
    _fill(bars, scaled)
    return np.ascontiguousarray(np.moveaxis(scaled, 0, -1))


def _fill(bars: Bars, scaled: NDArray[np.float32], raw: Floats | None = None) -> None:
    """Write the rows that are asked for into ``scaled`` and ``raw``, (50, ..., rows) each."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):  # bars before the averages have begun
        prices = np.empty((len(_IN_ATR), *scaled.shape[1:]))
        for family in _FAMILIES:
            for name, values, model_input in family(bars):
                place = _PLACE[name]
                if model_input is None:
                    prices[_IN_ATR[name]] = values
                else:
                    scaled[place] = model_input
                if raw is not None:
                    raw[place] = values
        prices[: len(_LINES)] -= bars.close
        prices *= bars.per_unit
        prices *= _PER_ROOT.reshape(-1, *[1] * bars.close.ndim)
        scaled[_PLACES] = prices
    np.clip(scaled, -CLIP, CLIP, out=scaled)


def atr(frame: CandleFrame) -> Floats:
    """Return (n,) float64: ATR(14), the unit of targets and forecasts, in prices; NaN in the first 14 rows.

    It is raised to 1e-7 of the close where a market stands still, so that dividing by it is always allowed.
    """
    with np.errstate(invalid="ignore"):
        return Bars.of(frame, len(frame)).unit
