"""What the bars after a row came to, in units without a scale: the targets of training and the truth of evaluation.

An entry is the close of its row. Every label looks at the next `HORIZON_BARS` bars in their order, as settlement
does, across a weekend too; the win labels are made by settlement itself. A row is usable only where its indicators
are warm, its horizon lies within the data and within three days more than its nominal length, and, for FX and
metals, its entry is outside 16:00-18:59 New York: quotes widen at rollover and only the bid is in such data, so
those hours give false skill.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fusiontrade.journal.outcomes import HORIZON_BARS, in_time, touches, wins
from fusiontrade.market.candles import CandleFrame, Floats
from fusiontrade.market.rollover import in_rollover

__all__ = ["FLAT_ATR", "Labels", "label"]

FLAT_ATR = 0.25
"""A move over the horizon of less than this many ATR is flat."""
_SMALLEST_RANGE = 0.01  # ATR: keeps the log of a dead horizon finite
_Kind = TypeVar("_Kind", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels of the n rows of a frame; rows that are not ``usable`` hold zeros.

    Parameters
    ----------
    usable
        (n,) bool.
    change
        (n,) float32: next close minus close, in ATR(14).
    direction
        (n,) float32: 1 where the next close is above the close, else 0.
    touched
        (n, 15) float32 0/1: +1, 1.5, 2, 3, 4 ATR reached within the horizon, the same below, the same on either side.
    win
        (n, 2) float32 0/1: a long, a short entry is settled as WIN.
    known_at
        (n,) int64: close of the horizon's last bar, ms: from then on the outcome is known.
    log_range
        (n,) float32: log of (highest high - lowest low of the horizon) in ATR.
    classes
        (n,) int64: close at the horizon's end up (0), flat (1) or down (2).
    """

    usable: NDArray[np.bool_]
    change: NDArray[np.float32]
    direction: NDArray[np.float32]
    touched: NDArray[np.float32]
    win: NDArray[np.float32]
    known_at: NDArray[np.int64]
    log_range: NDArray[np.float32]
    classes: NDArray[np.int64]

    @property
    def touch(self) -> NDArray[np.float32]:
        """(n, 10): ``touched`` above and below."""
        return self.touched[:, :10]


def label(frame: CandleFrame, atr: Floats, warm: NDArray[np.bool_], *, rollover: bool) -> Labels:
    """Return the labels of every row of ``frame``.

    Parameters
    ----------
    atr
        (n,) ATR(14) of each row, in price; NaN while warming up.
    warm
        (n,) whether the row's indicators are complete.
    rollover
        Leave out entries in the rollover hours (FX and metals).
    """
    usable = warm & np.isfinite(atr) & (np.nan_to_num(atr) > 0) & _horizon_known(frame)
    if rollover:
        usable &= ~in_rollover(frame.close_time)
    rows = np.flatnonzero(usable)
    ahead = rows[:, None] + 1 + np.arange(HORIZON_BARS)
    entry, unit = frame.close[rows], atr[rows]
    opened, high, low, close = (price[ahead] for price in (frame.open, frame.high, frame.low, frame.close))
    change = (close[:, 0] - entry) / unit
    top, bottom = (high.max(axis=1) - entry) / unit, (entry - low.min(axis=1)) / unit
    move = (close[:, -1] - entry) / unit
    classes = np.where(np.abs(move) < FLAT_ATR, 1, np.where(move > 0, 0, 2))
    log_range = np.log(np.maximum(top + bottom, _SMALLEST_RANGE))
    return Labels(
        usable=usable,
        change=_spread(change, np.float32, usable),
        direction=_spread(change > 0, np.float32, usable),
        touched=_spread(touches(entry, unit, high, low), np.float32, usable),
        win=_spread(wins(entry, unit, opened, high, low), np.float32, usable),
        known_at=_spread(frame.close_time[ahead[:, -1]], np.int64, usable),
        log_range=_spread(log_range, np.float32, usable),
        classes=_spread(classes, np.int64, usable),
    )


def _horizon_known(frame: CandleFrame) -> NDArray[np.bool_]:
    """Tell which rows have their whole horizon in the data, and not across more than a long weekend."""
    known = np.zeros(len(frame), np.bool_)
    if len(frame) > HORIZON_BARS:
        made_at, ended_at = frame.close_time[:-HORIZON_BARS], frame.close_time[HORIZON_BARS:]
        known[:-HORIZON_BARS] = in_time(made_at, ended_at, frame.timeframe.milliseconds)
    return known


def _spread(values: NDArray[Any], kind: type[_Kind], usable: NDArray[np.bool_]) -> NDArray[_Kind]:
    """Return the values of the usable rows in place among zeros."""
    whole = np.zeros((len(usable), *values.shape[1:]), kind)
    whole[usable] = values
    return whole
