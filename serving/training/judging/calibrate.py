"""From raw outputs on the calibration slice to the maps and band that a bundle carries.

Always true: a head's map is chosen by what it says of stretches of the slice that it was not fitted on, identity
included, and only then fitted on all of it; a more flexible map has to be better, not merely equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar  # type: ignore[import-untyped]
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from serving.calibration import CalibrationMap, Identity, Isotonic, Platt, Temperature, sigmoid
from serving.evaluation.metrics import log_loss

__all__ = ["abstention_band", "at_base_rate", "fit_binary", "fit_temperature"]

Floats = NDArray[np.floating]
_STRETCHES = 5
_BETTER = 1e-5  # nats per row by which a more flexible map has to win
_FEWEST_FOR_ISOTONIC = 1000
_KNOTS = 40
_SURE = 1e-4  # isotonic maps never promise more than this
_SMALLEST_SHARE_OF_VOTES = 0.25
_SMALLEST_DISTANCE = 1e-6  # a constant probability is no vote, whatever its last digit

_Fit = Callable[[Floats, Floats], CalibrationMap]


def fit_binary(logits: Floats, truth: Floats, *, isotonic: bool = True) -> tuple[CalibrationMap, dict[str, float]]:
    """Return the map of a head of one logit, and the held log loss (nats) of each kind of map that was tried.

    Parameters
    ----------
    logits, truth
        (n,) in the order of time; truth is 0 or 1.
    isotonic
        Whether an isotonic map may be chosen.
    """
    kinds: dict[str, _Fit] = {"identity": lambda _logits, _truth: Identity(), "platt": _platt}
    if isotonic and len(logits) >= _FEWEST_FOR_ISOTONIC:
        kinds["isotonic"] = _isotonic
    stretch = np.arange(len(logits)) * _STRETCHES // max(len(logits), 1)
    if any(len(np.unique(truth[stretch != held])) < 2 for held in range(_STRETCHES)):
        kinds = {"identity": kinds["identity"]}
    held = {kind: _held_loss(make, logits, truth, stretch) for kind, make in kinds.items()}
    best = "identity"
    for kind in kinds:
        if held[kind] < held[best] - _BETTER:
            best = kind
    return kinds[best](logits, truth), held


def _held_loss(make: _Fit, logits: Floats, truth: Floats, stretch: NDArray[np.intp]) -> float:
    """Return the mean log loss of each stretch under the map fitted on all the others."""
    total = 0.0
    for held in np.unique(stretch):
        inside = stretch == held
        chosen = make(logits[~inside], truth[~inside])
        total += float(log_loss(chosen.apply(logits[inside]), truth[inside]).sum())
    return total / max(len(logits), 1)


def fit_temperature(logits: Floats, classes: NDArray[np.int64]) -> Temperature:
    """Return the temperature of least log loss for (n, 3) logits and (n,) classes, between 0.05 and 20."""
    rows = np.arange(len(classes))

    def loss(log_t: float) -> float:
        held = Temperature(t=float(np.exp(log_t))).apply(logits)
        return float(-np.log(np.maximum(held[rows, classes], 1e-12)).mean())

    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded", options={"xatol": 1e-4})
    return Temperature(t=round(float(np.exp(found.x)), 6))


def at_base_rate(chosen: CalibrationMap, logits: Floats, rate: float) -> CalibrationMap:
    """Return the map moved along the logit scale until its mean probability over the slice is ``rate``.

    For the direction head: whether the calibration slice rose or fell is no forecast; how often the bars of the much
    longer training span rose is the better prior.

    Parameters
    ----------
    logits
        (n,) of the calibration slice.
    rate
        Base rate of the training span, between 0 and 1.
    """

    def moved(step: float) -> CalibrationMap:
        if isinstance(chosen, Isotonic):
            y = np.clip(sigmoid(_logit(np.asarray(chosen.y)) + step), _SURE, 1 - _SURE)
            return Isotonic(x=chosen.x, y=tuple(np.round(y, 6).tolist()))
        slope, offset = (chosen.a, chosen.b) if isinstance(chosen, Platt) else (1.0, 0.0)
        return Platt(a=slope, b=round(offset + step, 6))

    def miss(step: float) -> float:
        return float(moved(step).apply(logits).mean()) - rate

    return moved(float(brentq(miss, -10.0, 10.0, xtol=1e-7)))


def abstention_band(probability: Floats, direction: Floats) -> tuple[tuple[float, float], Mapping[str, float]]:
    """Return the band of the probability inside which the direction head abstains, and what it was chosen by.

    The band lies evenly around one half, so a vote always agrees with the probability shown beside it. Of the
    half-widths that leave a vote to at least a quarter of the rows, the one with the best share of votes that came
    true wins; where that is no more than one half, the head abstains from everything: (0, 1).
    """
    distance = np.abs(probability - 0.5)
    best = {"hit_rate": 0.5, "share_of_votes": 0.0, "half_width": 0.5}
    for kept in np.arange(1.0, _SMALLEST_SHARE_OF_VOTES - 0.01, -0.05):
        half_width = max(float(np.quantile(distance, 1 - kept)) if kept < 1 else 0.0, _SMALLEST_DISTANCE)
        votes = distance > half_width
        if votes.mean() < _SMALLEST_SHARE_OF_VOTES - 0.02 or np.ptp(probability) < _SMALLEST_DISTANCE:
            continue
        hits = (probability > 0.5)[votes] == (direction > 0)[votes]
        if hits.mean() > best["hit_rate"]:
            best = {
                "hit_rate": round(float(hits.mean()), 6),
                "share_of_votes": round(float(votes.mean()), 6),
                "half_width": round(half_width, 6),
            }
    low, high = 0.5 - best["half_width"], 0.5 + best["half_width"]
    return (round(low, 6), round(high, 6)), best


def _logit(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.log(probability / (1 - probability)), np.float64)


def _platt(logits: Floats, truth: Floats) -> CalibrationMap:
    """Return sigmoid(a · logit + b) of greatest likelihood; a falling one answers the base rate alone."""
    fitted = LogisticRegression(C=1e6, tol=1e-8, max_iter=500).fit(logits[:, None].astype(np.float64), truth > 0.5)
    a, b = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    if a <= 0:
        rate = float(truth.mean())
        a, b = 0.0, float(np.log(rate / (1 - rate)))
    return Platt(a=round(a, 6), b=round(b, 6))


def _isotonic(logits: Floats, truth: Floats) -> CalibrationMap:
    """Return the isotonic regression over bins of equal mass: few knots, none of them resting on a handful of rows."""
    order = np.argsort(logits, kind="stable")
    bins = np.array_split(order, _KNOTS)
    x = np.asarray([logits[rows].astype(np.float64).mean() for rows in bins])
    y = np.asarray([truth[rows].astype(np.float64).mean() for rows in bins])
    rising = IsotonicRegression(y_min=_SURE, y_max=1 - _SURE).fit_transform(x, y)
    knots, first = np.unique(np.round(x, 6), return_index=True)
    return Isotonic(x=tuple(knots.tolist()), y=tuple(np.round(rising[first], 6).tolist()))
