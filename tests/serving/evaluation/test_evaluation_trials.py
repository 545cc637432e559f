"""Ways to calibrate that were tried: they are what they are called, and nothing of the judged slice is read."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusiontrade.inference import intervals, probabilities
from fusiontrade.inference.contract import CHANCES
from serving.calibration import sigmoid
from serving.evaluation.held_out import HeldOut
from serving.evaluation.trials.__main__ import main
from serving.evaluation.trials.chances import Refitted, Stepped, chance_trials
from serving.evaluation.trials.intervals import interval_trials, tracked
from serving.evaluation.trials.regimes import regimes
from serving.evaluation.trials.slice import Lane, Slice
from serving.forecasting import consistent
from serving.training.judging.walking import STILL, Lived, walked

HOUR = 3_600_000
ROWS = 900


@pytest.fixture(scope="module")
def lane() -> Lane:
    """A series whose intervals are too narrow, and whose probabilities promise too much at both ends."""
    rng = np.random.default_rng(8)
    usual = probabilities.logits(np.r_[[0.5, 0.4, 0.3, 0.2, 0.1] * 2, [0.7, 0.6, 0.4, 0.3, 0.15], 0.2, 0.2])
    leans = np.clip(rng.normal(0, 1, (ROWS, 1)) + np.zeros(CHANCES), -3, 3)
    chances = consistent(sigmoid(usual + leans))
    leans = probabilities.logits(chances) - usual
    came = (rng.random((ROWS, CHANCES)) < sigmoid(usual + 0.6 * leans)).astype(np.float64)
    entry = np.arange(ROWS) * HOUR
    known: dict[str, Any] = dict.fromkeys((one.name for one in fields(HeldOut)), np.zeros(ROWS))
    known |= {"place": np.zeros(ROWS, np.intp), "entry": entry, "known_at": entry + 4 * HOUR}
    known |= {"close": np.full(ROWS, 100.0), "atr": rng.uniform(0.5, 2.0, ROWS), "change": rng.normal(0, 1, ROWS)}
    known |= {"touch": came[:, :10], "win": came[:, 15:], "rolling": np.tile([-1.6, -0.7, 0.0, 0.7, 1.6], (ROWS, 1))}
    held = HeldOut(**known)
    quantiles = np.tile([-1.2, -0.5, 0.0, 0.5, 1.2], (ROWS, 1))
    squares = np.square(leans).mean(axis=0)
    return Lane(held, quantiles, chances, leans, squares, np.arange(ROWS) >= 0.4 * ROWS)


def test_tracking_by_the_rate_that_is_served_is_the_products_walk(lane: Lane) -> None:
    low, high = lane.quantiles[:, 0], lane.quantiles[:, -1]
    lower, upper, _, _ = intervals.walk(low, high, lane.held.change)
    below, above = tracked(intervals.RATE)(lane)
    np.testing.assert_allclose((below, above), intervals.corrected(low, high, lower, upper), rtol=0, atol=1e-12)


def test_steps_of_the_rates_that_are_served_are_the_products_walk(lane: Lane) -> None:
    held = lane.held
    life = Lived(
        low=lane.quantiles[:, 0],
        high=lane.quantiles[:, -1],
        outcome=held.change,
        chances=lane.chances,
        leans=lane.leans,
        came=held.came,
        made_at=held.entry,
        known_at=held.known_at,
    )
    told = Stepped(probabilities.RATE, probabilities.RATE, probabilities.BEND_RATE)(lane)
    np.testing.assert_allclose(told, walked(life, STILL).move(lane.chances, lane.leans), rtol=0, atol=1e-9)


def test_a_fit_to_many_outcomes_finds_how_much_too_sure_probabilities_are(lane: Lane) -> None:
    told = Refitted(2000)(lane)
    wide = np.abs(lane.leans[-100:, 10]) > 0.5
    shrunk = (probabilities.logits(told) - probabilities.logits(lane.chances))[-100:, 10] / lane.leans[-100:, 10]
    assert np.median(shrunk[wide]) == pytest.approx(-0.4, abs=0.15)
    assert (told[:300] == lane.chances[:300]).all()  # until there are outcomes enough


def test_regimes_are_ranks_among_the_bars_before() -> None:
    assert regimes(np.array([1.0, 2.0, 3.0, 0.5, 2.5]), 3).tolist() == [0, 1, 2, 0, 1]


def test_every_way_is_judged_on_the_later_rows(lane: Lane) -> None:
    given = Slice("1h", (lane,))
    widths = {row["way"]: row for row in interval_trials(given)}
    assert len(widths) == 10
    assert {row["series"] for row in widths.values()} == {1}
    below, above = tracked(0.01)(lane)
    within = ((below <= lane.held.change) & (lane.held.change <= above))[lane.late].mean()
    assert widths["a step of 0.01, as it was"]["coverage"] == f"{within:.3f} to {within:.3f}"
    moves = {row["way"]: row for row in chance_trials(given)}
    assert len(moves) == 12
    alone, served = moves["maps of the earlier part alone"], moves["0.005, a bend by 0.0025"]
    assert served["log loss"] < alone["log loss"]
    assert served["mean ECE less floor"] < alone["mean ECE less floor"]


def test_a_folder_that_cannot_be_used_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path), "--bundles", str(tmp_path)]) == 2
    assert "trials stopped" in capsys.readouterr().err
