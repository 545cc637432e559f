"""Touches and wins of a horizon: equal to settlement and to a walk from price to price."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusiontrade.inference.contract import CHANCES, TOUCH_LEVELS
from fusiontrade.journal.outcomes import HORIZON_BARS, LONGEST_GAP_MS, in_time, touches, wins
from fusiontrade.journal.settlement import Bar, Status, levels, settle

HOUR = 3_600_000
Paths = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@st.composite
def paths(draw: st.DrawFn) -> Paths:
    """Entries, ATRs and (n, 4) open, high and low after each, on a grid of quarters so that levels are met exactly."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = draw(st.integers(0, 30))
    entry = 100.0 + generator.integers(-8, 9, count) / 4
    atr = generator.choice([0.5, 1.0, 2.0], count)
    opened = entry[:, None] + np.cumsum(generator.integers(-4, 5, (count, HORIZON_BARS)), axis=1) / 4
    high = opened + generator.integers(0, 9, (count, HORIZON_BARS)) / 4
    low = opened - generator.integers(0, 9, (count, HORIZON_BARS)) / 4
    return entry, atr, opened, high, low


def one(entry: float, atr: float, *bars: tuple[float, float, float]) -> Paths:
    """One entry and its bars of open, high and low."""
    opened, high, low = (np.array([column]) for column in zip(*bars, strict=True))
    return np.array([entry]), np.array([atr]), opened, high, low


STILL = (100.0, 100.0, 100.0)


def test_outcomes_are_as_many_as_the_probabilities_of_a_forecast() -> None:
    entry, atr, opened, high, low = one(100.0, 1.0, *[STILL] * HORIZON_BARS)
    touched, won = touches(entry, atr, high, low), wins(entry, atr, opened, high, low)
    assert (touched.shape, won.shape, touched.any(), won.any()) == ((1, 15), (1, 2), False, False)
    assert touched.shape[1] + won.shape[1] == CHANCES


def test_a_level_that_is_just_reached_is_touched_and_counts_on_either_side() -> None:
    entry, atr, _, high, low = one(100.0, 2.0, STILL, (100.0, 103.0, 98.5), STILL, (100.0, 100.0, 96.0))
    assert touches(entry, atr, high, low)[0].tolist() == [
        *[True, True, False, False, False],  # 1.5 ATR above
        *[True, True, True, False, False],  # 2 ATR below
        *[True, True, True, False, False],
    ]


@given(paths())
def test_touches_are_those_of_a_walk_from_bar_to_bar(drawn: Paths) -> None:
    entry, atr, _, high, low = drawn
    found = touches(entry, atr, high, low)
    assert found.shape == (len(entry), 15)
    for row in range(len(entry)):
        for place, level in enumerate(TOUCH_LEVELS):
            above = any(price >= entry[row] + level * atr[row] for price in high[row])
            below = any(price <= entry[row] - level * atr[row] for price in low[row])
            assert found[row, [place, place + 5, place + 10]].tolist() == [above, below, above or below]


@given(paths())
def test_wins_are_those_that_settlement_calls_win(drawn: Paths) -> None:
    entry, atr, opened, high, low = drawn
    found = wins(entry, atr, opened, high, low)
    end = HORIZON_BARS * HOUR
    for row in range(len(entry)):
        bars = [
            Bar(number * HOUR, (number + 1) * HOUR, *prices, prices[0])
            for number, prices in enumerate(zip(opened[row], high[row], low[row], strict=True))
        ]
        settled = [
            settle(side, entry[row], *levels(side, entry[row], atr[row]), bars, expires_at=end, closed_by=end).status
            for side in ("BUY", "SELL")
        ]
        assert found[row].tolist() == [status is Status.WIN for status in settled]


@given(paths())
def test_no_trade_wins_whose_target_was_not_touched_and_never_both(drawn: Paths) -> None:
    entry, atr, opened, high, low = drawn
    touched, won = touches(entry, atr, high, low), wins(entry, atr, opened, high, low)
    assert not (won & ~touched[:, [2, 7]]).any()
    assert not won.all(axis=1).any()
    assert (touched[:, :-1] | ~touched[:, 1:])[:, [0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13]].all()


@given(paths())
def test_a_mirrored_market_swaps_the_sides(drawn: Paths) -> None:
    entry, atr, opened, high, low = drawn
    mirrored = touches(-entry, atr, -low, -high)
    assert mirrored.tolist() == touches(entry, atr, high, low)[:, [*range(5, 10), *range(5), *range(10, 15)]].tolist()
    swapped = wins(-entry, atr, -opened, -low, -high)
    assert swapped.tolist() == wins(entry, atr, opened, high, low)[:, ::-1].tolist()


@pytest.mark.parametrize(("late", "there"), [(-LONGEST_GAP_MS, True), (0, True), (1, False)])
def test_a_horizon_is_in_time_up_to_three_days_beyond_its_bars(late: int, there: bool) -> None:
    ended_at = 7 + HORIZON_BARS * HOUR + LONGEST_GAP_MS + late
    assert bool(in_time(7, ended_at, HOUR)) is there
    assert in_time(np.array([7, 8]), np.array([ended_at, ended_at + 1]), HOUR).tolist() == [there, there]
