"""From raw outputs to answers: formulas by hand, and the invariants for any finite outputs."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tiny_bundles import LSTM_WIDTHS, card_content

from fusiontrade.inference.contract import CHANCES, CalibrationState, CandleColumns, ForecastItem, LstmForecast
from fusiontrade.inference.intervals import NARROWEST, WIDEST
from fusiontrade.inference.probabilities import FARTHEST, SHARPEST, STEEPEST
from serving.card import ModelCard
from serving.forecasting import (
    Newest,
    Subject,
    class_probabilities,
    lstm_answers,
    lstm_forecast,
    lstm_forecasts,
    patchtst_forecasts,
    widened,
)

NO_CANDLES = CandleColumns(time=[], open=[], high=[], low=[], close=[])
EURO: Subject = ("EURUSD=X", "fx")


def card(kind: str = "lstm", **changes: Any) -> ModelCard:
    return ModelCard.model_validate_json(json.dumps(card_content(kind, "1h") | changes)).stamped(b"graph")


def outputs(rows: int = 1, **given_values: Any) -> dict[str, np.ndarray]:
    raw = {name: np.zeros((rows, width) if width else rows, np.float32) for name, width in LSTM_WIDTHS.items()}
    return raw | {name: np.asarray(values, np.float32) for name, values in given_values.items()}


def asked(symbol: str = "EURUSD=X", **changes: Any) -> ForecastItem:
    return ForecastItem.model_validate({"symbol": symbol, "timeframe": "1h", "candles": NO_CANDLES} | changes)


def newest(close: Any, atr: Any, unrest: Any = 0.0) -> Newest:
    """Of each close, or of one; an ATR and an unrest that are one number are those of all."""
    price = np.atleast_1d(np.asarray(close, np.float64))
    return Newest(price, np.broadcast_to(atr, price.shape), np.broadcast_to(unrest, price.shape))


def forecast(
    raw: dict[str, np.ndarray], close: float = 1.0, atr: float = 0.1, *, by: ModelCard | None = None
) -> LstmForecast:
    return lstm_forecast(by or card(), raw, newest(close, atr), asked())


def test_prices_and_interval_follow_from_close_and_atr() -> None:
    raw = outputs(change=[0.5], quantiles=[[-1.0, -0.5, 0.0, 0.5, 1.0]], log_range=[math.log(3.0)])
    answer = forecast(raw, 100.0, 2.0)
    assert answer.predicted_price == pytest.approx(101.0)
    assert answer.interval_raw == pytest.approx((98.0, 102.0))
    assert answer.interval_90 == pytest.approx((98.0 - 0.05 * 4.0, 102.0 + 0.1 * 4.0))
    assert answer.expected_range == pytest.approx(6.0, rel=1e-6)
    assert (answer.abstain_below, answer.abstain_above, answer.change_scale) == (0.48, 0.52, 0.4)
    assert answer.direction_accuracy == pytest.approx(53.0)
    assert answer.horizon_bars == 4
    assert (answer.model.id, answer.model.version) == ("lstm-1h", card().version)


def test_a_symbol_that_never_gets_a_vote_shows_no_accuracy_of_votes() -> None:
    silent = card(directions={"any": rule(1.0, 0.0, 1.0), "EURUSD=X": rule(1.0, 0.0, 1.0)})
    assert forecast(outputs(), by=silent).direction_accuracy is None
    voting = card(directions={"any": rule(1.0, 0.0, 1.0), "EURUSD=X": rule(1.0, 0.48, 0.52)})
    assert forecast(outputs(), by=voting).direction_accuracy == pytest.approx(53.0)


def test_each_head_goes_through_its_own_map() -> None:
    maps = card_content("lstm", "1h")["calibration"] | {
        "touch_down_4": {"kind": "isotonic", "x": [0.0], "y": [0.01]},
        "touch_either_1": {"kind": "isotonic", "x": [0.0], "y": [0.9]},
        "win_short": {"kind": "platt", "a": 0.0, "b": 0.0},
    }
    rules = {"any": rule(0.0, 0.0, 1.0), "EURUSD=X": rule(2.0, 0.4, 0.6)}
    raw = outputs(direction=[1.0], touch=[[1.0] * 15], win=[[1.0, 1.0]])
    answer = forecast(raw, by=card(calibration=maps, directions=rules))
    plain = 1 / (1 + math.exp(-1))
    assert answer.probability_up == pytest.approx(1 / (1 + math.exp(-2)))
    assert answer.touch_up == pytest.approx([plain] * 5)
    assert answer.touch_down == pytest.approx([plain] * 4 + [0.01])
    assert answer.touch_either == pytest.approx([0.9, *[plain] * 4])
    assert (answer.win_long, answer.win_short) == (pytest.approx(plain), 0.5)


def test_a_touch_farther_away_is_never_likelier() -> None:
    raw = outputs(touch=[[0.0, 1.0, -1.0, 2.0, -2.0, 3.0, 2.0, 1.0, 0.0, 5.0, 9.0, 1.0, 2.0, 0.0, 0.5]])
    answer = forecast(raw)
    assert np.diff(answer.touch_up).max() <= 0
    assert answer.touch_up[3] == answer.touch_up[2]
    assert answer.touch_down[4] == answer.touch_down[3] == 0.5
    assert np.diff(answer.touch_either).max() <= 0


def test_either_side_is_no_less_than_one_side_and_no_more_than_both() -> None:
    probability = np.array([[0.3, 0.2, 0.2, 0.1, 0.01], [0.4, 0.1, 0.1, 0.05, 0.02], [0.9, 0.15, 0.1, 0.01, 0.001]])
    answer = forecast(outputs(touch=[np.log(probability / (1 - probability)).ravel()]))
    assert answer.touch_either == pytest.approx([0.7, 0.2, 0.2, 0.1, 0.02], rel=1e-6)


def test_a_trade_wins_no_more_often_than_its_target_is_touched() -> None:
    touch = np.full((1, 15), 2.0)
    touch[0, 2], touch[0, 7] = -1.0, 1.0  # 2 ATR above, below
    answer = forecast(outputs(touch=touch, win=[[0.5, 0.5]]))
    assert answer.win_long == answer.touch_up[2] == pytest.approx(1 / (1 + math.e))
    assert answer.win_short == pytest.approx(1 / (1 + math.exp(-0.5)))


def rule(slope: float, below: float, above: float, offset: float = 0.0) -> dict[str, Any]:
    calibration = {"kind": "platt", "a": slope, "b": offset}
    return {"calibration": calibration, "abstain_below": below, "abstain_above": above}


def moves(lower: float, upper: float, offset: float = 0.0, slope: float = 0.0, bend: float = 0.0) -> dict[str, Any]:
    steps = {"offsets": [offset] * CHANCES, "slopes": [slope] * CHANCES, "bends": [bend] * CHANCES}
    return {"lower": lower, "upper": upper} | steps


def test_direction_and_adjustments_follow_the_symbol_else_its_market_else_any() -> None:
    chosen = card(
        directions={
            "any": rule(0.0, 0.0, 1.0, offset=0.2),
            "fx": rule(1.0, 0.4, 0.6),
            "EURUSD=X": rule(3.0, 0.45, 0.55),
        },
        adjustments={"any": moves(0.1, 0.2), "fx": moves(0.3, 0.4, 0.5), "EURUSD=X": moves(-0.1, -0.2, -0.5)},
    )
    subjects: list[Subject] = [EURO, ("GBPUSD=X", "fx"), ("BTC-USD", "crypto"), ("EURUSD=X", None), ("GBPUSD=X", None)]
    raw = outputs(5, direction=[0.3] * 5, quantiles=[[-1.0, -0.5, 0.0, 0.5, 1.0]] * 5)
    answers = lstm_answers(chosen, raw, newest([100.0] * 5, 1.0), subjects)
    own, kind, other = (1 / (1 + math.exp(-x)) for x in (0.9, 0.3, 0.2))
    assert answers.probability_up == pytest.approx([own, kind, other, own, other])
    assert answers.abstain_above.tolist() == [0.55, 0.6, 1.0, 0.55, 1.0]
    assert answers.abstain_below.tolist() == [0.45, 0.4, 0.0, 0.45, 0.0]
    assert answers.vote.tolist() == [1, 0, 0, 1, 0]
    assert answers.low == pytest.approx([99.2, 98.4, 98.8, 99.2, 98.8])
    assert answers.high == pytest.approx([100.6, 101.8, 101.4, 100.6, 101.4])
    assert answers.raw_low.tolist() == [99.0] * 5
    lower, higher = (1 / (1 + math.exp(-x)) for x in (-0.5, 0.5))
    assert answers.touch_up[:, 0] == pytest.approx([lower, higher, 0.5, lower, 0.5])
    assert answers.win_short == pytest.approx([lower, higher, 0.5, lower, 0.5])


def test_a_vote_lies_outside_its_band_and_never_on_it() -> None:
    chosen = card(directions={"any": rule(1.0, 0.0, 1.0), "EURUSD=X": rule(1.0, 0.4, 0.6)})
    logits = [math.log(p / (1 - p)) for p in (0.39, 0.41, 0.5, 0.59, 0.61)]
    answers = lstm_answers(chosen, outputs(5, direction=logits), newest([1.0] * 5, 0.1), [EURO] * 5)
    assert answers.vote.tolist() == [-1, 0, 0, 0, 1]
    always = card(directions={"any": rule(1.0, 0.0, 1.0), "EURUSD=X": rule(1.0, 0.0, 1.0)})
    sure = lstm_answers(always, outputs(2, direction=[-1e30, 1e30]), newest([1.0] * 2, 0.1), [EURO] * 2)
    assert sure.probability_up.tolist() == [0.0, 1.0]
    assert sure.vote.tolist() == [0, 0]


def test_a_kind_of_market_without_a_rule_never_gets_a_vote_on_what_others_proved() -> None:
    chosen = card(directions={"any": rule(0.0, 0.0, 1.0, offset=0.1), "crypto": rule(1.0, 0.4, 0.6)})
    asked_by = [("AAPL", "equity"), ("AAPL", None), ("ETH-USD", "crypto")]
    answers = lstm_answers(chosen, outputs(3, direction=[2.0] * 3), newest([1.0] * 3, 0.1), asked_by)
    assert answers.vote.tolist() == [0, 0, 1]
    assert answers.probability_up == pytest.approx([1 / (1 + math.exp(-x)) for x in (0.1, 0.1, 2.0)])
    told = lstm_forecast(chosen, outputs(direction=[2.0]), newest(1.0, 0.1), asked("AAPL", market="equity"))
    assert (told.abstain_below, told.abstain_above, told.direction_accuracy) == (0.0, 1.0, None)


def test_a_state_of_this_bundle_is_used_and_sent_back_and_another_is_not() -> None:
    raw = outputs(quantiles=[[-1.0, -0.5, 0.0, 0.5, 1.0]])
    offsets = tuple(0.1 * (8 - head) for head in range(CHANCES))
    by = card(centres=[-1.0] * CHANCES)
    steps = {"offsets": offsets, "slopes": (0.0,) * (CHANCES - 1) + (0.3,), "bends": (0.1,) * CHANCES}  # no bend at 1
    state = CalibrationState(version=by.version, lower=0.25, upper=-0.1, **steps, revision=3, as_of=9)
    answer = lstm_forecast(by, raw, newest(100.0, 1.0), asked(state=state))
    assert answer.state == state
    assert answer.interval_raw == (99.0, 101.0)
    assert answer.interval_90 == pytest.approx((98.5, 100.8))
    assert answer.touch_up == pytest.approx([1 / (1 + math.exp(-offset)) for offset in offsets[:5]])
    assert answer.win_long == pytest.approx(1 / (1 + math.exp(0.7)))
    assert answer.win_short == pytest.approx(1 / (1 + math.exp(0.8 - 0.3)))
    assert answer.leans == (1.0,) * CHANCES

    usual = card(centres=[0.0] * CHANCES)
    same = state.model_copy(update={"version": usual.version})
    bent = lstm_forecast(usual, raw, newest(100.0, 1.0), asked(state=same))
    assert bent.touch_up == pytest.approx([1 / (1 + math.exp(0.1 - offset)) for offset in offsets[:5]])

    older = state.model_copy(update={"version": "0123456789ab"})
    own = card(adjustments={"any": moves(0.05, 0.1), "fx": moves(0.5, 0.5, 0.25, -0.2, 0.05)})
    answer = lstm_forecast(own, raw, newest(100.0, 1.0), asked(state=older, market="fx"))
    assert answer.state == CalibrationState(
        version=own.version,
        lower=0.5,
        upper=0.5,
        offsets=(0.25,) * CHANCES,
        slopes=(-0.2,) * CHANCES,
        bends=(0.05,) * CHANCES,
        revision=0,
        as_of=2 + 3_600_000,
    )
    assert answer.interval_90 == pytest.approx((98.0, 102.0))


def test_class_probabilities_are_up_flat_down() -> None:
    raw = {"classes": np.array([[2.0, 0.0, -2.0]], np.float32)}
    (answer,) = patchtst_forecasts(card("patchtst"), raw)
    assert answer.up > answer.flat > answer.down
    assert answer.up + answer.flat + answer.down == pytest.approx(1.0)
    assert not answer.abstains
    (silent,) = patchtst_forecasts(card("patchtst", abstains=True), raw)
    assert silent.abstains
    assert (silent.up, silent.down) == (answer.up, answer.down)


def test_a_batch_is_answered_as_each_item_alone() -> None:
    rng = np.random.default_rng(3)
    raw = {
        name: rng.standard_normal((6, width) if width else 6).astype(np.float32) for name, width in LSTM_WIDTHS.items()
    }
    own = card(adjustments={"any": moves(0.05, 0.1), "crypto": moves(0.2, 0.3, -0.3)}, unrest_exponent=-0.25)
    state = CalibrationState(version=own.version, **moves(0.1, 0.2, 0.4, 0.2, -0.05), revision=1, as_of=1)
    items = [asked(), asked("BTC-USD", market="crypto"), asked(state=state), asked("AAPL", market="equity")] + [
        asked()
    ] * 2
    close, atr, unrest = rng.uniform(50, 60, 6), rng.uniform(0.5, 1, 6), rng.normal(0, 0.5, 6)
    together = lstm_forecasts(own, raw, Newest(close, atr, unrest), items)
    for row, item in enumerate(items):
        one = Newest([close[row]], [atr[row]], [unrest[row]])
        alone = lstm_forecast(own, {name: values[row : row + 1] for name, values in raw.items()}, one, item)
        assert together[row] == alone
    assert [one.state.offsets[0] for one in together] == [0.0, -0.3, 0.4, 0.0, 0.0, 0.0]


def test_a_card_of_the_other_kind_is_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match="patchtst-1h is no lstm"):
        lstm_answers(card("patchtst"), outputs(), newest(1.0, 0.1), [EURO])
    with pytest.raises(ValueError, match="patchtst-1h is no lstm"):
        forecast(outputs(), by=card("patchtst"))


VALUE = st.floats(-1e4, 1e4, width=32)
SIDE = st.floats(NARROWEST, WIDEST)


@settings(max_examples=60, deadline=None)
@given(
    flat=arrays.arrays(np.float32, (3, 25), elements=VALUE),
    close=arrays.arrays(np.float64, 3, elements=st.floats(1e-3, 1e6)),
    share=st.floats(1e-7, 0.5),
    sides=st.tuples(SIDE, SIDE),
    offsets=arrays.arrays(np.float64, CHANCES, elements=st.floats(-FARTHEST, FARTHEST)),
    slopes=arrays.arrays(np.float64, CHANCES, elements=st.floats(-STEEPEST, STEEPEST)),
    bends=arrays.arrays(np.float64, CHANCES, elements=st.floats(-SHARPEST, SHARPEST)),
    unrest=st.tuples(st.floats(-1.0, 1.0), arrays.arrays(np.float64, 3, elements=st.floats(-10.0, 10.0))),
)
def test_any_finite_output_gives_a_lawful_answer(
    flat: np.ndarray,
    close: np.ndarray,
    share: float,
    sides: tuple[float, float],
    offsets: np.ndarray,
    slopes: np.ndarray,
    bends: np.ndarray,
    unrest: tuple[float, np.ndarray],
) -> None:
    raw = {
        "direction": flat[:, 0],
        "change": flat[:, 1],
        "quantiles": flat[:, 2:7],
        "touch": flat[:, 7:22],
        "win": flat[:, 22:24],
        "log_range": flat[:, 24],
    }
    own = moves(*sides) | {"offsets": offsets.tolist(), "slopes": slopes.tolist(), "bends": bends.tolist()}
    chosen = card(adjustments={"any": own}, unrest_exponent=unrest[0])
    answers = lstm_answers(chosen, raw, Newest(close, close * share, unrest[1]), [EURO] * 3)
    up, down, either = answers.touch_up, answers.touch_down, answers.touch_either
    for probabilities in (answers.probability_up, answers.win_long, answers.win_short, up, down, either):
        assert probabilities.min() >= 0.0
        assert probabilities.max() <= 1.0
    for probabilities in (up, down, either):
        assert (np.diff(probabilities, axis=1) <= 0).all()
    assert (either >= np.maximum(up, down)).all()
    assert (either <= np.minimum(up + down, 1.0)).all()
    assert (answers.win_long <= up[:, 2]).all()
    assert (answers.win_short <= down[:, 2]).all()
    assert (np.diff(answers.quantiles, axis=1) >= 0).all()
    for low, high in ((answers.low, answers.high), (answers.raw_low, answers.raw_high)):
        assert (low > 0).all()
        assert (low < high).all()
    assert (answers.predicted_price > 0).all()
    assert np.isfinite(answers.expected_range).all()
    for row in range(3):
        one = {name: values[row : row + 1] for name, values in raw.items()}
        forecast(one, float(close[row]), float(close[row] * share), by=chosen)


def test_rows_of_a_batch_do_not_touch_each_other() -> None:
    random = np.random.default_rng(3)
    raw = {n: random.standard_normal((6, w) if w else 6).astype(np.float32) for n, w in LSTM_WIDTHS.items()}
    close, atr, unrest = np.linspace(1, 2, 6), np.linspace(0.1, 0.2, 6), np.linspace(-1.0, 1.0, 6)
    rules = {"any": rule(0.0, 0.0, 1.0), "fx": rule(1.0, 0.4, 0.6), "crypto": rule(2.0, 0.3, 0.7)}
    chosen = card(directions=rules, unrest_exponent=0.2)
    subjects: list[Subject] = [EURO, ("BTC-USD", "crypto")] * 3
    together = lstm_answers(chosen, raw, Newest(close, atr, unrest), subjects)
    for row in range(6):
        one = {name: values[row : row + 1] for name, values in raw.items()}
        own = Newest(*(column[row : row + 1] for column in (close, atr, unrest)))
        alone = lstm_answers(chosen, one, own, subjects[row : row + 1])
        for name, values in vars(alone).items():
            np.testing.assert_array_equal(values[0], vars(together)[name][row], err_msg=name)


def test_what_goes_over_the_wire_is_what_the_vectorised_answers_say() -> None:
    random = np.random.default_rng(5)
    raw = {n: random.standard_normal((1, w) if w else 1).astype(np.float32) for n, w in LSTM_WIDTHS.items()}
    answer, wire = lstm_answers(card(), raw, newest(3.0, 0.2), [EURO]), forecast(raw, 3.0, 0.2)
    for name in ("probability_up", "change", "predicted_price", "expected_range", "win_long", "win_short"):
        assert getattr(wire, name) == getattr(answer, name)[0]
    for name in ("touch_up", "touch_down", "touch_either"):
        assert getattr(wire, name) == getattr(answer, name)[0].tolist()
    assert wire.interval_90 == (answer.low[0], answer.high[0])
    assert wire.interval_raw == (answer.raw_low[0], answer.raw_high[0])


def test_vectorised_classes_sum_to_one() -> None:
    logits = np.random.default_rng(4).standard_normal((50, 3)).astype(np.float32) * 30
    assert class_probabilities(card("patchtst"), {"classes": logits}).sum(axis=1) == pytest.approx(np.ones(50))


# --- widths -----------------------------------------------------------------------------------------------------------

ENDS = arrays.arrays(np.float64, 4, elements=st.floats(-1e4, 1e4))
UNREST = arrays.arrays(np.float64, 4, elements=st.floats(-10.0, 10.0))


@given(ENDS, ENDS, UNREST, st.sampled_from([0.0, -0.0]))
def test_an_exponent_of_zero_leaves_intervals_as_they_are_to_the_last_bit(
    one: np.ndarray, other: np.ndarray, unrest: np.ndarray, exponent: float
) -> None:
    low, high = np.minimum(one, other) + 0.0, np.maximum(one, other) + 0.0  # a sum has no negative zero
    found = widened(low, high, unrest, exponent)
    assert [each.tobytes() for each in found] == [low.tobytes(), high.tobytes()]
    usual = widened(low, high, 0.0 * unrest, 0.3)
    assert [each.tobytes() for each in usual] == [low.tobytes(), high.tobytes()]


@given(ENDS, ENDS, UNREST, st.floats(-1.0, 1.0))
def test_a_width_is_multiplied_by_the_power_of_unrest_around_a_middle_that_stays(
    one: np.ndarray, other: np.ndarray, unrest: np.ndarray, exponent: float
) -> None:
    low, high = np.minimum(one, other), np.maximum(one, other)
    below, above = widened(low, high, unrest, exponent)
    width = (high - low) * np.exp(exponent * unrest)
    assert above - below == pytest.approx(width, rel=1e-9, abs=1e-7)
    assert below + above == pytest.approx(low + high, rel=1e-9, abs=1e-7 * width.max() + 1e-9)
    assert (below <= above).all()


def test_a_forecast_on_a_wild_day_is_wider_by_its_cards_exponent_and_nothing_else_changes() -> None:
    raw = outputs(change=[0.5], quantiles=[[-1.0, -0.5, 0.0, 0.5, 2.0]])
    chosen = card(unrest_exponent=0.3, adjustments={"any": moves(0.1, 0.2)})
    wild = lstm_forecast(chosen, raw, newest(100.0, 2.0, math.log(2.0)), asked())
    half = 3.0 * 2.0**0.3
    assert wild.interval_raw == pytest.approx((101.0 - half, 101.0 + half))
    assert wild.interval_90 == pytest.approx((101.0 - half - 0.1 * 2 * half, 101.0 + half + 0.2 * 2 * half))
    usual = lstm_forecast(chosen, raw, newest(100.0, 2.0), asked())
    assert usual.interval_raw == (98.0, 104.0)
    ends = {"interval_raw", "interval_90"}
    assert wild.model_dump(exclude=ends) == usual.model_dump(exclude=ends)
