"""The twelve smart-money columns: how many zones are open, how far the nearest are, what was broken lately.

Row t is a function of the newest 600 bars: `structure` forgets after `REACH` bars, breaks fade within `FADE`.
"""

from __future__ import annotations

from dataclasses import dataclass

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
_BELOW = np.array([1.0, -1.0, 1.0, -1.0, -1.0, 1.0])  # by kind of zone: 1 where its price is looked for below the close


def smart_money(frame: CandleFrame) -> NDArray[np.float32]:
    """Return (n, 12) float32, `SMART_MONEY`; NaN in the 599 warm-up rows.

    Raises
    ------
    BadCandles
        If the frame has fewer than 600 bars.
    """
    needs(frame, WINDOW)
    found, first = structure(frame), WINDOW - 1
    zones = _Counting.of(found, first, len(frame) - first)
    columns = np.empty((len(SMART_MONEY), len(frame)), np.float32)
    columns[:, :first] = np.nan
    columns[:4, first:] = np.minimum(zones.open()[:4] / _COUNTED, _MOST)
    columns[4:8, first:] = _distances(zones.nearest(), frame.close[first:])
    columns[8:, first:] = _newness(found.breaks, first, zones.rows)
    return columns.T


@dataclass(frozen=True, eq=False)
class _Counting:
    """The k zones that count in some of the rows that are asked for, whose numbers begin with 0.

    Parameters
    ----------
    kind
        (k,) 0 and 1 bullish and bearish block, 2 and 3 gap, 4 and 5 liquidity above and below.
    born, ends
        (k,) as in `Zones`.
    edge
        (k,) the edge that is nearest to a price outside.
    rows
        How many are asked for.
    """

    kind: Places
    born: Places
    ends: Places
    edge: Floats
    rows: int

    @classmethod
    def of(cls, found: Structure, first: int, rows: int) -> _Counting:
        zones = (found.blocks, found.gaps, found.liquidity)
        side, born, ends, top, bottom = (
            np.concatenate([getattr(one, name) for one in zones]) for name in ("side", "born", "ends", "top", "bottom")
        )
        kind = np.repeat((0, 2, 4), [len(one.side) for one in zones]) + side
        counts = np.flatnonzero(ends > first)
        edge = np.where(side == 0, top, bottom)[counts]
        return cls(kind[counts], np.maximum(born[counts] - first, 0), ends[counts] - first, edge, rows)

    def open(self) -> Floats:
        """Return (6, rows) how many of each kind count."""
        width = self.rows + 1
        begun, ended = (np.bincount(self.kind * width + one, minlength=6 * width) for one in (self.born, self.ends))
        return np.asarray((begun - ended).reshape(6, width)[:, :-1].cumsum(axis=1), np.float64)

    def nearest(self) -> Floats:
        """Return (6, rows) the edge of the nearest of each kind, infinitely far where there is none.

        The nearest of what lies below the price is the highest, of what lies above it the lowest: a greatest value once
        what lies above is negated.
        """
        start, values = self.kind * self.rows + self.born, self.edge * _BELOW[self.kind]
        nearest = _greatest(start, self.ends - self.born, values, 6 * self.rows).reshape(6, self.rows)
        nearest *= _BELOW[:, None]
        return nearest


def _distances(nearest: Floats, close: Floats) -> Floats:
    """Return (4, rows): nearest block, nearest gap (below the close negative), liquidity above, liquidity below."""
    away = nearest / close
    away -= 1.0
    out = np.empty((4, len(close)))
    below, above = np.minimum(away[0:4:2], 0.0), np.maximum(away[1:4:2], 0.0)
    out[:2] = np.where(-below <= above, below, above)
    out[:2][np.isinf(out[:2])] = 0.0
    out[2] = away[4]
    np.negative(away[5], out=out[3])
    out /= _FAR
    return np.clip(out, -1.0, 1.0, out=out)


def _greatest(start: Places, lengths: Places, values: Floats, cells: int) -> Floats:
    """Return (cells,) the greatest value of the stretches that cover each cell, minus infinity where none does.

    A stretch, of one cell or more, is the union of two blocks of a power of two cells. The greatest of the blocks that
    begin at each cell is handed down from every power to the one below, to both halves of the blocks.
    """
    power = np.frexp(lengths)[1] - 1
    order = np.argsort(power.astype(np.int8), kind="stable")  # so few numbers are sorted by counting them
    begin = np.array((start, start + lengths - (1 << power))).T[order].ravel()
    written = values[order].repeat(2)
    most = int(power.max(initial=0))
    ends = np.cumsum(2 * np.bincount(power, minlength=most + 1))
    greatest = np.full(cells, -np.inf)
    for level in reversed(range(most + 1)):
        half, mine = 1 << level, slice(ends[level - 1] if level else 0, ends[level])
        np.maximum(greatest[half:], greatest[:-half], out=greatest[half:])
        np.maximum.at(greatest, begin[mine], written[mine])
    return greatest


def _newness(breaks: Breaks, first: int, rows: int) -> Floats:
    """Return (4, rows): bullish and bearish break of structure, bullish and bearish change of character."""
    column = breaks.row - (first - FADE)
    late = np.flatnonzero(column >= 0)
    marked = np.full((4, FADE + rows), -FADE)
    marked[(breaks.side + 2 * breaks.change)[late], column[late]] = column[late]
    newest = np.maximum.accumulate(marked, axis=1)[:, FADE:]
    return np.maximum(1.0 - (np.arange(FADE, FADE + rows) - newest) / FADE, 0.0)
