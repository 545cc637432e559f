"""Tests of skill against statsmodels, against their own promises, and on samples whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.stats import t as student
from statsmodels.stats.multitest import multipletests

from serving.evaluation.significance import Comparison, adjusted, compare, compare_each, long_run_variance

HOUR = 3_600_000


def overlapping(rng: np.random.Generator, n: int, horizon: int) -> np.ndarray:
    """(n,) sums of ``horizon`` neighbouring shocks: what outcomes over overlapping horizons look like."""
    return np.convolve(rng.normal(size=n + horizon - 1), np.ones(horizon), "valid")


def test_the_statistic_is_that_of_a_regression_on_a_constant_with_the_small_sample_factor() -> None:
    rng = np.random.default_rng(0)
    n, horizon, lags = 700, 4, 6
    reference, loss = rng.exponential(size=n), rng.exponential(size=n) + 0.05 * overlapping(rng, n, horizon)
    fitted = sm.OLS(loss - reference, np.ones(n)).fit(cov_type="HAC", cov_kwds={"maxlags": lags})
    factor = np.sqrt((n + 1 - 2 * horizon + horizon * (horizon - 1) / n) / n)
    found = compare(loss, reference, np.arange(n) * HOUR, horizon=horizon, lags=lags)
    assert found.statistic == pytest.approx(float(fitted.tvalues[0]) * factor)
    assert found.difference == pytest.approx(float(fitted.params[0]))
    assert found.p_value == pytest.approx(2 * student.sf(abs(found.statistic), n - 1))
    assert (found.lags, found.n) == (lags, n)


def test_rows_of_one_instant_count_once_in_whatever_order_they_come() -> None:
    rng = np.random.default_rng(1)
    loss, reference = rng.exponential(size=(2, 300))
    once = compare(loss, reference, np.arange(300) * HOUR, horizon=1)
    shuffled = rng.permutation(1200)
    instants = np.repeat(np.arange(300) * HOUR, 4)
    fourfold = compare(np.repeat(loss, 4)[shuffled], np.repeat(reference, 4)[shuffled], instants[shuffled], horizon=1)
    assert fourfold.statistic == pytest.approx(once.statistic)
    assert fourfold.n == 300


def test_five_percent_of_equally_good_forecasters_are_called_different_though_horizons_overlap() -> None:
    rng = np.random.default_rng(2)
    n, horizon = 400, 4
    rejected = naive = 0
    for _ in range(1000):
        difference = overlapping(rng, n, horizon)
        rejected += compare(difference, np.zeros(n), np.arange(n) * HOUR, horizon=horizon, lags=12).p_value < 0.05
        naive += compare(difference, np.zeros(n), np.arange(n) * HOUR, horizon=horizon, lags=0).p_value < 0.05
    assert 0.03 < rejected / 1000 < 0.09
    assert naive / 1000 > 0.2


def test_the_smaller_loss_is_better_and_its_mirror_worse() -> None:
    rng = np.random.default_rng(3)
    reference = rng.exponential(size=500)
    loss = reference - 0.1 + rng.normal(0, 0.3, 500)
    better = compare(loss, reference, np.arange(500) * HOUR, horizon=4)
    worse = compare(reference, loss, np.arange(500) * HOUR, horizon=4)
    assert better.difference < 0
    assert better.p_better < 0.01
    assert worse.p_better == pytest.approx(1 - better.p_better)
    assert worse.p_value == pytest.approx(better.p_value)


def test_two_days_of_lags_are_counted_and_at_least_the_overlap_of_horizons() -> None:
    noise = np.random.default_rng(4).normal(size=2000)

    def lags(n: int, bar: int, horizon: int) -> int:
        return compare(noise[:n], np.zeros(n), np.arange(n) * bar, horizon=horizon).lags

    assert lags(2000, HOUR, 4) == 48
    assert lags(1920, HOUR // 4, 4) == 192
    assert lags(200, HOUR, 4) == 20
    assert lags(48, 24 * HOUR, 4) == 3
    assert lags(48, 24 * HOUR, 12) == 11
    assert lags(1000, 24 * HOUR, 1) == int(4 * 10 ** (2 / 9)) == 6


def test_volatile_days_do_not_make_a_test_too_sure() -> None:
    """Differences whose mean drifts from day to day: counting the lags of the horizon alone rejects far too often."""
    rng = np.random.default_rng(7)
    instants = np.arange(60 * 96) * HOUR // 4
    rejected = short = 0
    for _ in range(300):
        difference = rng.normal(size=60 * 96) + np.repeat(rng.normal(0, 0.5, 60), 96)
        rejected += compare(difference, np.zeros(len(difference)), instants, horizon=1).p_value < 0.05
        short += compare(difference, np.zeros(len(difference)), instants, horizon=1, lags=11).p_value < 0.05
    assert rejected / 300 < 0.12
    assert short / 300 > 0.3


def test_a_test_that_cannot_be_made_is_null_in_json_and_never_significant() -> None:
    same = compare(np.ones(100), np.ones(100), np.arange(100) * HOUR, horizon=1)
    few = compare(np.arange(5.0), np.zeros(5), np.arange(5) * HOUR, horizon=1)
    for test in (same, few):
        assert np.isnan(test.p_better)
        assert test.as_dict()["p_better"] is None
        assert test.as_dict()["statistic"] is None
    assert same.as_dict()["difference"] == 0.0


def test_a_horizon_of_no_bars_is_refused() -> None:
    with pytest.raises(ValueError, match="horizon is a number of bars, at least 1, got 0"):
        compare(np.ones(9), np.zeros(9), np.arange(9), horizon=0)


def test_the_long_run_variance_of_a_moving_sum_is_its_horizon_squared() -> None:
    values = overlapping(np.random.default_rng(5), 200_000, 4)
    assert long_run_variance(values, 100) == pytest.approx(16, rel=0.05)
    assert long_run_variance(values, 0) == pytest.approx(4, rel=0.05)


def test_p_values_are_adjusted_as_statsmodels_does_and_undefined_ones_stay_out() -> None:
    p_better = np.asarray([0.001, 0.01, 0.02, 0.04, 0.3, 0.9])
    tests = {f"s{k}": Comparison(0.0, 0.0, 1.0, p, p, 3, 100) for k, p in enumerate(p_better)}
    tests["unknown"] = Comparison(0.0, *(4 * [float("nan")]), 3, 4)
    found = adjusted(tests)
    assert [found[f"s{k}"].adjusted for k in range(6)] == pytest.approx(multipletests(p_better, method="fdr_bh")[1])
    assert np.isnan(found["unknown"].adjusted)
    assert found["s0"].p_better == 0.001


def test_few_of_many_series_without_skill_survive_the_correction() -> None:
    rng = np.random.default_rng(6)
    n, series = 300, 40
    place = np.repeat(np.arange(series), n)
    instants = np.tile(np.arange(n) * HOUR, series)
    difference = rng.normal(size=n * series)
    difference[place == 7] -= 0.4
    names = [f"s{k}" for k in range(series)]
    found = compare_each(difference, np.zeros(len(difference)), instants, place, names, horizon=1)
    assert found["s7"].adjusted < 1e-4
    assert sum(test.adjusted < 0.05 for test in found.values()) <= 2
    assert sum(test.p_better < 0.05 for name, test in found.items() if name != "s7") >= 1
