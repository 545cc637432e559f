"""What anyone could have said without a model: rates of the training span, quantiles of the bars before."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["climatology", "logistic", "rates_by_series", "rolling_quantiles"]

Floats = NDArray[np.floating]
Places = NDArray[np.intp]

_HOUR_MS = 3_600_000
_CELLS = 7 * 24
_PRIOR_ROWS = 20.0
_CHUNK = 4096


def rates_by_series(place: Places, truth: Floats, asked: Places) -> NDArray[np.float64]:
    """Return (m, k) the training span's rate of each of (n, k) outcomes for the series asked for.

    A series without training rows gets the rate of all.
    """
    whole = truth.mean(axis=0)
    size = int(max(place.max(), asked.max())) + 1
    sums = np.stack([np.bincount(place, column, size) for column in truth.T], axis=1)
    counts = np.bincount(place, minlength=size)[:, None]
    rates = (sums + _PRIOR_ROWS * whole) / (counts + _PRIOR_ROWS)
    return np.asarray(rates[asked], np.float64)


def climatology(
    place: Places, entry: NDArray[np.int64], truth: Floats, asked: Places, asked_entry: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return (m, k) the training span's rate of each of (n, k) outcomes in the same hour of the week (UTC).

    Per series, each cell drawn towards its series' rate by the weight of twenty rows; a series without training rows
    gets the cell of all.

    Parameters
    ----------
    place, entry
        (n,) series and instant (ms UTC) of the training rows; ``asked``, ``asked_entry`` (m,) of those asked for.
    """
    size = int(max(place.max(), asked.max())) + 1
    cell, asked_cell = _hour_of_week(entry), _hour_of_week(asked_entry)
    overall = rates_by_series(place, truth, np.arange(size, dtype=np.intp))
    answers = []
    for column, values in enumerate(truth.T):
        pooled = np.bincount(cell, values, _CELLS) + _PRIOR_ROWS * values.mean()
        pooled /= np.bincount(cell, minlength=_CELLS) + _PRIOR_ROWS
        both, known = place * _CELLS + cell, np.bincount(place, minlength=size) > 0
        sums = np.bincount(both, values, size * _CELLS).reshape(size, _CELLS)
        counts = np.bincount(both, minlength=size * _CELLS).reshape(size, _CELLS)
        own = (sums + _PRIOR_ROWS * overall[:, column, None]) / (counts + _PRIOR_ROWS)
        answers.append(np.where(known[:, None], own, pooled)[asked, asked_cell])
    return np.stack(answers, axis=1)


def rolling_quantiles(close: Floats, rows: Places, levels: tuple[float, ...], window: int = 500) -> NDArray[np.float64]:
    """Return (m, q) empirical quantiles of the last ``window`` one-bar returns up to each row, as shares of the close.

    Every row needs ``window`` bars before it.
    """
    returns = np.diff(close) / close[:-1]  # returns[i] ends at bar i + 1
    windows = np.lib.stride_tricks.sliding_window_view(returns, window)
    answers = np.empty((len(rows), len(levels)))
    for start in range(0, len(rows), _CHUNK):
        chosen = rows[start : start + _CHUNK]
        answers[start : start + _CHUNK] = np.quantile(windows[chosen - window], levels, axis=1).T
    return answers


def logistic(features: Floats, truth: NDArray[np.integer], asked: Floats, *, most: int = 40_000) -> NDArray[np.float64]:
    """Return (m, classes) probabilities of a logistic regression of the training span's rows, thinned to ``most``."""
    from sklearn.linear_model import LogisticRegression

    step = max(1, -(-len(features) // most))
    model = LogisticRegression(C=0.1, max_iter=200).fit(features[::step], truth[::step])
    return np.asarray(model.predict_proba(asked), np.float64)


def _hour_of_week(entry: NDArray[np.int64]) -> Places:
    return ((entry // _HOUR_MS) % _CELLS).astype(np.intp)
