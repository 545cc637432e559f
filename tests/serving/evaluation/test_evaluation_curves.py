"""Curves and groups against scikit-learn and against samples whose truth is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, precision_recall_curve, precision_score, recall_score, roc_curve

from serving.evaluation.coverage import (
    coverage_by_month,
    coverage_by_volatility,
    inside,
    months,
    volatility_quintiles,
)
from serving.evaluation.curves import (
    MOST_POINTS,
    abstention_sweep,
    precision_recall_points,
    reliability,
    roc_points,
    threshold_sweep,
)
from serving.evaluation.metrics import Sample

HOUR = 3_600_000
N = 12_000


@pytest.fixture(scope="module")
def forecast() -> tuple[np.ndarray, np.ndarray]:
    """(n,) probabilities, rounded so that many are equal, and outcomes that follow them."""
    rng = np.random.default_rng(0)
    probability = np.round(rng.beta(2, 3, N), 3)
    return probability, rng.random(N) < probability


def test_the_roc_curve_passes_through_the_points_of_scikit_learn(forecast: tuple[np.ndarray, np.ndarray]) -> None:
    probability, truth = forecast
    found = roc_points(probability, truth)
    down, up, _ = roc_curve(truth, probability, drop_intermediate=False)
    points = {(round(float(x), 6), round(float(y), 6)) for x, y in zip(down, up, strict=True)}
    drawn = list(zip(found["false_positive_rate"], found["true_positive_rate"], strict=True))
    assert set(drawn) <= points
    assert len(drawn) == MOST_POINTS
    assert (drawn[0], drawn[-1]) == ((0.0, 0.0), (1.0, 1.0))
    assert np.trapezoid(found["true_positive_rate"], found["false_positive_rate"]) == pytest.approx(
        np.trapezoid(up, down), abs=1e-3
    )


def test_precision_and_recall_are_those_of_scikit_learn(forecast: tuple[np.ndarray, np.ndarray]) -> None:
    probability, truth = forecast
    found = precision_recall_points(probability, truth)
    precision, recall, _ = precision_recall_curve(truth, probability)
    points = {(round(float(x), 6), round(float(y), 6)) for x, y in zip(recall, precision, strict=True)}
    assert set(zip(found["recall"], found["precision"], strict=True)) <= points
    assert found["recall"] == sorted(found["recall"])
    assert found["recall"][-1] == 1.0
    assert len(found["recall"]) <= MOST_POINTS


def test_curves_without_both_outcomes_are_empty() -> None:
    score = np.linspace(0, 1, 10)
    assert roc_points(score, np.ones(10, np.bool_)) == {"false_positive_rate": [], "true_positive_rate": []}
    assert roc_points(score, np.zeros(10, np.bool_)) == {"false_positive_rate": [], "true_positive_rate": []}
    assert precision_recall_points(score, np.zeros(10, np.bool_)) == {"recall": [], "precision": []}


def test_each_threshold_is_scored_as_its_calls_are(forecast: tuple[np.ndarray, np.ndarray]) -> None:
    probability, truth = forecast
    found = threshold_sweep(probability, truth, steps=9)
    assert found["threshold"] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    for place, threshold in enumerate(found["threshold"]):
        called = probability >= threshold
        assert found["share"][place] == pytest.approx(called.mean(), abs=1e-6)
        assert found["precision"][place] == pytest.approx(precision_score(truth, called), abs=1e-6)
        assert found["recall"][place] == pytest.approx(recall_score(truth, called), abs=1e-6)
        assert found["f1"][place] == pytest.approx(f1_score(truth, called), abs=1e-6)
        assert found["accuracy"][place] == pytest.approx(accuracy_score(truth, called), abs=1e-6)
    assert threshold_sweep(np.full(20, 0.35), truth[:20], steps=9)["threshold"] == [0.1, 0.2, 0.3]


def test_the_surest_votes_come_true_more_often(forecast: tuple[np.ndarray, np.ndarray]) -> None:
    probability, truth = forecast
    found = abstention_sweep(probability, truth)
    assert found["share"][0] == 1.0
    assert found["accuracy"][0] == pytest.approx(((probability > 0.5) == truth).mean(), abs=1e-6)
    assert found["half_width"] == sorted(found["half_width"])
    assert found["accuracy"][-1] > found["accuracy"][0] + 0.1
    kept = np.sort(np.abs(probability - 0.5))[::-1][: round(found["share"][-1] * N)]
    assert found["half_width"][-1] == pytest.approx(kept[-1], abs=1e-6)


def test_calibrated_deciles_lie_within_the_joint_band_and_biased_ones_do_not(
    forecast: tuple[np.ndarray, np.ndarray],
) -> None:
    probability, truth = forecast
    sample = Sample(np.arange(N) * HOUR, 400, 1)
    found = reliability(sample, probability, truth)
    assert len(found) == 10
    assert sum(one.n for one in found) == N
    assert sum(one.forecast * one.n for one in found) == pytest.approx(probability.sum())
    assert all(one.joint_low <= one.forecast <= one.joint_high for one in found)
    assert all(one.joint_low < one.low < one.observed < one.high < one.joint_high for one in found)
    assert not any(one.low <= one.forecast <= one.high for one in reliability(sample, probability + 0.1, truth))
    expected = 1.96 * np.sqrt(found[4].observed * (1 - found[4].observed) / found[4].n)
    assert (found[4].high - found[4].low) / 2 == pytest.approx(expected, rel=0.25)
    assert json.loads(json.dumps(found[4].as_dict()))["n"] == found[4].n


def test_the_joint_band_holds_all_deciles_of_calibrated_forecasts_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(3)
    jointly = alone = 0
    for seed in range(120):
        probability = rng.uniform(0.1, 0.6, 4800)
        truth = (rng.random(4800) < probability).astype(np.float64)
        found = reliability(Sample(np.arange(4800) * HOUR, 300, seed), probability, truth)
        jointly += all(one.joint_low <= one.forecast <= one.joint_high for one in found)
        alone += all(one.low <= one.forecast <= one.high for one in found)
    assert jointly / 120 > 0.87
    assert alone / 120 < 0.75


def test_quintiles_are_taken_within_each_series() -> None:
    rng = np.random.default_rng(1)
    place = np.repeat([0, 1], 1000)
    atr = np.where(place == 0, rng.uniform(1, 2, 2000), rng.uniform(100, 200, 2000))
    quintile = volatility_quintiles(atr, np.full(2000, 1000.0), place)
    for one in (0, 1):
        assert np.bincount(quintile[place == one]).tolist() == [200] * 5
        assert atr[(place == one) & (quintile == 4)].min() > atr[(place == one) & (quintile == 3)].max()
    doubled = volatility_quintiles(atr, np.where(place == 0, 1.0, 1000.0), place)
    assert (doubled == quintile).all()


def test_months_are_those_of_utc() -> None:
    instants = np.asarray(["2024-03-31T23:59", "2024-01-15", "2024-04-01", "2024-03-01"], "datetime64[ms]")
    names, number = months(instants.astype(np.int64))
    assert names == ["2024-01", "2024-03", "2024-04"]
    assert number.tolist() == [1, 0, 2, 1]


def test_intervals_blind_to_volatility_show_it_in_the_quintiles_and_months() -> None:
    rng = np.random.default_rng(2)
    instants = 1_704_067_200_000 + np.arange(N // 2) * HOUR  # from 2024-01-01
    size = np.where(np.arange(N // 2) < 31 * 24, 2.0, 1.0) * rng.uniform(0.5, 1.5, N // 2)
    value = rng.normal(size=N // 2) * size
    held = inside(np.full(N // 2, -1.645), np.full(N // 2, 1.645), value)
    sample = Sample(instants, 200, 1)
    quintile = volatility_quintiles(size, np.ones(N // 2), np.zeros(N // 2, np.intp))
    figures, spread = coverage_by_volatility(sample, held, quintile)
    assert figures[0].value > 0.97
    assert figures[4].value < 0.8
    assert spread.value == pytest.approx(figures[0].value - figures[4].value)
    assert figures[2].value == pytest.approx(held[quintile == 2].mean())
    names, monthly = coverage_by_month(sample, held, instants)
    assert names[0] == "2024-01"
    assert monthly[0].n == 31 * 24
    assert monthly[0].high < monthly[1].low
    assert monthly[0].value == pytest.approx(held[: 31 * 24].mean())
