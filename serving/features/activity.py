"""Volatility of the newest bar with the hour of the week taken out: the third input of the intraday models.

True ranges and returns are divided by what is usual in their slot of the week (`serving.features.season`), averaged
over short and long pasts, and set beside what is usual in the slots to come: how far prices will move depends on
little else. All columns are logarithms of ratios, or distances in ATR(14). Row t is a function of the newest 600 bars.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fusiontrade.market.candles import CandleFrame, Floats
from serving.features.bars import WINDOW, Bars
from serving.features.columns import CLIP, needs
from serving.features.rolling import mean_of, newest, sums_of
from serving.features.season import LEAST_SIZE, Slots, Week

__all__ = ["VOLATILITY", "newest_volatility", "volatility_columns"]

_LEVELS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_MOVES = (4, 16, 64, 256)
_TRENDS = (4, 16, 64)
_AHEAD = 4
_RESIDUAL_BARS = 400
_RESIDUAL_LEVEL = 16
_SAME_HOUR_BARS = 590
_WILDER = (13.0 / 14.0) ** np.arange(60)
_WILDER /= _WILDER.sum()

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
    rows = len(frame) - WINDOW + 1
    table = np.full((len(frame), len(VOLATILITY)), np.nan, np.float32)
    slots = Slots.of(frame.time[1:], frame.timeframe)
    table[WINDOW - 1 :] = newest_volatility(Bars.of_many([frame], rows), [slots], [Week.of(usual)], rows=rows)[0]
    return table


def newest_volatility(bars: Bars, slots: Sequence[Slots], weeks: Sequence[Week], *, rows: int) -> NDArray[np.float32]:
    """Return (frames, rows, 28) float32: the rows of `volatility_columns` that are asked for, of several frames.

    Parameters
    ----------
    bars
        Of the frames; 599 bars or more before the newest ``rows``.
    slots
        Of each frame: those of the newest ``rows`` + 598 bars.
    weeks
        Of each frame: the usual one.
    """
    past = rows + WINDOW - 2  # the window's first bar has no close before it
    now = np.array([week.weights[slot.of_week] for week, slot in zip(weeks, slots, strict=True)])
    size = np.maximum(newest(bars.true_ranges, past) / newest(bars.closes, past), LEAST_SIZE) / now
    returns = newest(bars.log_returns, past)
    ahead = [week.following(slot.of_week[-rows:], _AHEAD) for week, slot in zip(weeks, slots, strict=True)]
    levels, unit = np.log(_means(size, _LEVELS, rows)), newest(bars.unit, rows)
    moves = 0.5 * np.log(np.maximum(_means((returns / now) ** 2, _MOVES, rows), LEAST_SIZE**2))
    coming = np.array([week.weights[places] for week, places in zip(weeks, ahead, strict=True)])
    columns = (
        np.concatenate((levels, moves)) - np.log(unit / newest(bars.closes, rows)),
        np.log(_seasons(now, coming, rows)),
        _same_hours(np.log(size), levels[-1], slots, ahead),
        _residuals(size, returns, now, rows),
        _moves(bars, rows) / unit,
    )
    table = np.clip(np.concatenate(columns), -CLIP, CLIP).astype(np.float32)
    return np.moveaxis(table, 0, -1)


def _means(column: Floats, windows: Sequence[int], rows: int) -> Floats:
    """Return (windows, frames, rows)."""
    means = np.array(sums_of(column, *windows, rows=rows))
    means /= np.array(windows, np.float64)[:, None, None]
    return means


def _seasons(now: Floats, coming: Floats, rows: int) -> Floats:
    past = [np.convolve(one, _WILDER, "valid") for one in newest(now, rows + len(_WILDER) - 1)]
    return np.stack([coming[..., 0], coming.mean(axis=-1), coming.max(axis=-1), np.array(past), newest(now, rows)])


def _same_hours(log_size: Floats, level: Floats, slots: Sequence[Slots], ahead: Sequence[NDArray[np.intp]]) -> Floats:
    """Return (2, frames, rows): mean log size above ``level`` at the times of day of the next bar, of the next four."""
    found = [_at_times_of_day(*one) for one in zip(log_size, slots, ahead, strict=True)]
    totals, counts = np.array(found).transpose(1, 0, 3, 2)  # sums and numbers, frames, slots ahead, rows
    total, count = (np.stack((each[:, 0], each.sum(axis=1))) for each in (totals, counts))
    return np.where(count > 0, total / np.maximum(count, 1) - level, 0.0)


def _at_times_of_day(log_size: Floats, slots: Slots, ahead: NDArray[np.intp]) -> tuple[Floats, NDArray[np.intp]]:
    """Return (rows, 4) twice: sum and number of those of the newest 590 bars at the times of day of each slot ahead."""
    bars = len(log_size)
    rows = np.arange(bars - len(ahead), bars)[:, None]
    order, place = slots.by_time_of_day
    total = np.zeros(bars + 1)
    np.cumsum(log_size[order], out=total[1:])
    begins = ahead % slots.a_day * bars
    first = np.searchsorted(place, begins + np.maximum(rows - _SAME_HOUR_BARS + 1, 0))
    last = np.searchsorted(place, begins + rows, side="right")
    return total[last] - total[first], last - first


def _residuals(size: Floats, returns: Floats, now: Floats, rows: int) -> Floats:
    past = rows + _RESIDUAL_BARS - 1
    before = mean_of(size[..., :-1], _RESIDUAL_LEVEL, rows=past)
    residual = np.minimum(np.abs(newest(returns, past) / (before * newest(now, past))), 10.0)
    mean, square = mean_of(np.array((residual, residual * residual)), _RESIDUAL_BARS, rows=rows)
    return np.array((np.log(np.maximum(mean, 1e-3)), 0.5 * np.log(np.maximum(square, 1e-6))))


def _moves(bars: Bars, rows: int) -> Floats:
    opened, high, low, close = (newest(column, rows) for column in (bars.opens, bars.highs, bars.lows, bars.closes))
    trends = (close - newest(bars.closes, rows, ago=length) for length in _TRENDS)
    return np.array((*trends, close - opened, 2.0 * close - high - low))
