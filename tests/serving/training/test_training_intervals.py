"""Adaptive intervals in training: where a bundle's sides come from, and that no interval knows its own outcome."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import numpy as np
import pytest
from tiny_bundles import LSTM_WIDTHS, card_content

from fusiontrade.inference.intervals import RATE, advance, corrected
from serving.card import ModelCard, Sides
from serving.evaluation import HeldOut
from serving.forecasting import LstmAnswers, Subject, lstm_answers
from serving.training.judging.calibrate import interval_sides
from serving.training.judging.judge import walked_answers

HOUR = 3_600_000
WHOSE: list[Subject] = [("BTC-USD", "crypto"), ("EURUSD=X", "fx"), ("NEW=X", "fx")]
STARTS = {"any": (0.3, 0.3), "fx": (0.2, -0.1), "BTC-USD": (0.05, 0.1)}
CARD = ModelCard.model_validate_json(
    json.dumps(
        card_content("lstm", "1h")
        | {"intervals": {name: {"lower": low, "upper": high} for name, (low, high) in STARTS.items()}}
    )
).stamped(b"graph")


def held_out(rows: int = 900, seed: int = 0) -> HeldOut:
    """Rows of three series, shuffled, of which only what walking reads is filled in."""
    rng = np.random.default_rng(seed)
    place = rng.permutation(np.arange(rows) % 3).astype(np.intp)
    columns = {field.name: np.zeros(rows) for field in fields(HeldOut)}
    filled = {
        "place": place,
        "entry": (rng.permutation(rows) * HOUR).astype(np.int64),
        "close": rng.uniform(50, 200, rows),
        "atr": rng.uniform(0.5, 2, rows),
        "change": rng.standard_t(3, rows),
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


def walked(held: HeldOut, outputs: dict[str, np.ndarray]) -> LstmAnswers:
    return walked_answers(CARD, outputs, held, WHOSE)


def test_an_interval_that_is_too_narrow_is_widened_until_it_covers_ninety_percent() -> None:
    rng = np.random.default_rng(5)
    change = rng.standard_t(4, 6000)
    low, high = np.full(6000, -0.7), np.full(6000, 3.5)
    sides = interval_sides(low, high, change)
    assert sides.lower > 0 > sides.upper
    below, above = corrected(low, high, sides.lower, sides.upper)
    assert (change < below).mean() == pytest.approx(0.05, abs=0.01)
    assert (change > above).mean() == pytest.approx(0.05, abs=0.01)


def test_the_sides_are_the_mean_of_the_later_half_of_the_way() -> None:
    rng = np.random.default_rng(6)
    low, high, change = np.full(101, -1.0), np.full(101, 1.0), rng.normal(0, 1, 101)
    lower, upper, lowers, uppers = 0.0, 0.0, [0.0], [0.0]
    for outcome in change.tolist():
        lower, upper = advance(lower, upper, -1.0, 1.0, outcome)
        lowers.append(lower)
        uppers.append(upper)
    expected = Sides(lower=round(float(np.mean(lowers[50:])), 6), upper=round(float(np.mean(uppers[50:])), 6))
    assert interval_sides(low, high, change) == expected


def test_one_outcome_is_a_start_and_an_unknown_one_teaches_nothing() -> None:
    one = interval_sides(np.array([-1.0]), np.array([1.0]), np.array([5.0]))
    assert one == Sides(lower=round(-RATE * 0.05 / 2, 6), upper=round(RATE * 0.95 / 2, 6))
    unknown = interval_sides(np.array([-1.0]), np.array([1.0]), np.array([np.nan]))
    assert unknown == Sides(lower=0.0, upper=0.0)


def test_each_series_is_walked_in_time_from_its_own_start(held: HeldOut, outputs: dict[str, np.ndarray]) -> None:
    """Row by row, with the definition of one step alone."""
    answers = walked(held, outputs)
    starts = [STARTS["BTC-USD"], STARTS["fx"], STARTS["fx"]]
    for place, sides in enumerate(starts):
        rows = np.flatnonzero(held.place == place)
        for row in rows[np.argsort(held.entry[rows])].tolist():
            low, high = answers.raw_low[row], answers.raw_high[row]
            expected = corrected(low, high, *sides)
            assert (answers.low[row], answers.high[row]) == pytest.approx(expected, rel=1e-12)
            outcome = held.close[row] + held.change[row] * held.atr[row]
            sides = advance(*sides, low, high, outcome)  # noqa: PLW2901  # the state walks


def test_everything_but_the_interval_is_what_it_is_unwalked(held: HeldOut, outputs: dict[str, np.ndarray]) -> None:
    plain = lstm_answers(CARD, outputs, held.close, held.atr, [WHOSE[place] for place in held.place])
    answers = walked(held, outputs)
    for name, values in vars(answers).items():
        if name not in ("low", "high"):
            np.testing.assert_array_equal(values, vars(plain)[name], err_msg=name)
    assert (answers.low != plain.low).mean() > 0.9


@pytest.mark.parametrize("chosen", [0, 17, 450, 899])
def test_an_interval_never_uses_its_own_outcome_or_a_later_one(
    held: HeldOut, outputs: dict[str, np.ndarray], chosen: int
) -> None:
    """Outcomes from one instant on become wild: what was answered until then stays as it was, to the last bit."""
    since = held.entry[chosen]
    wild = np.where(held.entry >= since, 1e3, held.change)
    before, after = walked(held, outputs), walked(replace(held, change=wild), outputs)
    known = held.entry <= since
    assert (before.low[known] == after.low[known]).all()
    assert (before.high[known] == after.high[known]).all()
    later = held.entry > since + 3 * 3 * HOUR
    if later.sum() > 30:
        assert (before.high[later] != after.high[later]).mean() > 0.9


def test_an_outcome_of_one_series_moves_no_other(held: HeldOut, outputs: dict[str, np.ndarray]) -> None:
    wild = np.where(held.place == 1, -1e3, held.change)
    before, after = walked(held, outputs), walked(replace(held, change=wild), outputs)
    others = held.place != 1
    assert (before.low[others] == after.low[others]).all()
    assert (before.low[~others] != after.low[~others]).any()
