"""The engine: order, batching, and faults that stay with their item."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tiny_bundles import build_bundle, candles, card_content, item, lstm_graph

from fusiontrade.errors import BundleRefused
from fusiontrade.inference import probabilities
from fusiontrade.inference.contract import CHANCES, ForecastItem, ForecastRequest, ForecastResponse, ItemForecast
from fusiontrade.inference.intervals import corrected
from fusiontrade.market.timeframes import Timeframe
from serving.engine import Engine, load_engine
from serving.features import (
    VOLATILITY,
    atr,
    indicators,
    lstm_inputs,
    patchtst_inputs,
    slots,
    unrest_of,
    usual_week,
    volatility_columns,
)
from serving.forecasting import Newest, lstm_forecast, patchtst_forecasts


def ask(engine: Engine, *items: dict[str, Any]) -> list[ItemForecast]:
    answer = engine.answer(ForecastRequest.model_validate_json(json.dumps({"items": list(items)})))
    assert ForecastResponse.model_validate_json(answer.model_dump_json()) == answer
    return answer.items


@pytest.fixture(scope="module")
def engine(bundles: Path) -> Engine:
    return load_engine(bundles)


def test_many_symbols_and_timeframes_are_answered_in_order(engine: Engine) -> None:
    asked = [
        candles(symbol, timeframe, seed=seed)
        for seed, (symbol, timeframe) in enumerate(
            [("EURUSD=X", "4h"), ("BTC-USD", "15m"), ("EURUSD=X", "1h"), ("EURUSD=X", "15m"), ("EURUSD=X", "30m")]
        )
    ]
    answers = ask(engine, *map(item, asked))
    assert [(a.symbol, a.timeframe) for a in answers] == [(f.symbol, f.timeframe) for f in asked]
    for frame, answer in zip(asked, answers, strict=True):
        assert answer.error is None
        assert answer.warnings == []
        assert answer.bar_close == frame.close_time[-1]
        assert answer.current_price == frame.close[-1]
        assert answer.atr == pytest.approx(atr(frame)[-1], rel=1e-9)
        assert answer.lstm is not None
        assert answer.patchtst is not None
        assert answer.lstm.model.id == f"lstm-{frame.timeframe}"
        assert answer.patchtst.model.id == f"patchtst-{frame.timeframe}"


def test_an_answer_equals_features_graph_and_forecasting_one_after_the_other(engine: Engine) -> None:
    frame = candles(seed=5)
    bundle = engine.bundles["lstm", frame.timeframe]
    features, calendar = lstm_inputs(frame)
    assert bundle.card.scaler is not None
    usual = usual_week(bundle.card.season, frame, None)
    volatility = bundle.card.volatility_scaler.apply(volatility_columns(frame, usual)[-1:])
    inputs = {"features": bundle.card.scaler.apply(features), "calendar": calendar, "volatility": volatility}
    asked = ForecastItem.model_validate_json(json.dumps(item(frame)))
    newest = Newest(frame.close[-1:], atr(frame)[-1:], unrest_of(features[:, -1]))
    expected = lstm_forecast(bundle.card, bundle.graph.run(inputs), newest, asked)
    (answer,) = ask(engine, item(frame))
    assert answer.lstm is not None
    assert answer.lstm.model == expected.model
    assert answer.lstm.state == expected.state
    told, wanted = (one.model_dump(exclude={"model", "state"}) for one in (answer.lstm, expected))
    for name, value in wanted.items():
        assert told[name] == pytest.approx(value, rel=1e-9), name

    candle_windows, ahead = patchtst_inputs(frame)
    classes = engine.bundles["patchtst", frame.timeframe]
    raw = classes.graph.run({"candles": candle_windows, "calendar": ahead, "volatility": volatility})
    (expected_classes,) = patchtst_forecasts(classes.card, raw)
    assert answer.patchtst is not None
    assert answer.patchtst.model_dump(exclude={"model"}) == pytest.approx(
        expected_classes.model_dump(exclude={"model"}), rel=1e-9
    )


def seasonal_graph() -> bytes:
    """An LSTM's graph whose predicted change is the scaled column ``usual_now`` and nothing else."""
    model = onnx.load_from_string(lstm_graph())
    (last,) = [node for node in model.graph.node if "change" in node.output]
    last.output[:] = ["no_change"]
    place = onnx.numpy_helper.from_array(np.array(VOLATILITY.index("usual_now"), np.int64), "usual_now")
    model.graph.initializer.append(place)
    model.graph.node.append(onnx.helper.make_node("Gather", ["volatility", "usual_now"], ["change"], axis=1))
    return model.SerializeToString()


def test_the_season_of_the_symbol_or_else_of_its_market_or_else_of_any_is_used(tmp_path: Path) -> None:
    weeks = {"any": 1.0, "fx": 2.0, "EURUSD=X": 3.0}
    season = {name: [usual] * 168 for name, usual in weeks.items()}
    scaler = card_content("lstm", "1h")["volatility_scaler"] | {"center": [1.0] * 28, "scale": [2.0] * 28}
    build_bundle(tmp_path, graph=seasonal_graph(), season=season, volatility_scaler=scaler)
    asked = [("EURUSD=X", "fx"), ("EURUSD=X", None), ("GBPUSD=X", "fx"), ("GBPUSD=X", None), ("BTC-USD", "crypto")]
    answers = ask(load_engine(tmp_path), *[item(candles(symbol)) | {"market": market} for symbol, market in asked])
    changes = [answer.lstm.change for answer in answers if answer.lstm is not None]
    ordinary = usual_week({"any": np.ones(168)}, candles("GBPUSD=X"), None)  # these candles' own times of day
    now = ordinary[slots(candles().time[-1:], Timeframe.H1)[0]]
    usual = [3.0, 3.0, 2.0 * now, now, now]
    assert changes == pytest.approx([(np.log(one) - 1) / 2 for one in usual], abs=1e-6)


def test_an_items_state_moves_its_interval_and_probabilities_and_is_sent_back(engine: Engine) -> None:
    version = engine.bundles["lstm", candles().timeframe].card.version
    state: dict[str, Any] = {
        "version": version,
        "lower": 0.5,
        "upper": -0.25,
        "revision": 7,
        "as_of": 1_704_000_000_000,
    }
    state |= {"offsets": (0.5,) * CHANCES, "slopes": (0.25,) * CHANCES, "bends": (-0.05,) * CHANCES}
    plain, moved, stale = ask(
        engine,
        item(candles()),
        item(candles()) | {"state": state},
        item(candles()) | {"state": state | {"version": "0123456789ab"}},
    )
    assert plain.lstm is not None
    assert moved.lstm is not None
    assert stale.lstm is not None
    assert moved.lstm.interval_raw == plain.lstm.interval_raw
    assert moved.lstm.interval_90 == pytest.approx(corrected(*moved.lstm.interval_raw, 0.5, -0.25))
    assert moved.lstm.state.model_dump() == state
    steeper = probabilities.moved(plain.lstm.touch_up[0], plain.lstm.leans[0], 0.5, 0.25, -0.05)
    assert moved.lstm.touch_up[0] == pytest.approx(steeper)
    assert plain.lstm.interval_90 == pytest.approx(corrected(*plain.lstm.interval_raw, 0.05, 0.1))
    assert plain.lstm.state.model_dump() == {
        "version": version,
        "lower": 0.05,
        "upper": 0.1,
        "offsets": (0.0,) * CHANCES,
        "slopes": (0.0,) * CHANCES,
        "bends": (0.0,) * CHANCES,
        "revision": 0,
        "as_of": 2 + 3_600_000,
    }
    assert stale.lstm == plain.lstm


def test_a_state_that_knows_an_outcome_after_the_newest_bar_is_not_used(engine: Engine) -> None:
    version, newest = engine.bundles["lstm", candles().timeframe].card.version, int(candles().close_time[-1])
    state = {"version": version, "lower": 0.5, "upper": 0.5, "revision": 7}
    state |= {"offsets": (0.5,) * CHANCES, "slopes": (0.0,) * CHANCES}
    asked = [item(candles()) | {"state": state | {"as_of": as_of}} for as_of in (newest, newest + 1)]
    plain, known, ahead = (answer.lstm for answer in ask(engine, item(candles()), *asked))
    assert plain is not None
    assert known is not None
    assert known.state.lower == 0.5
    assert ahead == plain


def test_a_state_of_an_older_client_without_bends_is_used_and_bends_nothing(engine: Engine) -> None:
    version = engine.bundles["lstm", candles().timeframe].card.version
    older = {"version": version, "lower": 0.5, "upper": 0.5, "revision": 7, "as_of": 1_704_000_000_000}
    older |= {"offsets": [0.5] * CHANCES, "slopes": [0.25] * CHANCES}
    today = older | {"bends": [0.0] * CHANCES}
    one, other = ask(engine, *(item(candles()) | {"state": state} for state in (older, today)))
    assert one == other
    assert one.lstm is not None
    assert one.lstm.state.bends == (0.0,) * CHANCES


def test_an_interval_is_widened_by_the_unrest_of_its_own_newest_bar_alone_or_in_a_batch(tmp_path: Path) -> None:
    """The unrest that training's pool has of the same bar, whatever the card's scaler does to the graph's inputs."""
    scaler = card_content("lstm", "1h")["scaler"] | {"center": [0.1] * 50, "scale": [3.0] * 50}
    plain = load_engine(build_bundle(tmp_path / "plain", scaler=scaler))
    wide = load_engine(build_bundle(tmp_path / "wide", scaler=scaler, unrest_exponent=-0.8))
    frames = [candles(seed=seed, drift=drift) for seed, drift in ((1, 0.0), (2, 0.0), (3, 0.1), (4, 0.0))]
    together, before = (ask(engine, *map(item, frames)) for engine in (wide, plain))
    found = []
    for frame, answer, raw in zip(frames, together, before, strict=True):
        (alone,) = ask(wide, item(frame))
        assert answer.lstm is not None
        assert alone.lstm is not None
        assert raw.lstm is not None
        assert answer.lstm.interval_raw == pytest.approx(alone.lstm.interval_raw, rel=1e-9)
        unrest = float(unrest_of(indicators(frame).scaled[-1]))
        low, high = raw.lstm.interval_raw
        width = (high - low) * np.exp(-0.8 * unrest)
        assert answer.lstm.interval_raw == pytest.approx(((low + high - width) / 2, (low + high + width) / 2), rel=1e-7)
        assert np.diff(answer.lstm.interval_raw) == pytest.approx(width, rel=1e-4)
        found.append(unrest)
    assert np.ptp(found) > 0.05


def test_an_item_answers_the_same_whatever_rides_with_it(engine: Engine) -> None:
    frames = [candles(seed=seed) for seed in range(8)]
    together = ask(engine, *map(item, frames))
    for frame, answer in zip(frames, together, strict=True):
        (alone,) = ask(engine, item(frame))
        assert alone.lstm is not None
        assert answer.lstm is not None
        assert answer.lstm.change == pytest.approx(alone.lstm.change, abs=1e-6)
        assert answer.lstm.touch_up == pytest.approx(alone.lstm.touch_up, abs=1e-6)


def test_bars_before_the_window_change_nothing(engine: Engine) -> None:
    frame = candles(seed=6, bars=1500)
    long, short = ask(engine, item(frame), item(frame.tail(720)))
    assert long.lstm is not None
    assert short.lstm is not None
    assert long.lstm.change == pytest.approx(short.lstm.change, abs=1e-6)


def test_bad_bars_are_their_items_error_and_name_the_fault(engine: Engine) -> None:
    bad = item(candles())
    bad["candles"]["low"][7] = 2.0
    unequal = item(candles())
    unequal["candles"]["open"].pop()
    huge = item(candles())
    huge["candles"]["time"][-1] = 2**70
    future = item(candles())
    future["candles"]["time"] = [t * 1000 for t in future["candles"]["time"]]
    answers = ask(engine, item(candles()), bad, unequal, huge, future)
    assert answers[0].error is None
    assert [a.error.code for a in answers[1:] if a.error] == ["bad_candles"] * 4
    details = [a.error.detail for a in answers[1:] if a.error]
    assert "high below low at 2024-01-01T07:00:00" in details[0]
    assert "differ in length" in details[1]
    assert "64 bits" in details[2]
    assert "between 1970 and 2100" in details[3]


@pytest.mark.parametrize(
    ("column", "price"),
    [("high", 1.7e308), ("low", 5e-324), ("low", 9e-16), ("high", 1.1e15)],
)
def test_a_price_that_nothing_is_traded_at_is_its_items_error_alone(engine: Engine, column: str, price: float) -> None:
    bad = item(candles())
    bad["candles"][column][300:] = [price] * 420
    refused, answered = ask(engine, bad, item(candles()))
    assert refused.error is not None
    assert refused.error.code == "bad_candles"
    assert refused.error.detail == "prices must lie between 1e-15 and 1e+15"
    assert answered.error is None


@pytest.mark.parametrize("volume", [1.1e30, 1e150, 1.7e308])
def test_a_volume_that_no_market_has_is_its_items_error_and_no_models(engine: Engine, volume: float) -> None:
    bad, fair = item(candles(volume=True)), item(candles(volume=True))
    bad["candles"]["volume"][600:] = [volume] * 120
    fair["candles"]["volume"][600:] = [9e29] * 120
    refused, answered = ask(engine, bad, fair)
    assert refused.error is not None
    assert (refused.error.code, refused.error.detail) == ("bad_candles", "volumes must not exceed 1e+30")
    assert answered.error is None


@pytest.mark.parametrize("scale", [1e-14, 1e13])
def test_prices_near_either_bound_are_answered(engine: Engine, scale: float) -> None:
    frame = item(candles())
    for column in ("open", "high", "low", "close"):
        frame["candles"][column] = [price * scale for price in frame["candles"][column]]
    (answer,) = ask(engine, frame)
    assert answer.error is None
    assert answer.warnings == []
    assert answer.lstm is not None
    assert answer.lstm.interval_90[0] > 0


def test_what_a_library_says_of_a_failure_stays_in_the_log(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise ValueError("in /opt/program: https://errors.example.com")

    monkeypatch.setattr("serving.engine.lstm_forecasts", fails)
    (answer,) = ask(engine, item(candles()))
    assert answer.warnings == ["lstm-1h failed: ValueError"]
    assert "/opt/program" in str([vars(record).get("reason") for record in caplog.records])


def test_too_few_bars_is_an_error_with_the_number_needed(engine: Engine) -> None:
    none, few, enough_for_one, enough = ask(engine, *[item(candles(bars=bars)) for bars in (0, 599, 600, 659)])
    for answer, bars in ((none, 0), (few, 599)):
        assert answer.error is not None
        assert answer.error.code == "too_few_bars"
        assert answer.error.detail == f"needs 659 bars, got {bars}"
    assert enough_for_one.error is None
    assert enough_for_one.lstm is None
    assert enough_for_one.patchtst is not None
    assert enough_for_one.warnings == ["lstm-1h needs 659 bars, got 600"]
    assert enough.lstm is not None


def test_a_timeframe_without_models_is_no_model(engine: Engine) -> None:
    answers = ask(engine, item(candles(timeframe="1d")), item(candles()))
    assert answers[0].error is not None
    assert answers[0].error.code == "no_model"
    assert answers[1].error is None


def test_a_missing_kind_is_null_with_a_warning(tmp_path: Path) -> None:
    build_bundle(tmp_path, "lstm")
    (answer,) = ask(load_engine(tmp_path), item(candles()))
    assert answer.error is None
    assert answer.lstm is not None
    assert answer.patchtst is None
    assert answer.warnings == ["no patchtst model is loaded for 1h"]


@pytest.mark.parametrize("behaviour", ["nan", "raises"])
def test_a_model_that_breaks_on_one_window_costs_only_that_item(tmp_path: Path, behaviour: Any) -> None:
    build_bundle(tmp_path, "lstm", behaviour=behaviour)
    engine = load_engine(tmp_path)
    fine, broken, also_fine = ask(engine, *map(item, (candles(seed=1), candles(drift=2.0), candles(seed=2))))
    assert fine.lstm is not None
    assert also_fine.lstm is not None
    assert broken.lstm is None
    assert broken.error is not None
    assert broken.error.code == "model_failed"
    assert broken.error.detail.startswith("lstm-1h failed: ")

    build_bundle(tmp_path, "patchtst")
    (with_other_kind,) = ask(load_engine(tmp_path), item(candles(drift=2.0)))
    assert with_other_kind.error is None
    assert with_other_kind.patchtst is not None
    assert with_other_kind.warnings == [broken.error.detail]


def test_features_that_cannot_be_computed_cost_only_their_item(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise FloatingPointError

    monkeypatch.setattr("serving.preparing.NewestInputs.volatility", fails)
    (answer,) = ask(engine, item(candles()))
    assert answer.error is not None
    assert answer.error.code == "model_failed"
    assert answer.error.detail == "lstm-1h failed: FloatingPointError"


def test_a_symbol_outside_the_universe_is_answered_with_a_warning(engine: Engine) -> None:
    (answer,) = ask(engine, item(candles("DOGE-USD", volume=True)))
    assert answer.lstm is not None
    assert len(answer.warnings) == 2
    assert answer.warnings[0].startswith("lstm-1h was not trained on DOGE-USD")


def test_a_market_that_stands_still_is_answered_with_finite_numbers(engine: Engine) -> None:
    still = item(candles())
    for column in ("open", "high", "low", "close"):
        still["candles"][column] = [1.1] * 720
    (answer,) = ask(engine, still)
    assert answer.error is None
    assert answer.atr == pytest.approx(1.1e-7)
    assert answer.lstm is not None
    assert np.isfinite(answer.lstm.expected_range)


def test_a_refused_bundle_is_listed_and_logged_and_the_others_serve(
    bundles: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        engine = load_engine(bundles)
    assert len(engine.bundles) == 8
    assert [one.folder for one in engine.refused] == ["lstm-1d"]
    assert engine.refused[0].reason.startswith("model.onnx has sha256")
    assert [record.__dict__["bundle"] for record in caplog.records] == ["lstm-1d"]


def test_a_second_bundle_for_the_same_place_is_refused(tmp_path: Path) -> None:
    build_bundle(tmp_path / "a", "lstm").rename(tmp_path / "first")
    build_bundle(tmp_path / "b", "lstm", seed=2).rename(tmp_path / "second")
    (tmp_path / "a").rmdir()
    (tmp_path / "b").rmdir()
    engine = load_engine(tmp_path)
    assert [b.folder.name for b in engine.bundles.values()] == ["first"]
    assert engine.refused[0].reason == "first already serves lstm 1h"


def test_one_bundle_folder_can_be_given_itself(tmp_path: Path) -> None:
    assert len(load_engine(build_bundle(tmp_path)).bundles) == 1


def test_a_folder_where_nothing_can_serve_is_an_error_that_says_why(tmp_path: Path) -> None:
    with pytest.raises(BundleRefused, match="there is none in it"):
        load_engine(tmp_path)
    with pytest.raises(BundleRefused, match="does not exist"):
        load_engine(tmp_path / "nowhere")
    (build_bundle(tmp_path) / "report.json").unlink()
    with pytest.raises(BundleRefused, match=r"lstm-1h: report\.json is in"):
        load_engine(tmp_path)
