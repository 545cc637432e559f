"""Calibration: the truth is found again, the simplest map that serves is kept, and no skill means no votes."""

from __future__ import annotations

import numpy as np
import pytest

from serving.calibration import CalibrationMap, Identity, Isotonic, Platt, sigmoid
from serving.training.judging.calibrate import abstention_band, at_base_rate, fit_binary, fit_temperature

N = 12_000


def drawn(probability: np.ndarray, seed: int = 1) -> np.ndarray:
    return (np.random.default_rng(seed).random(len(probability)) < probability).astype(np.float64)


@pytest.fixture(scope="module")
def logits() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 1.5, N)


def test_calibrated_logits_keep_the_identity(logits: np.ndarray) -> None:
    chosen, tried = fit_binary(logits, drawn(sigmoid(logits)))
    assert chosen == Identity()
    assert set(tried) == {"identity", "platt", "isotonic"}


def test_overconfident_logits_get_their_slope_and_offset_back(logits: np.ndarray) -> None:
    chosen, _ = fit_binary(logits, drawn(sigmoid(0.4 * logits - 0.7)))
    assert isinstance(chosen, Platt)
    assert chosen.a == pytest.approx(0.4, abs=0.05)
    assert chosen.b == pytest.approx(-0.7, abs=0.05)


def test_a_bent_relation_gets_an_isotonic_map(logits: np.ndarray) -> None:
    truth = np.where(logits > 0, 0.8, 0.3)
    chosen, _ = fit_binary(logits, drawn(truth))
    assert isinstance(chosen, Isotonic)
    assert np.abs(chosen.apply(logits) - truth).mean() < 0.05
    assert len(chosen.x) <= 40


def test_logits_that_point_the_wrong_way_answer_the_base_rate(logits: np.ndarray) -> None:
    truth = drawn(sigmoid(-logits))
    chosen, _ = fit_binary(logits, truth)
    assert np.ptp(chosen.apply(logits)) < 0.02
    assert chosen.apply(logits).mean() == pytest.approx(truth.mean(), abs=0.02)


def test_a_slice_with_one_outcome_keeps_the_identity() -> None:
    chosen, tried = fit_binary(np.linspace(-1, 1, 500), np.zeros(500))
    assert chosen == Identity()
    assert set(tried) == {"identity"}


def test_the_temperature_of_sharpened_logits_is_found() -> None:
    rng = np.random.default_rng(4)
    scores = rng.normal(0, 1, (N, 3))
    classes = (scores + rng.gumbel(size=(N, 3))).argmax(axis=1)
    assert fit_temperature(3 * scores, classes).t == pytest.approx(3.0, rel=0.06)


def test_the_band_lies_around_one_half_and_leaves_the_votes_that_come_true() -> None:
    rng = np.random.default_rng(6)
    edge = rng.choice([-0.08, -0.001, 0.001, 0.08], N)
    direction = drawn(0.5 + np.where(np.abs(edge) > 0.01, edge, 0.0))
    (low, high), why = abstention_band(0.5 + edge, direction)
    assert (low + high) / 2 == pytest.approx(0.5)
    assert 0.001 <= (high - low) / 2 < 0.08
    assert why["share_of_votes"] == pytest.approx(0.5, abs=0.03)
    assert why["hit_rate"] == pytest.approx(0.58, abs=0.02)


def test_a_head_without_skill_abstains_from_everything() -> None:
    probability = 0.5 + np.random.default_rng(7).normal(0, 0.02, N)
    band, why = abstention_band(probability, (probability < 0.5).astype(np.float64))
    assert band == (0.0, 1.0)
    assert why["share_of_votes"] == 0


def test_a_constant_probability_abstains_however_far_from_one_half() -> None:
    assert abstention_band(np.full(1000, 0.51), drawn(np.full(1000, 0.9)))[0] == (0.0, 1.0)


@pytest.mark.parametrize("chosen", [Identity(), Platt(a=0.4, b=0.9), Isotonic(x=(-2, 0, 2), y=(0.2, 0.7, 0.9))])
def test_the_direction_map_is_moved_to_the_base_rate_of_the_training_span(
    chosen: CalibrationMap, logits: np.ndarray
) -> None:
    moved = at_base_rate(chosen, logits, 0.497)
    assert moved.apply(logits).mean() == pytest.approx(0.497, abs=1e-5)
    before, after = chosen.apply(logits), moved.apply(logits)
    assert (np.argsort(before, kind="stable") == np.argsort(after, kind="stable")).mean() > 0.99


def test_a_constant_map_is_moved_too(logits: np.ndarray) -> None:
    assert at_base_rate(Platt(a=0.0, b=2.0), logits, 0.3).apply(logits) == pytest.approx(np.full(N, 0.3), abs=1e-5)
