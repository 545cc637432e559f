"""The figures of a PatchTST bundle on the untouched slice, each beside the baseline it has to beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from serving.evaluation.held_out import HeldOut, taken
from serving.evaluation.metrics import Sample, calibration_error, published

__all__ = ["PATCHTST_HEADLINES", "class_loss", "judge_patchtst"]

PATCHTST_HEADLINES = (
    *("accuracy", "direction_accuracy", "direction_votes", "up_against_down_auc", "flat_auc"),
    *("log_loss_skill", "up_ece", "down_ece"),
)
"""The pooled figures that the model card carries."""
_UP, _FLAT, _DOWN = 0, 1, 2
_SMALLEST = 1e-6

Floats = NDArray[np.float64]
Numbers = dict[str, dict[str, float | int]]


def judge_patchtst(
    probability: Floats, held: HeldOut, names: Sequence[str], *, resamples: int, seed: int
) -> dict[str, Numbers | dict[str, Numbers]]:
    """Return ``{"pooled": figures, "by_symbol": {symbol: figures}}`` of (n, 3) calibrated class probabilities."""
    by_symbol = {}
    for place in np.unique(held.place):
        rows = held.place == place
        by_symbol[names[place]] = _figures(probability[rows], taken(held, rows), resamples, seed)
    return {"pooled": _figures(probability, held, resamples, seed), "by_symbol": by_symbol}


def _figures(probability: Floats, held: HeldOut, resamples: int, seed: int) -> Numbers:
    sample = Sample(held.entry, resamples, seed)
    classes, chosen = held.classes, probability.argmax(axis=1)
    moved, votes = classes != _FLAT, chosen != _FLAT
    rate, usual = class_loss(held.rate_classes, classes), class_loss(held.logistic_classes, classes)
    found = {
        "accuracy": sample.ratio((chosen == classes).astype(np.float64)),
        "direction_votes": sample.ratio(votes.astype(np.float64)),
        "votes_up": sample.ratio((chosen == _UP).astype(np.float64)),
        "flat_auc": sample.auc(probability[:, _FLAT], ~moved),
        "log_loss_skill": sample.skill(class_loss(probability, classes), rate),
        "baseline_base_rate_accuracy": sample.ratio((held.rate_classes.argmax(axis=1) == classes).astype(np.float64)),
        "baseline_logistic_accuracy": sample.ratio(
            (held.logistic_classes.argmax(axis=1) == classes).astype(np.float64)
        ),
        "baseline_logistic_log_loss_skill": sample.skill(usual, rate),
    }
    if (votes & moved).any():
        found["direction_accuracy"] = sample.share((chosen == classes).astype(np.float64), votes & moved)
    moving = Sample(held.entry[moved], resamples, seed)
    lean = (probability[:, _UP] - probability[:, _DOWN])[moved]
    logistic_lean = (held.logistic_classes[:, _UP] - held.logistic_classes[:, _DOWN])[moved]
    found["up_against_down_auc"] = moving.auc(lean, classes[moved] == _UP)
    found["baseline_logistic_up_against_down_auc"] = moving.auc(logistic_lean, classes[moved] == _UP)
    figures = published(found)
    for name, column in (("up", _UP), ("flat", _FLAT), ("down", _DOWN)):
        error, floor = calibration_error(probability[:, column], (classes == column).astype(np.float64), seed)
        figures[f"{name}_ece"] = {"value": round(error, 6), "noise_floor": round(floor, 6), "n": len(classes)}
    return figures


def class_loss(probability: Floats, classes: NDArray[np.int64]) -> Floats:
    """Return (n,) the log loss (nats) of (n, 3) probabilities, kept off 0 by 1e-6."""
    said = np.take_along_axis(probability, classes[:, None], axis=1)[:, 0]
    return np.asarray(-np.log(np.maximum(said, _SMALLEST)), np.float64)
