"""The baselines that take minutes: EWMA × season, GARCH(1,1)-t × season and LightGBM, asked for the judged rows.

They stand beside a study alone, so that training's own judging stays quick. Each has learned from the bars before the
calibration slice, exactly as `serving.training.judging.references.held_out` has.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.evaluation.baselines import Boosting, BoostingSettings
from serving.evaluation.baselines.pooled import newest_features, volatility_quantiles
from serving.evaluation.coverage import inside
from serving.evaluation.held_out import HeldOut, taken
from serving.evaluation.lstm import SERVED_LEVELS
from serving.evaluation.metrics import Figure, Sample, brier, log_loss, pinball, published
from serving.evaluation.patchtst import class_loss
from serving.training.prepared import Prepared

__all__ = ["Rivals", "lstm_rival_figures", "patchtst_rival_figures", "rivals"]

Floats = NDArray[np.float64]
Numbers = dict[str, dict[str, float | int]]

_UP, _FLAT, _DOWN = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Rivals:
    """What the slower baselines said of the n judged rows.

    Parameters
    ----------
    ewma, garch, lightgbm
        (n, 3) quantiles of the next change in ATR at `SERVED_LEVELS`; NaN where a series has too few bars.
    either, touch_up, touch_down, direction
        (n,) LightGBM's probability of ±1 ATR on either side, above, below, and of a higher next close.
    log_range
        (n,) LightGBM's expected log range of the horizon in ATR.
    classes
        (n, 3) LightGBM's probabilities of up, flat, down.
    """

    ewma: Floats
    garch: Floats
    lightgbm: Floats
    either: Floats
    touch_up: Floats
    touch_down: Floats
    direction: Floats
    log_range: Floats
    classes: Floats

    @property
    def quantiles(self) -> dict[str, Floats]:
        """The quantiles of each, by the baseline's name."""
        return {"ewma": self.ewma, "garch": self.garch, "lightgbm": self.lightgbm}


def rivals(prepared: Prepared, settings: BoostingSettings) -> Rivals:
    """Return the slower baselines' answers for the test slice of ``prepared``."""
    pool, slices, rows = prepared.pool, prepared.slices, prepared.slices.test
    trees = Boosting(newest_features(pool, prepared.volatility), slices.train, slices.validation, settings)
    touch = pool.column(lambda one: one.labels.touched)
    following = volatility_quantiles(pool, rows, slices.cuts[:2], SERVED_LEVELS)
    return Rivals(
        **following,
        lightgbm=trees.quantiles(pool.column(lambda one: one.labels.change), SERVED_LEVELS, rows),
        either=trees.probability(touch[:, 10], rows),
        touch_up=trees.probability(touch[:, 0], rows),
        touch_down=trees.probability(touch[:, 5], rows),
        direction=trees.probability(pool.column(lambda one: one.labels.direction), rows),
        log_range=trees.mean(pool.column(lambda one: one.labels.log_range), rows),
        classes=trees.classes(pool.column(lambda one: one.labels.classes), rows),
    )


def lstm_rival_figures(told: Rivals, held: HeldOut, resamples: int, seed: int) -> Numbers:
    """Return figures of the slower baselines, and those of the plain ones that training leaves out."""
    sample = Sample(held.entry, resamples, seed)
    direction, climate = held.direction, brier(held.climate_either, held.either)
    spread = (held.log_range - held.log_range.mean()) ** 2
    found = {
        "baseline_rolling_coverage_90": sample.ratio(inside(held.rolling[:, 0], held.rolling[:, 4], held.change)),
        "baseline_climatology_log_range_r2": sample.skill((held.log_range - held.climate_log_range) ** 2, spread),
        "baseline_climatology_touch_up_1_auc": sample.auc(held.climate_touch[:, 0], held.touch[:, 0] > 0),
        "baseline_climatology_touch_down_1_auc": sample.auc(held.climate_touch[:, 5], held.touch[:, 5] > 0),
        "baseline_climatology_win_long_auc": sample.auc(held.climate_win[:, 0], held.win[:, 0] > 0),
        "baseline_climatology_win_short_auc": sample.auc(held.climate_win[:, 1], held.win[:, 1] > 0),
        "baseline_lightgbm_either_touch_auc": sample.auc(told.either, held.either > 0),
        "baseline_lightgbm_either_touch_skill_over_climatology": sample.skill(brier(told.either, held.either), climate),
        "baseline_lightgbm_touch_up_1_auc": sample.auc(told.touch_up, held.touch[:, 0] > 0),
        "baseline_lightgbm_touch_down_1_auc": sample.auc(told.touch_down, held.touch[:, 5] > 0),
        "baseline_lightgbm_direction_auc": sample.auc(told.direction, direction > 0),
        "baseline_lightgbm_direction_log_loss_skill": sample.skill(
            log_loss(told.direction, direction), log_loss(held.rate_direction, direction)
        ),
        "baseline_lightgbm_log_range_r2": sample.skill((held.log_range - told.log_range) ** 2, spread),
    }
    for name, quantiles in told.quantiles.items():
        found |= {
            f"baseline_{name}_{figure}": one for figure, one in _next_bar_figures(quantiles, held, resamples, seed)
        }
    return published(found)


def patchtst_rival_figures(told: Rivals, held: HeldOut, resamples: int, seed: int) -> Numbers:
    """Return LightGBM's figures on the classes up, flat and down."""
    sample = Sample(held.entry, resamples, seed)
    moved = held.classes != _FLAT
    lean = told.classes[:, _UP] - told.classes[:, _DOWN]
    found = {
        "baseline_lightgbm_accuracy": sample.ratio((told.classes.argmax(axis=1) == held.classes).astype(np.float64)),
        "baseline_lightgbm_log_loss_skill": sample.skill(
            class_loss(told.classes, held.classes), class_loss(held.rate_classes, held.classes)
        ),
        "baseline_lightgbm_flat_auc": sample.auc(told.classes[:, _FLAT], ~moved),
    }
    if moved.any():
        of_moves = Sample(held.entry[moved], resamples, seed)
        found["baseline_lightgbm_up_against_down_auc"] = of_moves.auc(lean[moved], held.classes[moved] == _UP)
    return published(found)


def _next_bar_figures(quantiles: Floats, held: HeldOut, resamples: int, seed: int) -> list[tuple[str, Figure]]:
    """Return pinball ratio and coverage over the rows that were answered."""
    known = np.asarray(np.isfinite(quantiles).all(axis=1))
    if not known.any():
        return []
    quantiles, held = quantiles[known], taken(held, known)
    sample, scale = Sample(held.entry, resamples, seed), held.atr / held.close
    mine = pinball(quantiles, SERVED_LEVELS, held.change) * scale
    usual = pinball(held.rolling_served, SERVED_LEVELS, held.change) * scale
    within = inside(quantiles[:, 0], quantiles[:, 2], held.change)
    return [("pinball_ratio", sample.mean_of_ratios(mine, usual, held.place)), ("coverage_90", sample.ratio(within))]
