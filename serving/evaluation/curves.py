"""Curves of probability forecasts: ROC, precision against recall, threshold sweeps, and reliability.

Always true: a curve has at most `MOST_POINTS` points, its ends among them, and is given as lists for JSON.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from serving.evaluation.metrics import Sample, equal_mass

__all__ = [
    "MOST_POINTS",
    "Bin",
    "abstention_sweep",
    "precision_recall_points",
    "reliability",
    "roc_points",
    "threshold_sweep",
]

Floats = NDArray[np.floating]
Curve = dict[str, list[float]]
MOST_POINTS = 200
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Bin:
    """Forecasts of about the same size, and what came of them.

    Parameters
    ----------
    forecast, observed
        Mean probability, and the share of rows in which the event came.
    low, high
        95 % bootstrap interval of ``observed`` for this bin alone.
    joint_low, joint_high
        Band that holds the truth of all bins together in 95 % of samples.
    n
        Rows.
    """

    forecast: float
    observed: float
    low: float
    high: float
    joint_low: float
    joint_high: float
    n: int

    def as_dict(self) -> dict[str, float | int]:
        """Return the bin for JSON, rounded to six digits."""
        return {name: round(value, _DIGITS) for name, value in asdict(self).items()}


def reliability(sample: Sample, probability: Floats, truth: Floats, bins: int = 10) -> list[Bin]:
    """Return the bins of equal mass, from the smallest forecasts to the largest.

    Of ten perfectly calibrated bins one or more leaves its own interval in about four samples of ten; the joint band
    (the 95 % quantile over resamples of the largest distance in standard errors) allows for that.

    Parameters
    ----------
    sample
        Of the same rows.
    probability, truth
        (n,) forecasts, and outcomes (0 or 1).
    """
    group = equal_mass(probability, bins)
    groups = int(group.max()) + 1
    forecast = np.bincount(group, probability, groups) / np.bincount(group, minlength=groups)
    outcome = truth.astype(np.float64)
    observed, drawn = sample.ratios(outcome, np.ones(len(truth)), group, groups)
    reach = _joint_reach(observed, drawn)
    return [
        Bin(
            float(forecast[one]),
            figure.value,
            figure.low,
            figure.high,
            figure.value - float(reach[one]),
            figure.value + float(reach[one]),
            figure.n,
        )
        for one, figure in enumerate(sample.by_group(outcome, None, group, groups))
    ]


def roc_points(score: Floats, truth: NDArray[np.bool_]) -> Curve:
    """Return ``false_positive_rate`` and ``true_positive_rate`` from (0, 0) to (1, 1); empty without both classes."""
    hits, calls = _counted(score, truth)
    if not 0 < hits[-1] < calls[-1]:
        return {"false_positive_rate": [], "true_positive_rate": []}
    up = np.concatenate(([0.0], hits / hits[-1]))
    down = np.concatenate(([0.0], (calls - hits) / (calls[-1] - hits[-1])))
    chosen = _thinned(len(up))
    return {"false_positive_rate": _listed(down[chosen]), "true_positive_rate": _listed(up[chosen])}


def precision_recall_points(score: Floats, truth: NDArray[np.bool_]) -> Curve:
    """Return ``recall`` (rising to 1) and ``precision``; empty where the event never came."""
    hits, calls = _counted(score, truth)
    if hits[-1] == 0:
        return {"recall": [], "precision": []}
    chosen = _thinned(len(hits))
    return {"recall": _listed((hits / hits[-1])[chosen]), "precision": _listed((hits / calls)[chosen])}


def threshold_sweep(probability: Floats, truth: NDArray[np.bool_], steps: int = 99) -> Curve:
    """Return what calling the event at ``threshold`` or above would have given, at evenly spaced thresholds.

    ``share`` of rows called, ``precision``, ``recall``, ``f1`` and ``accuracy``. Thresholds without a call are left
    out: they have no precision.
    """
    hits, calls = _counted(probability, truth)
    ranked = np.sort(np.unique(probability))[::-1]
    threshold = np.arange(1, steps + 1) / (steps + 1)
    place = np.searchsorted(-ranked, -threshold, side="right") - 1
    threshold, place = threshold[place >= 0], place[place >= 0]
    hit, called, events, rows = hits[place], calls[place], hits[-1], calls[-1]
    return {
        "threshold": _listed(threshold),
        "share": _listed(called / rows),
        "precision": _listed(hit / called),
        "recall": _listed(hit / max(events, 1.0)),
        "f1": _listed(2 * hit / (called + events)),
        "accuracy": _listed((rows - called - events + 2 * hit) / rows),
    }


def abstention_sweep(probability: Floats, truth: NDArray[np.bool_], points: int = 50) -> Curve:
    """Return the hit rate of votes for the likelier side as more and more rows abstain.

    ``share`` of rows with a vote (the surest first, falling from 1), ``half_width`` of the band around one half inside
    which they abstain, ``accuracy`` of the votes, and its ``standard_error`` were rows independent.
    """
    distance = np.abs(probability - 0.5)
    order = np.argsort(-distance, kind="stable")
    right = ((probability > 0.5) == truth)[order]
    rate = np.cumsum(right) / np.arange(1, len(right) + 1)
    kept = np.unique(np.maximum(np.linspace(0.02, 1.0, points) * len(right), 1).astype(np.intp))[::-1]
    accuracy = rate[kept - 1]
    return {
        "share": _listed(kept / len(right)),
        "half_width": _listed(distance[order][kept - 1]),
        "accuracy": _listed(accuracy),
        "standard_error": _listed(np.sqrt(accuracy * (1 - accuracy) / kept)),
    }


def _joint_reach(observed: NDArray[np.float64], drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (g,) how far from (g,) ``observed`` a band reaches that holds 95 % of (resamples, g) draws whole."""
    distance = np.where(np.isfinite(drawn), drawn - observed, 0.0)
    error = np.sqrt(np.mean(distance**2, axis=0))
    farthest = (np.abs(distance) / np.where(error > 0, error, 1.0)).max(axis=1)
    return np.asarray(np.quantile(farthest, 0.95) * error, np.float64)


def _counted(score: Floats, truth: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return hits and calls (k,) when everything at or above each distinct score, falling, is called."""
    order = np.argsort(-score, kind="stable")
    ranked, came = score[order], truth[order]
    last = np.flatnonzero(np.concatenate((ranked[1:] != ranked[:-1], [True])))
    return np.cumsum(came)[last].astype(np.float64), (last + 1).astype(np.float64)


def _thinned(count: int) -> NDArray[np.intp]:
    """Return at most `MOST_POINTS` places of ``count``, evenly spread, first and last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, MOST_POINTS)).round()).astype(np.intp)


def _listed(values: NDArray[np.floating]) -> list[float]:
    return [float(value) for value in np.round(values, _DIGITS)]
