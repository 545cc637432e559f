"""The figures of an LSTM bundle on the untouched slice, each beside the baseline it has to beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fusiontrade.inference.contract import TOUCH_LEVELS
from serving.evaluation.held_out import HeldOut, taken
from serving.evaluation.metrics import Figure, Sample, brier, calibration_error, log_loss, pinball, published
from serving.forecasting import LstmAnswers

__all__ = ["LSTM_HEADLINES", "SERVED_LEVELS", "judge_lstm", "served_quantiles"]

LSTM_HEADLINES = (
    *("direction_accuracy", "direction_votes", "direction_auc", "direction_log_loss_skill", "direction_ece"),
    *("pinball_ratio", "coverage_90", "touch_up_1_auc", "touch_down_1_auc", "either_touch_auc"),
    *(
        "either_touch_skill_over_climatology",
        "touch_skill_over_climatology",
        "touch_either_1_ece",
        "touch_up_1_ece",
        "touch_down_1_ece",
    ),
    *("win_long_ece", "win_short_ece", "win_long_auc", "win_short_auc", "win_skill_over_climatology", "log_range_r2"),
)
"""The pooled figures that the model card carries."""
SERVED_LEVELS = (0.05, 0.50, 0.95)
"""Levels of `served_quantiles`."""

Numbers = dict[str, dict[str, float | int]]


def judge_lstm(
    answers: LstmAnswers, held: HeldOut, names: Sequence[str], *, resamples: int, seed: int
) -> dict[str, Numbers | dict[str, Numbers]]:
    """Return ``{"pooled": figures, "by_symbol": {symbol: figures}}``.

    Parameters
    ----------
    answers
        Calibrated answers of the held-out rows.
    names
        Symbol of each series number.
    """
    pooled = _figures(answers, held, resamples, seed) | _more(answers, held, resamples, seed)
    by_symbol = {}
    for place in np.unique(held.place):
        rows = held.place == place
        by_symbol[names[place]] = _figures(taken(answers, rows), taken(held, rows), resamples, seed)
    return {"pooled": pooled, "by_symbol": by_symbol}


def _figures(answers: LstmAnswers, held: HeldOut, resamples: int, seed: int) -> Numbers:
    """Return the figures that are given for every symbol and for all."""
    sample = Sample(held.entry, resamples, seed)
    probability, truth = answers.probability_up, held.direction
    votes = answers.vote != 0
    hits = ((answers.vote > 0) == (truth > 0)).astype(np.float64)
    scale = held.atr / held.close
    width = pinball(served_quantiles(answers, held), SERVED_LEVELS, held.change) * scale
    usual = pinball(held.rolling_served, SERVED_LEVELS, held.change) * scale
    next_close = held.close + held.change * held.atr
    inside = (answers.low <= next_close) & (next_close <= answers.high)
    up, down = answers.touch_up[:, 0], answers.touch_down[:, 0]
    either = answers.touch_either[:, 0]
    found = {
        "direction_votes": sample.ratio(votes.astype(np.float64)),
        "direction_auc": sample.auc(probability, truth > 0),
        "direction_log_loss_skill": sample.skill(log_loss(probability, truth), log_loss(held.rate_direction, truth)),
        "pinball_ratio": sample.mean_of_ratios(width, usual, held.place),
        "coverage_90": sample.ratio(inside.astype(np.float64)),
        "touch_up_1_auc": sample.auc(up, held.touch[:, 0] > 0),
        "touch_down_1_auc": sample.auc(down, held.touch[:, len(TOUCH_LEVELS)] > 0),
        "either_touch_auc": sample.auc(either, held.either > 0),
        "either_touch_skill_over_climatology": sample.skill(
            brier(either, held.either), brier(held.climate_either, held.either)
        ),
        "log_range_r2": _r2(sample, answers, held),
    }
    if votes.any():
        found["direction_accuracy"] = sample.share(hits, votes)
    return published(found) | _calibration(answers, held, seed)


def _more(answers: LstmAnswers, held: HeldOut, resamples: int, seed: int) -> Numbers:
    """Return the figures that are given for all symbols together: every touch and win head, and the baselines."""
    sample = Sample(held.entry, resamples, seed)
    truth = held.direction
    touch = np.concatenate((answers.touch_up, answers.touch_down), axis=1)
    win = np.stack((answers.win_long, answers.win_short), axis=1)
    found = {
        "direction_brier_skill": sample.skill(brier(answers.probability_up, truth), brier(held.rate_direction, truth)),
        "touch_skill_over_climatology": sample.skill(
            brier(touch, held.touch).sum(axis=1), brier(held.climate_touch, held.touch).sum(axis=1)
        ),
        "touch_skill_over_base_rate": sample.skill(
            brier(touch, held.touch).sum(axis=1), brier(held.rate_touch, held.touch).sum(axis=1)
        ),
        "win_skill_over_climatology": sample.skill(
            brier(win, held.win).sum(axis=1), brier(held.climate_win, held.win).sum(axis=1)
        ),
        "win_long_auc": sample.auc(answers.win_long, held.win[:, 0] > 0),
        "win_short_auc": sample.auc(answers.win_short, held.win[:, 1] > 0),
        "baseline_persistence_accuracy": sample.ratio(((held.last_change > 0) == (truth > 0)).astype(np.float64)),
        "baseline_logistic_direction_auc": sample.auc(held.logistic_direction, truth > 0),
        "baseline_logistic_direction_log_loss_skill": sample.skill(
            log_loss(held.logistic_direction, truth), log_loss(held.rate_direction, truth)
        ),
        "baseline_climatology_either_touch_auc": sample.auc(held.climate_either, held.either > 0),
        "baseline_logistic_either_touch_auc": sample.auc(held.logistic_either, held.either > 0),
        "baseline_logistic_either_touch_skill_over_climatology": sample.skill(
            brier(held.logistic_either, held.either), brier(held.climate_either, held.either)
        ),
    }
    heads = [f"touch_{side}_{level:g}" for side in ("up", "down") for level in TOUCH_LEVELS]
    for column, head in enumerate(heads):
        came = held.touch[:, column]
        found[f"{head}_auc"] = sample.auc(touch[:, column], came > 0)
        found[f"{head}_skill_over_climatology"] = sample.skill(
            brier(touch[:, column], came), brier(held.climate_touch[:, column], came)
        )
    return published(found)


def served_quantiles(answers: LstmAnswers, held: HeldOut) -> NDArray[np.float64]:
    """Return (n, 3) in ATR: the corrected 90 % interval and the median between its bounds, as they are served."""
    low, high = (answers.low - held.close) / held.atr, (answers.high - held.close) / held.atr
    return np.stack((low, np.clip(answers.quantiles[:, 2], low, high), high), axis=1)


def _r2(sample: Sample, answers: LstmAnswers, held: HeldOut) -> Figure:
    """Return R² of the log of the range over the horizon."""
    predicted = np.log(answers.expected_range / held.atr)
    return sample.skill((held.log_range - predicted) ** 2, (held.log_range - held.log_range.mean()) ** 2)


def _calibration(answers: LstmAnswers, held: HeldOut, seed: int) -> Numbers:
    pairs: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {
        "direction": (answers.probability_up, held.direction),
        "touch_either_1": (answers.touch_either[:, 0], held.either),
        "touch_up_1": (answers.touch_up[:, 0], held.touch[:, 0]),
        "touch_down_1": (answers.touch_down[:, 0], held.touch[:, len(TOUCH_LEVELS)]),
        "win_long": (answers.win_long, held.win[:, 0]),
        "win_short": (answers.win_short, held.win[:, 1]),
    }
    figures: Numbers = {}
    for name, (probability, truth) in pairs.items():
        error, floor = calibration_error(probability, truth, seed)
        figures[f"{name}_ece"] = {"value": round(error, 6), "noise_floor": round(floor, 6), "n": len(truth)}
    return figures
