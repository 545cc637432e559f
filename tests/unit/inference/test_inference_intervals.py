"""The walk of adaptive intervals: its guarantee, what it may know, and its values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusiontrade.inference.intervals import NARROWEST, RATE, WIDEST, advance, corrected, walk

SIDES = st.floats(NARROWEST, WIDEST)
FINITE = st.floats(-1e6, 1e6)
WIDTHS = st.floats(1e-6, 1e6)


@st.composite
def series(draw: st.DrawFn, beyond: float = 50.0, least: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Raw intervals and outcomes up to ``beyond`` widths outside of them, of any length up to 300."""
    rows = draw(st.lists(st.tuples(FINITE, WIDTHS, st.floats(-beyond, 1.0 + beyond)), min_size=least, max_size=300))
    low = np.array([row[0] for row in rows])
    width = np.array([row[1] for row in rows])
    return low, low + width, low + width * np.array([row[2] for row in rows])


def misses(low: np.ndarray, high: np.ndarray, outcome: np.ndarray, lower: float, upper: float) -> tuple[int, int]:
    lowers, uppers, _, _ = walk(low, high, outcome, lower, upper)
    below, above = corrected(low, high, lowers, uppers)
    return int((outcome < below).sum()), int((outcome > above).sum())


# --- the guarantee ----------------------------------------------------------------------------------------------------


@given(series(beyond=1.9), st.floats(NARROWEST, 1.9), st.floats(NARROWEST, 1.9))
def test_misses_of_a_side_exceed_their_share_by_no_more_than_the_side_moved(
    bars: tuple[np.ndarray, np.ndarray, np.ndarray], lower: float, upper: float
) -> None:
    *_, last_lower, last_upper = walk(*bars, lower, upper)
    below, above = misses(*bars, lower, upper)
    count = len(bars[0])
    assert below - 0.05 * count <= (last_lower - lower) / RATE + 1e-6
    assert above - 0.05 * count <= (last_upper - upper) / RATE + 1e-6


def test_an_adversary_who_waits_beyond_two_widths_is_the_stated_exception() -> None:
    low, high, outcome = np.zeros(1000), np.ones(1000), np.full(1000, 9.0)
    *_, upper = walk(low, high, outcome)
    assert upper == WIDEST
    assert misses(low, high, outcome, 0.0, 0.0) == (0, 1000)


@pytest.mark.parametrize("spread", [0.2, 1.0, 2.5])
def test_coverage_is_ninety_percent_though_the_raw_interval_is_wrong_by_a_factor(spread: float) -> None:
    drawn = np.random.default_rng(5).normal(0.0, spread, 40_000)
    edge = np.full(40_000, 1.645)
    below, above = misses(-edge, edge, drawn, 0.0, 0.0)
    if spread < 1.0:  # even the narrowest interval is too wide here, and that side is safe
        assert max(below, above) < 0.05 * 40_000 + 150
    else:
        assert [below / 40_000, above / 40_000] == pytest.approx([0.05, 0.05], abs=0.006)


def test_coverage_returns_after_the_volatility_triples() -> None:
    generator = np.random.default_rng(6)
    drawn = np.concatenate([generator.normal(0, 1, 5000), generator.normal(0, 3, 10_000)])
    edge = np.full(15_000, 1.645)
    lowers, uppers, _, _ = walk(-edge, edge, drawn)
    below, above = corrected(-edge, edge, lowers, uppers)
    covered = (drawn >= below) & (drawn <= above)
    assert covered[:5000].mean() == pytest.approx(0.9, abs=0.012)
    assert covered[6000:].mean() == pytest.approx(0.9, abs=0.02)


# --- what it may know -------------------------------------------------------------------------------------------------


@given(series(least=2), st.data(), FINITE)
def test_an_altered_outcome_changes_no_forecast_up_to_its_own(
    bars: tuple[np.ndarray, np.ndarray, np.ndarray], data: st.DataObject, other: float
) -> None:
    low, high, outcome = bars
    row = data.draw(st.integers(0, len(low) - 1))
    altered = outcome.copy()
    altered[row:] = other
    before, after = walk(low, high, outcome), walk(low, high, altered)
    assert before[0][: row + 1].tolist() == after[0][: row + 1].tolist()
    assert before[1][: row + 1].tolist() == after[1][: row + 1].tolist()


@given(series(), SIDES, SIDES)
def test_a_walk_is_repeated_steps_and_the_same_each_time(
    bars: tuple[np.ndarray, np.ndarray, np.ndarray], lower: float, upper: float
) -> None:
    lowers, uppers, last_lower, last_upper = walk(*bars, lower, upper)
    for row, (low, high, outcome) in enumerate(zip(*bars, strict=True)):
        assert (lowers[row], uppers[row]) == (lower, upper)
        lower, upper = advance(lower, upper, float(low), float(high), float(outcome))
    assert (last_lower, last_upper) == (lower, upper)


@given(series(least=2), st.data())
def test_a_walk_may_stop_anywhere_and_go_on(
    bars: tuple[np.ndarray, np.ndarray, np.ndarray], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(bars[0])))
    first = walk(*(column[:cut] for column in bars))
    second = walk(*(column[cut:] for column in bars), *first[2:])
    whole = walk(*bars)
    assert [*first[0], *second[0]] == whole[0].tolist()
    assert second[2:] == whole[2:]


@given(series(), st.sampled_from([0.25, 8.0]))
def test_the_unit_of_the_price_does_not_matter(bars: tuple[np.ndarray, np.ndarray, np.ndarray], unit: float) -> None:
    assert walk(*(column * unit for column in bars))[2:] == walk(*bars)[2:]


@given(series())
def test_a_mirrored_market_mirrors_the_sides(bars: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    low, high, outcome = bars
    _, _, lower, upper = walk(low, high, outcome)
    assert walk(-high, -low, -outcome)[2:] == (upper, lower)


# --- bounds and values ------------------------------------------------------------------------------------------------


@given(series(), SIDES, SIDES)
def test_sides_stay_within_their_bounds_and_corrected_bounds_never_cross(
    bars: tuple[np.ndarray, np.ndarray, np.ndarray], lower: float, upper: float
) -> None:
    lowers, uppers, _, _ = walk(*bars, lower, upper)
    assert ((lowers >= NARROWEST) & (lowers <= WIDEST)).all()
    below, above = corrected(bars[0], bars[1], lowers, uppers)
    assert (below < above).all()


@pytest.mark.parametrize(
    ("outcome", "lower", "upper"),
    [
        (15.0, -0.00025, -0.00025),
        (10.0, -0.00025, -0.00025),  # on the bound is inside
        (20.0, -0.00025, -0.00025),
        (9.99, 0.00475, -0.00025),
        (20.01, -0.00025, 0.00475),
        (-1e9, 0.00475, -0.00025),
    ],
)
def test_one_step_widens_after_a_miss_and_narrows_a_little_after_a_hit(
    outcome: float, lower: float, upper: float
) -> None:
    assert advance(0.0, 0.0, 10.0, 20.0, outcome) == pytest.approx((lower, upper))


def test_a_side_moves_outwards_by_its_share_of_the_width() -> None:
    assert corrected(10.0, 20.0, 0.1, -0.2) == (9.0, 18.0)
    low, high = corrected(np.array([10.0, 0.0]), np.array([20.0, 1.0]), 0.5, np.array([0.0, 2.0]))
    assert (low.tolist(), high.tolist()) == ([5.0, -0.5], [20.0, 3.0])


def test_a_miss_is_judged_by_the_corrected_interval_and_not_by_the_raw_one() -> None:
    assert advance(0.1, 0.0, 10.0, 20.0, 9.5)[0] == pytest.approx(0.09975)
    assert advance(-0.1, 0.0, 10.0, 20.0, 10.5)[0] == pytest.approx(-0.09525)


@pytest.mark.parametrize("outcome", [math.nan, math.inf, -math.inf])
def test_an_outcome_that_is_missing_teaches_nothing(outcome: float) -> None:
    assert advance(0.3, -0.1, 10.0, 20.0, outcome) == (0.3, -0.1)
    lowers, uppers, lower, upper = walk(np.zeros(3), np.ones(3), np.array([5.0, outcome, -5.0]))
    assert (lowers.tolist(), uppers.tolist()) == ([0.0, -0.00025, -0.00025], [0.0, 0.00475, 0.00475])
    assert (lower, upper) == pytest.approx((0.0045, 0.0045))


@pytest.mark.parametrize(
    ("low", "high"),
    [(10.0, 10.0), (20.0, 10.0), (math.nan, 20.0), (10.0, math.nan), (-math.inf, 20.0), (10.0, math.inf)],
)
def test_an_interval_without_a_width_teaches_nothing(low: float, high: float) -> None:
    assert advance(0.3, -0.1, low, high, 5.0) == (0.3, -0.1)


def test_no_forecasts_leave_the_sides_as_they_were() -> None:
    empty = np.empty(0)
    lowers, uppers, lower, upper = walk(empty, empty, empty, 0.25, -0.25)
    assert (len(lowers), len(uppers), lower, upper) == (0, 0, 0.25, -0.25)


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        walk(np.zeros(2), np.ones(2), np.zeros(3))
