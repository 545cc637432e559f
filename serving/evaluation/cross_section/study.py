"""A cross-section judged: every model, the ensemble and equal weights, on the same sessions, at each horizon.

The result is ready for JSON; `serving.evaluation.cross_section.tables` makes tables of it. Nothing is chosen here: what
was tried before comes in as ``trials``, and what stands in the table is counted besides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusiontrade.market.candles import CandleFrame, Floats
from fusiontrade.trading.performance import deflated_sharpe, performance, sharpe
from serving.evaluation.cross_section.overfitting import overfitting
from serving.evaluation.cross_section.panel import Panel
from serving.evaluation.cross_section.portfolios import Deciles, deciles
from serving.evaluation.cross_section.ranks import FEWEST, mean_test, rank_correlations
from serving.evaluation.study.report import finite
from serving.instants import iso_of
from serving.swing.forecasting import together

__all__ = ["ENSEMBLE", "EQUAL", "RANK_IC_TARGETS", "study_cross_section", "with_ensembles"]

Json = dict[str, Any]
Predictions = Mapping[str, Mapping[int, Floats]]

ENSEMBLE, EQUAL = "ensemble", "equal weights"
RANK_IC_TARGETS: dict[int, tuple[float, float]] = {3: (0.035, 0.045), 5: (0.038, 0.05), 10: (0.046, 0.06)}
"""By horizon, the least rank correlation on NIFTY and the aim."""
_SURVIVORS = (
    "the lists are today's members of their indices: what left them is missing, which flatters every portfolio here"
)


def with_ensembles(stockformer: Mapping[int, Floats], tft: Mapping[int, Floats]) -> dict[str, dict[int, Floats]]:
    """Return both members, the ensemble (0.35 StockFormer + 0.30 TFT + 0.35 of their mean) and equal weights.

    Parameters
    ----------
    stockformer, tft
        By horizon (T, S) predicted returns.
    """
    found: dict[str, dict[int, Floats]] = {"stockformer": dict(stockformer), "tft": dict(tft), ENSEMBLE: {}, EQUAL: {}}
    for horizon, first in stockformer.items():
        second = tft[horizon]
        found[ENSEMBLE][horizon] = together(first, second)
        found[EQUAL][horizon] = (first + second) / 2.0
    return found


def study_cross_section(
    predictions: Predictions,
    candles: Panel | Sequence[CandleFrame],
    *,
    attempts: Predictions | None = None,
    trials: int = 1,
    cost_bps: float = 10.0,
    paths: Mapping[str, Mapping[int, Floats]] | None = None,
    targets: Mapping[int, tuple[float, float]] | None = None,
    fewest: int = FEWEST,
) -> Json:
    """Return the study.

    Parameters
    ----------
    predictions
        By name and horizon in sessions (T, S) predicted returns or scores, rows and columns as in the panel, NaN where
        there are none: outside the untouched slice, and for symbols without features.
    candles
        The panel of all sessions, those after the last prediction too, or the frames to make it of.
    attempts
        The same of configurations that were tried and not kept: they count as trials, and the chance that the best of
        all is the best by luck is measured with them.
    trials
        Configurations that were looked at, where there were more than are given here.
    cost_bps
        Of the value traded, each way.
    paths
        By name and horizon (P, T, S) predictions along combinatorial purged paths, where they were made.
    targets
        By horizon the least rank correlation and the aim, of what is called ``ensemble``.
    fewest
        Symbols a session needs.

    Raises
    ------
    ValueError
        If predictions have another shape than the panel, or the names have different horizons.
    """
    panel = candles if isinstance(candles, Panel) else Panel.of(candles)
    tried = {**predictions, **(attempts or {})}
    horizons = _horizons(tried, panel)
    rules = _Rules(panel, max(trials, len(tried)), cost_bps, fewest)
    judged: dict[str, Json] = {
        str(horizon): _of_horizon({name: by[horizon] for name, by in tried.items()}, list(predictions), horizon, rules)
        for horizon in horizons
    }
    for name, by in (paths or {}).items():
        for horizon, values in by.items():
            judged[str(horizon)]["models"][name]["paths"] = _along_paths(values, panel, horizon, fewest)
    found: Json = finite(
        {
            "judged": _judged(predictions, panel),
            "cost_bps": cost_bps,
            "trials": rules.trials,
            "horizons": judged,
            "notes": [_SURVIVORS],
            "acceptance": _acceptance(judged, targets or {}),
        }
    )
    return found


@dataclass(frozen=True, eq=False)
class _Rules:
    """What all models of a study are judged by."""

    panel: Panel
    trials: int
    cost_bps: float
    fewest: int


def _horizons(predictions: Predictions, panel: Panel) -> list[int]:
    found = {tuple(sorted(by)) for by in predictions.values()}
    if len(found) != 1:
        raise ValueError("predictions must have the same horizons under each name, at least one")
    for name, by in predictions.items():
        for horizon, values in by.items():
            if values.shape != panel.open.shape:
                raise ValueError(f"{name} over {horizon} must be {panel.open.shape} as the panel, got {values.shape}")
    return list(found.pop())


def _judged(predictions: Predictions, panel: Panel) -> Json:
    known = np.zeros(panel.open.shape, np.bool_)
    for by in predictions.values():
        for values in by.values():
            known |= np.isfinite(values)
    rows = np.flatnonzero(known.any(axis=1))
    if not len(rows):
        raise ValueError("predictions must hold a number somewhere")
    return {
        "sessions": len(rows),
        "symbols": int(known.any(axis=0).sum()),
        "rows": int(known.sum()),
        "from": iso_of(int(panel.instants[rows[0]])),
        "to": iso_of(int(panel.instants[rows[-1]])),
    }


def _of_horizon(by_name: Mapping[str, Floats], told: Sequence[str], horizon: int, rules: _Rules) -> Json:
    """Return the figures of the models that are ``told``; the others are attempts, which count against them."""
    panel, fewest = rules.panel, rules.fewest
    from_open, from_close = panel.from_open(horizon), panel.from_close(horizon)
    correlations = {name: rank_correlations(by_name[name], from_open, fewest) for name in told}
    traded = {
        name: deciles(values, panel, horizon, cost_bps=rules.cost_bps, fewest=fewest)
        for name, values in by_name.items()
    }
    variance = _variance_of_trials(traded)
    models = {
        name: {
            "rank_ic": mean_test(correlations[name], horizon=horizon).as_dict(),
            "rank_ic_from_close": mean_test(
                rank_correlations(by_name[name], from_close, fewest), horizon=horizon
            ).as_dict(),
            "deciles": _told_deciles(traded[name], rules.trials, variance, horizon),
        }
        for name in told
    }
    return {
        "models": models,
        "contests": _contests(correlations, horizon),
        "overfitting": _overfitting(traded),
    }


def _variance_of_trials(traded: Mapping[str, Deciles]) -> float | None:
    """Return the variance of the models' Sharpe ratios of one session, but not less than that of mere chance."""
    ratios = np.asarray([sharpe(one.long_short, 1.0) for one in traded.values()])
    ratios = ratios[np.isfinite(ratios)]
    if len(ratios) < 2:
        return None
    n = min(len(one.long_short) for one in traded.values() if len(one.long_short))
    return max(float(ratios.var(ddof=1)), 1.0 / max(n - 1, 1))


def _told_deciles(found: Deciles, trials: int, variance: float | None, horizon: int) -> Json:
    deflated = deflated_sharpe(found.long_short, trials=trials, variance=variance)
    return {
        "mean_by_group": found.mean_by_group.tolist(),
        "long_short": performance(found.long_short),
        "long_short_test": mean_test(found.long_short, horizon=horizon).as_dict(),
        "gross_sharpe": sharpe(found.gross),
        "turnover": float(found.turnover.mean()) if len(found.turnover) else None,
        "deflated": {
            "probability": deflated.probability,
            "sharpe": deflated.sharpe,
            "expected_largest": deflated.expected_largest,
            "trials": deflated.trials,
        },
        "over_universe": performance(found.long_only),
    }


def _contests(correlations: Mapping[str, Floats], horizon: int) -> Json:
    """Return tests of the ensemble's rank correlations less those of each other, session by session."""
    if ENSEMBLE not in correlations:
        return {}
    mine = correlations[ENSEMBLE]
    return {
        name: mean_test(mine - other, horizon=horizon).as_dict()
        for name, other in correlations.items()
        if name != ENSEMBLE
    }


def _overfitting(traded: Mapping[str, Deciles], blocks: int = 10) -> Json | None:
    """Return the probability that the best of the models is the best by luck, over sessions all of them trade in.

    One that never traded is no attempt.
    """
    attempts = [one for one in traded.values() if len(one.long_short)]
    if len(attempts) < 2:
        return None
    begin = max(one.first for one in attempts)
    end = min(one.first + len(one.long_short) for one in attempts)
    if end - begin < 2 * blocks:
        return None
    series = [one.long_short[begin - one.first : end - one.first] for one in attempts]
    found = overfitting(np.stack(series, axis=1), blocks)
    return {
        "probability": found.probability,
        "median_rank": found.median_rank,
        "loss": found.loss,
        "splits": found.splits,
        "trials": found.trials,
    }


def _along_paths(values: Floats, panel: Panel, horizon: int, fewest: int) -> Json | None:
    returns = panel.from_open(horizon)
    daily = [rank_correlations(one, returns, fewest) for one in values]
    means = np.asarray([one[np.isfinite(one)].mean() for one in daily if np.isfinite(one).any()])
    if not len(means):
        return None
    return {
        "rank_ic": [float(f"{one:.6g}") for one in means.tolist()],
        "lowest": float(means.min()),
        "median": float(np.median(means)),
        "above_zero": float((means > 0).mean()),
        "n": len(means),
    }


def _acceptance(horizons: Mapping[str, Json], targets: Mapping[int, tuple[float, float]]) -> list[Json]:
    rows = []
    for horizon, (least, aim) in targets.items():
        told = horizons.get(str(horizon), {}).get("models", {}).get(ENSEMBLE)
        if told is None:
            continue
        value = told["rank_ic"]["mean"]
        rows.append(
            {
                "horizon": horizon,
                "criterion": f"rank correlation of {horizon}-session returns: at least {least}",
                "value": value,
                "statistic": told["rank_ic"]["statistic"],
                "least": least,
                "aim": aim,
                "met": None if value is None else value >= least,
                "aim_met": None if value is None else value >= aim,
            }
        )
    return rows
