"""Moving sums, spreads and extremes: exact to the last digits of their own window, of one series and of many."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.features.rolling import highest, lowest, mean_and_deviation, ratio, rolling_sum, sums_of


def windows_of(column: np.ndarray, bars: int, rows: int) -> list[list[float]]:
    ends = range(len(column) - rows + 1, len(column) + 1)
    return [column[end - bars : end].tolist() for end in ends]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.integers(1, 600), st.integers(0, 2**32))
def test_sums_and_extremes_are_those_of_their_own_window(rows: int, bars: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    column = random.standard_t(2, rows + bars + 5) * 10.0 ** random.integers(-8, 9)
    column[: rows // 2] *= 1e12  # what is older leaves no trace
    (sums,), (top,), (bottom,) = (function(column, bars, rows=rows) for function in (sums_of, highest, lowest))
    for place, window in enumerate(windows_of(column, bars, rows)):
        assert sums[place] == pytest.approx(math.fsum(window), abs=1e-13 * math.fsum(map(abs, window)))
        assert (top[place], bottom[place]) == (max(window), min(window))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(2, 40), st.integers(0, 2**32))
def test_a_small_spread_on_a_large_price_keeps_its_digits(rows: int, bars: int, seed: int) -> None:
    column = 40_000.0 + 0.01 * np.random.default_rng(seed).normal(size=rows + bars)
    mean, deviation = mean_and_deviation(column, bars, rows=rows)
    for place, window in enumerate(windows_of(column, bars, rows)):
        exact = [Fraction(value) for value in window]
        middle = sum(exact) / bars
        assert mean[place] == pytest.approx(float(middle), rel=1e-14)
        expected = math.sqrt(sum((value - middle) ** 2 for value in exact) / bars)
        assert deviation[place] == pytest.approx(expected, rel=1e-8)


def test_equal_values_have_no_spread_and_zeros_no_sum_after_whatever() -> None:
    column = np.concatenate((np.array([1e100, -7.3, 1e-100]), np.full(50, 0.1), np.zeros(50)))
    _, deviation = mean_and_deviation(column, 20, rows=100 - 16)
    assert (deviation[:3] > 0).all()
    assert (deviation[3:34] == 0).all()
    assert (deviation[-31:] == 0).all()
    assert (sums_of(column, 20, rows=31)[0] == 0).all()
    assert (sums_of(column, 20, rows=5)[0] == 0).all()


@pytest.mark.parametrize("bars", [700, 9_000])
def test_many_series_have_the_values_of_each_however_long_they_are(bars: int) -> None:
    columns = np.random.default_rng(3).normal(size=(3, bars))
    together = (
        *sums_of(columns, 3, 20, 599, rows=80),
        *mean_and_deviation(columns, 20, rows=80),
        *highest(columns, 9, 26, rows=80),
    )
    for place, column in enumerate(columns):
        alone = (
            *sums_of(column, 3, 20, 599, rows=80),
            *mean_and_deviation(column, 20, rows=80),
            *highest(column, 9, 26, rows=80),
        )
        for got, expected in zip(together, alone, strict=True):
            np.testing.assert_array_equal(got[place], expected)


def test_a_rolling_sum_is_unknown_until_there_are_enough_values() -> None:
    column = np.arange(1.0, 6.0)
    np.testing.assert_array_equal(rolling_sum(column, 3), [np.nan, np.nan, 6, 9, 12])
    assert np.isnan(rolling_sum(column, 6)).all()


def test_a_ratio_of_nothing_is_what_one_asks_for() -> None:
    above, below = np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 0.0, 1e-13, np.nan])
    np.testing.assert_array_equal(ratio(above, below, smallest=1e-12, otherwise=7.0), [0.5, 7, 7, 7])
