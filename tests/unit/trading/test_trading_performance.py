"""Ratios and the deflated Sharpe: a published example, and the same by other means."""

from __future__ import annotations

import numpy as np
import pytest

from fusiontrade.trading.performance import (
    deflated_sharpe,
    expected_largest_sharpe,
    max_drawdown,
    performance,
    probabilistic_sharpe,
    profit_factor,
    sharpe,
    sortino,
)


def test_ratios_by_hand() -> None:
    returns = [0.02, -0.01, 0.03, np.nan, -0.02]
    assert sharpe(returns, 4) == pytest.approx(0.005 / np.std([0.02, -0.01, 0.03, -0.02], ddof=1) * 2)
    assert sortino(returns, 4) == pytest.approx(0.005 / np.sqrt((0.01**2 + 0.02**2) / 4) * 2)
    assert profit_factor(returns) == pytest.approx(0.05 / 0.03)
    assert max_drawdown([0.1, -0.5, 0.2, 0.9]) == pytest.approx(0.5)
    assert max_drawdown([-0.2]) == pytest.approx(0.2)
    told = performance(returns)
    assert told["n"] == 4
    assert told["mean_a_year"] == pytest.approx(0.005 * 252)


def test_what_cannot_be_divided_is_unknown_and_not_infinite() -> None:
    assert np.isnan(sharpe([0.01, 0.01]))
    assert np.isnan(sharpe([0.1, 0.1, 0.1]))  # whose deviation is 1e-17
    assert np.isnan(deflated_sharpe([0.1] * 3, trials=5).probability)
    assert np.isnan(sortino([0.01, 0.02]))
    assert np.isnan(profit_factor([0.0, 0.0]))
    assert np.isnan(max_drawdown([]))
    assert np.isnan(deflated_sharpe([0.0, 0.0], trials=3).probability)


def test_gains_without_a_loss_are_the_largest_profit_factor_that_there_is() -> None:
    assert profit_factor([0.01, 0.02]) == profit_factor([1.0, -1e-9]) == 999.0


def test_the_deflated_sharpe_is_that_of_the_papers_example() -> None:
    """Bailey and López de Prado (2014): 2.5 a year over 1,250 days, skewness -3, kurtosis 10, V = 1/2 a year."""
    daily = 2.5 / np.sqrt(250)
    for trials, largest, probability in ((100, 0.1132, 0.9004), (46, None, 0.9505)):
        expected = expected_largest_sharpe(trials, 0.5 / 250)
        if largest is not None:
            assert expected == pytest.approx(largest, abs=5e-5)
        assert probabilistic_sharpe(daily, expected, 1250, -3, 10) == pytest.approx(probability, abs=2e-4)
    normal = probabilistic_sharpe(daily, expected_largest_sharpe(88, 0.5 / 250), 1250)
    assert normal == pytest.approx(0.9505, abs=2e-3)  # as the paper says: 88 trials would do were returns normal


def test_the_largest_of_many_lucky_ratios_is_about_what_is_expected() -> None:
    random = np.random.default_rng(1)
    found = random.normal(0, 0.1, (4_000, 50)).max(axis=1).mean()
    assert expected_largest_sharpe(50, 0.01) == pytest.approx(found, rel=0.02)
    assert expected_largest_sharpe(1, 0.01) == 0.0


def test_more_trials_leave_less_of_a_ratio() -> None:
    returns = np.random.default_rng(2).normal(0.001, 0.01, 500)
    found = [deflated_sharpe(returns, trials=trials).probability for trials in (1, 10, 100)]
    assert found[0] > found[1] > found[2]
    assert deflated_sharpe(returns, trials=1).sharpe == pytest.approx(sharpe(returns))
    with pytest.raises(ValueError, match="trials must be counted"):
        deflated_sharpe(returns, trials=0)
