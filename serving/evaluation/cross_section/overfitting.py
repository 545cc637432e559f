"""How likely is it that the best of several attempts was the best by luck alone?

Combinatorially symmetric cross-validation (Bailey, Borwein, López de Prado and Zhu, 2017): the periods are cut into an
even number of blocks; every half of the blocks is in-sample once, the other half then being out of sample. The attempt
that is best in-sample gets its rank out of sample. If choosing were of use, it would be high; the probability of
backtest overfitting is the share of splits in which it lies in the lower half.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import ArrayLike

from fusiontrade.market.candles import Floats

__all__ = ["Overfitting", "overfitting"]

_MOST_SPLITS = 20_000
_FEWEST = 2  # periods of a block
_ROUNDING = 1e-12  # of the mean square: a variance below it is none


@dataclass(frozen=True, slots=True)
class Overfitting:
    """What the splits say.

    Parameters
    ----------
    probability
        Share of splits in which the best in-sample is in the lower half out of sample.
    median_rank
        Of the best in-sample, out of sample, 0 (worst) to 1 (best), 0.5 by luck.
    loss
        Share of splits in which the best in-sample has a negative mean out of sample.
    splits, trials
        How many there were.
    """

    probability: float
    median_rank: float
    loss: float
    splits: int
    trials: int


def overfitting(returns: ArrayLike, blocks: int = 10) -> Overfitting:
    """Return the probability of backtest overfitting, measured by the Sharpe ratio.

    Parameters
    ----------
    returns
        (T, N) returns of N >= 2 attempts in the same T periods, finite; what is left over of T / blocks is left out at
        the beginning.
    blocks
        An even number of stretches; C(blocks, blocks / 2) splits: 252 of 10, 12,870 of 16.

    Raises
    ------
    ValueError
        If there are too few attempts or periods, or the number of blocks is odd or too large.
    """
    values = np.asarray(returns, np.float64)
    _check(values, blocks)
    length = len(values) // blocks
    cut = values[len(values) - length * blocks :].reshape(blocks, length, values.shape[1])
    sums, squares = cut.sum(axis=1), np.square(cut).sum(axis=1)
    chosen = np.zeros((comb(blocks, blocks // 2), blocks))
    for row, inside in enumerate(combinations(range(blocks), blocks // 2)):
        chosen[row, inside] = 1.0
    periods = length * blocks // 2
    inside_ratio, _ = _ratios(chosen, sums, squares, periods)
    outside_ratio, outside_mean = _ratios(1.0 - chosen, sums, squares, periods)
    rows = np.arange(len(chosen))
    best = inside_ratio.argmax(axis=1)
    mine = outside_ratio[rows, best][:, None]
    below, same = (outside_ratio < mine).sum(axis=1), (outside_ratio == mine).sum(axis=1)
    rank = (below + (same + 1) / 2) / (values.shape[1] + 1)  # ties count half
    loss = float((outside_mean[rows, best] < 0).mean())
    return Overfitting(float((rank <= 0.5).mean()), float(np.median(rank)), loss, len(chosen), values.shape[1])


def _ratios(chosen: Floats, sums: Floats, squares: Floats, periods: int) -> tuple[Floats, Floats]:
    """Return (splits, N) Sharpe ratios and means over the chosen blocks; 0 for a series that does not vary."""
    mean = chosen @ sums / periods
    variance = np.maximum(chosen @ squares / periods - mean * mean, 0.0)
    varies = variance > _ROUNDING * (chosen @ squares / periods)
    return np.divide(mean, np.sqrt(variance), out=np.zeros(mean.shape), where=varies), mean


def _check(values: Floats, blocks: int) -> None:
    if values.ndim != 2 or values.shape[1] < 2:
        raise ValueError(f"returns must be (periods, attempts) of two or more attempts, got {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("returns must be finite: leave out the periods that an attempt has no return in")
    if blocks < 2 or blocks % 2 or comb(blocks, blocks // 2) > _MOST_SPLITS:
        raise ValueError(f"blocks must be an even number from 2 to 16, got {blocks}")
    if len(values) < _FEWEST * blocks:
        raise ValueError(f"returns must have {_FEWEST * blocks} periods for {blocks} blocks, got {len(values)}")
