"""Does a prediction rank the symbols of a session? Rank correlations by session, and whether their mean is luck.

Returns over several sessions overlap, so neighbouring correlations hang together: standard errors count their
autocovariances (Newey and West, 1987).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fusiontrade.market.candles import Floats
from fusiontrade.trading.performance import SESSIONS_A_YEAR
from serving.evaluation.significance import long_run_variance

__all__ = ["FEWEST", "MeanTest", "mean_test", "rank_correlations"]

FEWEST = 10
"""Symbols a session needs to be ranked."""
_FEWEST_VALUES = 8
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class MeanTest:
    """The mean of a series and whether it differs from 0.

    Parameters
    ----------
    mean, error
        And its standard error with autocovariances.
    statistic, p_value
        Mean over error, against Student's t with n - 1 degrees of freedom, two-sided.
    ratio
        Mean over standard deviation of the single values (the information ratio of one session).
    lags, n
        Autocovariances counted, and values.
    """

    mean: float
    error: float
    statistic: float
    p_value: float
    ratio: float
    lags: int
    n: int

    def as_dict(self) -> dict[str, float | int | None]:
        """Return the test for JSON; what is undefined is null.

        ``ratio_a_year`` is the information ratio of a year: ``statistic`` over the root of the years that n sessions
        are. It counts that neighbouring values hang together; ``ratio`` times the root of 252 would not.
        """
        names = ("mean", "error", "statistic", "p_value", "ratio")
        found: dict[str, float | int | None] = {
            name: float(f"{value:.6g}") if np.isfinite(value := getattr(self, name)) else None for name in names
        }
        a_year = self.statistic / np.sqrt(max(self.n, 1) / SESSIONS_A_YEAR)
        found["ratio_a_year"] = float(f"{a_year:.6g}") if np.isfinite(a_year) else None
        return found | {"lags": self.lags, "n": self.n}


def rank_correlations(predictions: Floats, returns: Floats, fewest: int = FEWEST) -> Floats:
    """Return (T,) Spearman's correlation of each session; NaN where fewer than ``fewest`` symbols have both.

    Pearson's correlation of average ranks, over the symbols that have a prediction and a return; NaN too where one of
    the two is the same for all.

    Parameters
    ----------
    predictions, returns
        (T, S), NaN where unknown.
    """
    from scipy.stats import rankdata  # type: ignore[import-untyped]

    known = np.isfinite(predictions) & np.isfinite(returns)
    out = np.full(len(predictions), np.nan)
    chosen = np.flatnonzero(known.sum(axis=1) >= fewest)
    if not len(chosen):
        return out
    ranks = [
        rankdata(np.where(known, values, np.nan)[chosen], axis=1, nan_policy="omit")
        for values in (predictions, returns)
    ]
    first, second = (rank - np.nanmean(rank, axis=1, keepdims=True) for rank in ranks)
    with np.errstate(divide="ignore", invalid="ignore"):
        below = np.sqrt(np.nansum(first * first, axis=1) * np.nansum(second * second, axis=1))
        out[chosen] = np.nansum(first * second, axis=1) / below
    return out


def mean_test(values: Floats, *, horizon: int, lags: int | None = None, fewest: int = _FEWEST_VALUES) -> MeanTest:
    """Return the test of a mean against 0 (Newey and West, 1987), over the values that are known.

    What a mean alone does not tell is NaN where fewer than ``fewest`` values are known, or none differs.

    Parameters
    ----------
    values
        (n,) one a session, in the order of time; NaN is left out.
    horizon
        Sessions that an outcome looks ahead.
    lags
        Autocovariances to count, of which there are n - 1 at most; None: ``horizon``, and at least
        ``4 (n / 100)^(2/9)`` (Newey and West, 1994).
    """
    from scipy.stats import t as student

    if horizon < 1:
        raise ValueError(f"horizon is a number of sessions, at least 1, got {horizon}")
    known = np.asarray(values, np.float64)[np.isfinite(values)]
    n = len(known)
    unknown = float("nan")
    mean = float(known.mean()) if n else unknown
    counted = max(horizon, int(4 * (n / 100) ** (2 / 9))) if lags is None else lags
    counted = max(0, min(counted, n - 1))
    if n < max(fewest, 2) or np.ptp(known) <= _ROUNDING * np.abs(known).max():
        return MeanTest(mean, unknown, unknown, unknown, unknown, counted, n)
    error = float(np.sqrt(long_run_variance(known, counted) / n))
    statistic = mean / error
    p_value = float(2 * student.sf(abs(statistic), n - 1))
    return MeanTest(mean, error, statistic, p_value, float(mean / known.std(ddof=1)), counted, n)
