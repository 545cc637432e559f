"""How a forecast is settled against the market: the one definition of WIN, LOSS and EXPIRED.

Always true here: bars are walked in the order of time and nothing after the deciding bar is looked at; a bar that
opens beyond a level fills at its open, because no fill at the level was to be had; a bar that touches both levels
is a LOSS, because which came first cannot be known (the conservative reading); only bars finished by ``expires_at``
count. HOLD makes no claim, so it is not settled: asking for it is an error.

`settle` is the definition. `settle_many` is the same walk over many entries at once, for the labels that models are
trained on; it is held equal to `settle` by test. Pure: no I/O, no clock, numpy only inside `settle_many`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["STOP_ATR", "TARGET_ATR", "Bar", "Direction", "Settlement", "Status", "levels", "settle", "settle_many"]

STOP_ATR = 1.5
"""Distance of the stop from the entry, in ATR(14)."""
TARGET_ATR = 2.0
"""Distance of the first target from the entry, in ATR(14)."""
_Price = TypeVar("_Price", float, "NDArray[np.float64]")


class Direction(StrEnum):
    """What an entry claims; the value is the journal's word."""

    BUY = "BUY"
    SELL = "SELL"


class Status(StrEnum):
    """What became of an entry."""

    WIN = "WIN"
    LOSS = "LOSS"
    EXPIRED = "EXPIRED"
    PENDING = "PENDING"


class Bar(NamedTuple):
    """One finished bar: instants in ms since 1970-01-01 UTC, prices in the quote currency."""

    opened_at: int
    closed_at: int
    open: float
    high: float
    low: float
    close: float


@dataclass(frozen=True, slots=True)
class Settlement:
    """Outcome of an entry; ``price`` and ``at`` (ms UTC) are None while it is PENDING.

    ``at`` is the open of the bar that gapped beyond a level, the close of the bar that touched one (when within the
    bar is not known), and ``expires_at`` for EXPIRED.
    """

    status: Status
    price: float | None = None
    at: int | None = None


def levels(direction: str, entry: _Price, atr: _Price) -> tuple[_Price, _Price]:
    """Return ``(tp1, sl)``, numbers or arrays: 2 ATR with the direction and 1.5 ATR against it."""
    sign = _sign(direction)
    return entry + sign * TARGET_ATR * atr, entry - sign * STOP_ATR * atr


def settle(
    direction: str, entry: float, tp1: float, sl: float, bars: Iterable[Bar], *, expires_at: int, closed_by: int
) -> Settlement:
    """Return what became of an entry.

    Parameters
    ----------
    direction
        ``BUY`` or ``SELL``.
    entry, tp1, sl
        Prices: where it was opened, the first target (beyond ``entry`` in the direction) and the stop (on the other
        side of it).
    bars
        The bars that opened at or after the entry, oldest first. Bars that close after ``closed_by`` are ignored.
    expires_at
        Last instant the entry lives, ms UTC: its horizon. A bar that closes later does not count.
    closed_by
        The caller has every bar that was finished by this instant, ms UTC.

    Raises
    ------
    ValueError
        If the direction is not BUY or SELL, a price is not finite and positive, a level is on the wrong side of the
        entry, or the bars are out of order.
    """
    sign = _sign(direction)
    _check_levels(sign, entry, tp1, sl)
    last_close = entry
    previous: int | None = None
    for bar in bars:
        if previous is not None and bar.opened_at <= previous:
            raise ValueError(f"bars must rise in time: one opens at {bar.opened_at} after one at {previous}")
        previous = bar.opened_at
        if bar.closed_at > min(expires_at, closed_by):
            break
        if decided := _decided(sign, tp1, sl, bar):
            return decided
        last_close = bar.close
    if closed_by >= expires_at:
        return Settlement(Status.EXPIRED, last_close, expires_at)
    return Settlement(Status.PENDING)


def _decided(sign: int, tp1: float, sl: float, bar: Bar) -> Settlement | None:
    """Return the settlement if this bar decides it. All prices are compared times ``sign``, so SELL mirrors BUY."""
    best, worst = (bar.high, bar.low) if sign > 0 else (bar.low, bar.high)
    if sign * bar.open <= sign * sl:
        return Settlement(Status.LOSS, bar.open, bar.opened_at)
    if sign * bar.open >= sign * tp1:
        return Settlement(Status.WIN, bar.open, bar.opened_at)
    if sign * worst <= sign * sl:
        return Settlement(Status.LOSS, sl, bar.closed_at)
    if sign * best >= sign * tp1:
        return Settlement(Status.WIN, tp1, bar.closed_at)
    return None


def settle_many(
    direction: str,
    tp1: NDArray[np.float64],
    sl: NDArray[np.float64],
    paths: Sequence[NDArray[np.float64]],
) -> NDArray[np.int8]:
    """Return +1 (WIN), -1 (LOSS) or 0 (EXPIRED) for many entries of one direction, each over its whole horizon.

    Parameters
    ----------
    tp1, sl
        (n,) prices of the levels.
    paths
        ``(open, high, low)``, each (n, h) prices: the h bars after each entry, oldest first.

    Returns
    -------
    (n,) int8; equal to the status `settle` gives when all h bars are finished and within the horizon.
    """
    import numpy as np

    sign = _sign(direction)
    opened, high, low = (sign * path for path in paths)
    best, worst = (high, low) if sign > 0 else (low, high)
    target, stop = (sign * level[:, None] for level in (tp1, sl))
    loss = (opened <= stop) | (~(opened >= target) & (worst <= stop))
    win = ~loss & ((opened >= target) | (best >= target))
    decided = loss | win
    first = decided.argmax(axis=1)
    rows = np.arange(len(decided))
    outcome = np.where(win[rows, first], 1, -1)
    return np.where(decided.any(axis=1), outcome, 0).astype(np.int8)


def _sign(direction: str) -> int:
    if direction not in (Direction.BUY, Direction.SELL):
        raise ValueError(f"only BUY and SELL are settled, got {direction!r}: a HOLD is counted, not settled")
    return 1 if direction == Direction.BUY else -1


def _check_levels(sign: int, entry: float, tp1: float, sl: float) -> None:
    for name, price in (("entry", entry), ("tp1", tp1), ("sl", sl)):
        if not (math.isfinite(price) and price > 0):
            raise ValueError(f"{name} must be a finite positive price, got {price!r}")
    if not sign * sl < sign * entry < sign * tp1:
        side = "sl < entry < tp1" if sign > 0 else "tp1 < entry < sl"
        raise ValueError(f"levels must satisfy {side}, got entry {entry}, tp1 {tp1}, sl {sl}")
