"""Baselines: each against its definition, and none of them sees a bar after the one it speaks at."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from serving.evaluation.baselines import climatology, logistic, rates_by_series, rolling_quantiles

HOUR = 3_600_000


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


def test_the_logistic_baseline_finds_a_linear_rule() -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(4000, 5))
    truth = (features[:, 0] + random.logistic(size=4000) > 0).astype(np.int64)
    answer = logistic(features[:3000], truth[:3000], features[3000:])
    assert roc_auc_score(truth[3000:], answer[:, 1]) > 0.7
    assert answer.sum(axis=1) == pytest.approx(np.ones(1000))
