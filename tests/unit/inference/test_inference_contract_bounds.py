"""What a request may carry: bounds that keep one item from costing the others."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from fusiontrade.inference.contract import CalibrationState, ForecastItem
from fusiontrade.inference.intervals import NARROWEST, WIDEST

COLUMNS = {"time": [0], "open": [1.0], "high": [1.0], "low": [1.0], "close": [1.0]}


@pytest.mark.parametrize("symbol", ["", "X" * 65])
def test_a_symbol_without_or_with_too_many_characters_is_refused(symbol: str) -> None:
    with pytest.raises(ValidationError, match="symbol"):
        ForecastItem.model_validate({"symbol": symbol, "timeframe": "1h", "candles": COLUMNS})


@pytest.mark.parametrize("side", ["lower", "upper"])
@pytest.mark.parametrize("share", [-0.41, 2.01, 1e308, -1e308, float("nan"), float("inf")])
def test_an_interval_state_that_no_outcomes_could_have_made_is_refused(side: str, share: float) -> None:
    state = {"version": "a", "lower": 0.0, "upper": 0.0, "revision": 1, "as_of": 0}
    with pytest.raises(ValidationError, match=side):
        CalibrationState.model_validate(state | {side: share})


def test_an_interval_state_at_its_ends_comes_back_as_it_was() -> None:
    state = CalibrationState(version="a", lower=NARROWEST, upper=WIDEST, revision=1, as_of=0)
    assert CalibrationState.model_validate_json(state.model_dump_json()) == state
