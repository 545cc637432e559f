"""What a request may carry: bounds that keep one item from costing the others."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from fusiontrade.inference.contract import CHANCES, CalibrationState, CandleColumns, ForecastItem
from fusiontrade.inference.intervals import NARROWEST, WIDEST
from fusiontrade.inference.probabilities import FARTHEST
from fusiontrade.market.timeframes import Timeframe
from tests.support.fusion_fakes import BASE_CHANCES, bars, forecast

STATE = {"version": "a", "lower": 0.0, "upper": 0.0, "offsets": [0.0] * CHANCES, "revision": 1, "as_of": 0}
COLUMNS = {"time": [0], "open": [1.0], "high": [1.0], "low": [1.0], "close": [1.0]}


@pytest.mark.parametrize("symbol", ["", "X" * 65])
def test_a_symbol_without_or_with_too_many_characters_is_refused(symbol: str) -> None:
    with pytest.raises(ValidationError, match="symbol"):
        ForecastItem.model_validate({"symbol": symbol, "timeframe": "1h", "candles": COLUMNS})


@pytest.mark.parametrize("side", ["lower", "upper"])
@pytest.mark.parametrize("share", [-0.41, 2.01, 1e308, -1e308, float("nan"), float("inf")])
def test_a_calibration_state_whose_sides_no_outcomes_could_have_made_is_refused(side: str, share: float) -> None:
    with pytest.raises(ValidationError, match=side):
        CalibrationState.model_validate(STATE | {side: share})


@pytest.mark.parametrize("offset", [-2.01, 2.01, 1e308, float("nan"), float("inf")])
def test_a_calibration_state_whose_offsets_no_outcomes_could_have_made_is_refused(offset: float) -> None:
    with pytest.raises(ValidationError, match="offsets"):
        CalibrationState.model_validate(STATE | {"offsets": [0.0] * (CHANCES - 1) + [offset]})


@pytest.mark.parametrize("count", [0, CHANCES - 1, CHANCES + 1, 1000])
def test_a_calibration_state_with_another_number_of_offsets_is_refused(count: int) -> None:
    with pytest.raises(ValidationError, match="offsets"):
        CalibrationState.model_validate(STATE | {"offsets": [0.0] * count})


def test_a_calibration_state_without_offsets_is_refused() -> None:
    with pytest.raises(ValidationError, match="offsets"):
        CalibrationState.model_validate({name: value for name, value in STATE.items() if name != "offsets"})


@pytest.mark.parametrize("offset", [-FARTHEST, FARTHEST])
def test_a_calibration_state_at_its_ends_comes_back_as_it_was(offset: float) -> None:
    state = CalibrationState(
        version="a", lower=NARROWEST, upper=WIDEST, offsets=(offset,) * CHANCES, revision=1, as_of=0
    )
    assert CalibrationState.model_validate_json(state.model_dump_json()) == state


def test_a_forecasts_chances_are_its_probabilities_in_the_order_of_the_offsets() -> None:
    frame = bars("EURUSD=X", Timeframe.H1, count=1)
    item = ForecastItem(symbol="EURUSD=X", timeframe=Timeframe.H1, candles=CandleColumns.of(frame))
    lstm = forecast(item, 1, 1).lstm
    assert lstm is not None
    assert lstm.chances == BASE_CHANCES
    assert len(lstm.chances) == CHANCES
