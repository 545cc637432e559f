"""Judging: a forecaster that knows is told from one that guesses, in the figures that are published."""

from __future__ import annotations

import numpy as np
import pytest

from fusiontrade.inference.contract import CHANCES
from serving.calibration import sigmoid
from serving.evaluation import LSTM_HEADLINES, PATCHTST_HEADLINES, HeldOut, judge_lstm, judge_patchtst
from serving.forecasting import LstmAnswers

N = 4000
HOUR = 3_600_000
LEVELS = np.asarray([1.0, 1.5, 2.0, 3.0, 4.0])
NAMES = ("BTC-USD", "EURUSD=X")
SETTINGS = {"resamples": 30, "seed": 1}


@pytest.fixture(scope="module")
def leaning() -> np.ndarray:
    """(n,) the true log odds of an up move."""
    return np.random.default_rng(0).normal(0, 1, N)


@pytest.fixture(scope="module")
def spread() -> np.ndarray:
    """(n,) the true size of the next move, in ATR."""
    return np.random.default_rng(1).uniform(0.3, 1.5, N)


@pytest.fixture(scope="module")
def held(leaning: np.ndarray, spread: np.ndarray) -> HeldOut:
    rng = np.random.default_rng(2)
    direction = (rng.random(N) < sigmoid(leaning)).astype(np.float64)
    change = np.where(direction > 0, 1, -1) * np.abs(rng.normal(0, 1, N)) * spread
    reach = np.abs(rng.normal(0, 1.5, (N, 2))) * spread[:, None]
    touch = np.concatenate((reach[:, :1] >= LEVELS, reach[:, 1:] >= LEVELS), axis=1).astype(np.float64)
    classes = np.where(np.abs(change) < 0.25, 1, np.where(change > 0, 0, 2))
    rates = touch.mean(axis=0)
    return HeldOut(
        place=np.repeat([0, 1], N // 2),
        entry=np.tile(np.arange(N // 2), 2) * HOUR,
        known_at=np.tile(np.arange(N // 2), 2) * HOUR + 4 * HOUR,
        close=np.full(N, 100.0),
        atr=np.full(N, 2.0),
        unrest=np.zeros(N),
        direction=direction,
        change=change,
        touch=touch,
        win=touch[:, [2, 7]],
        log_range=np.log(reach.sum(axis=1) + 0.1),
        classes=classes,
        last_change=rng.normal(0, 1, N),
        rate_direction=np.full(N, direction.mean()),
        rate_touch=np.tile(rates, (N, 1)),
        rate_classes=np.tile(np.bincount(classes, minlength=3) / N, (N, 1)),
        climate_touch=np.tile(rates, (N, 1)),
        climate_either=np.full(N, touch[:, [0, 5]].max(axis=1).mean()),
        climate_win=np.tile(rates[[2, 7]], (N, 1)),
        climate_log_range=np.zeros(N),
        rolling=np.tile(np.quantile(change, [0.05, 0.25, 0.5, 0.75, 0.95]), (N, 1)),
        logistic_direction=np.full(N, 0.5) + rng.normal(0, 0.01, N),
        logistic_either=np.full(N, 0.5) + rng.normal(0, 0.01, N),
        logistic_classes=np.full((N, 3), 1 / 3) + rng.normal(0, 0.001, (N, 3)),
    )


def answers(leaning: np.ndarray, spread: np.ndarray, band: tuple[float, float] = (0.4, 0.6)) -> LstmAnswers:
    """What a forecaster with these beliefs says."""
    quantiles = np.asarray([-1.645, -0.674, 0.0, 0.674, 1.645]) * spread[:, None]
    touch = np.stack([2 * sigmoid(-1.7 * level / (1.5 * spread)) for level in LEVELS], axis=1)
    return LstmAnswers(
        probability_up=sigmoid(leaning),
        abstain_below=np.full(N, band[0]),
        abstain_above=np.full(N, band[1]),
        change=quantiles[:, 2],
        quantiles=quantiles,
        predicted_price=np.full(N, 100.0),
        raw_low=100 + 2 * quantiles[:, 0],
        raw_high=100 + 2 * quantiles[:, 4],
        low=100 + 2 * quantiles[:, 0],
        high=100 + 2 * quantiles[:, 4],
        expected_range=2 * np.exp(np.log(2.4 * spread)),
        touch_up=touch,
        touch_down=touch,
        touch_either=2 * touch - touch * touch,
        win_long=touch[:, 2],
        win_short=touch[:, 2],
        leans=np.zeros((N, CHANCES)),
    )


def test_a_forecaster_that_knows_beats_every_baseline(held: HeldOut, leaning: np.ndarray, spread: np.ndarray) -> None:
    figures = judge_lstm(answers(leaning, spread), held, NAMES, **SETTINGS)["pooled"]
    votes = np.abs(sigmoid(leaning) - 0.5) > 0.1
    hits = (leaning > 0) == (held.direction > 0)
    assert figures["direction_accuracy"]["value"] == pytest.approx(hits[votes].mean(), abs=1e-6)
    assert figures["direction_accuracy"]["n"] == votes.sum()
    assert figures["direction_log_loss_skill"]["low"] > 0.1
    assert figures["pinball_ratio"]["high"] < 1
    assert figures["coverage_90"]["value"] == pytest.approx(0.9, abs=0.02)
    assert figures["either_touch_skill_over_climatology"]["low"] > 0.02
    assert figures["touch_up_1_auc"]["low"] > 0.6
    assert figures["direction_ece"]["value"] < 2 * figures["direction_ece"]["noise_floor"]
    assert figures["log_range_r2"]["value"] > 0.1
    assert set(LSTM_HEADLINES) <= set(figures)


def test_a_guess_shows_no_skill_and_its_overconfidence(held: HeldOut, spread: np.ndarray) -> None:
    rng = np.random.default_rng(9)
    guess = judge_lstm(answers(rng.normal(0, 1, N), rng.permutation(spread)), held, NAMES, **SETTINGS)
    figures = guess["pooled"]
    assert figures["direction_auc"]["low"] < 0.5 < figures["direction_auc"]["high"]
    assert figures["direction_log_loss_skill"]["high"] < 0
    assert figures["direction_ece"]["value"] > 5 * figures["direction_ece"]["noise_floor"]
    assert figures["touch_up_1_auc"]["value"] == pytest.approx(0.5, abs=0.04)


def test_a_head_that_abstains_has_no_accuracy(held: HeldOut, leaning: np.ndarray, spread: np.ndarray) -> None:
    figures = judge_lstm(answers(leaning, spread, (0.0, 1.0)), held, NAMES, **SETTINGS)["pooled"]
    assert figures["direction_votes"]["value"] == 0
    assert "direction_accuracy" not in figures


def test_each_symbol_is_judged_on_its_own_rows(held: HeldOut, leaning: np.ndarray, spread: np.ndarray) -> None:
    mixed = leaning.copy()
    mixed[N // 2 :] *= -1
    by_symbol = judge_lstm(answers(mixed, spread), held, NAMES, **SETTINGS)["by_symbol"]
    assert by_symbol["BTC-USD"]["direction_auc"]["value"] > 0.7
    assert by_symbol["EURUSD=X"]["direction_auc"]["value"] < 0.3
    assert by_symbol["EURUSD=X"]["direction_auc"]["n"] == N // 2


def test_classes_are_judged_by_argmax_and_by_their_probabilities(held: HeldOut, leaning: np.ndarray) -> None:
    up = 0.8 * sigmoid(leaning)
    probability = np.stack((up, np.full(N, 0.2), 0.8 - up), axis=1)
    figures = judge_patchtst(probability, held, NAMES, **SETTINGS)["pooled"]
    chosen = probability.argmax(axis=1)
    assert figures["accuracy"]["value"] == pytest.approx((chosen == held.classes).mean(), abs=1e-6)
    moved = (held.classes != 1) & (chosen != 1)
    assert figures["direction_accuracy"]["value"] == pytest.approx((chosen == held.classes)[moved].mean(), abs=1e-6)
    assert figures["up_against_down_auc"]["low"] > 0.65
    assert figures["log_loss_skill"]["value"] > 0.05
    assert figures["baseline_base_rate_accuracy"]["value"] < figures["accuracy"]["value"]
    assert set(PATCHTST_HEADLINES) <= set(figures)
