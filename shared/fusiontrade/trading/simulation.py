"""The event loop of backtests and paper trading: bars come in, orders that were decided before fill, then one decides.

Always true here: what decides sees an account and instants, no bar that is not over; its orders reach a bar that opens
at or after the instant of the decision; changing the bars after a step changes nothing up to it; the order of symbols
changes nothing. The same `run` takes bars of history and bars that have just closed: only where the steps come from
differs. Pure: no I/O, no clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fusiontrade.journal.settlement import Bar
from fusiontrade.market.candles import CandleFrame, Floats
from fusiontrade.trading.account import Account, Leave, Order, Refused, Trade
from fusiontrade.trading.costs import Costs

__all__ = ["Decide", "Mark", "Moment", "Simulation", "Step", "drawdowns", "run", "simulate", "steps_of"]


@dataclass(frozen=True, slots=True)
class Step:
    """The bars of all symbols that opened at one instant; those of ``closed`` let no position be opened."""

    opened_at: int
    bars: Mapping[str, Bar]
    closed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Mark:
    """What the account was worth when the bars of a step had closed."""

    at: int
    equity: float
    cash: float
    invested: float


@dataclass(frozen=True, slots=True)
class Moment:
    """What a decision may be made of: the instant, the account as it is, and how the day went.

    Parameters
    ----------
    at
        The close of the step's bars, ms UTC.
    symbols
        Those whose bar has just closed.
    equity, invested
        In money; ``invested`` adds long and short.
    held
        Symbols with a position.
    step_return
        Of the equity over this step, a fraction.
    trades
        Everything left so far, oldest first.
    """

    at: int
    symbols: tuple[str, ...]
    equity: float
    invested: float
    held: frozenset[str]
    step_return: float
    trades: Sequence[Trade]


Decide = Callable[[Moment], Iterable[Order | Leave]]


@dataclass(frozen=True, eq=False)
class Simulation:
    """What came of it.

    Parameters
    ----------
    at
        (n,) int64: the close of each step, ms UTC.
    equity, invested
        (n,) float64 in money.
    trades, refused
        Positions that were left, and orders that were not filled or smaller; positions still open are in ``account``.
    """

    at: np.ndarray[tuple[int], np.dtype[np.int64]]
    equity: Floats
    invested: Floats
    trades: tuple[Trade, ...]
    refused: tuple[Refused, ...]
    account: Account

    @property
    def drawdown(self) -> Floats:
        """(n,) how far the equity lies below its highest value so far, a fraction, 0 or more."""
        return drawdowns(self.equity)


def run(steps: Iterable[Step], decide: Decide, account: Account) -> Iterator[Mark]:
    """Walk the steps, oldest first, and yield what the account is worth after each.

    Raises
    ------
    ValueError
        If a step does not open after the one before, or closes before it (bars of several lengths), or a bar opens at
        another instant than its step.
    """
    opened_at: float = -math.inf
    closed_at: float = -math.inf
    equity = account.equity
    for step in steps:
        _check_step(step, opened_at)
        opened_at = step.opened_at
        if not step.bars:
            continue
        at = max(bar.closed_at for bar in step.bars.values())
        if at < closed_at:
            raise ValueError(
                f"bars must be of one length: those of {opened_at} close at {at}, earlier ones at {closed_at}"
            )
        closed_at = at
        account.open(step.bars, step.closed)
        for symbol, bar in step.bars.items():
            account.close(symbol, bar)
        mark = Mark(at, account.equity, account.cash, account.invested)
        moment = Moment(
            at, tuple(step.bars), mark.equity, mark.invested, frozenset(account.positions),
            mark.equity / equity - 1.0 if equity > 0.0 else 0.0, account.trades,
        )  # fmt: skip
        equity = mark.equity
        for order in decide(moment):
            account.place(order, at)
        yield mark


def _check_step(step: Step, before: float) -> None:
    if step.opened_at <= before:
        raise ValueError(f"steps must rise in time: one opens at {step.opened_at} after one at {before}")
    for symbol, bar in step.bars.items():
        if bar.opened_at != step.opened_at:
            raise ValueError(f"{symbol} has a bar that opens at {bar.opened_at} in the step of {step.opened_at}")


def simulate(
    frames: Sequence[CandleFrame],
    decide: Decide,
    *,
    capital: float,
    costs: Mapping[str, Costs],
    exposure: float = 1.0,
    entries: Mapping[str, np.ndarray[tuple[int], np.dtype[np.bool_]]] | None = None,
) -> Simulation:
    """Return the backtest of a decider over the bars of one or more symbols.

    Parameters
    ----------
    frames
        Bars of one timeframe, a symbol each.
    decide
        Called after each step.
    capital
        Money to begin with.
    costs
        By symbol.
    exposure
        Most that all positions may be worth over the equity.
    entries
        By symbol (n,) whether a position may be opened in a bar; default: in each.

    Raises
    ------
    ValueError
        If frames are of several timeframes, or two of one symbol, or ``entries`` has another length than its frame.
    BadCandles
        If bars break a rule of `CandleFrame`.
    """
    account = Account(capital, costs, exposure)
    marks = list(run(steps_of(frames, entries), decide, account))
    last = marks[-1].at if marks else 0
    account.refused += [Refused(symbol, last, "no bar came after the decision") for symbol in account.waiting]
    return Simulation(
        np.asarray([mark.at for mark in marks], np.int64),
        np.asarray([mark.equity for mark in marks], np.float64),
        np.asarray([mark.invested for mark in marks], np.float64),
        tuple(account.trades),
        tuple(account.refused),
        account,
    )


def steps_of(
    frames: Sequence[CandleFrame],
    entries: Mapping[str, np.ndarray[tuple[int], np.dtype[np.bool_]]] | None = None,
) -> Iterator[Step]:
    """Yield the bars of frames step by step; raises as `simulate` says."""
    allowed = entries or {}
    _check(frames, allowed)
    columns = [
        tuple(column.tolist() for column in (one.time, one.close_time, one.open, one.high, one.low, one.close))
        for one in frames
    ]
    symbols = [frame.symbol for frame in frames]
    place = [0] * len(frames)
    for opened_at in sorted({instant for column in columns for instant in column[0]}):
        bars, closed = {}, []
        for number, symbol in enumerate(symbols):
            row, column = place[number], columns[number]
            if row == len(column[0]) or column[0][row] != opened_at:
                continue
            bars[symbol] = Bar(*(part[row] for part in column))
            if symbol in allowed and not allowed[symbol][row]:
                closed.append(symbol)
            place[number] = row + 1
        yield Step(opened_at, bars, frozenset(closed))


def _check(frames: Sequence[CandleFrame], entries: Mapping[str, np.ndarray[tuple[int], np.dtype[np.bool_]]]) -> None:
    if len({frame.symbol for frame in frames}) < len(frames):
        raise ValueError("each symbol must have one frame")
    if len(found := {frame.timeframe for frame in frames}) > 1:
        raise ValueError(f"frames must be of one timeframe, got {', '.join(sorted(found))}")
    for frame in frames:
        frame.checked()
        if frame.symbol in entries and len(entries[frame.symbol]) != len(frame):
            raise ValueError(
                f"entries of {frame.symbol} must have {len(frame)} values, got {len(entries[frame.symbol])}"
            )


def drawdowns(equity: Floats) -> Floats:
    """Return (n,) how far each value lies below the highest so far, as a fraction of that, 0 or more."""
    top = np.maximum.accumulate(equity)
    return np.asarray(1.0 - equity / top, np.float64)
