"""What a series of returns was worth, and how much of its Sharpe ratio is left when one counts the attempts.

Returns are fractions of one period each; what is no number is left out. Pure: numpy and the standard library alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from fusiontrade.journal.statistics import MOST_PROFIT_FACTOR
from fusiontrade.market.candles import Floats
from fusiontrade.trading.simulation import drawdowns

__all__ = [
    "SESSIONS_A_YEAR",
    "Deflated",
    "deflated_sharpe",
    "expected_largest_sharpe",
    "max_drawdown",
    "performance",
    "probabilistic_sharpe",
    "profit_factor",
    "sharpe",
    "sortino",
]

SESSIONS_A_YEAR = 252
"""Trading days."""

_EULER = 0.5772156649015329
_NORMAL = NormalDist()
_ROUNDING = 1e-12


def sharpe(returns: ArrayLike, periods: float = SESSIONS_A_YEAR) -> float:
    """Return mean over standard deviation (n - 1), times the root of the periods of a year; NaN without variation."""
    values = _known(returns)
    return float(values.mean() / values.std(ddof=1) * np.sqrt(periods)) if _varies(values) else float("nan")


def sortino(returns: ArrayLike, periods: float = SESSIONS_A_YEAR) -> float:
    """Return mean over downside deviation against 0, a year's; NaN without a loss.

    The downside deviation is the root of the mean of min(r, 0)² over all periods (Sortino and Price, 1994).
    """
    values = _known(returns)
    below = float(np.sqrt(np.mean(np.minimum(values, 0.0) ** 2))) if len(values) else 0.0
    return float(values.mean() / below * np.sqrt(periods)) if below > 0.0 else float("nan")


def max_drawdown(returns: ArrayLike) -> float:
    """Return the farthest that compounded returns fell below their highest so far, 0 or more; NaN without a return."""
    values = _known(returns)
    equity: Floats = np.cumprod(np.concatenate(([1.0], 1.0 + values))).astype(np.float64)
    return float(drawdowns(equity).max()) if len(values) else float("nan")


def profit_factor(returns: ArrayLike) -> float:
    """Return the sum of gains over the sum of losses, at most 999, which also stands for no loss; NaN without either.

    As `fusiontrade.journal.statistics` gives it.
    """
    values = _known(returns)
    gained, lost = values[values > 0].sum(), -values[values < 0].sum()
    if lost > 0.0:
        return min(float(gained / lost), MOST_PROFIT_FACTOR)
    return MOST_PROFIT_FACTOR if gained > 0.0 else float("nan")


def performance(returns: ArrayLike, periods: float = SESSIONS_A_YEAR) -> dict[str, float | int]:
    """Return what is told of a series of returns: mean and deviation of a year, the ratios, the worst fall."""
    values = _known(returns)
    enough = len(values) > 1
    return {
        "mean_a_year": float(values.mean() * periods) if enough else float("nan"),
        "deviation_a_year": float(values.std(ddof=1) * np.sqrt(periods)) if enough else float("nan"),
        "sharpe": sharpe(values, periods),
        "sortino": sortino(values, periods),
        "max_drawdown": max_drawdown(values),
        "profit_factor": profit_factor(values),
        "n": len(values),
    }


@dataclass(frozen=True, slots=True)
class Deflated:
    """A Sharpe ratio beside the largest that as many attempts without skill would have shown.

    Parameters
    ----------
    probability
        That the true Sharpe ratio is above ``expected_largest``: the deflated Sharpe ratio.
    sharpe, expected_largest
        A year's.
    trials
        Attempts that were counted.
    n
        Returns.
    """

    probability: float
    sharpe: float
    expected_largest: float
    trials: int
    n: int


def probabilistic_sharpe(ratio: float, benchmark: float, n: int, skewness: float = 0.0, kurtosis: float = 3.0) -> float:
    """Return the probability that the true Sharpe ratio is above a benchmark.

    Φ((SR - SR*) √(n - 1) / √(1 - γ₃ SR + (γ₄ - 1)/4 SR²)) (Bailey and López de Prado, 2012, eq. 7); both ratios are of
    one period, ``kurtosis`` is 3 for normal returns.
    """
    spread = 1.0 - skewness * ratio + (kurtosis - 1.0) / 4.0 * ratio**2
    if n < 2 or spread <= 0.0:
        return float("nan")
    return _NORMAL.cdf(float((ratio - benchmark) * np.sqrt(n - 1) / np.sqrt(spread)))


def expected_largest_sharpe(trials: int, variance: float) -> float:
    """Return the largest Sharpe ratio to be expected of ``trials`` independent attempts without skill.

    √V ((1 - γ) Φ⁻¹(1 - 1/N) + γ Φ⁻¹(1 - 1/(N e))), γ Euler's constant (Bailey and López de Prado, 2014, eq. 1); 0 of a
    single attempt. ``variance`` is that of the attempts' ratios, in the same unit squared.
    """
    if trials < 1:
        raise ValueError(f"trials must be counted, at least 1, got {trials}")
    if trials == 1:
        return 0.0
    first, second = (_NORMAL.inv_cdf(1.0 - 1.0 / count) for count in (trials, trials * np.e))
    return float(np.sqrt(variance) * ((1.0 - _EULER) * first + _EULER * second))


def deflated_sharpe(
    returns: ArrayLike, *, trials: int, variance: float | None = None, periods: float = SESSIONS_A_YEAR
) -> Deflated:
    """Return the deflated Sharpe ratio (Bailey and López de Prado, 2014) of the attempt that was chosen.

    Parameters
    ----------
    returns
        (n,) of the chosen attempt.
    trials
        How many attempts there were, this one included: every configuration that was looked at.
    variance
        Of the attempts' Sharpe ratios of one period. None: 1/(n - 1), that of ratios measured over n returns where no
        attempt has any skill.
    periods
        Of a year.
    """
    values: Floats = _known(returns)
    n = len(values)
    ratio = sharpe(values, 1.0)
    if not np.isfinite(ratio):
        return Deflated(float("nan"), float("nan"), float("nan"), trials, n)
    standard = (values - values.mean()) / values.std()
    largest = expected_largest_sharpe(trials, 1.0 / (n - 1) if variance is None else variance)
    skewness, kurtosis = float((standard**3).mean()), float((standard**4).mean())
    probability = probabilistic_sharpe(ratio, largest, n, skewness, kurtosis)
    year = float(np.sqrt(periods))
    return Deflated(probability, ratio * year, largest * year, trials, n)


def _varies(values: Floats) -> bool:
    """Tell whether values differ by more than rounding: the deviation of equal ones is seldom exactly 0."""
    return len(values) > 1 and bool(np.ptp(values) > _ROUNDING * np.abs(values).max())


def _known(returns: ArrayLike) -> Floats:
    values = np.asarray(returns, np.float64)
    return values[np.isfinite(values)]
