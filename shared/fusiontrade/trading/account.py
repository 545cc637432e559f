"""An account: cash, positions, and what becomes of them when bars come in.

Always true here: cash plus the worth of all positions is the equity; an order fills at the open of a bar that opens at
or after the instant it was decided at, never inside the bar that made it; a bar that opens beyond a level fills at its
open, one that touches both levels at the stop (as journal.settlement reads it); every fill pays spread, slippage and
commission; a limit only ever makes a fill smaller, and is recorded. At one instant what is left is left first, then
orders fill as they were placed, so no result depends on the order of symbols. One position a symbol. Buying never makes
the cash negative; what a short loses can. No clock: instants come with the bars.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from fusiontrade.journal.settlement import Bar
from fusiontrade.trading.costs import Costs

__all__ = ["Account", "Fill", "Leave", "Order", "Position", "Reason", "Refused", "Trade", "at_open", "within"]


_PATIENCE_MS = 7 * 86_400_000  # longer than any holiday: a bar after that tells of a suspension


class Reason(StrEnum):
    """Why a position was left."""

    STOP = "stop"
    TARGET = "target"
    TIME = "time"
    ASKED = "asked"


@dataclass(frozen=True, slots=True)
class Order:
    """An order to open a position at the next open.

    Parameters
    ----------
    symbol
        What is traded.
    side
        +1 buy, -1 sell short.
    fraction
        Worth of the position over the equity at the time of the decision, above 0.
    hold
        Bars of the symbol that the position lives: it is left at the open of the bar ``hold`` bars after its first.
    stop, target
        Prices, or None; the stop of a buy lies below its target. An order whose bar opens at or beyond one of them is
        not filled.
    """

    symbol: str
    side: int
    fraction: float
    hold: int
    stop: float | None = None
    target: float | None = None

    def __post_init__(self) -> None:
        if self.side not in (-1, 1):
            raise ValueError(f"side must be +1 or -1, got {self.side}: a HOLD is no order")
        if not (math.isfinite(self.fraction) and self.fraction > 0.0):
            raise ValueError(f"fraction must be a share of the equity above 0, got {self.fraction}")
        if self.hold < 1:
            raise ValueError(f"hold must be a number of bars, at least 1, got {self.hold}")
        for name in ("stop", "target"):
            level = getattr(self, name)
            if level is not None and not (math.isfinite(level) and level > 0.0):
                raise ValueError(f"{name} must be a finite positive price or None, got {level}")
        if self.stop is not None and self.target is not None and self.side * self.stop >= self.side * self.target:
            where = "below" if self.side > 0 else "above"
            raise ValueError(f"stop must lie {where} the target, got stop {self.stop} and target {self.target}")


@dataclass(frozen=True, slots=True)
class Leave:
    """An order to leave the position in a symbol at the next open."""

    symbol: str


@dataclass(slots=True)
class Position:
    """An open position; ``quantity`` is negative when short, ``paid`` the commission so far."""

    symbol: str
    quantity: float
    price: float
    opened_at: int
    hold: int
    stop: float | None
    target: float | None
    paid: float
    bars: int = 0

    @property
    def side(self) -> int:
        """+1 long, -1 short."""
        return 1 if self.quantity > 0 else -1


@dataclass(frozen=True, slots=True)
class Fill:
    """What was bought (quantity above 0) or sold at an instant, at which price, for which commission."""

    symbol: str
    at: int
    quantity: float
    price: float
    commission: float


@dataclass(frozen=True, slots=True)
class Trade:
    """A position that was opened and left; ``profit`` is net of everything, ``part`` that over the value put in.

    ``left_at`` is the open of the bar where the open decided, else the bar's close: when within it is not known.
    """

    symbol: str
    side: int
    quantity: float
    opened_at: int
    entry: float
    left_at: int
    exit: float
    reason: Reason
    bars: int
    profit: float
    part: float


@dataclass(frozen=True, slots=True)
class Refused:
    """An order that was not filled, or filled smaller: when, and why."""

    symbol: str
    at: int
    told: str


def at_open(side: int, stop: float | None, target: float | None, price: float, *, over: bool) -> Reason | None:
    """Return why a position of an earlier bar is left at an open, or None where it is kept.

    Parameters
    ----------
    side
        +1 long, -1 short.
    stop, target
        Levels, or None; an open beyond one is the price that was to be had.
    price
        The open.
    over
        Whether its time is over with this open.
    """
    if stop is not None and side * price <= side * stop:
        return Reason.STOP
    if target is not None and side * price >= side * target:
        return Reason.TARGET
    return Reason.TIME if over else None


def within(side: int, stop: float | None, target: float | None, high: float, low: float) -> tuple[Reason, float] | None:
    """Return why and at which level a position is left after the open of a bar, or None where it is kept.

    Where both levels are touched it is the stop, because which came first cannot be known.
    """
    best, worst = (high, low) if side > 0 else (low, high)
    if stop is not None and side * worst <= side * stop:
        return Reason.STOP, stop
    if target is not None and side * best >= side * target:
        return Reason.TARGET, target
    return None


@dataclass
class Account:
    """Money, positions and orders that wait for their bar.

    Parameters
    ----------
    cash
        What it begins with, above 0.
    costs
        By symbol; a symbol without an entry is refused with a KeyError.
    exposure
        Most that all positions may be worth over the equity, long and short added.
    """

    cash: float
    costs: Mapping[str, Costs]
    exposure: float = 1.0
    positions: dict[str, Position] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    waiting: dict[str, tuple[Order, float, int]] = field(default_factory=dict)
    leaving: dict[str, int] = field(default_factory=dict)
    fills: list[Fill] = field(default_factory=list)
    trades: list[Trade] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.cash) and self.cash > 0.0):
            raise ValueError(f"cash must be an amount above 0, got {self.cash}")
        if not self.exposure >= 0.0:
            raise ValueError(f"exposure must be a share of the equity, 0 or more, got {self.exposure}")

    @property
    def equity(self) -> float:
        """Cash and the worth of all positions at the newest prices."""
        return self.cash + sum(one.quantity * self.last[one.symbol] for one in self.positions.values())

    @property
    def invested(self) -> float:
        """Worth of all positions at the newest prices, long and short added."""
        return sum(abs(one.quantity) * self.last[one.symbol] for one in self.positions.values())

    def place(self, order: Order | Leave, at: int) -> None:
        """Take an order that was decided at ``at``; it waits for the first bar that opens then or later, for a week."""
        if isinstance(order, Leave):
            self.leaving[order.symbol] = at
            return
        if order.symbol in self.waiting:
            if at - self.waiting[order.symbol][2] <= _PATIENCE_MS:
                self.refused.append(Refused(order.symbol, at, "an order waits already"))
                return
            self._forget(order.symbol, at)
        self.waiting[order.symbol] = (order, self.equity, at)

    def open(self, bars: Mapping[str, Bar], closed: Collection[str] = ()) -> None:
        """Let the opens of one instant leave what is to be left, then fill what waits, in the order it was placed.

        In the bars of ``closed`` nothing is opened, and what waits for them is dropped.
        """
        for symbol, bar in bars.items():
            asked = self.leaving.get(symbol, bar.opened_at + 1) <= bar.opened_at
            if symbol in self.positions:
                self._at_open(self.positions[symbol], bar, asked=asked)
            if asked:
                del self.leaving[symbol]
        for symbol in [one for one in self.waiting if one in bars]:
            order, equity, at = self.waiting[symbol]
            if bars[symbol].opened_at - at > _PATIENCE_MS:
                self._forget(symbol, bars[symbol].opened_at)
            elif bars[symbol].opened_at >= at:
                del self.waiting[symbol]
                self._enter(order, equity, bars[symbol], entries=symbol not in closed)

    def close(self, symbol: str, bar: Bar) -> None:
        """Let the rest of a bar touch levels, and mark the position at its close."""
        position = self.positions.get(symbol)
        if position is not None:
            decided = within(position.side, position.stop, position.target, bar.high, bar.low)
            if decided is not None:
                self._leave(position, *decided, bar.closed_at)
        self.last[symbol] = bar.close

    def _forget(self, symbol: str, at: int) -> None:
        del self.waiting[symbol]
        self.refused.append(Refused(symbol, at, "no bar came for a week after the decision"))

    def _at_open(self, position: Position, bar: Bar, *, asked: bool) -> None:
        position.bars += 1
        over = position.bars >= position.hold
        reason = at_open(position.side, position.stop, position.target, bar.open, over=over)
        reason = Reason.ASKED if asked else reason
        if reason is not None:
            self._leave(position, reason, bar.open, bar.opened_at)
        else:
            self.last[position.symbol] = bar.open

    def _enter(self, order: Order, equity: float, bar: Bar, *, entries: bool) -> None:
        told = "there is no equity left" if equity <= 0.0 else self._objection(order, bar, entries=entries)
        if told is not None:
            self.refused.append(Refused(order.symbol, bar.opened_at, told))
            return
        costs = self.costs[order.symbol]
        price = costs.price(bar.open, order.side)
        wanted = order.fraction * equity
        value = min(wanted, max(self.exposure * self.equity - self.invested, 0.0))
        if order.side > 0:
            value = min(value, max(self.cash, 0.0) / (1.0 + costs.commission * 1e-4))
        if value < wanted:
            told = f"{value / equity:.4%} of the equity instead of {order.fraction:.4%}: exposure limit or cash"
            self.refused.append(Refused(order.symbol, bar.opened_at, told))
        if value <= 0.0:
            return
        quantity = order.side * value / price
        paid = self._fill(order.symbol, bar.opened_at, quantity, price)
        self.last[order.symbol] = bar.open
        self.positions[order.symbol] = Position(
            order.symbol, quantity, price, bar.opened_at, order.hold, order.stop, order.target, paid
        )

    def _objection(self, order: Order, bar: Bar, *, entries: bool) -> str | None:
        """Return why an order is not filled at all, or None."""
        if not entries:
            return "nothing is opened in this bar"
        if order.symbol in self.positions:
            return "there is a position already"
        if order.stop is not None and order.side * bar.open <= order.side * order.stop:
            return f"opened at {bar.open}, beyond its stop {order.stop}"
        if order.target is not None and order.side * bar.open >= order.side * order.target:
            return f"opened at {bar.open}, beyond its target {order.target}"
        return None

    def _leave(self, position: Position, reason: Reason, level: float, at: int) -> None:
        price = self.costs[position.symbol].price(level, -position.side)
        paid = position.paid + self._fill(position.symbol, at, -position.quantity, price)
        del self.positions[position.symbol]
        profit = position.quantity * (price - position.price) - paid
        part = profit / (abs(position.quantity) * position.price)
        self.trades.append(
            Trade(
                position.symbol, position.side, abs(position.quantity), position.opened_at, position.price, at, price,
                reason, position.bars, profit, part,
            )
        )  # fmt: skip

    def _fill(self, symbol: str, at: int, quantity: float, price: float) -> float:
        """Move money for a fill and return its commission."""
        commission = self.costs[symbol].fee(quantity * price)
        self.cash -= quantity * price + commission
        self.fills.append(Fill(symbol, at, quantity, price, commission))
        return commission
