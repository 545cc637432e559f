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

from serving.card import ModelCard
from serving.forecasting import class_probabilities, lstm_answers, lstm_forecasts, patchtst_forecasts


def card(kind: str = "lstm", **changes: Any) -> ModelCard:
    return ModelCard.model_validate_json(json.dumps(card_content(kind, "1h") | changes)).stamped(b"graph")


def outputs(rows: int = 1, **given_values: Any) -> dict[str, np.ndarray]:
    raw = {name: np.zeros((rows, width) if width else rows, np.float32) for name, width in LSTM_WIDTHS.items()}
    return raw | {name: np.asarray(values, np.float32) for name, values in given_values.items()}


def test_prices_and_interval_follow_from_close_and_atr() -> None:
    raw = outputs(change=[0.5], quantiles=[[-1.0, -0.5, 0.0, 0.5, 1.0]], log_range=[math.log(3.0)])
    (answer,) = lstm_forecasts(card(), raw, [100.0], [2.0])
    assert answer.predicted_price == pytest.approx(101.0)
    assert answer.interval_90 == pytest.approx((100 + (-1 - 0.1) * 2, 100 + (1 + 0.2) * 2))
    assert answer.expected_range == pytest.approx(6.0, rel=1e-6)
    assert (answer.abstain_below, answer.abstain_above, answer.change_scale) == (0.48, 0.52, 0.4)
    assert answer.direction_accuracy == pytest.approx(53.0)
    assert answer.horizon_bars == 4
    assert (answer.model.id, answer.model.version) == ("lstm-1h", card().version)


def test_each_head_goes_through_its_own_map() -> None:
    maps = card_content("lstm", "1h")["calibration"] | {
        "direction": {"kind": "platt", "a": 2.0, "b": 0.0},
        "touch_down_4": {"kind": "isotonic", "x": [0.0], "y": [0.01]},
        "win_short": {"kind": "platt", "a": 0.0, "b": 0.0},
    }
    raw = outputs(direction=[1.0], touch=[[1.0] * 10], win=[[1.0, 1.0]])
    (answer,) = lstm_forecasts(card(calibration=maps), raw, [1.0], [0.1])
    plain = 1 / (1 + math.exp(-1))
    assert answer.probability_up == pytest.approx(1 / (1 + math.exp(-2)))
    assert answer.touch_up == pytest.approx([plain] * 5)
    assert answer.touch_down == pytest.approx([plain] * 4 + [0.01])
    assert (answer.win_long, answer.win_short) == (pytest.approx(plain), 0.5)


def test_a_touch_farther_away_is_never_likelier() -> None:
    raw = outputs(touch=[[0.0, 1.0, -1.0, 2.0, -2.0, 3.0, 2.0, 1.0, 0.0, 5.0]])
    (answer,) = lstm_forecasts(card(), raw, [1.0], [0.1])
    assert np.diff(answer.touch_up).max() <= 0
    assert answer.touch_up[3] == answer.touch_up[2]
    assert answer.touch_down[4] == answer.touch_down[3] == 0.5


def test_class_probabilities_are_up_flat_down() -> None:
    (answer,) = patchtst_forecasts(card("patchtst"), {"classes": np.array([[2.0, 0.0, -2.0]], np.float32)})
    assert answer.up > answer.flat > answer.down
    assert answer.up + answer.flat + answer.down == pytest.approx(1.0)


def test_a_card_of_the_other_kind_is_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match="patchtst-1h is no lstm"):
        lstm_answers(card("patchtst"), outputs(), [1.0], [0.1])
    with pytest.raises(ValueError, match="patchtst-1h is no lstm"):
        lstm_forecasts(card("patchtst"), outputs(), [1.0], [0.1])


ANY = st.floats(-1e4, 1e4, width=32)


@settings(max_examples=60, deadline=None)
@given(
    flat=arrays.arrays(np.float32, (3, 20), elements=ANY),
    close=arrays.arrays(np.float64, 3, elements=st.floats(1e-3, 1e6)),
    share=st.floats(1e-7, 0.5),
    shift=st.floats(-5, 5),
)
def test_any_finite_output_gives_a_lawful_answer(
    flat: np.ndarray, close: np.ndarray, share: float, shift: float
) -> None:
    raw = {
        "direction": flat[:, 0],
        "change": flat[:, 1],
        "quantiles": flat[:, 2:7],
        "touch": flat[:, 7:17],
        "win": flat[:, 17:19],
        "log_range": flat[:, 19],
    }
    chosen = card(interval={"lower_shift": shift, "upper_shift": shift})
    answers = lstm_answers(chosen, raw, close, close * share)
    for probabilities in (answers.probability_up, answers.win_long, answers.win_short, answers.touch_up):
        assert probabilities.min() >= 0.0
        assert probabilities.max() <= 1.0
    assert (np.diff(answers.touch_up, axis=1) <= 0).all()
    assert (np.diff(answers.touch_down, axis=1) <= 0).all()
    assert (np.diff(answers.quantiles, axis=1) >= 0).all()
    assert (answers.low > 0).all()
    assert (answers.low < answers.high).all()
    assert (answers.predicted_price > 0).all()
    assert np.isfinite(answers.expected_range).all()
    assert len(lstm_forecasts(chosen, raw, close, close * share)) == 3


def test_rows_of_a_batch_do_not_touch_each_other() -> None:
    random = np.random.default_rng(3)
    raw = {n: random.standard_normal((6, w) if w else 6).astype(np.float32) for n, w in LSTM_WIDTHS.items()}
    close, atr = np.linspace(1, 2, 6), np.linspace(0.1, 0.2, 6)
    alone = [
        lstm_forecasts(card(), {n: v[i : i + 1] for n, v in raw.items()}, close[i : i + 1], atr[i : i + 1])[0]
        for i in range(6)
    ]
    assert lstm_forecasts(card(), raw, close, atr) == alone


def test_vectorised_classes_sum_to_one() -> None:
    logits = np.random.default_rng(4).standard_normal((50, 3)).astype(np.float32) * 30
    assert class_probabilities(card("patchtst"), {"classes": logits}).sum(axis=1) == pytest.approx(np.ones(50))
