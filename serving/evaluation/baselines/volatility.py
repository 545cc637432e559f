"""Next-bar quantiles from the volatility of returns alone: EWMA × season and GARCH(1,1)-t × season.

Both divide returns by what is usual in their slot of the week, follow the variance of the rest bar by bar with fixed
parameters, and multiply the season of the coming slot back. Always true: season, parameters and residual quantiles are
of the bars before ``span_end`` (the decay of EWMA is chosen on bars before ``validation_end``), and the forecast at a
row is a function of the closes up to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.evaluation.baselines.season import one_bar_returns, seasonal_sizes, slots_to_come
from serving.evaluation.metrics import pinball

__all__ = ["FEWEST_BARS", "NextBar", "ewma_quantiles", "garch_quantiles"]

Floats = NDArray[np.floating]
Rows = NDArray[np.intp]

FEWEST_BARS = 1000
"""A training span with fewer bars fits no season of the week and no variance."""
_DECAYS = (0.80, 0.85, 0.90, 0.92, 0.94, 0.96, 0.97, 0.98, 0.985, 0.99, 0.995)
_USUAL_DECAY = 0.94  # of RiskMetrics: for a series without a validation slice
_WARM_UP = 500
_SMALLEST = 1e-8  # of the close: the size of returns in a market that does not move
_DECIDING = (0.05, 0.95)


@dataclass(frozen=True, eq=False)
class NextBar:
    """Forecasts of the next bar's change.

    Parameters
    ----------
    quantiles
        (m, levels) of the change from close to close, in ATR(14) of the row, rising.
    parameters
        What was fitted, by name.
    """

    quantiles: NDArray[np.float64]
    parameters: dict[str, float]


def ewma_quantiles(
    close: Floats,
    atr: Floats,
    slot: NDArray[np.intp],
    rows: Rows,
    *,
    week: int,
    span_end: int,
    validation_end: int,
    levels: tuple[float, ...],
) -> NextBar:
    """Return quantiles of an exponentially weighted variance (RiskMetrics, 1996) with empirical residuals.

    The decay is the one of least pinball loss of the 5 and 95 % quantiles between ``span_end`` and
    ``validation_end``; ``parameters`` names it.

    Parameters
    ----------
    close, atr
        (n,) of one series' bars, oldest first, in price.
    slot
        (n,) place of each bar in the week, below ``week``.
    rows
        (m,) rows asked for, none before ``validation_end - 1``.
    week
        Slots of a week.
    span_end, validation_end
        Index after the last bar of the training span, and of the validation slice.
    levels
        Of the quantiles, rising.

    Raises
    ------
    ValueError
        If the span has fewer than 1,000 bars, or a row lies in what was learned from.
    """
    _check(len(close), rows, span_end, validation_end)
    returns = one_bar_returns(close)
    season = seasonal_sizes(returns, slot, week, span_end)
    coming = season[slots_to_come(slot, week, span_end)]
    squares = (returns / season[slot]) ** 2
    unit = close / atr
    held = np.arange(span_end, validation_end - 1)

    def told(decay: float, rows: Rows, levels: tuple[float, ...]) -> NDArray[np.float64]:
        size = _size(1 - decay, decay, 0.0, squares) * coming
        residual = returns[_WARM_UP + 1 : span_end] / size[_WARM_UP : span_end - 1]
        return (size * unit)[rows, None] * np.quantile(residual, levels)

    def loss(decay: float) -> float:
        return float(pinball(told(decay, held, _DECIDING), _DECIDING, (returns[1:] * unit[:-1])[held]).mean())

    chosen = min(_DECAYS, key=loss) if len(held) else _USUAL_DECAY
    return NextBar(told(chosen, rows, levels), {"decay": chosen})


def garch_quantiles(
    close: Floats,
    atr: Floats,
    slot: NDArray[np.intp],
    rows: Rows,
    *,
    week: int,
    span_end: int,
    levels: tuple[float, ...],
    most: int = 20_000,
) -> NextBar:
    """Return quantiles of a GARCH(1,1) with Student's t (Bollerslev, 1987), fitted by `arch` without a mean.

    Parameters
    ----------
    close, atr, slot, week, levels
        As for `ewma_quantiles`.
    rows
        (m,) rows asked for, none before ``span_end - 1``.
    span_end
        Index after the last bar of the training span.
    most
        At most so many of the newest bars of the span are fitted.

    Raises
    ------
    ValueError
        If the span has fewer than 1,000 bars, or a row lies in what was learned from.
    """
    from arch import arch_model
    from arch.univariate import StudentsT

    _check(len(close), rows, span_end, span_end)
    returns = one_bar_returns(close)
    season = seasonal_sizes(returns, slot, week, span_end)
    steady = returns / season[slot]
    fitted_on = steady[max(1, span_end - most) : span_end]
    unit = max(float(fitted_on.std()), _SMALLEST)
    model = arch_model(fitted_on / unit, mean="Zero", vol="GARCH", p=1, q=1, dist="t", rescale=False)
    found = model.fit(disp="off", show_warning=False).params
    omega, alpha, beta, nu = (float(found[name]) for name in ("omega", "alpha[1]", "beta[1]", "nu"))
    size = _size(alpha, beta, omega, (steady / unit) ** 2) * unit * season[slots_to_come(slot, week, span_end)]
    tails = np.asarray(StudentsT().ppf(np.asarray(levels), np.asarray([nu])), np.float64)
    quantiles = (size * close / atr)[rows, None] * tails
    return NextBar(quantiles, {"omega": omega, "alpha": alpha, "beta": beta, "nu": nu})


def _size(alpha: float, beta: float, omega: float, squares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (n,) the expected size of the return after each bar.

    The root of v(t) = omega + alpha · squares(t) + beta · v(t - 1), beginning at the mean of the first 500 squares.
    """
    from scipy.signal import lfilter  # type: ignore[import-untyped]

    start = beta * float(np.mean(squares[1 : _WARM_UP + 1]))
    variance, _ = lfilter([1.0], [1.0, -beta], omega + alpha * squares, zi=[start])
    return np.asarray(np.sqrt(np.maximum(variance, _SMALLEST**2)), np.float64)


def _check(bars: int, rows: Rows, span_end: int, learned_end: int) -> None:
    if span_end < FEWEST_BARS:
        raise ValueError(
            f"span_end must leave {FEWEST_BARS} bars or more to learn from, got {span_end}: give more history"
        )
    if not span_end <= learned_end <= bars:
        raise ValueError(f"the span must end before the validation slice and the bars, got {span_end}, {learned_end}")
    if len(rows) and rows.min() < learned_end - 1:
        raise ValueError(f"rows must lie after the bars that were learned from ({learned_end}), got {rows.min()}")
