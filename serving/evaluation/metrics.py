"""Figures with intervals: each is computed once on the sample and again on every resample of its days."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.evaluation.bootstrap import MEAN_RUN, day_numbers, day_weights

__all__ = [
    "Figure",
    "Sample",
    "brier",
    "calibration_error",
    "classified",
    "equal_mass",
    "log_loss",
    "pinball",
    "published",
    "quantile_crps",
]

Floats = NDArray[np.floating]
_SMALLEST = 1e-6
_FLOOR_DRAWS = 20


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
    resamples, seed, mean_run
        Of the bootstrap: how many, from where, and the mean length of its runs in days.
    """

    def __init__(self, instants: NDArray[np.int64], resamples: int, seed: int, mean_run: float = MEAN_RUN) -> None:
        self._day = day_numbers(instants)
        self._days = int(self._day.max()) + 1
        self._weights = day_weights(self._days, resamples, seed, mean_run)

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

    def ratios(
        self, top: Floats, bottom: Floats, group: NDArray[np.intp], groups: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (g,) sum(top) / sum(bottom) of the rows of each group, and (resamples, g) the same of each resample.

        Parameters
        ----------
        top, bottom
            (n,) values.
        group, groups
            (n,) number of each row's group, below ``groups``. NaN where a group has no rows in a resample.
        """
        cell = self._day * groups + group
        tops, bottoms = (
            np.bincount(cell, weights=values, minlength=self._days * groups).reshape(self._days, groups)
            for values in (top, bottom)
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            return tops.sum(axis=0) / bottoms.sum(axis=0), (self._weights @ tops) / (self._weights @ bottoms)

    def by_group(self, top: Floats, bottom: Floats | None, group: NDArray[np.intp], groups: int) -> list[Figure]:
        """Return one figure a group: sum(top) / sum(bottom) over its rows (``bottom`` None: the mean)."""
        whole, drawn = self.ratios(top, np.ones(len(top)) if bottom is None else bottom, group, groups)
        count = np.bincount(group, minlength=groups)
        return [_figure(float(whole[one]), drawn[:, one], int(count[one])) for one in range(groups)]

    def spread(self, values: Floats, group: NDArray[np.intp], groups: int) -> Figure:
        """Return the largest less the smallest group mean.

        A spread is never negative, so noise alone makes one: its interval lies above 0 in a sample without any.
        """
        whole, drawn = self.ratios(values, np.ones(len(values)), group, groups)
        return _figure(float(np.ptp(whole)), np.ptp(drawn, axis=1), len(values))

    def mean_of_ratios(self, top: Floats, bottom: Floats, place: NDArray[np.intp]) -> Figure:
        """Return the mean over series of sum(top) / sum(bottom); ``place`` (n,) numbers the series of each row."""
        numbers, group = np.unique(place, return_inverse=True)
        whole, drawn = self.ratios(top, bottom, group.astype(np.intp), len(numbers))
        return _figure(float(whole.mean()), _mean_of_known(drawn), len(top))

    def auc(self, score: Floats, truth: NDArray[np.bool_]) -> Figure:
        """Return the area under the ROC curve (ties count half)."""
        whole, drawn = self._areas(score, truth)
        return _figure(whole, drawn, len(score))

    def auc_difference(self, score: Floats, other: Floats, truth: NDArray[np.bool_]) -> Figure:
        """Return the area under the ROC curve of ``score`` less that of ``other``, both on the same draws."""
        (whole, drawn), (least, drawn_least) = self._areas(score, truth), self._areas(other, truth)
        return _figure(whole - least, drawn - drawn_least, len(score))

    def share(self, values: Floats, rows: NDArray[np.bool_]) -> Figure:
        """Return the mean of ``values`` (n,) over some of the rows."""
        figure = self.ratio(values * rows, rows.astype(np.float64))
        return Figure(figure.value, figure.low, figure.high, int(rows.sum()))

    def _areas(self, score: Floats, truth: NDArray[np.bool_]) -> tuple[float, NDArray[np.float64]]:
        """Return the area under the ROC curve, and (resamples,) the same of each resample."""
        order = np.argsort(score, kind="stable")
        ranked = score[order]
        starts = np.flatnonzero(np.concatenate(([True], ranked[1:] != ranked[:-1])))
        tied = len(starts) < len(score)
        day, positive = self._day[order], truth[order].astype(np.float64)

        def area(weight: Floats) -> float:
            up = weight * positive
            down = weight - up
            if tied:
                up, down = np.add.reduceat(up, starts), np.add.reduceat(down, starts)
            pairs = up.sum() * down.sum()
            return float(up @ (np.cumsum(down) - down / 2) / pairs) if pairs > 0 else float("nan")

        return area(np.ones(len(score))), np.asarray([area(weights[day]) for weights in self._weights])

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


def quantile_crps(quantiles: Floats, levels: tuple[float, ...], value: Floats) -> Floats:
    """Return (n,) an approximation of the CRPS from (n, q) quantiles, in the unit of the values.

    The CRPS is twice the integral of the pinball loss over all levels (Gneiting and Ranjan, 2011, eq. 12); here each
    level stands for the levels nearer to it than to another, the outermost for the tails. A weighted sum of pinball
    losses is proper whatever the weights, so forecasts may be compared by it; what lies beyond the outer quantiles is
    not seen, which makes it 3 % too small for a normal distribution and levels of 5, 25, 50, 75 and 95 %.
    """
    level = np.asarray(levels)
    edges = np.concatenate(([0.0], (level[1:] + level[:-1]) / 2, [1.0]))
    miss = value[:, None] - quantiles
    return np.asarray(2.0 * np.maximum(level * miss, (level - 1) * miss) @ np.diff(edges))


def classified(sample: Sample, called: NDArray[np.bool_], truth: NDArray[np.bool_]) -> dict[str, Figure]:
    """Return accuracy, precision, recall and F1 of calls; NaN where a ratio has nothing below it.

    Parameters
    ----------
    called, truth
        (n,) whether the event was called, whether it came.
    """
    hits = (called & truth).astype(np.float64)
    calls, events = called.astype(np.float64), truth.astype(np.float64)
    return {
        "accuracy": sample.ratio((called == truth).astype(np.float64)),
        "precision": sample.ratio(hits, calls),
        "recall": sample.ratio(hits, events),
        "f1": sample.ratio(2 * hits, calls + events),
    }


def equal_mass(probability: Floats, bins: int = 10) -> NDArray[np.intp]:
    """Return (n,) the bin of each probability: bins of nearly equal mass, numbered upwards from 0.

    Equal probabilities share a bin, so a forecaster with few distinct answers has fewer bins, never an arbitrary cut
    through one answer.
    """
    order = np.argsort(probability, kind="stable")
    ranked = probability[order]
    first = np.searchsorted(ranked, ranked, side="left")
    last = np.searchsorted(ranked, ranked, side="right")
    middle = (first + last) // 2
    numbers = np.unique(middle * bins // len(ranked), return_inverse=True)[1]
    found = np.empty(len(ranked), np.intp)
    found[order] = numbers
    return found


def calibration_error(probability: Floats, truth: Floats, seed: int, bins: int = 10) -> tuple[float, float]:
    """Return the expected calibration error with bins of equal mass, and its noise floor.

    The floor is the error that perfectly calibrated probabilities would show in a sample of this size, the mean of
    twenty draws of outcomes from the probabilities themselves. Outcomes are drawn independently; those of bars whose
    horizons overlap hang together, so the floor of real samples is higher, never lower.

    Parameters
    ----------
    probability, truth
        (n,) forecasts and outcomes (0 or 1).
    """
    group = equal_mass(probability, bins)

    def error(outcome: Floats) -> float:
        return float(np.abs(np.bincount(group, probability - outcome)).sum() / len(probability))

    random = np.random.default_rng(seed)
    draws = [error((random.random(len(probability)) < probability).astype(np.float64)) for _ in range(_FLOOR_DRAWS)]
    return error(truth.astype(np.float64)), float(np.mean(draws))


def published(figures: Mapping[str, Figure]) -> dict[str, dict[str, float | int]]:
    """Return the figures for JSON, without those that the sample leaves undefined."""
    return {name: figure.as_dict() for name, figure in figures.items() if np.isfinite(figure.value)}


def _mean_of_known(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (resamples,) the mean of each row's finite columns; NaN where there are none."""
    known = np.isfinite(drawn)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, drawn, 0.0).sum(axis=1) / known.sum(axis=1))


def _figure(value: float, drawn: Floats, rows: int) -> Figure:
    """Return the figure; NaN where a class or a reference has no rows."""
    finite = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or not len(finite):
        return Figure(float("nan"), float("nan"), float("nan"), rows)
    low, high = np.quantile(finite, (0.025, 0.975))
    return Figure(value, float(low), float(high), rows)
