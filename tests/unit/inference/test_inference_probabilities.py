"""Probabilities moved by their outcomes: the guarantee, what it may know, and its values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fusiontrade.inference.probabilities import BEND_RATE, FARTHEST, RATE, SHARPEST, STEEPEST, advance, logits, moved

CHANCES = st.floats(0.0, 1.0)
INNER = st.floats(1e-6, 1.0 - 1e-6)
LEANS = st.floats(-25.0, 25.0)
OFFSETS = st.floats(-FARTHEST, FARTHEST)
SLOPES = st.floats(-STEEPEST, STEEPEST)
BENDS = st.floats(-SHARPEST, SHARPEST)
LAST_BITS = 1e-14

Series = tuple[np.ndarray, np.ndarray, np.ndarray]


@st.composite
def series(draw: st.DrawFn, most: int = 300, farthest: float = 25.0) -> Series:
    """Probabilities before anything moved them, any leans, and what came true, 0 or 1, of any length from 1 on."""
    leans = st.floats(-farthest, farthest)
    rows = draw(st.lists(st.tuples(CHANCES, leans, st.booleans()), min_size=1, max_size=most))
    chances, leans, came = (np.array(column, np.float64) for column in zip(*rows, strict=True))
    return chances, leans, came


def walk(
    chances: np.ndarray, leans: np.ndarray, came: np.ndarray, *start: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return (n,) what was told, each moved by the outcomes before it, and (n + 1,) the offsets, slopes and bends.

    ``start`` is the first of each, 0 where it ends early.
    """
    told, steps = [], [(*start, 0.0, 0.0, 0.0)[:3]]
    for chance, lean, outcome in zip(chances.tolist(), leans.tolist(), came.tolist(), strict=True):
        told.append(float(moved(chance, lean, *steps[-1])))
        after = advance(*steps[-1], lean=lean, probability=told[-1], came=outcome)
        steps.append((float(after[0]), float(after[1]), float(after[2])))
    offsets, slopes, bends = np.array(steps).T
    return np.array(told), offsets, slopes, bends


def curve(lean: np.ndarray) -> np.ndarray:
    """What a bend multiplies: a parabola that is flat beyond two logits."""
    return np.minimum(lean**2, 4.0) - 1.0


def sure(logit: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-logit))


# --- the guarantee ----------------------------------------------------------------------------------------------------


@given(series(), st.floats(-0.4, 0.4), SLOPES, BENDS)
def test_the_mean_of_outcome_minus_probability_is_the_change_of_the_offset_over_rate_and_count(
    rows: Series, start: float, slope: float, bend: float
) -> None:
    """300 steps of at most 0.005 never reach an end from there, whatever comes and whatever slope and bend do."""
    told, offsets, _, _ = walk(*rows, start, slope, bend)
    assert np.abs(offsets).max() < FARTHEST
    assert (rows[2] - told).mean() == pytest.approx((offsets[-1] - start) / (RATE * len(told)), abs=1e-9)


@given(series(most=30, farthest=3.0), OFFSETS, st.floats(-0.04, 0.04), BENDS)
def test_the_mean_of_outcome_minus_probability_times_lean_is_the_change_of_the_slope_over_rate_and_count(
    rows: Series, offset: float, start: float, bend: float
) -> None:
    """30 steps of at most 0.015 never reach an end from there, whatever comes and whatever offset and bend do."""
    told, _, slopes, _ = walk(*rows, offset, start, bend)
    assert np.abs(slopes).max() < STEEPEST
    missed = ((rows[2] - told) * rows[1]).mean()
    assert missed == pytest.approx((slopes[-1] - start) / (RATE * len(told)), abs=1e-9)


@given(series(most=12), OFFSETS, SLOPES, st.floats(-0.009, 0.009))
def test_the_mean_of_outcome_minus_probability_times_curve_is_the_change_of_the_bend_over_rate_and_count(
    rows: Series, offset: float, slope: float, start: float
) -> None:
    """12 steps of at most 0.0075 never reach an end from there, whatever comes and whatever offset and slope do."""
    told, _, _, bends = walk(*rows, offset, slope, start)
    assert np.abs(bends).max() < SHARPEST
    missed = ((rows[2] - told) * curve(rows[1])).mean()
    assert missed == pytest.approx((bends[-1] - start) / (BEND_RATE * len(told)), abs=1e-9)


@given(series(most=40), OFFSETS, SLOPES, BENDS)
def test_at_an_end_an_offset_a_slope_and_a_bend_move_less_than_the_outcomes_ask_for(
    rows: Series, start: float, slope: float, bend: float
) -> None:
    told, offsets, slopes, bends = walk(*rows, start, slope, bend)
    missed = rows[2] - told
    assert (np.abs(np.diff(offsets)) <= np.abs(RATE * missed) + 1e-12).all()
    assert (np.abs(np.diff(slopes)) <= np.abs(RATE * missed * rows[1]) + 1e-12).all()
    assert (np.abs(np.diff(bends)) <= np.abs(BEND_RATE * missed * curve(rows[1])) + 1e-12).all()


@pytest.mark.parametrize("rate", [0.1, 0.37, 0.6])
def test_forecasts_wrong_by_half_a_logit_are_right_on_average_after_it_was_learned(rate: float) -> None:
    drawn = (np.random.default_rng(5).random(20_000) < rate).astype(float)
    odds = rate / (1.0 - rate) * math.exp(0.5)
    wrong = np.full(20_000, odds / (1.0 + odds))
    told, offsets, slopes, bends = walk(wrong, np.zeros(20_000), drawn)
    assert offsets[-1] - bends[-1] == pytest.approx(-0.5, abs=0.2)  # at usual, a bend moves by its opposite
    assert not slopes.any()
    assert (drawn - told)[10_000:].mean() == pytest.approx(0.0, abs=0.002)
    assert abs((drawn - wrong)[10_000:].mean()) > 0.03


@pytest.mark.parametrize("steeper", [1.4, 0.75])
def test_forecasts_that_promise_too_much_or_too_little_at_both_ends_are_right_there_after_it_was_learned(
    steeper: float,
) -> None:
    generator = np.random.default_rng(11)
    true = -0.8 + 1.2 * generator.standard_normal(20_000)
    came = (generator.random(20_000) < sure(true)).astype(float)
    leans = steeper * (true + 0.8)
    wrong = sure(leans - 0.8)
    told, offsets, slopes, bends = walk(wrong, leans, came)
    assert slopes[-1] == pytest.approx(1.0 / steeper - 1.0, abs=0.12)
    assert offsets[-1] == pytest.approx(0.0, abs=0.12)
    assert bends[10_000:].mean() == pytest.approx(0.0, abs=0.03)
    for side in (leans < -1.0, leans > 1.0):
        late = side & (np.arange(20_000) >= 10_000)
        assert abs((came - wrong)[late].mean()) > 0.02
        assert (came - told)[late].mean() == pytest.approx(0.0, abs=0.012)


@pytest.mark.parametrize("bent", [0.08, -0.08])
def test_forecasts_too_low_at_both_ends_and_too_high_in_the_middle_get_a_positive_bend_and_are_right_after_it(
    bent: float,
) -> None:
    """Or the other way round: a negative one. Each outcome is the share of many, so that none came by luck."""
    leans = 1.2 * np.random.default_rng(13).standard_normal(12_000)
    wrong, right = sure(leans - 0.8), sure(leans - 0.8 + bent * curve(leans))
    told, offsets, slopes, bends = walk(wrong, leans, right)
    assert bends[-1] == pytest.approx(bent, abs=0.005)
    assert (offsets[-1], slopes[-1]) == pytest.approx((0.0, 0.0), abs=0.01)
    late = slice(10_000, None)
    assert np.abs(told - right)[late].max() < 0.002
    assert np.abs(wrong - right)[late].max() > 0.035


@pytest.mark.parametrize(("lean", "came"), [(2.5, 1.0), (-2.5, 1.0), (1.5, 1.0), (0.0, 0.0), (-0.5, 0.0)])
def test_one_outcome_more_at_an_end_or_one_less_in_the_middle_bends_upwards(lean: float, came: float) -> None:
    upwards = advance(0.0, 0.0, 0.0, lean=lean, probability=0.4, came=came)
    downwards = advance(0.0, 0.0, 0.0, lean=lean, probability=0.4, came=1.0 - came)
    assert float(upwards[2]) > 0.0 > float(downwards[2])


def test_a_forecast_wrong_by_more_than_an_end_is_the_stated_exception() -> None:
    told, offsets, _, bends = walk(np.full(5000, 0.5), np.zeros(5000), np.zeros(5000))
    assert (offsets[-1], bends[-1]) == (-FARTHEST, SHARPEST)
    assert told[-1] == pytest.approx(1.0 / (1.0 + math.exp(2.1)))
    leans = np.tile([3.0, -3.0], 1000)  # the surer, the wronger
    told, offsets, slopes, bends = walk(sure(leans), leans, (leans < 0.0).astype(float))
    assert slopes[-1] == -STEEPEST
    assert told[-2:] == pytest.approx(sure(offsets[-3:-1] + 0.5 * leans[-2:] + 3.0 * bends[-3:-1]))


# --- what it may know -------------------------------------------------------------------------------------------------


@given(series(), st.data())
def test_an_altered_outcome_changes_no_forecast_up_to_its_own(rows: Series, data: st.DataObject) -> None:
    chances, leans, came = rows
    row = data.draw(st.integers(0, len(came) - 1))
    altered = came.copy()
    altered[row:] = 1.0 - altered[row:]
    assert walk(chances, leans, came)[0][: row + 1].tolist() == walk(chances, leans, altered)[0][: row + 1].tolist()


@given(series(), st.data())
def test_a_walk_may_stop_anywhere_and_go_on(rows: Series, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(rows[0])))
    first = walk(*(column[:cut] for column in rows))
    second = walk(*(column[cut:] for column in rows), *(float(steps[-1]) for steps in first[1:]))
    whole = walk(*rows)
    assert [*first[0], *second[0]] == whole[0].tolist()
    assert [steps[-1] for steps in second[1:]] == [steps[-1] for steps in whole[1:]]


# --- bounds and values ------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(CHANCES, LEANS), max_size=20), SLOPES, BENDS)
def test_a_step_of_zero_leaves_every_probability_as_it_is_to_the_last_bit(
    rows: list[tuple[float, float]], slope: float, bend: float
) -> None:
    chances, leans = (np.array([row[column] for row in rows], np.float64) for column in (0, 1))
    for zero in (0.0, -0.0):
        assert moved(chances, leans, zero, zero).tobytes() == chances.tobytes()
        assert moved(chances, leans, zero, zero, zero).tobytes() == chances.tobytes()
        assert moved(chances, [[1.0], [-1.0]], zero, zero, bend).tobytes() == 2 * chances.tobytes()
        assert moved(chances, zero, zero, slope).tobytes() == chances.tobytes()
        assert moved(chances, 0.5, -0.5 * slope, slope).tobytes() == chances.tobytes()


@given(st.lists(st.tuples(CHANCES, LEANS), max_size=20), OFFSETS, SLOPES)
def test_a_bend_of_zero_changes_no_bit_of_what_offset_and_slope_say(
    rows: list[tuple[float, float]], offset: float, slope: float
) -> None:
    chances, leans = (np.array([row[column] for row in rows], np.float64) for column in (0, 1))
    inner, step = np.clip(chances, 1e-9, 1.0 - 1e-9), offset + slope * leans
    odds = inner / (1.0 - inner) * np.exp(step)
    without = np.where(step == 0.0, chances, odds / (1.0 + odds))
    for zero in (0.0, -0.0):
        assert moved(chances, leans, offset, slope, zero).tobytes() == without.tobytes()
    assert moved(chances, leans, offset, slope).tobytes() == without.tobytes()


@given(CHANCES, LEANS, OFFSETS)
def test_without_a_slope_the_lean_is_nothing_to_a_probability(chance: float, lean: float, offset: float) -> None:
    assert float(moved(chance, lean, offset, 0.0)) == float(moved(chance, 0.0, offset, 0.5))


@given(CHANCES, LEANS, OFFSETS, SLOPES, BENDS)
def test_a_moved_probability_is_a_probability(
    chance: float, lean: float, offset: float, slope: float, bend: float
) -> None:
    assert 0.0 <= float(moved(chance, lean, offset, slope, bend)) <= 1.0


@given(CHANCES, CHANCES, st.floats(-6.0, 6.0), OFFSETS, SLOPES, BENDS)
@example(0.5, 0.7, 2.5, 0.0, -STEEPEST, SHARPEST)  # where a bend falls most steeply, and a slope with it
@example(0.5, 0.7, -2.5, 0.0, -STEEPEST, -SHARPEST)
def test_moving_keeps_the_order_of_probabilities_that_lean_from_one_usual_but_for_the_last_bits(
    one: float, other: float, usual: float, offset: float, slope: float, bend: float
) -> None:
    chances = sorted((one, other))
    lower, higher = moved(chances, logits(chances) - usual, offset, slope, bend)
    assert lower <= higher + LAST_BITS


@given(st.floats(-8.0, 8.0), st.floats(1e-3, 1.0), st.floats(-6.0, 6.0), OFFSETS, SLOPES, BENDS)
@example(-1.9, 0.1, 0.0, 0.0, -STEEPEST, SHARPEST)
@example(1.8, 0.1, 0.0, 0.0, -STEEPEST, -SHARPEST)
def test_moved_logits_rise_by_a_tenth_of_what_they_rose_or_more(
    logit: float, rise: float, usual: float, offset: float, slope: float, bend: float
) -> None:
    before = np.array([logit, logit + rise])
    after = logits(moved(sure(before), before - usual, offset, slope, bend))
    assert after[1] - after[0] >= 0.1 * rise - 1e-9


@given(CHANCES, LEANS, OFFSETS, OFFSETS, SLOPES, SLOPES, BENDS)
def test_a_larger_step_gives_a_larger_probability_but_for_the_last_bits(
    chance: float, lean: float, one: float, other: float, slope: float, steeper: float, bend: float
) -> None:
    """Beside certainty a billionth more, for what is not moved stays what it is, and what is has a logit."""
    offsets, slopes = sorted((one, other)), sorted((slope, steeper), reverse=lean < 0.0)
    lower, higher = moved(chance, lean, offsets, slopes, bend)
    assert lower <= higher + LAST_BITS + (0.0 if 1e-9 < chance < 1.0 - 1e-9 else 1e-9)


@given(INNER, LEANS, OFFSETS, SLOPES, BENDS)
@example(1e-6, 16.0, 0.0, -0.5, 0.0)
def test_a_probability_is_moved_by_offset_and_slope_times_lean_and_bend_times_curve_in_logits_and_back(
    chance: float, lean: float, offset: float, slope: float, bend: float
) -> None:
    there = moved(chance, lean, offset, slope, bend)
    if 1e-9 < there < 1.0 - 1e-9:  # beyond, a probability counts as certain, and there is no way back
        assert float(moved(there, lean, -offset, -slope, -bend)) == pytest.approx(chance, abs=1e-6)
    logit = math.log(chance / (1.0 - chance)) + offset + slope * lean + bend * (min(lean * lean, 4.0) - 1.0)
    assert float(there) == pytest.approx(1.0 / (1.0 + math.exp(-logit)), rel=1e-9)


@given(st.floats(0.001, 0.999), st.floats(-6.0, 6.0), OFFSETS)
def test_a_slope_of_minus_a_half_takes_half_of_the_way_from_usual(chance: float, usual: float, offset: float) -> None:
    logit = math.log(chance / (1.0 - chance))
    halfway = 1.0 / (1.0 + math.exp(-(logit + usual) / 2.0 - offset))
    assert float(moved(chance, logit - usual, offset, -0.5)) == pytest.approx(halfway, abs=1e-9)


@given(CHANCES, LEANS, OFFSETS, SLOPES, BENDS)
def test_the_chance_of_the_opposite_moves_the_other_way(
    chance: float, lean: float, offset: float, slope: float, bend: float
) -> None:
    opposite = float(moved(1.0 - chance, -lean, -offset, slope, -bend))
    assert opposite == pytest.approx(1.0 - float(moved(chance, lean, offset, slope, bend)), abs=1e-3)


def test_certainty_stays_nearly_certain() -> None:
    assert moved([0.0, 1.0], 0.0, [FARTHEST, -FARTHEST], 0.0) == pytest.approx([0.0, 1.0], abs=1e-8)
    for bend in (-SHARPEST, 0.0, SHARPEST):
        unsure = moved([0.0, 1.0], logits([0.0, 1.0]), 0.0, -STEEPEST, bend)
        assert unsure == pytest.approx([0.0, 1.0], abs=1e-4)


def test_logits_are_those_of_the_odds_and_finite_at_certainty() -> None:
    assert logits([0.5, 0.2, 0.9]) == pytest.approx([0.0, math.log(0.25), math.log(9.0)])
    assert logits([0.0, 1.0]) == pytest.approx([math.log(1e-9), -math.log(1e-9)], abs=1e-6)
    assert np.isnan(logits(math.nan))
    assert logits([[0.5], [0.5]]).shape == (2, 1)


@given(CHANCES, CHANCES)
def test_logits_keep_the_order_of_probabilities(one: float, other: float) -> None:
    lower, higher = logits(sorted((one, other)))
    assert -21.0 < lower <= higher < 21.0


@pytest.mark.parametrize(
    ("chance", "came", "offset"),
    [(0.3, 1.0, 0.1035), (0.3, 0.0, 0.0985), (1.0, 1.0, 0.1), (0.0, 0.0, 0.1), (0.0, 1.0, 0.105)],
)
@pytest.mark.parametrize(("lean", "bent"), [(-2.0, 3.0), (0.0, -1.0), (0.5, -0.75), (1.0, 0.0), (7.0, 3.0)])
def test_one_step_goes_up_after_what_came_and_down_after_what_did_not(
    lean: float, bent: float, chance: float, came: float, offset: float
) -> None:
    offsets, slopes, bends = advance(0.1, 0.2, 0.05, lean=lean, probability=chance, came=came)
    assert offsets == pytest.approx(offset)
    assert slopes == pytest.approx(0.2 + (offset - 0.1) * lean)
    assert bends == pytest.approx(0.05 + (offset - 0.1) / 2.0 * bent)


@given(st.floats(0.01, 0.99), st.floats(-4.0, 4.0), OFFSETS, SLOPES, BENDS, st.booleans())
def test_a_step_is_the_rate_times_the_fall_of_the_log_loss_along_offset_slope_and_bend(
    chance: float, lean: float, offset: float, slope: float, bend: float, came: bool
) -> None:
    def loss(steps: np.ndarray) -> float:
        told = float(moved(chance, lean, *steps))
        return -math.log(told if came else 1.0 - told)

    at = np.array([offset, slope, bend])
    taken = advance(0.0, 0.0, 0.0, lean=lean, probability=float(moved(chance, lean, *at)), came=float(came))
    falls = [loss(at - small) - loss(at + small) for small in 1e-5 * np.eye(3)]
    rates = np.array([RATE, RATE, BEND_RATE])
    assert [float(step) for step in taken] == pytest.approx(rates * falls / 2e-5, abs=1e-9)


@given(OFFSETS, SLOPES, BENDS, st.floats(-1e300, 1e300), CHANCES, st.booleans())
def test_offsets_slopes_and_bends_stay_within_their_ends(
    offset: float, slope: float, bend: float, lean: float, chance: float, came: bool
) -> None:
    offsets, slopes, bends = advance(offset, slope, bend, lean=lean, probability=chance, came=came)
    assert -FARTHEST <= float(offsets) <= FARTHEST
    assert -STEEPEST <= float(slopes) <= STEEPEST
    assert -SHARPEST <= float(bends) <= SHARPEST


@pytest.mark.parametrize("end", [-1.0, 1.0])
def test_each_ends_where_it_is_said_to(end: float) -> None:
    came = 0.5 + 0.5 * end  # what draws all three on
    ends = advance(end * FARTHEST, end * STEEPEST, end * SHARPEST, lean=3.0, probability=0.5, came=came)
    assert [float(each) for each in ends] == [end * FARTHEST, end * STEEPEST, end * SHARPEST]
    back = advance(*ends, lean=3.0, probability=0.5, came=1.0 - came)
    assert [float(each) for each in back] == pytest.approx([end * 1.9975, end * 0.4925, end * 0.09625])


def test_several_probabilities_are_moved_and_learned_each_by_itself() -> None:
    chances, leans = np.array([[0.5, 0.2], [0.9, 0.5]]), np.array([[2.0, -1.0], [0.5, 0.0]])
    steps = np.array([1.0, 0.0]), np.array([-0.25, 0.5]), np.array([0.05, -0.1])
    alone = [
        [float(moved(*each)) for each in zip(row, lean, *steps, strict=True)]
        for row, lean in zip(chances, leans, strict=True)
    ]
    assert moved(chances, leans, *steps).tolist() == alone
    learned = advance(*steps, lean=leans[0], probability=chances[0], came=np.array([True, False]))
    one = advance(1.0, -0.25, 0.05, lean=2.0, probability=0.5, came=1.0)
    other = advance(0.0, 0.5, -0.1, lean=-1.0, probability=0.2, came=0.0)
    assert [each.tolist() for each in learned] == [[float(a), float(b)] for a, b in zip(one, other, strict=True)]
    assert learned[0].tolist() == pytest.approx([1.0025, -0.001])
    assert learned[1].tolist() == pytest.approx([-0.245, 0.5])  # the second is at its end
    assert learned[2].tolist() == pytest.approx([0.05375, -0.1])


def test_a_probability_that_is_missing_stays_missing() -> None:
    assert np.isnan(moved([math.nan, math.nan], [0.0, 1.0], [0.0, 1.0], [0.5, 0.0])).all()
    assert np.isnan(moved([math.nan], logits([math.nan]), 1.0, 0.25, 0.05)).all()


def test_no_probabilities_are_none() -> None:
    assert moved([], [], 1.0, 0.5, 0.1).tolist() == []
    assert [each.tolist() for each in advance([], [], [], lean=[], probability=[], came=[])] == [[], [], []]
