"""Probabilities moved by their outcomes: the guarantee, what it may know, and its values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusiontrade.inference.probabilities import FARTHEST, RATE, advance, moved

CHANCES = st.floats(0.0, 1.0)
OFFSETS = st.floats(-FARTHEST, FARTHEST)
LAST_BIT = 2.3e-16


@st.composite
def series(draw: st.DrawFn, most: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities before any offset and what came true, 0 or 1, of any length from 1 on."""
    rows = draw(st.lists(st.tuples(CHANCES, st.booleans()), min_size=1, max_size=most))
    return np.array([row[0] for row in rows]), np.array([float(row[1]) for row in rows])


def walk(chances: np.ndarray, came: np.ndarray, offset: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return (n,) what was told, each moved by the outcomes before it, and (n + 1,) the offsets."""
    told, offsets = [], [offset]
    for chance, outcome in zip(chances.tolist(), came.tolist(), strict=True):
        told.append(float(moved(chance, offset)))
        offset = float(advance(offset, told[-1], outcome))
        offsets.append(offset)
    return np.array(told), np.array(offsets)


# --- the guarantee ----------------------------------------------------------------------------------------------------


@given(series(), st.floats(-0.4, 0.4))
def test_the_mean_of_outcome_minus_probability_is_the_change_of_the_offset_over_rate_and_count(
    rows: tuple[np.ndarray, np.ndarray], start: float
) -> None:
    """300 steps of at most 0.005 never reach an end from there, whatever comes."""
    told, offsets = walk(*rows, start)
    assert np.abs(offsets).max() < FARTHEST
    assert (rows[1] - told).mean() == pytest.approx((offsets[-1] - start) / (RATE * len(told)), abs=1e-9)


@given(series(most=40), OFFSETS)
def test_at_an_end_the_offset_moves_less_than_the_outcomes_ask_for(
    rows: tuple[np.ndarray, np.ndarray], start: float
) -> None:
    told, offsets = walk(*rows, start)
    asked = RATE * (rows[1] - told)
    assert (np.abs(np.diff(offsets)) <= np.abs(asked) + 1e-12).all()


@pytest.mark.parametrize("rate", [0.1, 0.37, 0.6])
def test_forecasts_wrong_by_half_a_logit_are_right_on_average_after_it_was_learned(rate: float) -> None:
    drawn = (np.random.default_rng(5).random(20_000) < rate).astype(float)
    odds = rate / (1.0 - rate) * math.exp(0.5)
    wrong = np.full(20_000, odds / (1.0 + odds))
    told, offsets = walk(wrong, drawn)
    assert offsets[-1] == pytest.approx(-0.5, abs=0.2)
    assert (drawn - told)[10_000:].mean() == pytest.approx(0.0, abs=0.002)
    assert abs((drawn - wrong)[10_000:].mean()) > 0.03


def test_a_forecast_wrong_by_more_than_an_end_is_the_stated_exception() -> None:
    told, offsets = walk(np.full(5000, 0.5), np.zeros(5000))
    assert offsets[-1] == -FARTHEST
    assert told[-1] == pytest.approx(1.0 / (1.0 + math.exp(2.0)))


# --- what it may know -------------------------------------------------------------------------------------------------


@given(series(), st.data())
def test_an_altered_outcome_changes_no_forecast_up_to_its_own(
    rows: tuple[np.ndarray, np.ndarray], data: st.DataObject
) -> None:
    chances, came = rows
    row = data.draw(st.integers(0, len(came) - 1))
    altered = came.copy()
    altered[row:] = 1.0 - altered[row:]
    assert walk(chances, came)[0][: row + 1].tolist() == walk(chances, altered)[0][: row + 1].tolist()


@given(series(), st.data())
def test_a_walk_may_stop_anywhere_and_go_on(rows: tuple[np.ndarray, np.ndarray], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(rows[0])))
    first = walk(*(column[:cut] for column in rows))
    second = walk(*(column[cut:] for column in rows), float(first[1][-1]))
    assert [*first[0], *second[0]] == walk(*rows)[0].tolist()


# --- bounds and values ------------------------------------------------------------------------------------------------


@given(st.lists(CHANCES, max_size=20))
def test_an_offset_of_zero_leaves_every_probability_as_it_is_to_the_last_bit(chances: list[float]) -> None:
    for zero in (0.0, -0.0):
        assert moved(chances, zero).tobytes() == np.array(chances, np.float64).tobytes()


@given(CHANCES, OFFSETS)
def test_a_moved_probability_is_a_probability(chance: float, offset: float) -> None:
    assert 0.0 <= float(moved(chance, offset)) <= 1.0


@given(CHANCES, CHANCES, OFFSETS)
def test_moving_keeps_the_order_of_probabilities_but_for_the_last_bit(one: float, other: float, offset: float) -> None:
    lower, higher = moved(sorted((one, other)), offset)
    assert lower <= higher + LAST_BIT


@given(CHANCES, OFFSETS, OFFSETS)
def test_a_larger_offset_gives_a_larger_probability_but_for_the_last_bit(
    chance: float, one: float, other: float
) -> None:
    """Beside certainty a billionth more, for what is not moved stays what it is, and what is has a logit."""
    lower, higher = moved(chance, sorted((one, other)))
    assert lower <= higher + LAST_BIT + (1e-9 if 0.0 in (one, other) else 0.0)


@given(st.floats(1e-6, 1.0 - 1e-6), OFFSETS)
def test_a_probability_is_moved_by_its_offset_in_logits_and_back(chance: float, offset: float) -> None:
    there = float(moved(chance, offset))
    assert math.log(there / (1.0 - there)) - math.log(chance / (1.0 - chance)) == pytest.approx(offset, abs=1e-8)
    assert float(moved(there, -offset)) == pytest.approx(chance, abs=1e-9)


@given(CHANCES, OFFSETS)
def test_the_chance_of_the_opposite_moves_the_other_way(chance: float, offset: float) -> None:
    assert float(moved(1.0 - chance, -offset)) == pytest.approx(1.0 - float(moved(chance, offset)), abs=1e-8)


def test_certainty_stays_nearly_certain() -> None:
    assert moved([0.0, 1.0], [FARTHEST, -FARTHEST]) == pytest.approx([0.0, 1.0], abs=1e-8)


@pytest.mark.parametrize(
    ("chance", "came", "offset"),
    [(0.3, 1.0, 0.1035), (0.3, 0.0, 0.0985), (1.0, 1.0, 0.1), (0.0, 0.0, 0.1), (0.0, 1.0, 0.105)],
)
def test_one_step_goes_up_after_what_came_and_down_after_what_did_not(
    chance: float, came: float, offset: float
) -> None:
    assert advance(0.1, chance, came) == pytest.approx(offset)


@given(OFFSETS, CHANCES, st.booleans())
def test_offsets_stay_within_their_ends(offset: float, chance: float, came: bool) -> None:
    assert -FARTHEST <= float(advance(offset, chance, came)) <= FARTHEST


def test_several_probabilities_are_moved_and_learned_each_by_itself() -> None:
    chances, offsets = np.array([[0.5, 0.2], [0.9, 0.5]]), np.array([1.0, 0.0])
    alone = [[float(moved(chance, offset)) for chance, offset in zip(row, offsets, strict=True)] for row in chances]
    assert moved(chances, offsets).tolist() == alone
    learned = advance(offsets, chances[0], np.array([True, False]))
    assert learned.tolist() == [float(advance(1.0, 0.5, 1.0)), float(advance(0.0, 0.2, 0.0))]
    assert learned.tolist() == pytest.approx([1.0025, -0.001])


def test_a_probability_that_is_missing_stays_missing() -> None:
    assert np.isnan(moved([math.nan, math.nan], [0.0, 1.0])).all()


def test_no_probabilities_are_none() -> None:
    assert moved([], 1.0).tolist() == []
    assert advance([], [], []).tolist() == []
