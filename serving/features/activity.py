"""Volatility of the newest bar with the hour of the week taken out: the third input of the intraday models.

True ranges and returns are divided by what is usual in their slot of the week (`serving.features.season`), averaged
over short and long pasts, and set beside what is usual in the slots to come: how far prices will move depends on
little else. All columns are logarithms of ratios, or distances in ATR(14). Row t is a function of the newest 600 bars.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fusiontrade.market.candles import CandleFrame, Floats
from serving.features.bars import WINDOW, Bars
from serving.features.columns import CLIP, needs
from serving.features.rolling import lag, rolling_sum
from serving.features.season import LEAST_SIZE, following_slots, slots, slots_a_day, weights

__all__ = ["VOLATILITY", "volatility_columns"]

_LEVELS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_MOVES = (4, 16, 64, 256)
_TRENDS = (4, 16, 64)
_AHEAD = 4
_RESIDUAL_BARS = 400
_RESIDUAL_LEVEL = 16
_SAME_HOUR_BARS = 590
_WILDER = (13.0 / 14.0) ** np.arange(60)

VOLATILITY: tuple[str, ...] = (
    *(f"level_{bars}" for bars in _LEVELS),
    *(f"move_{bars}" for bars in _MOVES),
    *("usual_next", "usual_horizon", "usual_peak", "usual_past", "usual_now"),
    *("same_hour_next", "same_hour_horizon"),
    *("residual_mean", "residual_root"),
    *(f"trend_{bars}" for bars in _TRENDS),
    *("body", "position"),
)
"""Names of the columns: ``level_n``, mean true range of n bars; ``move_n``, root mean square return of n bars;
``usual_*``, usual activity of the next bar, mean and largest of the next four, the weighted mean behind ATR, that of
the newest bar; ``same_hour_*``, how the same times of day went on the days before; ``residual_*``, size of returns
relative to what was expected; the rest are moves in ATR."""


def volatility_columns(frame: CandleFrame, usual: Floats) -> NDArray[np.float32]:
    """Return (n, 28) float32 within ±10; NaN in the 599 warm-up rows.

    Parameters
    ----------
    frame
        Checked, finished bars, oldest first; 600 or more.
    usual
        (slots of a week,) usual activity of this market; 0 where it never trades.

    Raises
    ------
    BadCandles
        If the frame has fewer than 600 bars.
    """
    needs(frame, WINDOW)
    with np.errstate(invalid="ignore", divide="ignore"):
        bars = Bars.of(frame)
        slot = slots(frame.time, frame.timeframe)
        weight = weights(usual)
        columns = [*_levels(bars, weight[slot]), *_seasons(weight, usual, slot)]
        columns += [*_same_hours(bars, frame, weight, usual, slot), *_residuals(bars, weight[slot]), *_moves(bars)]
    table = np.clip(np.stack(columns, axis=1), -CLIP, CLIP).astype(np.float32)
    table[: WINDOW - 1] = np.nan
    return table


def _sizes(bars: Bars, usual: Floats) -> Floats:
    """Return (n,) true range relative to the close, the season taken out."""
    size = np.nan_to_num(bars.true_range) / bars.close
    return np.asarray(np.maximum(size, LEAST_SIZE) / usual, np.float64)


def _returns(bars: Bars) -> Floats:
    return np.nan_to_num(np.log(bars.close / bars.previous))


def _levels(bars: Bars, usual: Floats) -> list[Floats]:
    unit = np.log(bars.unit / bars.close)
    size, move = _sizes(bars, usual), _returns(bars) / usual
    found = [np.log(rolling_sum(size, length) / length) - unit for length in _LEVELS]
    return found + [
        0.5 * np.log(np.maximum(rolling_sum(move * move, length) / length, LEAST_SIZE**2)) - unit for length in _MOVES
    ]


def _seasons(weight: Floats, usual: Floats, slot: NDArray[np.intp]) -> list[Floats]:
    ahead = weight[following_slots(usual, slot, _AHEAD)]
    now = weight[slot]
    past = np.convolve(now, _WILDER / _WILDER.sum())[: len(now)]
    return [np.log(part) for part in (ahead[:, 0], ahead.mean(axis=1), ahead.max(axis=1), past, now)]


def _same_hours(bars: Bars, frame: CandleFrame, weight: Floats, usual: Floats, slot: NDArray[np.intp]) -> list[Floats]:
    """Return (n,) twice: mean log size at the times of day of the next bar, of the next four, over the window."""
    day = slots_a_day(frame.timeframe)
    rows = np.arange(len(slot))
    size = _sizes(bars, weight[slot])
    level = np.log(rolling_sum(size, _LEVELS[-1]) / _LEVELS[-1])
    order = np.lexsort((rows, slot % day))
    place = (slot % day)[order] * len(rows) + rows[order]
    total = np.concatenate(([0.0], np.cumsum(np.log(size)[order])))
    ahead = following_slots(usual, slot, _AHEAD) % day
    first = np.searchsorted(place, ahead * len(rows) + np.maximum(rows - _SAME_HOUR_BARS + 1, 0)[:, None])
    last = np.searchsorted(place, ahead * len(rows) + rows[:, None], side="right")
    count, sums = last - first, total[last] - total[first]
    one = np.where(count[:, 0] > 0, sums[:, 0] / np.maximum(count[:, 0], 1) - level, 0.0)
    several = count.sum(axis=1)
    return [one, np.where(several > 0, sums.sum(axis=1) / np.maximum(several, 1) - level, 0.0)]


def _residuals(bars: Bars, usual: Floats) -> list[Floats]:
    expected = lag(rolling_sum(_sizes(bars, usual), _RESIDUAL_LEVEL) / _RESIDUAL_LEVEL, 1) * usual
    residual = np.minimum(np.abs(np.nan_to_num(_returns(bars) / expected)), 10.0)
    mean = rolling_sum(residual, _RESIDUAL_BARS) / _RESIDUAL_BARS
    square = rolling_sum(residual * residual, _RESIDUAL_BARS) / _RESIDUAL_BARS
    return [np.log(np.maximum(mean, 1e-3)), 0.5 * np.log(np.maximum(square, 1e-6))]


def _moves(bars: Bars) -> list[Floats]:
    found = [(bars.close - lag(bars.close, length)) / bars.unit for length in _TRENDS]
    return [
        *found,
        (bars.close - bars.open) / bars.unit,
        (2.0 * bars.close - bars.high - bars.low) / bars.unit,
    ]
