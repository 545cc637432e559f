"""What outcomes move: where a bundle's adjustments come from, and that no forecast knows its own outcome."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import numpy as np
import pytest
from tiny_bundles import LSTM_WIDTHS, card_content

from fusiontrade.inference import probabilities
from fusiontrade.inference.contract import CHANCES
from fusiontrade.inference.intervals import advance, corrected
from fusiontrade.inference.probabilities import logits, moved
from serving.calibration import sigmoid
from serving.card import Adjustment, ModelCard
from serving.evaluation import HeldOut
from serving.forecasting import (
    Adjustments,
    LstmAnswers,
    Newest,
    Subject,
    chances_of,
    consistent,
    leans_of,
    lstm_answers,
)
from serving.training.judging.judge import walked_answers
from serving.training.judging.walking import STILL, Lived, averaged, starting, walked

HOUR = 3_600_000
HORIZON = 4 * HOUR
WHOSE: list[Subject] = [("BTC-USD", "crypto"), ("EURUSD=X", "fx"), ("NEW=X", "fx")]
STARTS = {"any": (0.3, 0.3, 0.9), "fx": (0.2, -0.1, -0.4), "BTC-USD": (0.05, 0.1, 0.2)}


def steps_of(offset: float) -> dict[str, float]:
    return {"offsets": offset, "slopes": offset / 4, "bends": offset / 20}


CARD = ModelCard.model_validate_json(
    json.dumps(
        card_content("lstm", "1h")
        | {
            "adjustments": {
                name: {"lower": low, "upper": high}
                | {step: [size] * CHANCES for step, size in steps_of(offset).items()}
                for name, (low, high, offset) in STARTS.items()
            },
            "unrest_exponent": -0.15,
        }
    )
).stamped(b"graph")


def held_out(rows: int = 900, seed: int = 0) -> HeldOut:
    """Rows of three series, an hour apart and shuffled, of which only what walking reads is filled in."""
    rng = np.random.default_rng(seed)
    place = rng.permutation(np.arange(rows) % 3).astype(np.intp)
    columns = {field.name: np.zeros(rows) for field in fields(HeldOut)}
    entry = (rng.permutation(rows) * HOUR).astype(np.int64)
    filled = {
        "place": place,
        "entry": entry,
        "known_at": entry + HORIZON,
        "close": rng.uniform(50, 200, rows),
        "atr": rng.uniform(0.5, 2, rows),
        "unrest": rng.normal(0, 0.4, rows),
        "change": rng.standard_t(3, rows),
        "touch": (rng.random((rows, 10)) < 0.4).astype(np.float64),
        "win": (rng.random((rows, 2)) < 0.4).astype(np.float64),
    }
    return HeldOut(**columns | filled)


@pytest.fixture(scope="module")
def held() -> HeldOut:
    return held_out()


@pytest.fixture(scope="module")
def outputs(held: HeldOut) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    raw = {
        n: rng.standard_normal((len(held), w) if w else len(held)).astype(np.float32) for n, w in LSTM_WIDTHS.items()
    }
    return raw | {"quantiles": raw["quantiles"] + np.array([-1.5, -0.5, 0.0, 0.5, 1.5], np.float32)}


def answered(held: HeldOut, outputs: dict[str, np.ndarray]) -> LstmAnswers:
    return walked_answers(CARD, outputs, held, WHOSE)


def chances(answers: LstmAnswers) -> np.ndarray:
    sides = (answers.touch_up, answers.touch_down, answers.touch_either)
    return np.concatenate((*sides, answers.win_long[:, None], answers.win_short[:, None]), axis=1)


def lived(
    n: int, *, low: float = -1.0, high: float = 1.0, bias: float = 0.0, steep: float = 0.0, bent: float = 0.0
) -> Lived:
    """One series whose logits are ``bias`` too low, lean ``steep`` too little and are ``bent`` too little."""
    rng = np.random.default_rng(5)
    side = np.array([0.5, 0.4, 0.3, 0.2, 0.1])
    usual = np.concatenate((side, side, 1.5 * side, [0.2, 0.2]))
    told = consistent(sigmoid(logits(usual) + rng.normal(0, 1.0 if bent else 0.5, (n, 1))))
    leans = logits(told) - logits(usual)
    true = sigmoid(logits(told) + bias + steep * leans + bent * (np.minimum(leans**2, 4.0) - 1.0))
    made_at = np.arange(n) * HOUR
    return Lived(
        low=np.full(n, low),
        high=np.full(n, high),
        outcome=rng.standard_t(4, n),
        chances=told,
        leans=leans,
        came=(rng.random((n, CHANCES)) < true).astype(np.float64),
        made_at=made_at,
        known_at=made_at + HORIZON,
    )


# --- where a bundle's adjustments come from ---------------------------------------------------------------------------


def test_an_interval_that_is_too_narrow_is_widened_until_it_covers_ninety_percent() -> None:
    life = lived(6000, low=-0.7, high=3.5)
    found = starting(life)
    assert found.lower > 0 > found.upper
    below, above = corrected(life.low, life.high, found.lower, found.upper)
    assert (life.outcome < below).mean() == pytest.approx(0.05, abs=0.01)
    assert (life.outcome > above).mean() == pytest.approx(0.05, abs=0.01)


def raised(life: Lived, found: Adjustment) -> np.ndarray:
    """(CHANCES,) what logits are raised by on average."""
    steps = np.asarray(found.offsets) + np.asarray(found.slopes) * life.leans
    return (steps + np.asarray(found.bends) * (np.minimum(life.leans**2, 4.0) - 1.0)).mean(axis=0)


def test_probabilities_that_are_too_low_are_raised_by_what_they_lack() -> None:
    """Near usual by offset and bend together: it is at one logit from it that they tell themselves apart."""
    life = lived(8000, bias=0.4)
    found = raised(life, starting(life))
    assert found == pytest.approx(0.4, abs=0.2)
    assert found.mean() == pytest.approx(0.4, abs=0.05)
    fair = lived(8000)
    assert raised(fair, starting(fair)).mean() == pytest.approx(0.0, abs=0.05)
    assert np.mean(starting(fair).offsets) == pytest.approx(0.0, abs=0.05)


def test_probabilities_that_promise_too_much_at_both_ends_lean_less() -> None:
    found = starting(lived(20_000, steep=-0.3))
    assert np.mean(found.slopes) == pytest.approx(-0.3, abs=0.08)
    assert np.mean(found.offsets) == pytest.approx(0.0, abs=0.05)
    assert np.mean(starting(lived(20_000)).slopes) == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize("bent", [0.06, -0.06])
def test_probabilities_too_low_at_both_ends_and_too_high_in_the_middle_are_bent(bent: float) -> None:
    """Or the other way round."""
    life = lived(20_000, bent=bent)
    found = starting(life)
    assert np.mean(found.bends) == pytest.approx(bent, abs=0.02)
    assert np.mean(found.slopes) == pytest.approx(0.0, abs=0.05)
    told = Adjustments.of([found] * len(life.chances)).move(life.chances, life.leans)
    curve = np.minimum(life.leans**2, 4.0) - 1.0
    missed, before = (float(((life.came - each) * curve).mean()) for each in (told, life.chances))
    assert abs(missed) < 0.4 * abs(before)


def test_the_start_is_the_mean_over_the_later_half_of_the_way() -> None:
    life = lived(101, bias=0.3)
    path = walked(life, STILL)
    found = starting(life)
    assert found.lower == round(float(path.lower[50:].mean()), 6)
    assert found.upper == round(float(path.upper[50:].mean()), 6)
    assert found.offsets == tuple(np.round(path.offsets[50:].mean(axis=0), 6))
    assert found.slopes == tuple(np.round(path.slopes[50:].mean(axis=0), 6))
    assert found.bends == tuple(np.round(path.bends[50:].mean(axis=0), 6))
    assert any(found.bends)


def test_an_unknown_outcome_teaches_an_interval_nothing() -> None:
    life = replace(lived(10), outcome=np.full(10, np.nan))
    assert (starting(life).lower, starting(life).upper) == (0.0, 0.0)


def test_a_kind_of_market_starts_from_the_mean_of_its_symbols() -> None:
    one, two = (
        Adjustment(lower=x, upper=-x, offsets=(x,) * CHANCES, slopes=(-x,) * CHANCES, bends=(x / 4,) * CHANCES)
        for x in (0.1, 0.3)
    )
    table = averaged({"BTC-USD": one, "EURUSD=X": two, "AUDUSD=X": two}, dict(WHOSE) | {"AUDUSD=X": "fx"})
    assert table["BTC-USD"] is one
    assert table["fx"] == two
    assert table["crypto"] == one
    pooled = table["any"]
    assert (pooled.lower, pooled.offsets[3], pooled.slopes[3]) == pytest.approx((0.233333, 0.233333, -0.233333))
    assert pooled.bends == pytest.approx([0.058333] * CHANCES)
    assert averaged({}, {}) == {"any": STILL}


# --- the walk ---------------------------------------------------------------------------------------------------------


def test_each_series_is_walked_in_time_from_its_own_start(held: HeldOut, outputs: dict[str, np.ndarray]) -> None:
    """Row by row, with the definitions of one step alone."""
    answers, plain = answered(held, outputs), chances_of(CARD, outputs)
    leans = leans_of(CARD, plain)
    np.testing.assert_array_equal(answers.leans, leans)
    for place, (lower, upper, offset) in enumerate([STARTS["BTC-USD"], STARTS["fx"], STARTS["fx"]]):
        rows = np.flatnonzero(held.place == place)
        sides, waiting = (lower, upper), []
        steps = tuple(np.full(CHANCES, step) for step in steps_of(offset).values())
        for row in rows[np.argsort(held.entry[rows])].tolist():
            low, high = answers.raw_low[row], answers.raw_high[row]
            expected = corrected(low, high, *sides)
            assert (answers.low[row], answers.high[row]) == pytest.approx(expected, rel=1e-12)
            sides = advance(*sides, low, high, held.close[row] + held.change[row] * held.atr[row])
            for earlier in [one for one in waiting if one[0] <= held.entry[row]]:
                before = {"lean": leans[earlier[2]], "probability": earlier[1], "came": held.came[earlier[2]]}
                steps = probabilities.advance(*steps, **before)
                waiting.remove(earlier)
            told = consistent(moved(plain[row], leans[row], *steps)[None])[0]
            assert chances(answers)[row] == pytest.approx(told, abs=1e-12)
            waiting.append((held.entry[row] + HORIZON, told, row))


def test_direction_change_and_range_are_what_they_are_unwalked(held: HeldOut, outputs: dict[str, np.ndarray]) -> None:
    newest = Newest(held.close, held.atr, held.unrest)
    plain = lstm_answers(CARD, outputs, newest, [WHOSE[place] for place in held.place])
    answers = answered(held, outputs)
    for name in ("probability_up", "abstain_below", "change", "quantiles", "predicted_price", "raw_low", "raw_high"):
        np.testing.assert_array_equal(vars(answers)[name], vars(plain)[name], err_msg=name)
    np.testing.assert_array_equal(answers.expected_range, plain.expected_range)
    quantiles = np.sort(outputs["quantiles"].astype(np.float64), axis=1)
    width = (quantiles[:, -1] - quantiles[:, 0]) * held.atr * np.exp(-0.15 * held.unrest)
    assert answers.raw_high - answers.raw_low == pytest.approx(width, rel=1e-9)
    assert (answers.low != plain.low).mean() > 0.9
    assert (chances(answers) != chances(plain)).mean() > 0.9


@pytest.mark.parametrize("chosen", [0, 17, 450, 899])
def test_no_forecast_uses_its_own_outcome_or_a_later_one(
    held: HeldOut, outputs: dict[str, np.ndarray], chosen: int
) -> None:
    """Outcomes from one instant on become wild: what was answered until then stays as it was, to the last bit."""
    since = held.entry[chosen]
    late = held.entry >= since
    wild = replace(
        held,
        change=np.where(late, 1e3, held.change),
        touch=np.where(late[:, None], 1 - held.touch, held.touch),
        win=np.where(late[:, None], 1 - held.win, held.win),
    )
    before, after = answered(held, outputs), answered(wild, outputs)
    known = held.entry <= since
    assert (before.low[known] == after.low[known]).all()
    assert (before.high[known] == after.high[known]).all()
    later = held.entry > since + 3 * 3 * HOUR
    if later.sum() > 30:
        assert (before.high[later] != after.high[later]).mean() > 0.9
    unmoved, moves = held.entry < since + HORIZON, held.entry >= since + HORIZON + 3 * 3 * HOUR
    assert (chances(before)[unmoved] == chances(after)[unmoved]).all()
    if moves.sum() > 30:
        assert (chances(before)[moves] != chances(after)[moves]).mean() > 0.9


def test_an_outcome_of_one_series_moves_no_other(held: HeldOut, outputs: dict[str, np.ndarray]) -> None:
    own = held.place == 1
    wild = replace(
        held, change=np.where(own, -1e3, held.change), touch=np.where(own[:, None], 1 - held.touch, held.touch)
    )
    before, after = answered(held, outputs), answered(wild, outputs)
    assert (before.low[~own] == after.low[~own]).all()
    assert (before.low[own] != after.low[own]).any()
    assert (chances(before)[~own] == chances(after)[~own]).all()
    assert (chances(before)[own] != chances(after)[own]).any()


def test_walked_probabilities_come_true_as_often_as_they_say_on_average() -> None:
    life = lived(10000, bias=-0.6)
    path = walked(life, STILL)
    told = consistent(moved(life.chances, life.leans, path.offsets, path.slopes, path.bends))
    np.testing.assert_array_equal(path.move(life.chances, life.leans), told)
    assert np.abs(life.chances.mean(axis=0) - life.came.mean(axis=0)).max() > 0.06
    assert told.mean(axis=0) == pytest.approx(life.came.mean(axis=0), abs=0.035)


def test_adjustments_of_rows_keep_their_order() -> None:
    rows = [
        Adjustment(lower=x, upper=2 * x, offsets=(x,) * CHANCES, slopes=(-x,) * CHANCES, bends=(x / 2,) * CHANCES)
        for x in (0.1, 0.2)
    ]
    found = Adjustments.of(rows)
    assert found.lower.tolist() == [0.1, 0.2]
    assert found.upper.tolist() == [0.2, 0.4]
    assert found.offsets.shape == found.slopes.shape == found.bends.shape == (2, CHANCES)
    assert found.slopes[:, 3].tolist() == [-0.1, -0.2]
    assert found.bends[:, 16].tolist() == [0.05, 0.1]
    assert Adjustments.of([]).offsets.shape == (0, CHANCES)
