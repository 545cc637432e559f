"""What a request may carry: bounds that keep one item from costing the others."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from fusiontrade.inference.contract import CHANCES, CalibrationState, CandleColumns, ForecastItem, LstmForecast
from fusiontrade.inference.intervals import NARROWEST, WIDEST
from fusiontrade.inference.probabilities import FARTHEST, SHARPEST, STEEPEST
from fusiontrade.market.timeframes import Timeframe
from tests.support.fusion_fakes import BASE_CHANCES, BASE_LEANS, bars, forecast

STATE = {
    "version": "a", "lower": 0.0, "upper": 0.0, "offsets": [0.0] * CHANCES, "slopes": [0.0] * CHANCES, "revision": 1,
    "as_of": 0,
}  # fmt: skip
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


@pytest.mark.parametrize(
    ("name", "step"),
    [(name, step) for name in ("offsets", "slopes", "bends") for step in (1e308, -1e308, float("nan"), float("inf"))]
    + [
        (name, sign * end) for name, end in (("offsets", 2.01), ("slopes", 0.501), ("bends", 0.101)) for sign in (-1, 1)
    ],
)
@pytest.mark.parametrize("place", [0, CHANCES - 1])
def test_a_calibration_state_whose_steps_no_outcomes_could_have_made_is_refused(
    name: str, step: float, place: int
) -> None:
    steps = [0.0] * CHANCES
    steps[place] = step
    with pytest.raises(ValidationError, match=name):
        CalibrationState.model_validate(STATE | {name: steps})


@pytest.mark.parametrize("name", ["offsets", "slopes", "bends"])
@pytest.mark.parametrize("count", [0, CHANCES - 1, CHANCES + 1, 1000])
def test_a_calibration_state_with_another_number_of_steps_is_refused(name: str, count: int) -> None:
    with pytest.raises(ValidationError, match=name):
        CalibrationState.model_validate(STATE | {name: [0.0] * count})


@pytest.mark.parametrize("name", ["offsets", "slopes"])
def test_a_calibration_state_without_steps_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=name):
        CalibrationState.model_validate({field: value for field, value in STATE.items() if field != name})


def test_a_calibration_state_of_an_older_sender_without_bends_bends_nothing() -> None:
    assert CalibrationState.model_validate(STATE).bends == (0.0,) * CHANCES
    assert CalibrationState.model_validate_json(json.dumps(STATE)).bends == (0.0,) * CHANCES


@pytest.mark.parametrize("end", [-1.0, 1.0])
def test_a_calibration_state_at_its_ends_comes_back_as_it_was(end: float) -> None:
    state = CalibrationState(
        version="a",
        lower=NARROWEST,
        upper=WIDEST,
        offsets=(end * FARTHEST,) * CHANCES,
        slopes=(-end * STEEPEST,) * CHANCES,
        bends=(end * SHARPEST,) * CHANCES,
        revision=1,
        as_of=0,
    )
    assert CalibrationState.model_validate_json(state.model_dump_json()) == state


def told() -> LstmForecast:
    frame = bars("EURUSD=X", Timeframe.H1, count=1)
    lstm = forecast(ForecastItem(symbol="EURUSD=X", timeframe=Timeframe.H1, candles=CandleColumns.of(frame)), 1, 1).lstm
    assert lstm is not None
    return lstm


def test_a_forecasts_chances_are_its_probabilities_in_the_order_of_the_offsets() -> None:
    lstm = told()
    assert lstm.chances == BASE_CHANCES
    assert len(lstm.chances) == CHANCES


@pytest.mark.parametrize("far", [0.0, 1e308])
def test_a_forecasts_leans_come_back_as_they_were(far: float) -> None:
    content = told().model_dump(mode="json") | {"leans": [*BASE_LEANS[:-1], far]}
    lstm = LstmForecast.model_validate(content)
    assert LstmForecast.model_validate_json(lstm.model_dump_json()).leans == (*BASE_LEANS[:-1], far)


@pytest.mark.parametrize(
    "leans",
    [
        None,
        [],
        [0.0] * (CHANCES - 1),
        [0.0] * (CHANCES + 1),
        *([0.0] * (CHANCES - 1) + [lean] for lean in (float("nan"), float("inf"), -float("inf"), None)),
    ],
)
def test_a_forecast_whose_leans_could_not_be_learned_from_is_refused(leans: Any) -> None:
    with pytest.raises(ValidationError, match="leans"):
        LstmForecast.model_validate(told().model_dump(mode="json") | {"leans": leans})


def test_a_forecast_without_leans_is_refused() -> None:
    with pytest.raises(ValidationError, match="leans"):
        LstmForecast.model_validate(told().model_dump(mode="json", exclude={"leans"}))
