"""What ranking was worth in money: equal-weighted deciles bought at the next open, held, and paid for.

Every session opens a new tranche with one h-th of the capital at the open after the prediction and closes the one it
opened h sessions before (Jegadeesh and Titman, 1993), so h tranches run side by side. Returns are from open to open;
weights are set back to equal shares of the tranches each session, and all trading, that too, costs its bps. A session
without predictions, or whose predictions do not tell a highest group from a lowest, leaves its tranche in cash.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusiontrade.market.candles import Floats
from serving.evaluation.cross_section.panel import Panel
from serving.evaluation.cross_section.ranks import FEWEST

__all__ = ["Deciles", "deciles", "group_weights", "held_weights", "portfolio_returns"]

_BPS = 1e-4


@dataclass(frozen=True, eq=False)
class Deciles:
    """Portfolios of one prediction and horizon.

    Parameters
    ----------
    mean_by_group
        (groups,) mean return of each group from the next open over the horizon, lowest predictions first; gross.
    long_short, long_only
        (n,) returns of each session net of costs: the highest group against the lowest (half of the capital each), and
        the highest against the equal-weighted universe.
    gross
        (n,) of ``long_short`` before costs.
    turnover
        (n,) bought and sold in ``long_short`` over its capital.
    first
        Row of the panel that the first of the n sessions is.
    """

    mean_by_group: Floats
    long_short: Floats
    long_only: Floats
    gross: Floats
    turnover: Floats
    first: int


def deciles(
    predictions: Floats, panel: Panel, horizon: int, *, cost_bps: float = 10.0, groups: int = 10, fewest: int = FEWEST
) -> Deciles:
    """Return the decile portfolios of a prediction.

    Parameters
    ----------
    predictions
        (T, S) made at each session's close; NaN where there is none.
    panel
        The same sessions and symbols.
    horizon
        Sessions a tranche is held.
    cost_bps
        Of the value traded, at each purchase and each sale.
    groups
        10 for deciles.
    fewest
        Symbols a session needs, and at least two a group.

    Raises
    ------
    ValueError
        If the predictions have another shape than the panel, or a number is none that can be.
    """
    if horizon < 1 or groups < 2 or not cost_bps >= 0.0:
        raise ValueError(
            f"horizon must be 1 or more, groups 2 or more, cost_bps 0 or more, got {horizon}, {groups}, {cost_bps}"
        )
    if predictions.shape != panel.open.shape:
        raise ValueError(f"predictions must be {panel.open.shape} as the panel, got {predictions.shape}")
    tradable = np.isfinite(predictions) & np.isfinite(_next(panel.open))
    group = _grouped(np.where(tradable, predictions, np.nan), groups, max(fewest, 2 * groups))
    top, bottom = group_weights(group == groups - 1), group_weights(group == 0)
    universe = group_weights(group >= 0)
    daily = panel.open_to_open()
    ahead = panel.from_open(horizon)
    long_short = portfolio_returns(held_weights(0.5 * (top - bottom), horizon), daily, cost_bps)
    long_only = portfolio_returns(held_weights(top, horizon), daily, cost_bps)[0]
    market = portfolio_returns(held_weights(universe, horizon), daily, 0.0)[0]
    traded = _traded_sessions(group, horizon)
    net, gross, turnover = (one[traded] for one in long_short)
    by_group = np.asarray([_mean_of(ahead[group == one]) for one in range(groups)])
    return Deciles(by_group, net, (long_only - market)[traded], gross, turnover, traded.start)


def group_weights(members: NDArray[np.bool_]) -> Floats:
    """Return (T, S) equal weights that sum to 1 over the members of each session; 0 where there are none."""
    count = members.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(members, count, out=np.zeros(members.shape), where=count > 0), np.float64)


def held_weights(targets: Floats, horizon: int) -> Floats:
    """Return (T, S) the weights at each session's open: the mean of the ``horizon`` newest earlier targets."""
    out = np.zeros(targets.shape)
    for age in range(1, horizon + 1):
        out[age:] += targets[: max(len(targets) - age, 0)] / horizon
    return out


def portfolio_returns(weights: Floats, daily: Floats, cost_bps: float) -> tuple[Floats, Floats, Floats]:
    """Return (T,) returns net of costs, gross returns, and turnover.

    Parameters
    ----------
    weights
        (T, S) over the capital, set at each session's open; short is negative, what is left is cash.
    daily
        (T, S) returns from each open to the next.
    cost_bps
        Of the value traded. Turnover counts what prices moved away from the weights and is traded back.
    """
    gross = (weights * daily).sum(axis=1)
    drifted = np.zeros(weights.shape)
    drifted[1:] = weights[:-1] * (1.0 + daily[:-1]) / (1.0 + gross[:-1, None])
    turnover = np.abs(weights - drifted).sum(axis=1)
    return gross - turnover * cost_bps * _BPS, gross, turnover


def _grouped(predictions: Floats, groups: int, fewest: int) -> NDArray[np.intp]:
    """Return (T, S) the group of each symbol, the lowest predictions 0; -1 where there is none.

    Equal predictions share their group. A session has no groups where the highest or the lowest would be empty.
    """
    from scipy.stats import rankdata  # type: ignore[import-untyped]

    known = np.isfinite(predictions)
    enough = known.sum(axis=1) >= fewest
    out = np.full(predictions.shape, -1, np.intp)
    if not enough.any():
        return out
    ranks = rankdata(predictions[enough], axis=1, nan_policy="omit")
    count = known[enough].sum(axis=1, keepdims=True)
    placed = np.floor(groups * (np.nan_to_num(ranks, nan=1.0) - 0.5) / count).astype(np.intp)
    placed = np.where(known[enough], placed, -1)
    told = (placed == 0).any(axis=1) & (placed == groups - 1).any(axis=1)
    out[enough] = np.where(told[:, None], placed, -1)
    return out


def _traded_sessions(group: NDArray[np.intp], horizon: int) -> slice:
    """Return the sessions from the first purchase to the last sale; the panel's last has no next open, so no return."""
    ranked = np.flatnonzero((group >= 0).any(axis=1))
    if not len(ranked):
        return slice(0, 0)
    return slice(int(ranked[0]) + 1, min(int(ranked[-1]) + horizon + 2, len(group) - 1))


def _next(values: Floats) -> Floats:
    out = np.full(values.shape, np.nan)
    out[:-1] = values[1:]
    return out


def _mean_of(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
