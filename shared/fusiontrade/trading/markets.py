"""What a backtest has to know of markets: standard costs by asset class, and the hours in which nobody enters.

The backtest itself is `fusiontrade.trading.reports`, which knows no symbols. Entries of FX and metals around 17:00 New
York are left out: quotes widen there, and every dip looks like skill.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.rollover import in_rollover, rolls_over
from fusiontrade.market.symbols import parse_symbol
from fusiontrade.trading import reports
from fusiontrade.trading.costs import STANDARD, Costs
from fusiontrade.trading.simulation import Decide

__all__ = ["backtest", "costs_of", "entries_of"]


def backtest(
    frames: Sequence[CandleFrame],
    decide: Decide,
    *,
    capital: float = 100_000.0,
    costs: Mapping[str, Costs] | None = None,
    exposure: float = 1.0,
    trials: int = 1,
) -> dict[str, Any]:
    """Return what `fusiontrade.trading.reports.backtest` does.

    Parameters
    ----------
    frames, decide, capital, exposure, trials
        As there.
    costs
        By symbol; a symbol without an entry has the standard costs of its asset class.
    """
    paid = costs_of(frames) | dict(costs or {})
    return reports.backtest(
        frames, decide, costs=paid, capital=capital, exposure=exposure, entries=entries_of(frames), trials=trials
    )


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
