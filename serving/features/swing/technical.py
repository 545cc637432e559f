"""The twelve technical columns of the swing vector; most are the product's own indicators in another unit.

Row t is a function of the newest 600 bars, unchanged when all prices or all volumes are multiplied by a constant.
Where a market has no volume the columns made of it are 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fusiontrade.market.candles import CandleFrame, Floats
from serving.features.bars import WINDOW, Bars
from serving.features.columns import INDICATORS, indicators, needs
from serving.features.rolling import ema, ratio, sums_of

__all__ = ["TECHNICAL", "technical"]

TECHNICAL: tuple[str, ...] = (
    *("rsi", "macd", "macd_histogram", "bb_position", "atr", "adx", "obv_trend", "vwap_distance"),
    *("ema_9", "ema_21", "volume_ratio", "ema_spread"),
)
"""Names of the columns: rsi/100, macd/close, its histogram/close, place in the Bollinger bands, atr/close, adx/100,
signed over all volume of 20 bars, close/vwap - 1, ema 9/close, ema 21/close, volume over its 20-bar mean,
(ema 9 - ema 21)/close."""

_CLIP = 3.0
_BARS = 20
_FAST, _SLOW = 9, 21
_IDLE = 1e-12  # of the mean volume: as little is none
_PLACE = {name: place for place, name in enumerate(INDICATORS)}


def technical(frame: CandleFrame) -> NDArray[np.float32]:
    """Return (n, 12) float32 within ±3, `TECHNICAL`; NaN in the 599 warm-up rows.

    Raises
    ------
    BadCandles
        If the frame has fewer than 600 bars.
    """
    needs(frame, WINDOW)
    raw = indicators(frame).raw[WINDOW - 1 :]
    bars = Bars.of(frame, len(raw))
    close = bars.close

    def known(name: str) -> Floats:
        return np.asarray(raw[:, _PLACE[name]])

    lower, upper = known("bb_lower"), known("bb_upper")
    fast, slow = bars.newest(ema(bars.closes, _FAST)), bars.newest(ema(bars.closes, _SLOW))
    trend, level = _volume(bars)
    vwap = known("vwap") if bars.volumes is not None else close
    columns = (
        known("rsi") / 100.0,
        known("macd") / close,
        known("macd_histogram") / close,
        ratio(close - lower, upper - lower, smallest=bars.nothing, otherwise=0.5),
        known("atr") / close,
        known("adx") / 100.0,
        trend,
        close / vwap - 1.0,
        fast / close,
        slow / close,
        level,
        (fast - slow) / close,
    )
    out = np.full((len(frame), len(TECHNICAL)), np.nan, np.float32)
    out[WINDOW - 1 :] = np.clip(np.stack(columns, axis=1), -_CLIP, _CLIP)
    return out


def _volume(bars: Bars) -> tuple[Floats, Floats]:
    """Return (rows,) signed over all volume of 20 bars, and volume over its mean of 20; 0 where nothing is traded."""
    if bars.volumes is None:
        return np.zeros(bars.rows), np.zeros(bars.rows)
    volumes = bars.past(bars.volumes, _BARS - 1)
    signed = volumes * np.sign(bars.past(bars.changes, _BARS - 1))
    traded, moved = (sums_of(column, _BARS, rows=bars.rows)[0] for column in (volumes, signed))
    nothing = _IDLE * sums_of(bars.volumes, WINDOW, rows=bars.rows)[0]
    trend = ratio(moved, traded, smallest=nothing, otherwise=0.0)
    return trend, ratio(_BARS * bars.newest(bars.volumes), traded, smallest=nothing, otherwise=0.0)
