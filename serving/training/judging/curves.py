"""What a report shows as data: ROC, precision and recall, thresholds, reliability, and coverage over time.

Of the untouched rows, by what is served before outcomes move it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.card import HEADS, ModelCard
from serving.evaluation.coverage import coverage_by_month, inside
from serving.evaluation.curves import precision_recall_points, reliability, roc_points, threshold_sweep
from serving.evaluation.metrics import Sample
from serving.forecasting import chances_of, class_probabilities
from serving.training.dataset import Pool

__all__ = ["came_of", "curves_of"]

SHOWN = ("touch_up_1", "touch_down_1", "touch_either_1", "win_long", "win_short")
_RESAMPLES, _SEED = 200, 20240

Rows = NDArray[np.intp]


def came_of(pool: Pool, rows: Rows) -> Mapping[str, NDArray[Any]]:
    """Return what came true after ``rows`` (n,) of the pool: labels by name, each with n rows."""
    names = ("touched", "win", "change", "classes")
    return {name: pool.column(lambda one, name=name: getattr(one.labels, name))[rows] for name in names}  # type: ignore[misc]


def curves_of(card: ModelCard, outputs: Mapping[str, NDArray[Any]], pool: Pool, rows: Rows) -> dict[str, Any]:
    """Return the curves of a bundle's raw ``outputs`` for ``rows`` (n,) of the pool, ready for JSON.

    Returns
    -------
    dict
        ``heads`` by name (``roc``, ``precision_recall``, ``thresholds``, ``reliability``) and, of intervals,
        ``coverage_90`` by month (``month``, ``value``, ``low``, ``high``, ``n``).
    """
    came = came_of(pool, rows)
    sample = Sample(pool.entry[rows], _RESAMPLES, _SEED)
    if not card.is_sequence:
        said = class_probabilities(card, outputs)
        return {
            "heads": {
                name: _head(sample, said[:, place], came["classes"] == place)
                for name, place in (("up", 0), ("flat", 1), ("down", 2))
            }
        }
    chances = chances_of(card, outputs)
    truth = np.concatenate((came["touched"], came["win"]), axis=1) > 0
    places = {head: place for place, head in enumerate(HEADS["lstm"])}
    quantiles = np.sort(outputs["quantiles"].astype(np.float64), axis=1)
    held = inside(quantiles[:, 0], quantiles[:, -1], came["change"].astype(np.float64))
    months, figures = coverage_by_month(sample, held, pool.entry[rows])
    return {
        "heads": {name: _head(sample, chances[:, places[name]], truth[:, places[name]]) for name in SHOWN},
        "coverage_90": [{"month": month, **_figure(figure)} for month, figure in zip(months, figures, strict=True)],
    }


def _head(sample: Sample, said: NDArray[np.float64], came: NDArray[np.bool_]) -> dict[str, Any]:
    return {
        "roc": roc_points(said, came),
        "precision_recall": precision_recall_points(said, came),
        "thresholds": threshold_sweep(said, came),
        "reliability": [one.as_dict() for one in reliability(sample, said, came.astype(np.float64))],
    }


def _figure(figure: Any) -> Mapping[str, float | int | None]:
    numbers = {name: getattr(figure, name) for name in ("value", "low", "high", "n")}
    return {
        name: None if number is None or not np.isfinite(number) else round(number, 6)
        for name, number in numbers.items()
    }
