"""Walk-forward: the cheap references refitted again and again on a growing past, each time judged on what came next.

Always true: a fold's references know nothing that closed after its judged span began; every series leaves out
`PURGE_BARS` rows (the labels' horizon and an embargo) before its validation and before its judged rows, and no outcome
of a judged row lies beyond the span's end. Folds follow one another in time and judge no row twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fusiontrade.journal.outcomes import HORIZON_BARS
from serving.evaluation.baselines import Boosting, BoostingSettings, climatology, rates_by_series
from serving.evaluation.baselines.pooled import newest_features, rolling_in_atr, volatility_quantiles
from serving.evaluation.coverage import inside
from serving.evaluation.lstm import SERVED_LEVELS
from serving.evaluation.metrics import Figure, Sample, brier, log_loss, pinball, published
from serving.training.config import PURGE_BARS
from serving.training.dataset import fit_season, volatility_of

if TYPE_CHECKING:
    from serving.training.dataset import Pool

__all__ = ["Fold", "even_cuts", "expanding_folds", "walk_forward"]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

_SETTINGS = BoostingSettings(rows=40_000, validation_rows=20_000, rounds=250)


@dataclass(frozen=True, eq=False)
class Fold:
    """One refit.

    Parameters
    ----------
    train, validation, judged
        Numbers of the pool's rows.
    cuts
        Instants (ms UTC) at which the validation slice begins, the judged span begins, and it ends.
    """

    train: Rows
    validation: Rows
    judged: Rows
    cuts: tuple[int, int, int]


def even_cuts(begin: int, until: int, folds: int) -> tuple[int, ...]:
    """Return ``folds + 1`` evenly spaced instants (ms UTC) from ``begin`` to ``until``."""
    if folds < 1 or until <= begin:
        raise ValueError(f"folds must be at least 1 and the span must not be empty, got {folds}, {begin}..{until}")
    return tuple(round(instant) for instant in np.linspace(begin, until, folds + 1))


def expanding_folds(pool: Pool, cuts: Sequence[int], *, validation: float = 0.12) -> list[Fold]:
    """Return one fold between each two neighbouring cuts, trained on everything before it.

    Parameters
    ----------
    cuts
        Two or more rising instants (ms UTC); the last is the end of the development span.
    validation
        Share of the usable rows before a fold, the newest, by which the growth of trees and a decay are chosen.

    Raises
    ------
    ValueError
        If the cuts do not rise, or a fold would have no rows to learn from or to judge.
    """
    if len(cuts) < 2 or any(after <= before for before, after in pairwise(cuts)):
        raise ValueError(f"cuts must be two or more rising instants, got {list(cuts)}")
    if not 0 < validation < 1:
        raise ValueError(f"validation must be a share between 0 and 1, got {validation}")
    return [_fold(pool, begin, until, validation) for begin, until in pairwise(cuts)]


def walk_forward(
    pool: Pool,
    folds: Sequence[Fold],
    *,
    settings: BoostingSettings = _SETTINGS,
    resamples: int = 500,
    seed: int = 20240,
    progress: Callable[[int], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Return each fold's figures for JSON: ``from`` and ``to`` (ms UTC), ``rows``, ``trained_on`` and ``figures``.

    LightGBM, EWMA × season, GARCH(1,1)-t × season and climatology are fitted anew for each fold, the seasons of the
    volatility columns with them.

    Parameters
    ----------
    settings
        Of LightGBM; by default smaller than for the judgement, since every fold fits it five times.
    progress
        Called with the number of folds done.
    """
    found = []
    for done, fold in enumerate(folds, start=1):
        figures = published(dict(_figures(pool, fold, settings, resamples, seed)))
        begin, until = fold.cuts[1:]
        rows, trained_on = len(fold.judged), len(fold.train) + len(fold.validation)
        found.append({"from": begin, "to": until, "rows": rows, "trained_on": trained_on, "figures": figures})
        progress(done)
    return found


def _fold(pool: Pool, begin: int, until: int, share: float) -> Fold:
    before = np.sort(pool.entry[pool.usable])
    before = before[before < begin]
    if not len(before):
        raise ValueError(f"{pool.timeframe}: no rows before the fold that begins at {begin}; give more history")
    middle = int(before[min(int((1 - share) * len(before)), len(before) - 1)])
    edges = ((-(2**62), middle, PURGE_BARS), (middle, begin, PURGE_BARS), (begin, until, HORIZON_BARS))
    parts: list[list[Rows]] = [[], [], []]
    for start, one in zip(pool.starts, pool.series, strict=False):
        entry, usable = one.frame.close_time, one.labels.usable
        for part, (since, end, purge) in zip(parts, edges, strict=True):
            first, last = np.searchsorted(entry, (since, end))
            last = max(first, last - purge)
            part.append(start + first + np.flatnonzero(usable[first:last]).astype(np.intp))
    train, validation, judged = (np.concatenate(part) for part in parts)
    for name, rows in (("training", train), ("validation", validation), ("judged", judged)):
        if not len(rows):
            raise ValueError(f"{pool.timeframe}: no {name} rows in the fold that begins at {begin}; give more history")
    return Fold(train, validation, judged, (middle, begin, until))


def _figures(
    pool: Pool, fold: Fold, settings: BoostingSettings, resamples: int, seed: int
) -> Iterator[tuple[str, Figure]]:
    rows = fold.judged
    sample = Sample(pool.entry[rows], resamples, seed)
    trees = _trees(pool, fold, settings)
    yield from _touch_and_direction(pool, fold, trees, sample)
    change = pool.column(lambda one: one.labels.change).astype(np.float64)
    told = volatility_quantiles(pool, rows, fold.cuts[:2], SERVED_LEVELS)
    told["lightgbm"] = trees.quantiles(change, SERVED_LEVELS, rows)
    scale = (pool.column(lambda one: one.atr) / pool.column(lambda one: one.frame.close))[rows]
    usual = pinball(rolling_in_atr(pool, rows, SERVED_LEVELS), SERVED_LEVELS, change[rows]) * scale
    for name, quantiles in told.items():
        known = np.isfinite(quantiles[:, 0])
        if not known.any():
            continue
        own = Sample(pool.entry[rows][known], resamples, seed)
        loss = pinball(quantiles[known], SERVED_LEVELS, change[rows][known]) * scale[known]
        yield f"baseline_{name}_pinball_ratio", own.mean_of_ratios(loss, usual[known], pool.series_of(rows[known]))
        held = inside(quantiles[known, 0], quantiles[known, -1], change[rows][known])
        yield f"baseline_{name}_coverage_90", own.ratio(held)


def _trees(pool: Pool, fold: Fold, settings: BoostingSettings) -> Boosting:
    volatility = volatility_of(pool, fit_season(pool, fold.cuts[0]))
    return Boosting(newest_features(pool, volatility), fold.train, fold.validation, settings)


def _touch_and_direction(pool: Pool, fold: Fold, trees: Boosting, sample: Sample) -> Iterator[tuple[str, Figure]]:
    rows, span = fold.judged, np.sort(np.concatenate((fold.train, fold.validation)))
    place, seen = pool.series_of(rows), pool.series_of(span)
    touch = pool.column(lambda one: one.labels.touch)
    either = touch[:, [0, touch.shape[1] // 2]].max(axis=1).astype(np.float64)
    direction = pool.column(lambda one: one.labels.direction).astype(np.float64)
    climate = climatology(seen, pool.entry[span], either[span, None], place, pool.entry[rows])[:, 0]
    rate = rates_by_series(seen, direction[span, None], place)[:, 0]
    touched, up = trees.probability(either, rows), trees.probability(direction, rows)
    came, rose = either[rows], direction[rows]
    yield "baseline_climatology_either_touch_auc", sample.auc(climate, came > 0)
    yield "baseline_lightgbm_either_touch_auc", sample.auc(touched, came > 0)
    skill = sample.skill(brier(touched, came), brier(climate, came))
    yield "baseline_lightgbm_either_touch_skill_over_climatology", skill
    yield "baseline_lightgbm_direction_auc", sample.auc(up, rose > 0)
    skill = sample.skill(log_loss(up, rose), log_loss(rate, rose))
    yield "baseline_lightgbm_direction_log_loss_skill", skill
