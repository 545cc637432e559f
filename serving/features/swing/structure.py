"""The structure that traders read into bars: swing points, breaks of them, order blocks, gaps, resting liquidity.

Always true: nothing is known before its last bar is. A swing high is no swing high until five bars after it have
stayed below, a gap until its third bar, a block until the close that breaks the swing before it. Nothing lives longer
than `REACH` bars, so with what it was made of each row depends on 505 bars at most. Every comparison is between prices
of the bars themselves: multiplying them all by a constant changes no event.

Both directions are one calculation: row 0 of every (2, n) array has prices as they are, row 1 negated, where what is
bearish looks bullish. Zones are found in columns; no loop runs over bars. docs/features.md has the definitions and what
differs from `smartmoneyconcepts`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusiontrade.market.candles import CandleFrame, Floats

__all__ = ["REACH", "SWING_BARS", "Breaks", "Structure", "Zones", "structure"]

SWING_BARS = 5
"""Bars after a swing point that confirm it; it also has to pass the four before it."""
REACH = 250
"""Bars after which a swing point, a zone or a level is forgotten: a year of sessions."""
_BOTH = np.array([[0], [1]])
_LEVELS = 8  # of the table of maxima: blocks of 1, 2, ... 128 bars, 255 together

Places = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Zones:
    """Stretches of price that count from one bar to another; k zones of both directions.

    Parameters
    ----------
    side
        (k,) 0 bullish, 1 bearish.
    place
        (k,) row of the bar the zone was made at: the block's own bar, the middle bar of a gap, the swing point.
    born
        (k,) first row at whose close the zone is known.
    ends
        (k,) first row at whose close it no longer counts, n where that is still to come.
    top, bottom
        (k,) prices; equal for liquidity, which is a level.
    """

    side: Places
    place: Places
    born: Places
    ends: Places
    top: Floats
    bottom: Floats


@dataclass(frozen=True, eq=False)
class Breaks:
    """Closes beyond the newest confirmed swing point, each point broken once.

    Parameters
    ----------
    side
        (k,) 0 above a swing high, 1 below a swing low.
    row, swing
        (k,) row whose close broke, row of the point that was broken.
    change
        (k,) whether it is a change of character: before it prices had gone beyond the opposite swing point that
        preceded the broken one; else it is a break of structure.
    """

    side: Places
    row: Places
    swing: Places
    change: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Structure:
    """Everything found in n bars; ``swings`` is (2, n): swing highs, swing lows, marked at their own bar."""

    swings: NDArray[np.bool_]
    breaks: Breaks
    blocks: Zones
    gaps: Zones
    liquidity: Zones


@dataclass(frozen=True, eq=False)
class _Sides:
    """(2, n) prices, in row 1 negated, so that ``high`` is what the direction goes towards."""

    open: Floats
    high: Floats
    low: Floats
    close: Floats

    @classmethod
    def of(cls, frame: CandleFrame) -> _Sides:
        as_they_are = (frame.open, frame.high, frame.low, frame.close)
        negated = (frame.open, frame.low, frame.high, frame.close)
        sides = np.array((as_they_are, negated), np.float64)
        np.negative(sides[1], out=sides[1])
        return cls(*np.ascontiguousarray(sides.swapaxes(0, 1)))


@dataclass(frozen=True, eq=False)
class _Found:
    """Zones in their own direction's prices, before it is known how long they last.

    A zone ends at the first bar after ``born`` whose ``high`` of row ``watched`` exceeds ``limit``.
    """

    side: Places
    place: Places
    born: Places
    top: Floats
    bottom: Floats
    watched: Places
    limit: Floats


def structure(frame: CandleFrame) -> Structure:
    """Return what is found in the bars of a checked ``frame``, whatever their number."""
    sides = _Sides.of(frame)
    swings = _swings(sides.high)
    breaks, blocks = _breaks(sides, swings)
    gaps, liquidity = _gaps(sides), _liquidity(sides, swings)
    return Structure(swings, breaks, *_lasting(sides.high, (blocks, gaps, liquidity)))


def _swings(high: Floats) -> NDArray[np.bool_]:
    """Return (2, n) whether a high exceeds the four before it and no high of the five after it exceeds it."""
    rows = high.shape[1]
    marked = np.zeros(high.shape, np.bool_)
    if rows >= 2 * SWING_BARS:
        pairs = np.maximum(high[:, 1:], high[:, :-1])
        fours = np.maximum(pairs[:, 2:], pairs[:, :-2])
        last = rows - SWING_BARS
        middle = high[:, SWING_BARS - 1 : last]
        after = np.maximum(fours[:, SWING_BARS : last + 1], high[:, 2 * SWING_BARS - 1 :])
        marked[:, SWING_BARS - 1 : last] = (middle > fours[:, : last - SWING_BARS + 1]) & (middle >= after)
    return marked


def _newest(marked: NDArray[np.bool_]) -> Places:
    """Return (..., n) the newest marked column up to each one, -1 before the first."""
    return np.maximum.accumulate(np.where(marked, np.arange(marked.shape[-1]), -1), axis=-1)


def _earlier(columns: Places, bars: int) -> Places:
    """Return columns as they were ``bars`` rows before, -1 at the start."""
    out = np.full(columns.shape, -1, np.intp)
    out[:, bars:] = columns[:, : max(0, columns.shape[1] - bars)]
    return out


def _breaks(sides: _Sides, swings: NDArray[np.bool_]) -> tuple[Breaks, _Found]:
    rows = np.arange(swings.shape[1])
    newest = _newest(swings)
    leading = _earlier(newest, SWING_BARS)  # the newest point that is confirmed at each row
    level = sides.high[_BOTH, np.maximum(leading, 0)]
    beyond = (sides.close > level) & (leading >= np.maximum(rows - REACH, 0))
    before = _earlier(_newest(beyond), 1)
    side, row = np.nonzero(beyond & (before < leading + SWING_BARS))
    swing = leading[side, row]

    place, bottom = _lowest_between(sides.low, side, swing + 1, row)
    opposite = _earlier(newest, 1)[1 - side, swing]
    known = opposite >= np.maximum(row - REACH, 0)
    change = known & (bottom < sides.low[side, np.maximum(opposite, 0)])
    blocks = _Found(side, place, row, sides.high[side, place], bottom, 1 - side, -bottom)
    return Breaks(side, row, swing, change), blocks


def _lowest_between(low: Floats, side: Places, start: Places, stop: Places) -> tuple[Places, Floats]:
    """Return (k,) the newest row of the lowest price of rows ``start`` up to ``stop``, and that price."""
    lengths = stop - start
    offsets = np.cumsum(lengths) - lengths
    if not len(side):
        return start, np.zeros(0)
    column = np.arange(lengths.sum()) + np.repeat(start - offsets, lengths)
    values = low[np.repeat(side, lengths), column]
    least = np.minimum.reduceat(values, offsets)
    at = np.where(values == np.repeat(least, lengths), column, -1)
    return np.maximum.reduceat(at, offsets), least


def _gaps(sides: _Sides) -> _Found:
    """Return gaps between the high of one bar and the low of the second after it, around a bar of that direction."""
    high, low = sides.high[:, :-2], sides.low[:, 2:]
    side, first = np.nonzero((low > high) & (sides.close[:, 1:-1] > sides.open[:, 1:-1]))
    top = low[side, first]
    limit = np.nextafter(-top, -np.inf)  # a gap ends when its edge is touched
    return _Found(side, first + 1, first + 2, top, high[side, first], 1 - side, limit)


def _liquidity(sides: _Sides, swings: NDArray[np.bool_]) -> _Found:
    side, place = np.nonzero(swings)
    level = sides.high[side, place]
    return _Found(side, place, place + SWING_BARS, level, level, side, level)


def _lasting(high: Floats, found: tuple[_Found, ...]) -> list[Zones]:
    """Return the zones with their ends, in prices as they are: what is bearish was negated, and its edges change."""
    side, born, top, bottom, watched, limit = (
        np.concatenate([getattr(one, name) for one in found])
        for name in ("side", "born", "top", "bottom", "watched", "limit")
    )
    ends, bearish = _first_above(high, watched, born, limit), side == 1
    top, bottom = np.where(bearish, -bottom, top), np.where(bearish, -top, bottom)
    zones, start = [], 0
    for one in found:
        mine = slice(start, start + len(one.side))
        zones.append(Zones(one.side, one.place, one.born, ends[mine], top[mine], bottom[mine]))
        start = mine.stop
    return zones


def _first_above(high: Floats, watched: Places, born: Places, limit: Floats) -> Places:
    """Return (k,) the first column after ``born`` of row ``watched`` above ``limit``, `REACH` bars on at the latest.

    From the longest to the shortest, blocks of 2^j bars are passed over whose maximum does not exceed the limit.
    """
    rows = high.shape[1]
    width = rows + (1 << _LEVELS)
    tables = np.empty((_LEVELS, 2, width))
    tables[0, :, :rows] = high
    tables[:, :, rows:] = np.inf  # what is still to come ends nothing, but the walk has to stop there
    for level in range(_LEVELS - 1):
        np.maximum(tables[level, :, :rows], tables[level, :, 1 << level :][:, :rows], out=tables[level + 1, :, :rows])
    walked = watched * width + born + 1
    for level in reversed(range(_LEVELS)):
        walked += (tables[level].ravel().take(walked) <= limit) * (1 << level)
    return np.asarray(np.minimum(np.minimum(walked - watched * width, born + REACH), rows), np.intp)
