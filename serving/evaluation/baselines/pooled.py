"""The baselines asked for rows of a pool: newest features as one table, EWMA and GARCH series by series."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from serving.evaluation.baselines.rates import rolling_quantiles
from serving.evaluation.baselines.volatility import FEWEST_BARS, ewma_quantiles, garch_quantiles
from serving.features import slots, slots_a_week

if TYPE_CHECKING:
    from serving.training.dataset import Pool, Series

__all__ = ["newest_features", "rolling_in_atr", "volatility_quantiles"]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]


def newest_features(pool: Pool, volatility: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (rows, columns) unscaled indicators and calendar of each row's newest bar, and its ``volatility`` (V)."""
    indicators, calendar = pool.column(lambda one: one.lstm.features), pool.column(lambda one: one.lstm.calendar)
    return np.concatenate((indicators, calendar, volatility), axis=1).astype(np.float32)


def rolling_in_atr(pool: Pool, rows: Rows, levels: tuple[float, ...]) -> Floats:
    """Return (m, levels) empirical quantiles of the last 500 one-bar returns up to each row, in ATR(14)."""
    answers = np.empty((len(rows), len(levels)))
    place = pool.series_of(rows)
    for one in np.unique(place):
        series, asked = pool.series[one], rows[place == one] - pool.starts[one]
        unit = (series.frame.close / series.atr)[asked, None]
        answers[place == one] = rolling_quantiles(series.frame.close, asked, levels) * unit
    return answers


def volatility_quantiles(pool: Pool, rows: Rows, cuts: tuple[int, int], levels: tuple[float, ...]) -> dict[str, Floats]:
    """Return (m, levels) quantiles of the next change in ATR(14) by ``ewma`` and ``garch``.

    Parameters
    ----------
    rows
        (m,) rows of the pool, none that closed before the second cut.
    cuts
        Instants (ms UTC) at which the validation slice begins and ends. EWMA learns from the bars before the first
        and chooses its decay between them; GARCH, which chooses nothing, learns from all before the second.

    Returns
    -------
    NaN in the rows of series with fewer than 1,000 bars before the first cut.
    """
    place = pool.series_of(rows)
    answers = {name: np.full((len(rows), len(levels)), np.nan) for name in ("ewma", "garch")}
    for one in np.unique(place):
        own = place == one
        series, asked = pool.series[one], rows[own] - pool.starts[one]
        first, second = _ends(series, cuts)
        if first < FEWEST_BARS:
            continue
        frame, week = series.frame, slots_a_week(pool.timeframe)
        bars = (frame.close, series.atr, slots(frame.time, pool.timeframe), asked)
        ewma = ewma_quantiles(*bars, week=week, span_end=first, validation_end=second, levels=levels)
        answers["ewma"][own] = ewma.quantiles
        answers["garch"][own] = garch_quantiles(*bars, week=week, span_end=second, levels=levels).quantiles
    return answers


def _ends(series: Series, cuts: tuple[int, int]) -> tuple[int, int]:
    """Return how many bars closed before each cut."""
    first, second = np.searchsorted(series.frame.close_time, cuts)
    return int(first), int(second)
