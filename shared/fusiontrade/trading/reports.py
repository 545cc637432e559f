"""A backtest as JSON: trades, equity, drawdown, what it was worth, and how much of that is left after the attempts.

The trading is `fusiontrade.trading.simulation`; here it is set up from bars and told. A span of less than two years has
a Sharpe ratio whose error is about as large as it is: the result says so. Pure: no I/O, no clock.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusiontrade.market.candles import CandleFrame, Floats
from fusiontrade.trading.account import Leave, Order, Trade
from fusiontrade.trading.costs import Costs
from fusiontrade.trading.performance import deflated_sharpe, performance, profit_factor
from fusiontrade.trading.simulation import Decide, Moment, Simulation, simulate

__all__ = ["backtest", "planned", "told"]

Json = dict[str, Any]
_YEAR_MS = 365.25 * 86_400_000
_FEWEST_YEARS = 2.0
_SHOWN_REFUSALS = 20


def backtest(
    frames: Sequence[CandleFrame],
    decide: Decide,
    *,
    costs: Mapping[str, Costs],
    capital: float = 100_000.0,
    exposure: float = 1.0,
    entries: Mapping[str, NDArray[np.bool_]] | None = None,
    trials: int = 1,
) -> Json:
    """Return the backtest of a decider, ready for JSON.

    Parameters
    ----------
    frames
        Checked bars of one timeframe, a symbol each.
    decide
        Called after each bar; see `fusiontrade.trading.simulation`, or `planned` for orders that are known.
    costs
        By symbol.
    capital
        Money to begin with.
    exposure
        Most that all positions may be worth over the equity.
    entries
        By symbol (n,) whether a position may be opened in a bar; default: in each.
    trials
        Configurations that were looked at, this one included.

    Raises
    ------
    ValueError
        If there are no bars, or two frames of one symbol.
    """
    if not any(map(len, frames)):
        raise ValueError("a backtest needs bars, got none: choose another span")
    found = simulate(frames, decide, capital=capital, costs=costs, exposure=exposure, entries=entries)
    return told(found, capital=capital, costs=costs, trials=trials)


def planned(orders: Mapping[int, Sequence[Order | Leave]]) -> Decide:
    """Return a decider of orders that were made before, by the instant of the close they were made at, ms UTC."""

    def decide(moment: Moment) -> Sequence[Order | Leave]:
        return orders.get(moment.at, ())

    return decide


def told(found: Simulation, *, capital: float, costs: Mapping[str, Costs], trials: int) -> Json:
    """Return a simulation as JSON values: instants are ISO, fractions are fractions."""
    returns = _returns(found.equity)
    years = float((found.at[-1] - found.at[0]) / _YEAR_MS)
    periods = len(returns) / years if years > 0.0 else float("nan")
    deflated = deflated_sharpe(returns, trials=trials, periods=periods)
    warnings = []
    if years < _FEWEST_YEARS:
        warnings.append(
            f"{_span(years)} are too few for a Sharpe ratio: its standard error is about "
            f"{1.0 / np.sqrt(years):.1f} a year"
            if years > 0.0
            else "one bar is too few for a Sharpe ratio, or any other figure of returns"
        )
    if (found.equity <= 0.0).any():
        ruin = _iso(int(found.at[(found.equity <= 0.0).argmax()]))
        warnings.append(f"a short lost all there was by {ruin}: returns after that count as 0")
    content = _finite(
        {
            "from": _iso(int(found.at[0])),
            "to": _iso(int(found.at[-1])),
            "capital": capital,
            "final": float(found.equity[-1]),
            "performance": performance(returns, periods) | {"of_trades": _of_trades(found.trades, returns)},
            "deflated_sharpe": asdict(deflated),
            "turnover": _turnover(found, years),
            "trades": [_trade(trade) for trade in found.trades],
            "open": [asdict(one) | {"opened_at": _iso(one.opened_at)} for one in found.account.positions.values()],
            "equity": _curve(found),
            "costs_bps": {symbol: asdict(one) for symbol, one in costs.items()},
            "not_filled": _refusals(found),
            "warnings": warnings,
        }
    )
    return dict(content)


def _span(years: float) -> str:
    """Return a time in words."""
    return f"{years:.1f} years" if years >= 1.0 else f"{years * 365.25:.1f} days"


def _returns(equity: Floats) -> Floats:
    """Return (n - 1,) the returns from mark to mark; nothing is traded before the first, which is the capital.

    -1 where nothing is left, and 0 from then on: a debt has no return.
    """
    before = np.minimum.accumulate(equity[:-1])
    moved = np.divide(np.diff(equity), equity[:-1], out=np.zeros(len(equity) - 1), where=before > 0.0)
    return np.maximum(moved, -1.0)


def _of_trades(trades: Sequence[Trade], returns: Floats) -> Json:
    profits = np.asarray([trade.profit for trade in trades])
    return {
        "n": len(trades),
        "wins": int((profits > 0).sum()),
        "win_rate": float((profits > 0).mean()) if len(trades) else None,
        "profit_factor": profit_factor(profits) if len(trades) else None,
        "mean_return": float(np.mean([trade.part for trade in trades])) if trades else None,
        "reasons": dict(Counter(str(trade.reason) for trade in trades)),
        "largest_loss_of_a_bar": float(returns.min()) if len(returns) else None,
    }


def _turnover(found: Simulation, years: float) -> float | None:
    """Return what was bought and sold in a year over the mean equity, None where nothing is left of that."""
    traded = sum(abs(fill.quantity * fill.price) for fill in found.account.fills)
    equity = float(found.equity.mean())
    return float(traded / equity / years) if years > 0.0 and equity > 0.0 else None


def _trade(trade: Trade) -> Json:
    return asdict(trade) | {
        "side": "BUY" if trade.side > 0 else "SELL",
        "opened_at": _iso(trade.opened_at),
        "left_at": _iso(trade.left_at),
        "reason": str(trade.reason),
    }


def _curve(found: Simulation) -> list[Json]:
    columns = (found.at.tolist(), found.equity.tolist(), found.drawdown.tolist(), found.invested.tolist())
    return [
        {"at": _iso(at), "equity": equity, "drawdown": drawdown, "invested": invested}
        for at, equity, drawdown, invested in zip(*columns, strict=True)
    ]


def _refusals(found: Simulation) -> Json:
    newest = found.refused[-_SHOWN_REFUSALS:]
    return {
        "n": len(found.refused),
        "newest": [{"symbol": one.symbol, "at": _iso(one.at), "told": one.told} for one in newest],
    }


def _iso(instant: int) -> str:
    return f"{np.datetime64(instant, 'ms').astype('datetime64[s]')}Z"


def _finite(value: Any) -> Any:
    """Return a value as JSON can hold it: what is no finite number is None."""
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
