"""Figures against their definitions, against scikit-learn, and against samples whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from serving.evaluation.baselines import climatology, logistic, rates_by_series, rolling_quantiles
from serving.evaluation.bootstrap import day_numbers, day_weights
from serving.evaluation.metrics import Sample, brier, calibration_error, log_loss, pinball, published

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


def test_day_numbers_follow_utc_midnight() -> None:
    assert day_numbers(np.asarray([5 * DAY - 1, 5 * DAY, 9 * DAY + HOUR, 5 * DAY + 1])).tolist() == [0, 1, 2, 1]


def test_auc_equals_scikit_learn_with_ties(sample: Sample, random: np.random.Generator) -> None:
    score = np.round(random.normal(size=N), 1)
    truth = random.random(N) < 1 / (1 + np.exp(-score))
    figure = sample.auc(score, truth)
    assert figure.value == pytest.approx(roc_auc_score(truth, score), abs=1e-12)
    assert figure.low < figure.value < figure.high
    assert figure.n == N


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


def test_calibrated_probabilities_err_no_more_than_the_noise_floor(random: np.random.Generator) -> None:
    probability = random.uniform(0.1, 0.9, N)
    truth = (random.random(N) < probability).astype(np.float64)
    error, floor = calibration_error(probability, truth, seed=1)
    assert error < 2 * floor
    shifted, _ = calibration_error(np.clip(probability + 0.1, 0, 1), truth, seed=1)
    assert shifted == pytest.approx(0.1, abs=0.02)


def test_rolling_quantiles_use_the_newest_five_hundred_returns_and_nothing_later() -> None:
    close = 100 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.01, 900)))
    rows = np.asarray([500, 731])
    found = rolling_quantiles(close, rows, (0.05, 0.5))
    for number, row in enumerate(rows):
        past = close[row - 499 : row + 1] / close[row - 500 : row] - 1
        assert found[number] == pytest.approx(np.quantile(past, (0.05, 0.5)))
    later = close.copy()
    later[732:] *= 2
    assert (rolling_quantiles(later, rows, (0.05, 0.5)) == found).all()


def test_climatology_learns_the_hour_of_the_week() -> None:
    entry = np.arange(200 * 168) * HOUR
    truth = ((entry // HOUR) % 168 == 40).astype(np.float64)[:, None]
    place = np.zeros(len(entry), np.intp)
    answer = climatology(place, entry, truth, np.zeros(2, np.intp), np.asarray([40 * HOUR, 41 * HOUR]))
    assert answer[:, 0] == pytest.approx([0.91, 0.0], abs=0.01)


def test_a_series_never_seen_gets_the_rates_of_all() -> None:
    place = np.repeat([0, 2], 5000).astype(np.intp)
    truth = np.repeat([0.0, 1.0], 5000)[:, None]
    entry = np.arange(10_000) * HOUR
    assert rates_by_series(place, truth, np.asarray([0, 1, 2]))[:, 0] == pytest.approx([0.0, 0.5, 1.0], abs=0.01)
    unseen = climatology(place, entry, truth, np.asarray([1], np.intp), entry[:1])
    assert unseen[0, 0] == pytest.approx(0.5, abs=0.05)


def test_the_logistic_baseline_finds_a_linear_rule(random: np.random.Generator) -> None:
    features = random.normal(size=(4000, 5))
    truth = (features[:, 0] + random.logistic(size=4000) > 0).astype(np.int64)
    answer = logistic(features[:3000], truth[:3000], features[3000:])
    assert roc_auc_score(truth[3000:], answer[:, 1]) > 0.7
    assert answer.sum(axis=1) == pytest.approx(np.ones(1000))
