"""Figures with intervals: each is computed once on the sample and again on every resample of its days."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from serving.evaluation.bootstrap import day_numbers, day_weights

__all__ = ["Figure", "Sample", "brier", "calibration_error", "log_loss", "pinball", "published"]

Floats = NDArray[np.floating]
_SMALLEST = 1e-6


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value with its 95 % bootstrap interval and the number of rows behind it; NaN where undefined."""

    value: float
    low: float
    high: float
    n: int

    def as_dict(self) -> dict[str, float | int]:
        """Return the figure for JSON, rounded to six digits."""
        return {"value": round(self.value, 6), "low": round(self.low, 6), "high": round(self.high, 6), "n": self.n}


class Sample:
    """Rows of one slice with their resamples.

    Parameters
    ----------
    instants
        (n,) ms UTC of the rows, any order.
    resamples, seed
        Of the bootstrap.
    """

    def __init__(self, instants: NDArray[np.int64], resamples: int, seed: int) -> None:
        self._day = day_numbers(instants)
        self._days = int(self._day.max()) + 1
        self._weights = day_weights(self._days, resamples, seed)

    def __len__(self) -> int:
        return len(self._day)

    def ratio(
        self, top: Floats, bottom: Floats | None = None, shape: Callable[[Floats], Floats] | None = None
    ) -> Figure:
        """Return sum(top) / sum(bottom) (``bottom`` None: the mean), passed through ``shape`` if given."""
        below = np.ones(len(top)) if bottom is None else bottom
        tops, bottoms = self._by_day(top), self._by_day(below)
        finish = shape or (lambda value: value)
        with np.errstate(divide="ignore", invalid="ignore"):
            whole = finish(np.asarray(tops.sum() / bottoms.sum()))
            drawn = finish((self._weights @ tops) / (self._weights @ bottoms))
        return _figure(float(whole), drawn, len(top))

    def skill(self, loss: Floats, reference: Floats) -> Figure:
        """Return 1 - mean(loss) / mean(reference): the share of the reference's loss that the model saves."""
        return self.ratio(loss, reference, lambda ratio: 1 - ratio)

    def mean_of_ratios(self, top: Floats, bottom: Floats, place: NDArray[np.intp]) -> Figure:
        """Return the mean over series of sum(top) / sum(bottom); ``place`` (n,) numbers the series of each row."""
        series = [place == one for one in np.unique(place)]
        tops = np.stack([self._by_day(top * rows) for rows in series], axis=1)
        bottoms = np.stack([self._by_day(bottom * rows) for rows in series], axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            drawn = (self._weights @ tops) / (self._weights @ bottoms)
        return _figure(float((tops.sum(axis=0) / bottoms.sum(axis=0)).mean()), np.nanmean(drawn, axis=1), len(top))

    def auc(self, score: Floats, truth: NDArray[np.bool_]) -> Figure:
        """Return the area under the ROC curve (ties count half)."""
        order = np.argsort(score, kind="stable")
        ranked = score[order]
        starts = np.flatnonzero(np.concatenate(([True], ranked[1:] != ranked[:-1])))
        day, positive = self._day[order], truth[order].astype(np.float64)

        def area(weight: Floats) -> float:
            up = np.add.reduceat(weight * positive, starts)
            down = np.add.reduceat(weight * (1 - positive), starts)
            pairs = up.sum() * down.sum()
            return float((up * (np.cumsum(down) - down / 2)).sum() / pairs) if pairs > 0 else float("nan")

        drawn = np.asarray([area(weights[day]) for weights in self._weights])
        return _figure(area(np.ones(len(score))), drawn, len(score))

    def share(self, values: Floats, rows: NDArray[np.bool_]) -> Figure:
        """Return the mean of ``values`` (n,) over some of the rows."""
        figure = self.ratio(values * rows, rows.astype(np.float64))
        return Figure(figure.value, figure.low, figure.high, int(rows.sum()))

    def _by_day(self, values: Floats) -> NDArray[np.float64]:
        return np.bincount(self._day, weights=values, minlength=self._days).astype(np.float64)


def brier(probability: Floats, truth: Floats) -> Floats:
    """Return the squared error of each probability."""
    return (probability - truth) ** 2


def log_loss(probability: Floats, truth: Floats) -> Floats:
    """Return the negative log likelihood of each outcome, in nats; probabilities are kept off 0 and 1 by 1e-6."""
    kept = np.clip(probability, _SMALLEST, 1 - _SMALLEST)
    return -(truth * np.log(kept) + (1 - truth) * np.log(1 - kept))


def pinball(quantiles: Floats, levels: tuple[float, ...], value: Floats) -> Floats:
    """Return (n,) the mean pinball loss over the levels of (n, q) quantiles of (n,) values."""
    level = np.asarray(levels)
    miss = value[:, None] - quantiles
    return np.asarray(np.maximum(level * miss, (level - 1) * miss).mean(axis=1))


def calibration_error(probability: Floats, truth: Floats, seed: int, bins: int = 10) -> tuple[float, float]:
    """Return the expected calibration error with bins of equal mass, and its noise floor.

    The floor is the error that perfectly calibrated probabilities would show in a sample of this size, the mean of
    twenty draws of outcomes from the probabilities themselves.
    """
    order = np.argsort(probability, kind="stable")
    edges = np.linspace(0, len(order), bins + 1).astype(np.intp)
    held = probability[order]
    random = np.random.default_rng(seed)

    def error(outcome: Floats) -> float:
        parts = [slice(*edge) for edge in pairwise(edges)]
        return float(sum(abs((held[p] - outcome[p]).sum()) for p in parts) / len(held))

    floor = np.mean([error((random.random(len(held)) < held).astype(np.float64)) for _ in range(20)])
    return error(truth[order].astype(np.float64)), float(floor)


def published(figures: Mapping[str, Figure]) -> dict[str, dict[str, float | int]]:
    """Return the figures for JSON, without those that the sample leaves undefined."""
    return {name: figure.as_dict() for name, figure in figures.items() if np.isfinite(figure.value)}


def _figure(value: float, drawn: Floats, rows: int) -> Figure:
    """Return the figure; NaN where a class or a reference has no rows."""
    finite = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or not len(finite):
        return Figure(float("nan"), float("nan"), float("nan"), rows)
    low, high = np.quantile(finite, (0.025, 0.975))
    return Figure(value, float(low), float(high), rows)
