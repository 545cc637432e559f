"""The twelve smart-money columns: how many zones are open, how far the nearest are, what was broken lately.

Row t is a function of the newest 600 bars: `structure` forgets after `REACH` bars, breaks fade within `FADE`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fusiontrade.market.candles import CandleFrame, Floats
from serving.features.bars import WINDOW
from serving.features.columns import needs
from serving.features.swing.structure import Breaks, Structure, structure

__all__ = ["FADE", "SMART_MONEY", "smart_money"]

Places = NDArray[np.intp]

SMART_MONEY: tuple[str, ...] = (
    *("bullish_order_blocks", "bearish_order_blocks", "bullish_gaps", "bearish_gaps"),
    *("order_block_distance", "gap_distance", "liquidity_high_distance", "liquidity_low_distance"),
    *("bullish_break", "bearish_break", "bullish_change", "bearish_change"),
)
"""Names of the columns: counts over ten, at most 3; distances over a tenth of the close, within ±1; newness of the
newest break of structure and change of character, 1 at its bar and 0 twenty bars later."""

FADE = 20
"""Bars after which a break is no longer news."""
_COUNTED = 10.0
_MOST = 3.0
_FAR = 0.1  # of the close


def smart_money(frame: CandleFrame) -> NDArray[np.float32]:
    """Return (n, 12) float32, `SMART_MONEY`; NaN in the 599 warm-up rows.

    Raises
    ------
    BadCandles
        If the frame has fewer than 600 bars.
    """
    needs(frame, WINDOW)
    found = structure(frame)
    columns = np.empty((len(SMART_MONEY), len(frame)), np.float32)
    columns[:4] = np.minimum(_open(found, len(frame)) / _COUNTED, _MOST)
    columns[4:8] = _distances(found, frame.close)
    columns[8:] = _newness(found.breaks, len(frame))
    columns[:, : WINDOW - 1] = np.nan
    return columns.T


def _open(found: Structure, rows: int) -> Floats:
    """Return (4, n) how many blocks and gaps of either direction count at each bar."""
    zones, kinds = (found.blocks, found.gaps), (0, 2)
    width = rows + 1
    begun = np.concatenate([(one.side + kind) * width + one.born for one, kind in zip(zones, kinds, strict=True)])
    ended = np.concatenate([(one.side + kind) * width + one.ends for one, kind in zip(zones, kinds, strict=True)])
    steps = np.bincount(begun, minlength=4 * width) - np.bincount(ended, minlength=4 * width)
    return np.asarray(steps.reshape(4, width)[:, :rows].cumsum(axis=1), np.float64)


def _distances(found: Structure, close: Floats) -> Floats:
    """Return (4, n): nearest block, nearest gap (below the close negative), liquidity above, liquidity below."""
    away = _nearest(found, len(close))
    away /= close
    away -= 1.0
    out = np.empty((4, len(close)))
    for row in (0, 1):
        below, above = np.minimum(away[2 * row], 0.0), np.maximum(away[2 * row + 1], 0.0)
        out[row] = np.where(np.isnan(above) | (-below <= above), below, above)
    out[2], out[3] = away[4], -away[5]
    out /= _FAR
    np.clip(out, -1.0, 1.0, out=out)
    np.nan_to_num(out[:2], copy=False, nan=0.0)
    np.nan_to_num(out[2:], copy=False, nan=1.0)
    return out


def _nearest(found: Structure, rows: int) -> Floats:
    """Return (6, n) the edge of the nearest block, gap and level that counts, bullish before bearish; NaN for none.

    The edge of a bullish zone is its top, of a bearish its bottom. The nearest of what lies below the price is the
    highest, of what lies above it the lowest: a greatest value once what lies above is negated.
    """
    zones = (found.blocks, found.gaps, found.liquidity)
    side = np.concatenate([one.side for one in zones])
    edge = np.concatenate([np.where(one.side == 0, one.top, one.bottom) for one in zones])
    row = np.repeat((0, 2, 4), [len(one.side) for one in zones]) + side
    born, ends = (np.concatenate([getattr(one, name) for one in zones]) for name in ("born", "ends"))
    signs = np.array([1.0, -1.0, 1.0, -1.0, -1.0, 1.0])
    nearest = _greatest(row * rows + born, ends - born, edge * signs[row], 6 * rows).reshape(6, rows)
    nearest[np.isinf(nearest)] = np.nan
    nearest *= signs[:, None]
    return nearest


def _greatest(start: Places, lengths: Places, values: Floats, cells: int) -> Floats:
    """Return (cells,) the greatest value of the stretches that cover each cell, minus infinity where none does.

    A stretch is the union of two blocks of a power of two cells. Values are written into the blocks, the largest first,
    and from each handed down to its two halves.
    """
    known = lengths > 0
    start, lengths, values = start[known], lengths[known], values[known]
    power = np.frexp(lengths)[1] - 1
    last = start + lengths - (1 << power)
    greatest = np.full(cells, -np.inf)
    for level in reversed(range(int(power.max(initial=0)) + 1)):
        half = 1 << level
        halves = np.full(cells, -np.inf)
        mine = np.flatnonzero(power == level)
        np.maximum.at(halves, start[mine], values[mine])
        np.maximum.at(halves, last[mine], values[mine])
        np.maximum(halves, greatest, out=halves)
        np.maximum(halves[half:], greatest[:-half], out=halves[half:])
        greatest = halves
    return greatest


def _newness(breaks: Breaks, rows: int) -> Floats:
    """Return (4, n): bullish and bearish break of structure, bullish and bearish change of character."""
    marked = np.full((4, rows), -FADE)
    marked[breaks.side + 2 * breaks.change, breaks.row] = breaks.row
    newest = np.maximum.accumulate(marked, axis=1)
    return np.maximum(1.0 - (np.arange(rows) - newest) / FADE, 0.0)
