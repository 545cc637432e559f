"""The job ``backtest``: what trading the platform's signals of one symbol and interval would have come to.

A signal is a journal entry: the platform's own where it wrote one for that bar, else the forecast of today's models as
of that bar's close, made by the same service (`fusiontrade.fusion.service`) from bars that were finished by then.
Always true: a signal of a bar's close is filled at the next bar's open or later (`fusiontrade.trading.simulation`);
how many backtests its owner has asked for of this symbol and interval counts as trials, and deflates the Sharpe ratio.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Protocol

from fusiontrade.clock import iso
from fusiontrade.cloud.tables import Table, Update
from fusiontrade.errors import FusionTradeError, InvalidInput
from fusiontrade.forecasts.jobs import JobOrder
from fusiontrade.registry.turns import CANCELLED, Again, Done

if TYPE_CHECKING:
    from fusiontrade.journal.entries import Entry
    from fusiontrade.market.candles import CandleFrame
    from fusiontrade.registry.bundles import Objects
    from fusiontrade.trading.account import Order, Trade
    from fusiontrade.trading.simulation import Moment, Simulation

__all__ = ["KIND", "Backtest", "Signal", "deflated", "signal_of"]

KIND = "backtest"
MOST_BARS = 2_000
CAPITAL = 100_000.0
FRACTION = 0.1
_SHOWN = 500
_EULER = 0.5772156649015329
_YEAR_MS = 365.25 * 86_400_000


class Bars(Protocol):
    """Who has candles of a span."""

    def __call__(self, symbol: str, interval: str, since: int, until: int) -> CandleFrame:
        """Return the bars that opened from ``since`` and were finished by ``until`` (ms)."""
        ...


class Forecasts(Protocol):
    """Who forecasts as of a past instant."""

    def __call__(self, symbol: str, at: int) -> Entry:
        """Return the entry that a forecast of then would have been; raises `FusionTradeError`."""
        ...


class Entries(Protocol):
    """Who has the platform's journal."""

    def __call__(self, symbol: str, since: int, until: int) -> Iterable[Entry]:
        """Return its entries of a symbol and span."""
        ...


@dataclass(frozen=True)
class Signal:
    """What was said at a bar's close: ``side`` is +1, -1, or 0 for nothing to trade on this interval."""

    at: int
    side: int
    stop: float | None
    target: float | None
    journaled: bool


def signal_of(entry: Entry, at: int, interval: str, *, journaled: bool) -> Signal:
    """Return the signal of an entry; one whose targets come from another interval says nothing of this one."""
    side = {"BUY": 1, "SELL": -1}.get(entry.signal, 0) if entry.interval == interval else 0
    if not side or entry.stop_loss is None or entry.tp1 is None:
        return Signal(at, 0, None, None, journaled)
    return Signal(at, side, float(entry.stop_loss), float(entry.tp1), journaled)


class Backtest:
    """Does jobs of this kind.

    Parameters
    ----------
    objects
        Keeps the signals between turns.
    table
        Counts trials.
    seconds_left
        What is left of a turn, from its begin.
    """

    def __init__(
        self,
        objects: Objects,
        table: Table,
        *,
        bars: Bars,
        forecasts: Forecasts,
        entries: Entries,
        turn: Callable[[], Callable[[], bool]],
    ) -> None:
        self._objects, self._table = objects, table
        self._bars, self._forecasts, self._entries, self._turn = bars, forecasts, entries, turn

    def turn(self, order: JobOrder, kept: Mapping[str, Any], *, cancelled: bool) -> Again | Done:  # noqa: ARG002
        """Find more signals, or trade them where all are found."""
        if cancelled:
            raise FusionTradeError(CANCELLED)
        goes_on = self._turn()
        asked = order.request
        symbol, interval = str(asked["symbol"]), str(asked["interval"])
        since, until = int(asked["from"]), int(asked["to"])
        frame = self._bars(symbol, interval, since, until)
        if not len(frame):
            raise InvalidInput("body/from", f"there are no {interval} bars of {symbol} in that span")
        if len(frame) > MOST_BARS:
            raise InvalidInput(
                "body/from", f"{len(frame)} bars are too many for one backtest: {MOST_BARS} at most; ask for less time"
            )
        signals = self._known(order.id)
        self._find(signals, frame, (symbol, interval), (since, until), goes_on)
        if len(signals) < len(frame):
            self._objects.put(_key(order.id), json.dumps([asdict(one) for one in signals]).encode())
            return Again(0, max(0.01, 0.95 * len(signals) / len(frame)))
        return Done(self._traded(order, frame, signals))

    def abandon(self, order: JobOrder, kept: Mapping[str, Any]) -> None:
        """Nothing is held."""

    def _known(self, job: str) -> list[Signal]:
        return [Signal(**one) for one in json.loads(self._objects.get(_key(job)) or b"[]")]

    def _find(
        self,
        signals: list[Signal],
        frame: CandleFrame,
        of: tuple[str, str],
        span: tuple[int, int],
        goes_on: Callable[[], bool],
    ) -> None:
        symbol, interval = of
        journaled = {entry.opened_at: entry for entry in self._entries(symbol, *span) if entry.interval == interval}
        for at in frame.close_time[len(signals) :].tolist():
            if signals and not goes_on():
                return
            entry = journaled.get(at)
            try:
                found = self._forecasts(symbol, at) if entry is None else entry
            except InvalidInput:  # bars that lie too far back, or whose forecast cannot be an entry: no signal
                signals.append(Signal(at, 0, None, None, journaled=False))
                continue
            signals.append(signal_of(found, at, interval, journaled=entry is not None))

    def _traded(self, order: JobOrder, frame: CandleFrame, signals: Sequence[Signal]) -> dict[str, Any]:
        from fusiontrade.journal.outcomes import HORIZON_BARS
        from fusiontrade.trading.account import Order
        from fusiontrade.trading.costs import Costs
        from fusiontrade.trading.simulation import simulate

        said = {one.at: one for one in signals if one.side}

        def decide(moment: Moment) -> list[Order]:
            one = said.get(moment.at)
            if one is None or frame.symbol in moment.held:
                return []
            return [Order(frame.symbol, one.side, FRACTION, HORIZON_BARS, one.stop, one.target)]

        costs = {frame.symbol: Costs(commission=float(order.request["costs_bps"]))}
        found = simulate([frame], decide, capital=CAPITAL, costs=costs)
        trials = self._trials(order)
        journaled = sum(one.journaled for one in signals)
        return {
            "symbol": frame.symbol,
            "interval": str(frame.timeframe),
            "from": iso(int(frame.time[0])),
            "to": iso(int(frame.close_time[-1])),
            "costs_bps": float(order.request["costs_bps"]),
            "bars": len(frame),
            "signals": {"journaled": journaled, "made_now": len(signals) - journaled, "traded": len(said)},
            **_told(found, trials),
            "warnings": _warnings(found, len(signals) - journaled),
        }

    def _trials(self, order: JobOrder) -> int:
        """Count this backtest among its owner's of the same symbol and interval; a repeated turn counts once."""
        key = {"pk": "REGISTRY", "sk": f"TRIALS#{order.owner}#{order.request['symbol']}#{order.request['interval']}"}
        item = self._table.update(Update(key, add={"jobs": frozenset({order.id})}))
        return len(item["jobs"])


def _told(found: Simulation, trials: int) -> dict[str, Any]:
    returns = _returns(found.equity.tolist())
    years = (int(found.at[-1]) - int(found.at[0])) / _YEAR_MS if len(found.at) > 1 else 0.0
    drawdown = found.drawdown
    step = max(1, -(-len(found.at) // _SHOWN))
    shown = sorted({*range(0, len(found.at), step), len(found.at) - 1})
    profits = [trade.profit for trade in found.trades]
    return {
        "capital": CAPITAL,
        "final": round(float(found.equity[-1]), 2),
        "return": round(float(found.equity[-1]) / CAPITAL - 1, 6),
        "max_drawdown": round(float(drawdown.max()), 6),
        "trade_count": len(profits),
        "win_rate": round(sum(profit > 0 for profit in profits) / len(profits), 4) if profits else None,
        "profit_factor": _profit_factor(profits),
        "trades": [_trade(trade) for trade in found.trades[-_SHOWN:]],
        "equity": [
            {
                "at": iso(int(found.at[row])),
                "equity": round(float(found.equity[row]), 2),
                "drawdown": round(float(drawdown[row]), 6),
            }
            for row in shown
        ],
        "deflated_sharpe": deflated(returns, trials=trials, periods=len(found.at) / years if years else 0.0),
    }


def _warnings(found: Simulation, made_now: int) -> list[str]:
    said = []
    if made_now:
        said.append(
            f"{made_now} signals were made now by the models that serve now: where those learned from bars of this "
            "span, the result shows what they remember and not what they can foresee"
        )
    if not found.trades:
        said.append("no signal was traded: over this span the platform said HOLD on this interval")
    return said


def _trade(trade: Trade) -> dict[str, Any]:
    return {
        "side": "BUY" if trade.side > 0 else "SELL",
        "quantity": round(trade.quantity, 8),
        "opened_at": iso(trade.opened_at),
        "entry": trade.entry,
        "left_at": iso(trade.left_at),
        "exit": trade.exit,
        "reason": str(trade.reason),
        "profit": round(trade.profit, 4),
        "return": round(trade.part, 8),
    }


def _profit_factor(profits: Sequence[float]) -> float | None:
    """Return gains over losses; 999 where there is no loss, None without a trade."""
    if not profits:
        return None
    losses = -sum(profit for profit in profits if profit < 0)
    return min(999.0, round(sum(profit for profit in profits if profit > 0) / losses, 4)) if losses else 999.0


def _returns(equity: Sequence[float]) -> list[float]:
    worth = [CAPITAL, *equity]
    return [after / before - 1 for before, after in pairwise(worth)]


def deflated(returns: Sequence[float], *, trials: int, periods: float) -> dict[str, Any]:
    """Return the deflated Sharpe ratio: the chance that it is above what the best of ``trials`` without skill reaches.

    Bailey and López de Prado, J. Portfolio Management 40(5), 2014; `serving.evaluation` computes the same.

    Parameters
    ----------
    returns
        (n,) of each period.
    trials
        Attempts, this one included.
    periods
        Of a year.
    """
    n = len(returns)
    empty = {"probability": None, "sharpe": None, "largest_by_chance": None, "trials": trials, "n": n}
    if n < 3:
        return empty
    mean = sum(returns) / n
    centred = [value - mean for value in returns]
    squares = sum(value * value for value in centred)
    if squares <= 0:
        return empty
    ratio = mean / math.sqrt(squares / (n - 1))
    scale = math.sqrt(squares / n)
    skewness = sum((value / scale) ** 3 for value in centred) / n
    kurtosis = sum((value / scale) ** 4 for value in centred) / n
    largest = _largest_by_chance(trials) / math.sqrt(n - 1)
    spread = 1 - skewness * ratio + (kurtosis - 1) / 4 * ratio * ratio
    probability = NormalDist().cdf((ratio - largest) * math.sqrt(n - 1) / math.sqrt(spread)) if spread > 0 else None
    year = math.sqrt(periods)
    return {
        "probability": None if probability is None else round(probability, 6),
        "sharpe": round(ratio * year, 6),
        "largest_by_chance": round(largest * year, 6),
        "trials": trials,
        "n": n,
    }


def _largest_by_chance(trials: int) -> float:
    """Return the expected largest of ``trials`` standard normal draws (the paper's equation 6)."""
    if trials < 2:
        return 0.0
    normal = NormalDist()
    return (1 - _EULER) * normal.inv_cdf(1 - 1 / trials) + _EULER * normal.inv_cdf(1 - 1 / (trials * math.e))


def _key(job: str) -> str:
    return f"training/{job}/signals.json"
