"""What the bars after a forecast came to: which distances were touched and which trades won.

The one definition for labels of training, for evaluation, and for what the product learns from outcomes. Pure: no
I/O, no clock.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fusiontrade.inference.contract import TOUCH_LEVELS
from fusiontrade.journal.settlement import Direction, levels, settle_many

__all__ = ["HORIZON_BARS", "LONGEST_GAP_MS", "in_time", "touches", "wins"]

Floats = NDArray[np.float64]

HORIZON_BARS = 4
"""Bars ahead that touches and trades look."""
LONGEST_GAP_MS = 3 * 24 * 3_600_000
"""Time that a horizon may take beyond its bars: a weekend and a holiday."""


def touches(entry: Floats, atr: Floats, high: Floats, low: Floats) -> NDArray[np.bool_]:
    """Return (n, 15): each of ``TOUCH_LEVELS`` ATR reached above, below, on either side.

    Parameters
    ----------
    entry, atr
        (n,) price of the forecast and its ATR(14).
    high, low
        (n, h) of the bars of the horizon.
    """
    top, bottom = (high.max(axis=1) - entry) / atr, (entry - low.min(axis=1)) / atr
    distance = np.asarray(TOUCH_LEVELS)
    up, down = top[:, None] >= distance, bottom[:, None] >= distance
    return np.concatenate((up, down, up | down), axis=1)


def wins(entry: Floats, atr: Floats, opened: Floats, high: Floats, low: Floats) -> NDArray[np.bool_]:
    """Return (n, 2): whether a long, a short entry is settled as WIN within the horizon; shapes as above."""
    won = []
    for side in (Direction.BUY, Direction.SELL):
        tp1, sl = levels(side, entry, atr)
        won.append(settle_many(side, tp1, sl, (opened, high, low)) == 1)
    return np.stack(won, axis=1)


def in_time(made_at: NDArray[np.int64] | int, ended_at: NDArray[np.int64] | int, bar_ms: int) -> NDArray[np.bool_]:
    """Tell which horizons of bars of ``bar_ms`` took no more than `LONGEST_GAP_MS` beyond their nominal length."""
    return np.asarray(np.asarray(ended_at) - made_at <= HORIZON_BARS * bar_ms + LONGEST_GAP_MS)
