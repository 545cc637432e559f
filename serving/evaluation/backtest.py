"""A backtest as JSON: trades, equity, drawdown, what it was worth, and how much of that is left after the attempts.

The trading is `fusiontrade.trading.simulation`; here it is set up from bars and told. Entries of FX and metals around
17:00 New York are left out, where only the bid is in the data and every dip looks like skill. A span of less than two
years has its Sharpe ratio beside an error that is larger than it is: the result says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusiontrade.market.candles import CandleFrame, Floats
from fusiontrade.market.rollover import in_rollover, rolls_over
from fusiontrade.market.symbols import parse_symbol
from fusiontrade.trading.account import Trade
from fusiontrade.trading.costs import STANDARD, Costs
from fusiontrade.trading.simulation import Decide, Simulation, simulate
from serving.evaluation.cross_section.performance import deflated_sharpe, performance, profit_factor
from serving.evaluation.study.report import finite
from serving.instants import iso_of

__all__ = ["backtest", "costs_of", "entries_of", "told"]

Json = dict[str, Any]
_YEAR_MS = 365.25 * 86_400_000
_FEWEST_YEARS = 2.0
_SHOWN_REFUSALS = 20


def backtest(
    frames: Sequence[CandleFrame],
    decide: Decide,
    *,
    capital: float = 100_000.0,
    costs: Mapping[str, Costs] | None = None,
    exposure: float = 1.0,
    trials: int = 1,
) -> Json:
    """Return the backtest of a decider, ready for JSON.

    Parameters
    ----------
    frames
        Checked bars of one timeframe, a symbol each.
    decide
        Called after each bar; see `fusiontrade.trading.simulation`.
    capital
        Money to begin with.
    costs
        By symbol; a symbol without an entry has the standard costs of its asset class.
    exposure
        Most that all positions may be worth over the equity.
    trials
        Configurations that were looked at, this one included.

    Raises
    ------
    ValueError
        If there are no bars, or two frames of one symbol.
    """
    if not any(map(len, frames)):
        raise ValueError("a backtest needs bars, got none: choose another span")
    paid = costs_of(frames) | dict(costs or {})
    found = simulate(frames, decide, capital=capital, costs=paid, exposure=exposure, entries=entries_of(frames))
    return told(found, capital=capital, costs=paid, trials=trials)


def costs_of(frames: Sequence[CandleFrame]) -> dict[str, Costs]:
    """Return the standard costs of each frame's asset class."""
    return {frame.symbol: STANDARD[parse_symbol(frame.symbol).asset_class] for frame in frames}


def entries_of(frames: Sequence[CandleFrame]) -> dict[str, NDArray[np.bool_]]:
    """Return by symbol (n,) whether a position may be opened in a bar; only of markets that roll over."""
    found: dict[str, NDArray[np.bool_]] = {}
    for frame in frames:
        daily = frame.timeframe.milliseconds >= 86_400_000  # a bar of a day always opens in some such hour
        if rolls_over(parse_symbol(frame.symbol)) and not daily:
            found[frame.symbol] = ~in_rollover(frame.time)
    return found


def told(found: Simulation, *, capital: float, costs: Mapping[str, Costs], trials: int) -> Json:
    """Return a simulation as JSON values: instants are ISO, fractions are fractions."""
    returns = np.diff(found.equity, prepend=capital) / np.concatenate(([capital], found.equity[:-1]))
    years = float((found.at[-1] - found.at[0]) / _YEAR_MS) if len(found.at) else 0.0
    periods = len(found.at) / years if years > 0.0 else float("nan")
    deflated = deflated_sharpe(returns, trials=trials, periods=periods)
    warnings = []
    if years < _FEWEST_YEARS:
        warnings.append(
            f"{years:.1f} years are too few for a Sharpe ratio: its standard error is about "
            f"{1.0 / np.sqrt(max(years, 1e-9)):.1f} a year"
        )
    return finite(  # type: ignore[no-any-return]
        {
            "from": iso_of(int(found.at[0])),
            "to": iso_of(int(found.at[-1])),
            "capital": capital,
            "final": float(found.equity[-1]),
            "performance": performance(returns, periods) | {"of_trades": _of_trades(found.trades, returns)},
            "deflated_sharpe": asdict(deflated),
            "turnover": _turnover(found, years),
            "trades": [_trade(trade) for trade in found.trades],
            "open": [asdict(one) | {"opened_at": iso_of(one.opened_at)} for one in found.account.positions.values()],
            "equity": _curve(found),
            "costs_bps": {symbol: asdict(one) for symbol, one in costs.items()},
            "not_filled": _refusals(found),
            "warnings": warnings,
        }
    )


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
    """Return what was bought and sold in a year over the mean equity."""
    traded = sum(abs(fill.quantity * fill.price) for fill in found.account.fills)
    return float(traded / found.equity.mean() / years) if years > 0.0 else None


def _trade(trade: Trade) -> Json:
    return asdict(trade) | {
        "side": "BUY" if trade.side > 0 else "SELL",
        "opened_at": iso_of(trade.opened_at),
        "left_at": iso_of(trade.left_at),
        "reason": str(trade.reason),
    }


def _curve(found: Simulation) -> list[Json]:
    columns = (found.at.tolist(), found.equity.tolist(), found.drawdown.tolist(), found.invested.tolist())
    return [
        {"at": iso_of(at), "equity": equity, "drawdown": drawdown, "invested": invested}
        for at, equity, drawdown, invested in zip(*columns, strict=True)
    ]


def _refusals(found: Simulation) -> Json:
    newest = found.refused[-_SHOWN_REFUSALS:]
    return {
        "n": len(found.refused),
        "newest": [{"symbol": one.symbol, "at": iso_of(one.at), "told": one.told} for one in newest],
    }
