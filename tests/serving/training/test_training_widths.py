"""The exponent that frees widths of what unrest does to them: planted ones are found, and none where none is needed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from serving.evaluation.coverage import quintile_spread
from serving.training.judging.widths import Ranges, fitted_exponent

ROWS = 4000
GOLDEN = (5**0.5 - 1) / 2


def ranges(planted: float, rows: int = ROWS) -> Ranges:
    """Intervals of one width whose outcomes are (ATR / usual) to the power ``planted`` as wide.

    The outcomes at each of five levels of unrest are spread as evenly as a normal distribution's quantiles, so that
    nothing but the power decides.
    """
    row = np.arange(rows)
    unrest = np.linspace(-1.2, 1.2, 5)[row * 2 % 5] + 1e-6 * row / rows
    spread = np.exp(planted * unrest)
    return Ranges(
        low=np.full(rows, -1.645),
        high=np.full(rows, 1.645),
        outcome=spread * norm.ppf((row // 5 * GOLDEN + 0.5) % 1.0),
        unrest=unrest,
        volatility=0.01 * np.exp(unrest),
    )


@pytest.mark.parametrize("planted", [0.2, -0.25, 0.05])
def test_a_power_of_unrest_that_widths_are_wrong_by_is_found(planted: float) -> None:
    found, spreads = fitted_exponent([ranges(planted), ranges(planted, 700)])
    assert found == planted
    assert spreads[f"{planted:g}"] == min(spreads.values()) < 0.5 * spreads["0"]


def test_intervals_that_are_well_made_are_left_as_they_are() -> None:
    found, spreads = fitted_exponent([ranges(0.0)])
    assert found == 0.0
    assert len(spreads) == 13
    assert list(spreads) == sorted(spreads, key=float)


def test_the_exponent_is_that_of_least_spread_in_the_mean_of_the_series() -> None:
    """Of two markets that differ, a little is taken from the one that loses less by it."""
    both = ranges(0.2, 2000), ranges(0.1, 2000)
    found, spreads = fitted_exponent(both)
    alone = [fitted_exponent([one])[1] for one in both]
    means = {name: (alone[0][name] + alone[1][name]) / 2 for name in spreads}
    assert spreads == pytest.approx(means, abs=1e-6)
    assert f"{found:g}" == min(means, key=means.__getitem__)
    assert 0.1 <= found <= 0.2


def test_series_too_short_for_quintiles_say_nothing() -> None:
    assert fitted_exponent([]) == (0.0, {})
    assert fitted_exponent([ranges(0.3, 499)]) == (0.0, {})
    assert fitted_exponent([ranges(-0.3, 499), ranges(0.2)]) == fitted_exponent([ranges(0.2)])


def test_where_exponents_are_equally_good_the_first_is_none_at_all() -> None:
    calm = ranges(0.0)
    same = Ranges(calm.low, calm.high, calm.outcome, np.zeros(ROWS), calm.volatility)
    found, spreads = fitted_exponent([same])
    assert found == 0.0
    assert len(set(spreads.values())) == 1


def test_a_spread_is_between_the_quintiles_that_have_rows() -> None:
    held = np.array([1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0])
    assert quintile_spread(held, np.array([0, 0, 0, 0, 2, 2, 4, 4])) == 1.0
    assert quintile_spread(held[:6], np.array([0, 0, 0, 0, 2, 2])) == pytest.approx(0.25)
    assert quintile_spread(held[:4], np.array([3, 3, 3, 3])) == 0.0
