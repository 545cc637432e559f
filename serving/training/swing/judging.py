"""One reading of the untouched slice: rank skill beside baselines, portfolios after costs, intervals, the veto.

Stocks of both lists are today's index members, so portfolio returns are flattered (survivorship); rank skill compares
survivors with survivors. A trade enters at the next open; costs are those of entering and leaving.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.evaluation.cross_section.ranks import mean_test
from serving.evaluation.metrics import brier, calibration_error
from serving.models.swing import HORIZONS
from serving.swing.card import SwingCard
from serving.swing.forecasting import Returns
from serving.training.swing.config import SwingConfig
from serving.training.swing.table import SwingSlices, SwingTable
from serving.training.swing.worth import rank_skill, within

__all__ = ["context_trees", "judged", "pooled_figures", "trades_of"]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
_NAMES = tuple(f"{days}d" for days in HORIZONS)
_DECILE = 0.1
_ROUNDS = 150


def trades_of(returns: Floats, ahead: Floats, cost: float) -> Floats:
    """Return (k,) 1 where a trade along the 3-day forecast won after ``cost``, else 0.

    Parameters
    ----------
    returns
        (k, 3) what came.
    ahead
        (k, 3) the ensemble's forecasts.
    """
    return (np.sign(ahead[:, 0]) * returns[:, 0] - cost > 0).astype(np.float64)


def context_trees(table: SwingTable, slices: SwingSlices, rows: Rows, config: SwingConfig) -> Floats:
    """Return (k, 3) scores of the baseline for ``rows``: LightGBM on the 29 context columns alone, fixed size."""
    import lightgbm

    given = config.trees.parameters() | {"objective": "regression", "feature_fraction": 0.7}
    answers = np.empty((len(rows), len(HORIZONS)))
    for place in range(len(HORIZONS)):
        truth = table.score[slices.train, place].astype(np.float64)
        data = lightgbm.Dataset(table.context[slices.train], truth, params=given)
        answers[:, place] = lightgbm.train(given, data, _ROUNDS).predict(table.context[rows], num_threads=1)
    return answers


def judged(
    card: SwingCard,
    table: SwingTable,
    slices: SwingSlices,
    config: SwingConfig,
    *,
    returns: Returns,
    veto: Floats,
    rates: Mapping[str, float],
) -> dict[str, Any]:
    """Return the figures of the untouched slice, by universe.

    Parameters
    ----------
    returns, veto
        What the bundle says of the rows of ``slices.test``.
    rates
        By universe, how often the ensemble's trades won on the stack slice: what the veto's skill is measured against.
    """
    rows = slices.test
    baseline = context_trees(table, slices, rows, config)
    said: Mapping[str, Floats] = {
        "ensemble": returns.ensemble,
        "stockformer": returns.stockformer,
        "tft": returns.tft,
        "networks": returns.networks,
        "ranker": returns.ranker,
        "equal_weights": _equal(returns, table.groups(rows)),
        "baseline_context_trees": baseline,
        "baseline_reversal": -np.repeat(_last_moves(table, rows)[:, None], len(HORIZONS), axis=1),
    }
    wins = trades_of(table.returns[rows], returns.ensemble, config.cost)
    by_universe = {}
    for place, name in enumerate(table.universes):
        own = np.flatnonzero(table.universe[rows] == place)
        if not len(own):
            continue
        of_universe = rows[own]
        by_universe[name] = {
            "rows": len(own),
            "abstains": card.universes[name].abstains,
            "rank_ic": {
                who: _by_horizon(
                    [one.as_dict() for one in rank_skill(values[own], table, of_universe, config.judged_stride)]
                )
                for who, values in said.items()
                if np.isfinite(values[own]).any()
            },
            "deciles": _deciles(returns.ensemble[own], table, of_universe, config),
            "interval_80": _coverage(returns, table, own, rows),
            "veto": _veto(veto[own], wins[own], rates.get(name), card.threshold, config.fitting.seed),
        }
    return by_universe


def pooled_figures(by_universe: Mapping[str, Any]) -> dict[str, dict[str, float | int | None]]:
    """Return the figures that the card shows: value, interval and rows of the ensemble's rank correlation, if known."""
    found: dict[str, dict[str, float | int | None]] = {}
    for name, part in by_universe.items():
        for horizon, skill in part["rank_ic"]["ensemble"].items():
            if skill["mean"] is None:
                continue
            figure = {"value": skill["mean"], "low": skill["low"], "high": skill["high"], "n": skill["rows"]}
            found[f"rank_ic_{name}_{horizon}"] = figure
    return found


def _by_horizon(values: list[dict[str, float | int | None]]) -> dict[str, dict[str, float | int | None]]:
    return dict(zip(_NAMES, values, strict=True))


def _equal(returns: Returns, group: NDArray[np.intp]) -> Floats:
    """Return the mean of both models' returns, each measured by its own spread over the day."""
    parts = []
    for values in (returns.stockformer, returns.tft):
        apart = within(values, group)
        spread = np.sqrt(_mean_of(apart**2, group))
        parts.append(apart / np.maximum(spread, 1e-12))
    return np.asarray((parts[0] + parts[1]) / 2, np.float64)


def _mean_of(values: Floats, group: NDArray[np.intp]) -> Floats:
    """Return (k, ...) the mean of each row's group."""
    return np.asarray(values - within(values, group), np.float64)


def _last_moves(table: SwingTable, rows: Rows) -> Floats:
    """Return (k,) the newest close less that of five sessions before, in deviations of the window."""
    closes = table.prices[rows, :, 3].astype(np.float64)
    return np.asarray(closes[:, -1] - closes[:, -6], np.float64)


def _deciles(ahead: Floats, table: SwingTable, rows: Rows, config: SwingConfig) -> dict[str, Any]:
    """Return mean 3-day returns of the best and worst tenth, of both against each other and after costs.

    Who is forecast the same is in the same tenth; days that forecast the same of all are left out.
    """
    group = table.groups(rows)
    edges = np.searchsorted(group, np.arange(group[-1] + 2))
    best, worst, usual = [], [], []
    for first, last in pairwise(edges):
        said, came = ahead[first:last, 0], table.returns[rows[first:last], 0]
        if np.ptp(said) > 0:
            ordered, count = np.sort(said), max(1, round(_DECILE * len(said)))
            best.append(came[said >= ordered[-count]].mean())
            worst.append(came[said <= ordered[count - 1]].mean())
            usual.append(came.mean())
    if not best:
        return {"days": 0, "cost": config.cost}
    top, bottom, all_of_them = (np.asarray(one) for one in (best, worst, usual))
    net = top - bottom - 2 * config.cost
    test = mean_test(net, horizon=HORIZONS[0], lags=-(-HORIZONS[0] // config.judged_stride), fewest=2)
    return {
        "days": len(net),
        "best_tenth": round(float(top.mean()), 6),
        "worst_tenth": round(float(bottom.mean()), 6),
        "universe": round(float(all_of_them.mean()), 6),
        "best_less_worst_after_costs": round(float(net.mean()), 6),
        "t": round(test.statistic, 4) if np.isfinite(test.statistic) else None,
        "best_less_universe_after_costs": round(float((top - all_of_them).mean()) - config.cost, 6),
        "cost": config.cost,
    }


def _coverage(returns: Returns, table: SwingTable, own: Rows, rows: Rows) -> dict[str, float]:
    came = table.returns[rows[own]]
    inside = (came >= returns.low[own]) & (came <= returns.high[own])
    return {name: round(float(inside[:, place].mean()), 6) for place, name in enumerate(_NAMES)}


def _veto(probability: Floats, wins: Floats, rate: float | None, threshold: float, seed: int) -> dict[str, Any]:
    from sklearn.metrics import roc_auc_score

    error, floor = calibration_error(probability, wins, seed)
    base = 0.0 if rate is None else float(brier(np.full(len(wins), rate), wins).mean())
    signals = probability >= threshold
    found: dict[str, Any] = {
        "rows": len(wins),
        "won": round(float(wins.mean()), 6),
        "brier_skill": round(1 - float(brier(probability, wins).mean()) / base, 6) if base > 0 else None,
        "ece": round(error, 6),
        "ece_floor": round(floor, 6),
        "signals": int(signals.sum()),
        "signals_won": round(float(wins[signals].mean()), 6) if signals.any() else None,
    }
    if 0 < wins.mean() < 1:
        found["auc"] = round(float(roc_auc_score(wins, probability)), 6)
    return found
