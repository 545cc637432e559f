"""Figures against their definitions, against scikit-learn, and against samples whose truth is known."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score, roc_auc_score

from serving.evaluation.bootstrap import day_numbers, day_weights
from serving.evaluation.metrics import (
    Sample,
    brier,
    calibration_error,
    classified,
    equal_mass,
    log_loss,
    pinball,
    published,
    quantile_crps,
)

HOUR = 3_600_000
DAY = 24 * HOUR
N = 6000


@pytest.fixture(scope="module")
def sample() -> Sample:
    return Sample(np.arange(N) * HOUR, resamples=200, seed=1)


@pytest.fixture(scope="module")
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def test_every_resample_draws_as_many_days_as_there_are() -> None:
    weights = day_weights(30, 500, seed=2)
    assert weights.shape == (500, 30)
    assert (weights.sum(axis=1) == 30).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(30), abs=0.2)
    assert (day_weights(30, 500, seed=2) == weights).all()


def test_days_are_drawn_in_runs() -> None:
    weights = day_weights(200, 300, seed=3, mean_run=10)
    together = np.mean((weights[:, 1:] > 0) == (weights[:, :-1] > 0))
    assert together > 0.85


def test_a_run_wraps_from_the_last_day_to_the_first() -> None:
    weights = day_weights(6, 400, seed=4, mean_run=1e9)
    assert (weights == 1).all()


def test_a_run_shorter_than_a_day_is_refused() -> None:
    with pytest.raises(ValueError, match=r"mean_run is a number of days, at least 1, got 0\.5"):
        day_weights(10, 2, seed=1, mean_run=0.5)


def test_another_process_draws_the_same_days() -> None:
    program = (
        "from serving.evaluation.bootstrap import day_weights; import hashlib;"
        "print(hashlib.sha256(day_weights(90, 50, seed=7).tobytes()).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert other.strip() == hashlib.sha256(day_weights(90, 50, seed=7).tobytes()).hexdigest()


def test_the_interval_of_dependent_days_is_as_wide_as_their_dependence() -> None:
    """An AR(1) with coefficient 0.6: the variance of its mean is (1 + 0.6) / (1 - 0.6) = 4 times that of noise."""
    rng = np.random.default_rng(5)
    noise, days = rng.normal(size=3000), np.empty(3000)
    days[0] = noise[0]
    for day in range(1, len(days)):
        days[day] = 0.6 * days[day - 1] + noise[day]
    instants = np.arange(len(days)) * DAY
    figure = Sample(instants, 600, 1, mean_run=30).ratio(days)
    truth = 2 * 1.96 * np.sqrt(1 / (1 - 0.6) ** 2 / len(days))
    assert figure.high - figure.low == pytest.approx(truth, rel=0.2)


def test_day_numbers_follow_utc_midnight() -> None:
    assert day_numbers(np.asarray([5 * DAY - 1, 5 * DAY, 9 * DAY + HOUR, 5 * DAY + 1])).tolist() == [0, 1, 2, 1]


def test_auc_equals_scikit_learn_with_ties(sample: Sample, random: np.random.Generator) -> None:
    score = np.round(random.normal(size=N), 1)
    truth = random.random(N) < 1 / (1 + np.exp(-score))
    figure = sample.auc(score, truth)
    assert figure.value == pytest.approx(roc_auc_score(truth, score), abs=1e-12)
    assert figure.low < figure.value < figure.high
    assert figure.n == N


def test_the_difference_of_two_auc_is_measured_on_the_same_draws(sample: Sample, random: np.random.Generator) -> None:
    score = random.normal(size=N)
    truth = random.random(N) < 1 / (1 + np.exp(-score))
    near = score + random.normal(0, 0.1, N)
    figure = sample.auc_difference(near, score, truth)
    assert figure.value == pytest.approx(roc_auc_score(truth, near) - roc_auc_score(truth, score), abs=1e-12)
    alone = sample.auc(score, truth)
    assert figure.high - figure.low < 0.3 * (alone.high - alone.low)
    nothing = sample.auc_difference(score, score, truth)
    assert (nothing.value, nothing.low, nothing.high) == (0.0, 0.0, 0.0)


def test_the_interval_of_a_mean_holds_the_truth_and_has_the_expected_width(
    sample: Sample, random: np.random.Generator
) -> None:
    figure = sample.ratio(random.normal(0.3, 1, N))
    assert figure.low < 0.3 < figure.high
    assert figure.high - figure.low == pytest.approx(2 * 1.96 / np.sqrt(N), rel=0.35)


def test_skill_is_the_share_of_the_reference_loss_that_is_saved(sample: Sample) -> None:
    figure = sample.skill(np.full(N, 0.75), np.ones(N))
    assert figure.value == pytest.approx(0.25)


def test_a_share_is_taken_over_the_chosen_rows_alone(sample: Sample) -> None:
    rows = np.arange(N) % 2 == 0
    figure = sample.share(np.where(rows, 1.0, 5.0), rows)
    assert (figure.value, figure.n) == (1.0, N // 2)


def test_the_mean_of_ratios_gives_each_series_one_voice(sample: Sample) -> None:
    place = (np.arange(N) % 10 == 0).astype(np.intp)
    figure = sample.mean_of_ratios(np.where(place == 1, 3.0, 1.0), np.ones(N), place)
    assert figure.value == pytest.approx(2.0)


def test_groups_are_measured_apart_and_agree_with_samples_of_their_own(random: np.random.Generator) -> None:
    values, group = random.normal(size=N), np.arange(N) // (N // 2)
    instants = np.tile(np.arange(N // 2) * HOUR, 2)
    figures = Sample(instants, 200, 1).by_group(values, None, group, 2)
    for one, figure in enumerate(figures):
        alone = Sample(instants[group == one], 200, 1).ratio(values[group == one])
        assert figure.value == pytest.approx(alone.value)
        assert (figure.low, figure.high) == pytest.approx((alone.low, alone.high))
        assert figure.n == N // 2


def test_the_spread_is_the_largest_less_the_smallest_group_mean(sample: Sample) -> None:
    group = np.arange(N) % 3
    figure = sample.spread(np.asarray([0.86, 0.91, 0.9])[group], group, 3)
    assert (figure.value, figure.low, figure.high) == pytest.approx((0.05, 0.05, 0.05))


def test_a_series_missing_from_a_resample_leaves_the_others_to_speak() -> None:
    instants = np.concatenate((np.arange(240) * HOUR, [0]))
    place = np.concatenate((np.zeros(240, np.intp), [1]))
    figure = Sample(instants, 300, 1).mean_of_ratios(np.ones(241), np.ones(241), place)
    assert (figure.value, figure.low, figure.high) == (1.0, 1.0, 1.0)


def test_calls_are_scored_as_scikit_learn_does(sample: Sample, random: np.random.Generator) -> None:
    truth = random.random(N) < 0.3
    called = random.random(N) < np.where(truth, 0.6, 0.2)
    found = classified(sample, called, truth)
    scores = {"accuracy": accuracy_score, "precision": precision_score, "recall": recall_score, "f1": f1_score}
    for name, score in scores.items():
        assert found[name].value == pytest.approx(score(truth, called))
        assert found[name].low < found[name].value < found[name].high
    assert np.isnan(classified(sample, np.zeros(N, np.bool_), truth)["precision"].value)


def test_an_undefined_figure_is_not_published(sample: Sample) -> None:
    one_class = sample.auc(np.arange(N, dtype=float), np.ones(N, np.bool_))
    nothing = sample.share(np.ones(N), np.zeros(N, np.bool_))
    assert published({"auc": one_class, "share": nothing, "mean": sample.ratio(np.ones(N))}) == {
        "mean": {"value": 1.0, "low": 1.0, "high": 1.0, "n": N}
    }


def test_scores_have_their_textbook_values() -> None:
    assert brier(np.asarray([0.8]), np.asarray([1.0]))[0] == pytest.approx(0.04)
    assert log_loss(np.asarray([0.8]), np.asarray([0.0]))[0] == pytest.approx(-np.log(0.2))
    assert log_loss(np.asarray([0.0]), np.asarray([1.0]))[0] == pytest.approx(-np.log(1e-6))
    assert pinball(np.asarray([[0.0, 1.0]]), (0.1, 0.9), np.asarray([2.0]))[0] == pytest.approx((0.2 + 0.9) / 2)


def test_the_crps_of_quantiles_is_near_that_of_the_whole_distribution(random: np.random.Generator) -> None:
    """Against the closed form of the normal: sigma (z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi))."""
    levels = (0.05, 0.25, 0.5, 0.75, 0.95)
    value = random.normal(size=20_000)
    told = np.tile(norm.ppf(levels), (len(value), 1))
    closed = value * (2 * norm.cdf(value) - 1) + 2 * norm.pdf(value) - 1 / np.sqrt(np.pi)
    assert quantile_crps(told, levels, value).mean() == pytest.approx(closed.mean(), rel=0.04)
    wrong = quantile_crps(1.5 * told, levels, value).mean()
    assert quantile_crps(told, levels, value).mean() < min(wrong, quantile_crps(told + 0.3, levels, value).mean())
    fine = tuple(np.arange(1, 1000) / 1000)
    told = np.tile(norm.ppf(fine), (50, 1))
    assert quantile_crps(told, fine, value[:50]) == pytest.approx(closed[:50], abs=2e-3)


def test_equal_probabilities_share_a_bin() -> None:
    probability = np.concatenate((np.full(500, 0.3), np.linspace(0.4, 0.5, 500)))
    bins = equal_mass(probability)
    assert len(set(bins[:500])) == 1
    assert np.bincount(bins).tolist() == [500, 100, 100, 100, 100, 100]
    assert (np.diff(bins[np.argsort(probability, kind="stable")]) >= 0).all()
    assert np.bincount(equal_mass(np.random.default_rng(1).random(1000))).tolist() == [100] * 10


def test_one_answer_for_all_errs_by_its_distance_from_the_rate(random: np.random.Generator) -> None:
    """Cut into bins by the order of rows, a rate that drifts over time would look like miscalibration."""
    truth = (random.random(N) < np.linspace(0.2, 0.8, N)).astype(np.float64)
    error, _ = calibration_error(np.full(N, 0.45), truth, seed=1)
    assert error == pytest.approx(abs(truth.mean() - 0.45))


def test_calibrated_probabilities_err_no_more_than_the_noise_floor(random: np.random.Generator) -> None:
    probability = random.uniform(0.1, 0.9, N)
    truth = (random.random(N) < probability).astype(np.float64)
    error, floor = calibration_error(probability, truth, seed=1)
    assert error < 2 * floor
    shifted, _ = calibration_error(np.clip(probability + 0.1, 0, 1), truth, seed=1)
    assert shifted == pytest.approx(0.1, abs=0.02)
