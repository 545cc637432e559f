"""The mean of several models: what it says, how its weights are learned, and what it is set beside."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from fusiontrade.inference.contract import CHANCES
from serving.evaluation.answering import averaged
from serving.evaluation.coverage import lowest_rolling, spread_by_chance
from serving.evaluation.held_out import HeldOut
from serving.evaluation.page.together import ensemble_table
from serving.evaluation.study.ensembles import EQUAL, WAYS, Members, combined_by, compared, lattice, said
from serving.evaluation.study.sections import Scopes
from serving.forecasting import LstmAnswers

HOUR, ROWS = 3_600_000, 1200
PLACE = np.arange(ROWS) % 2
ENTRY = (1_700_000_000_000 + HOUR * (np.arange(ROWS) // 2)).astype(np.int64)
SIGMA = np.exp(np.random.default_rng(1).normal(0, 0.5, ROWS))


class Card:
    """What an ensemble asks of a card: the usual logits, and where a walk begins."""

    chance_maps = (None, np.zeros(CHANCES))

    def __init__(self, start: float) -> None:
        from serving.card import Adjustment

        still = (0.0,) * CHANCES
        self.adjustments = {"any": Adjustment(lower=start, upper=start, offsets=still, slopes=still)}


def held() -> HeldOut:
    """Two series of changes whose spread varies; climatology knows the base rate alone."""
    rng = np.random.default_rng(0)
    change = rng.normal(0, SIGMA)
    touch = (np.abs(change)[:, None] > np.arange(1, 11) / 2).astype(np.float64)
    none: Any = np.zeros(ROWS)
    known: dict[str, Any] = dict.fromkeys((one.name for one in fields(HeldOut)), none)
    return HeldOut(
        **known
        | {
            "place": PLACE,
            "entry": ENTRY,
            "known_at": ENTRY + HOUR,
            "close": np.full(ROWS, 100.0),
            "atr": np.ones(ROWS),
            "change": change,
            "touch": touch,
            "win": np.zeros((ROWS, 2)),
            "climate_either": np.full(ROWS, touch[:, 0].mean()),
            "rolling": np.repeat([[-2.0, -0.7, 0.0, 0.7, 2.0]], ROWS, axis=0),
        }
    )


def answers(spread: np.ndarray) -> LstmAnswers:
    """Answer as if the changes had this spread."""
    quantiles = spread[:, None] * np.array([-1.645, -0.674, 0.0, 0.674, 1.645])
    far = np.clip(0.6 * spread[:, None] / np.arange(1, 6), 0.01, 0.99)
    low, high = 100 + quantiles[:, 0], 100 + quantiles[:, 4]
    chances = np.concatenate((far, far, far, far[:, 3:5] / 2), axis=1)
    same: Any = np.full(ROWS, 0.5)
    known: dict[str, Any] = dict.fromkeys((one.name for one in fields(LstmAnswers)), same)
    return LstmAnswers(
        **known
        | {"quantiles": quantiles, "raw_low": low, "raw_high": high, "low": low, "high": high}
        | {"touch_up": far, "touch_down": far, "touch_either": far, "leans": np.log(chances / (1 - chances))}
        | {"abstain_below": same - 0.1, "abstain_above": same + 0.1}
    )


def members(*spreads: np.ndarray, starts: tuple[float, ...] = (0.0, 0.0)) -> Members:
    kinds = ("lstm", "gru")[: len(spreads)]
    cards: Any = {kind: Card(start) for kind, start in zip(kinds, starts, strict=False)}
    told: Any = {kind: answers(spread) for kind, spread in zip(kinds, spreads, strict=True)}
    return Members(cards, told, held(), [("BTC-USD", "crypto"), ("ETH-USD", "crypto")])


def test_the_mean_of_two_models_is_the_mean_of_what_they_serve_and_votes_by_its_own_band() -> None:
    one, two = answers(SIGMA), answers(2 * SIGMA)
    two = replace(two, probability_up=two.probability_up + 0.4, abstain_above=two.abstain_above + 0.02)
    mean = averaged([one, two])
    assert mean.low == pytest.approx((one.low + two.low) / 2)
    assert mean.touch_up == pytest.approx((one.touch_up + two.touch_up) / 2)
    assert (np.diff(mean.quantiles, axis=1) > 0).all()
    assert (np.diff(mean.touch_either, axis=1) <= 0).all()
    assert (mean.vote == 1).all()  # 0.7 is above the mean of 0.6 and 0.62
    assert (averaged([one, replace(two, probability_up=one.probability_up)]).vote == 0).all()
    weighted = averaged([one, two], (0.25, 0.75))
    assert weighted.high == pytest.approx(0.25 * one.high + 0.75 * two.high)


def test_a_lattice_holds_every_weighting_once() -> None:
    found = list(lattice(3, 4))
    assert len(found) == len(set(found)) == 15
    assert all(sum(one) == pytest.approx(1.0) and min(one) >= 0 for one in found)


def test_weights_go_to_the_model_that_knows_and_the_best_way_of_the_later_rows_is_taken() -> None:
    both = members(SIGMA, np.full(ROWS, 3.0))
    best, ways = combined_by(both)
    assert set(ways) == {way.name for way in WAYS}
    assert ways[EQUAL].weights == {"lstm": 0.5, "gru": 0.5}
    assert ways["weights of the calibration slice"].weights["lstm"] >= 0.9
    assert best.way.learned
    assert best.before["score"] == min(one.before["score"] for one in ways.values())
    assert best.before["n"] == pytest.approx(0.4 * ROWS, abs=4)


def test_a_mean_moved_by_its_own_outcomes_covers_what_members_missed() -> None:
    narrow = members(0.5 * SIGMA, 0.5 * SIGMA, starts=(0.3, 0.5))
    still, walked = (next(way for way in WAYS if way.walked is moves and not way.learned) for moves in (False, True))
    truth = held()
    outcome = truth.close + truth.change

    def covered(one: LstmAnswers) -> float:
        return float(((one.low <= outcome) & (outcome <= one.high)).mean())

    moved = said(walked, (0.5, 0.5), narrow)
    assert covered(said(still, (0.5, 0.5), narrow)) < 0.65
    assert 0.86 < covered(moved) < 0.93
    first = np.flatnonzero(PLACE == 0)[0]
    width = moved.raw_high[first] - moved.raw_low[first]
    assert moved.low[first] == pytest.approx(moved.raw_low[first] - 0.4 * width)  # where members begin, in the mean
    assert (moved.touch_either <= np.minimum(moved.touch_up + moved.touch_down, 1) + 1e-12).all()


def test_each_member_stands_beside_the_ensemble_with_its_difference() -> None:
    both = members(SIGMA, np.full(ROWS, 3.0))
    good, bad = both.answers["lstm"], both.answers["gru"]
    scopes = Scopes(["BTC-USD", "ETH-USD"], np.array([0, 1]), np.array([0]), resamples=20, seed=1)
    same, other = compared(good, {"lstm": good, "gru": bad}, both.held, scopes)
    assert (same["name"], same["pinball_ratio"]["difference"]["value"]) == ("lstm", 0.0)
    assert same["pinball_ratio"]["p_value"] is None
    gain = other["pinball_ratio"]["difference"]
    assert gain["high"] < 0
    assert gain["value"] == pytest.approx(same["pinball_ratio"]["value"] - other["pinball_ratio"]["value"], abs=2e-6)
    assert other["pinball_ratio"]["p_value"] < 0.01
    assert other["coverage_90"]["value"] > same["coverage_90"]["value"]
    best, ways = combined_by(both)
    told = [
        {"name": name, "weights": dict(one.weights), "before": one.before, "chosen": one is best}
        for name, one in ways.items()
    ]
    beside = compared(good, {"gru": bad, best.way.name: good}, both.held, scopes)
    table = ensemble_table({"1h": {"ensemble": {"ways": told, "compared": beside}}, "4h": {}})
    assert table is not None
    assert [row[1].text for row in table.rows] == ["gru", f"{best.way.name} (chosen)"]
    assert table.rows[0][2].text == "alone"
    assert table.rows[0][5].text.startswith(f"{other['pinball_ratio']['value']:.4f} [")
    assert (table.rows[0][7].text, table.rows[1][6].text) == ("<0.001", "–")
    assert ensemble_table({"1h": {}}) is None


def test_rolling_coverage_is_the_least_of_any_run_in_the_order_of_time() -> None:
    inside = np.ones(1000)
    inside[200:300] = 0
    times = np.arange(1000, dtype=np.int64)
    assert lowest_rolling(inside, times) == pytest.approx(0.8)
    order = np.random.default_rng(0).permutation(1000)
    assert lowest_rolling(inside[order], times[order]) == pytest.approx(0.8)
    assert np.isnan(lowest_rolling(inside[:499], times[:499]))


def test_chance_alone_spreads_quintiles_of_small_samples_more() -> None:
    small, large = spread_by_chance(1000, 0.9, 1), spread_by_chance(100_000, 0.9, 1)
    assert 0.06 < small < 0.1
    assert large < 0.011
