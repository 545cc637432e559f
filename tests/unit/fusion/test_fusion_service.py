"""The service from candles to the published answer, over fakes of our own ports."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from fusiontrade.deadline import Deadline
from fusiontrade.errors import (
    BadCandles,
    FusionTradeError,
    InferenceUnavailable,
    InvalidInput,
    NotFound,
    ProviderUnavailable,
    UnknownSymbol,
)
from fusiontrade.fusion.examples import FUSION_EXAMPLE
from fusiontrade.fusion.response import FusionResponse
from fusiontrade.fusion.service import ROLLOVER_NOTE, FusionService, instant_of
from fusiontrade.inference.client import InferenceClient
from fusiontrade.inference.contract import BARS_NEEDED, ItemError
from fusiontrade.market.providers.base import HistoryUnavailable, TimeframeUnavailable
from fusiontrade.market.timeframes import INTRADAY, Timeframe
from tests.support.fusion_fakes import NOON, FakeCandles, FakeEndpoint, answer, bars

BLOCK_KEYS = {
    "lstm", "patchtst", "agreement", "lstm_confidence", "lstm_direction_confidence", "lstm_direction_accuracy",
    "patchtst_confidence", "patchtst_prob_up", "patchtst_prob_flat", "patchtst_prob_down", "current_price",
    "predicted_price", "interval_90", "calibrated_prob_up", "atr", "expected_range", "horizon_bars", "bar_close",
    "touch",
}  # fmt: skip
NEWS_NOTE = "sentiment is null: no news source is configured"


def service(
    candles: FakeCandles | None = None, endpoint: FakeEndpoint | None = None, *, now: int = NOON
) -> FusionService:
    return FusionService(candles or FakeCandles(), InferenceClient(endpoint or FakeEndpoint()), clock=lambda: now)


def wire(response: FusionResponse) -> dict[str, Any]:
    return json.loads(response.model_dump_json(by_alias=True))


def numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for inner in value.values() for number in numbers(inner)]
    if isinstance(value, list):
        return [number for inner in value for number in numbers(inner)]
    return [value] if isinstance(value, (int, float)) and not isinstance(value, bool) else []


def test_answer_has_exactly_the_published_keys() -> None:
    body = wire(service().fused("EURUSD=X"))
    assert set(body) == {
        "symbol", "master_fusion_score", "verdict", "logic", "timeframes", "targets", "reasoning", "sentiment",
        "llm_analysis", "as_of", "market_open", "data_source", "models", "warnings",
    }  # fmt: skip
    assert set(body["logic"]) == {"primary_lstm", "secondary_patchtst", "confluence"}
    assert list(body["timeframes"]) == ["15m", "30m", "1h", "4h"]
    assert all(set(block) == BLOCK_KEYS for block in body["timeframes"].values())
    assert set(body["targets"]) == {
        "tp1", "tp2", "tp3", "sl", "atr", "p_win", "horizon_bars", "entry", "timeframe", "touch"
    }  # fmt: skip
    assert list(body["targets"]["touch"]["up"]) == ["1", "1.5", "2", "3", "4"]
    assert all(set(model) == {"timeframe", "id", "version"} for model in body["models"])


def test_example_of_the_documentation_is_such_an_answer() -> None:
    assert wire(FusionResponse.model_validate(FUSION_EXAMPLE)) == FUSION_EXAMPLE
    assert FUSION_EXAMPLE["targets"]["p_win"] <= FUSION_EXAMPLE["targets"]["touch"]["up"]["2"]  # tp1 has to be touched


def test_complete_answer_carries_the_models_numbers_unchanged() -> None:
    body = wire(service().fused("EURUSD=X"))
    hour = body["timeframes"]["1h"]
    assert (body["symbol"], body["verdict"], body["data_source"]) == ("EURUSD=X", "STRONG BUY", "files")
    assert body["master_fusion_score"] == pytest.approx(55 + 50 * (0.6 * 0.5 + 0.4 * 0.25))
    assert body["logic"] == {"primary_lstm": "BUY", "secondary_patchtst": "BUY", "confluence": True}
    assert (body["as_of"], body["market_open"]) == ("2025-07-31T12:00:00Z", True)
    assert (hour["lstm"], hour["patchtst"], hour["agreement"]) == ("BUY", "BUY", 1.0)
    assert (hour["lstm_confidence"], hour["lstm_direction_confidence"], hour["calibrated_prob_up"]) == (
        0.5,
        0.625,
        0.625,
    )
    assert (hour["lstm_direction_accuracy"], hour["patchtst_confidence"], hour["patchtst_prob_up"]) == (51.5, 0.25, 0.5)
    assert (hour["current_price"], hour["atr"], hour["horizon_bars"]) == (2.0, 0.02, 4)
    assert hour["interval_90"] == pytest.approx([1.97, 2.03])
    assert hour["bar_close"] == "2025-07-31T12:00:00Z"
    assert hour["touch"]["down"] == {"1": 0.4, "1.5": 0.25, "2": 0.15, "3": 0.08, "4": 0.04}
    assert [model["id"] for model in body["models"]] == [
        f"{kind}-{timeframe}" for timeframe in INTRADAY for kind in ("lstm", "patchtst")
    ]
    assert body["warnings"] == [NEWS_NOTE]
    assert "STRONG BUY" in body["reasoning"]


def test_targets_use_the_longest_agreeing_timeframes_atr_from_the_newest_price() -> None:
    older = answer(bars("EURUSD=X", Timeframe.H4, end=NOON - 3 * 3_600_000))
    body = wire(service(FakeCandles({Timeframe.H4: older})).fused("EURUSD=X"))
    targets = body["targets"]
    assert (targets["timeframe"], targets["atr"], targets["p_win"]) == ("4h", 0.05, 0.42)
    assert targets["entry"] == 1.15  # the 15m close at 12:00, not the 4h close at 09:00
    assert targets["tp1"] == pytest.approx(1.25)
    assert targets["sl"] == pytest.approx(1.075)
    assert body["as_of"] == "2025-07-31T12:00:00Z"
    assert body["timeframes"]["4h"]["bar_close"] == "2025-07-31T09:00:00Z"


def test_hold_has_no_prices_but_atr_and_touch_probabilities() -> None:
    body = wire(service(endpoint=FakeEndpoint(dict.fromkeys(INTRADAY, (0, 0)))).fused("EURUSD=X"))
    targets = body["targets"]
    assert (body["verdict"], body["master_fusion_score"]) == ("HOLD", 30.0)
    assert {targets[name] for name in ("tp1", "tp2", "tp3", "sl", "p_win", "entry")} == {None}
    assert (targets["atr"], targets["horizon_bars"]) == (0.05, 4)
    assert targets["touch"]["up"]["1"] == 0.5
    assert all(block["touch"] and block["interval_90"] for block in body["timeframes"].values())


def test_sell_takes_the_short_chance_and_prices_below() -> None:
    body = wire(service(endpoint=FakeEndpoint(dict.fromkeys(INTRADAY, (-1, -1)))).fused("EURUSD=X"))
    targets = body["targets"]
    assert body["verdict"] == "STRONG SELL"
    assert targets["p_win"] == 0.38
    assert targets["tp3"] < targets["tp2"] < targets["tp1"] < targets["entry"] < targets["sl"]


def test_one_call_asks_for_all_timeframes_with_the_bars_that_features_need() -> None:
    candles, endpoint = FakeCandles(), FakeEndpoint()
    service(candles, endpoint).fused("BTC-USD")
    (request,) = endpoint.requests
    assert [item.timeframe for item in request.items] == list(INTRADAY)
    assert {len(item.candles.close) for item in request.items} == {BARS_NEEDED}
    assert [call["count"] for call in candles.asked] == [BARS_NEEDED]


@pytest.mark.parametrize(("symbol", "has_volume"), [("EURUSD=X", False), ("GC=F", False), ("BTC-USD", True)])
def test_volume_is_sent_only_where_it_is_real(symbol: str, has_volume: bool) -> None:
    endpoint = FakeEndpoint()
    service(endpoint=endpoint).fused(symbol)
    assert all((item.candles.volume is not None) == has_volume for item in endpoint.requests[0].items)


def test_exchange_names_are_mapped() -> None:
    assert service().fused("BTCUSDT").symbol == "BTC-USD"


@pytest.mark.parametrize(
    "failure", [ProviderUnavailable("yahoo did not answer in time"), BadCandles(["price is zero or negative at noon"])]
)
def test_a_timeframe_without_candles_is_left_out_by_name(failure: FusionTradeError) -> None:
    endpoint = FakeEndpoint()
    body = wire(service(FakeCandles({Timeframe.H4: failure}), endpoint).fused("EURUSD=X"))
    block = body["timeframes"]["4h"]
    assert (block["lstm"], block["patchtst"], block["agreement"]) == ("N/A", "N/A", 0.5)
    assert {block[key] for key in BLOCK_KEYS - {"lstm", "patchtst", "agreement"}} == {None}
    assert f"4h is left out: {failure}" in body["warnings"]
    assert [item.timeframe for item in endpoint.requests[0].items] == list(INTRADAY[:3])
    assert body["targets"]["timeframe"] == "1h"
    assert body["master_fusion_score"] == pytest.approx(55 + 50 * 0.4)


def test_a_timeframe_the_container_refuses_is_left_out_by_name() -> None:
    refused = ItemError(code="too_few_bars", detail="600 bars are needed, 12 came")
    votes = {**dict.fromkeys(INTRADAY, (1, 1)), Timeframe.H4: refused}
    body = wire(service(endpoint=FakeEndpoint(votes)).fused("EURUSD=X"))
    assert body["timeframes"]["4h"]["lstm"] == "N/A"
    assert body["timeframes"]["4h"]["current_price"] is None
    assert "4h is left out: 600 bars are needed, 12 came" in body["warnings"]


def test_a_timeframe_the_container_refuses_is_neither_the_entry_nor_the_moment_of_the_answer() -> None:
    refused = ItemError(code="model_failed", detail="lstm-15m failed")
    votes = {**dict.fromkeys(INTRADAY, (1, 1)), Timeframe.M15: refused}
    earlier = NOON - Timeframe.M30.milliseconds
    candles = FakeCandles(
        {frame: answer(bars("EURUSD=X", frame, end=earlier)) for frame in INTRADAY if frame is not Timeframe.M15}
    )
    response = service(candles, FakeEndpoint(votes)).fused("EURUSD=X")
    assert (response.as_of, response.targets.entry) == ("2025-07-31T11:30:00Z", pytest.approx(1.3))


def test_a_missing_model_is_not_available_and_never_a_number() -> None:
    votes = {**dict.fromkeys(INTRADAY, (1, 1)), Timeframe.H1: (1, None), Timeframe.M30: (None, 1)}
    body = wire(service(endpoint=FakeEndpoint(votes)).fused("EURUSD=X"))
    hour, half = body["timeframes"]["1h"], body["timeframes"]["30m"]
    assert (hour["patchtst"], hour["patchtst_prob_up"], hour["patchtst_confidence"]) == ("N/A", None, None)
    assert (half["lstm"], half["interval_90"], half["touch"], half["predicted_price"]) == ("N/A", None, None, None)
    assert half["atr"] == pytest.approx(0.013)
    assert {"1h: no PatchTST model answered", "30m: no LSTM model answered"} <= set(body["warnings"])


def test_a_patchtst_whose_bundle_abstains_votes_hold_and_shows_its_probabilities() -> None:
    endpoint = FakeEndpoint(change=lambda body: body.replace(b'"abstains":false', b'"abstains":true'))
    hour = wire(service(endpoint=endpoint).fused("EURUSD=X"))["timeframes"]["1h"]
    assert (hour["patchtst"], hour["patchtst_prob_up"], hour["patchtst_prob_down"]) == ("HOLD", 0.5, 0.25)


def test_what_is_missing_is_said_in_the_containers_words_where_it_gave_any() -> None:
    told = b'"warnings":["patchtst-1h could not be loaded"]'
    endpoint = FakeEndpoint({**dict.fromkeys(INTRADAY, (1, 1)), Timeframe.H1: (1, None)})
    endpoint.change = lambda body: body.replace(b'"warnings":[]', told)
    warnings = service(endpoint=endpoint).fused("EURUSD=X").warnings
    assert "1h: patchtst-1h could not be loaded" in warnings
    assert not [text for text in warnings if "no PatchTST model answered" in text]


def test_patchtst_missing_everywhere_is_a_hold_with_a_warning() -> None:
    body = wire(service(endpoint=FakeEndpoint(dict.fromkeys(INTRADAY, (1, None)))).fused("EURUSD=X"))
    assert body["verdict"] == "HOLD"
    assert body["logic"] == {"primary_lstm": "BUY", "secondary_patchtst": "N/A", "confluence": False}
    assert any("no PatchTST model answered on any timeframe" in warning for warning in body["warnings"])


def test_no_model_at_all_is_unavailable_and_never_a_hold() -> None:
    with pytest.raises(InferenceUnavailable, match="no model answered"):
        service(endpoint=FakeEndpoint(dict.fromkeys(INTRADAY, (None, None)))).fused("EURUSD=X")


@pytest.mark.parametrize(
    ("failures", "raised"),
    [
        ([UnknownSymbol("AAPL")] * 4, UnknownSymbol),
        ([ProviderUnavailable("down")] * 4, ProviderUnavailable),
        ([UnknownSymbol("AAPL")] * 3 + [ProviderUnavailable("down")], ProviderUnavailable),
        ([BadCandles(["NaN"])] * 4, BadCandles),
        ([HistoryUnavailable("no bars so early")] * 4, ProviderUnavailable),
    ],
)
def test_all_timeframes_failing_is_their_error(failures: list[FusionTradeError], raised: type[Exception]) -> None:
    with pytest.raises(raised):
        service(FakeCandles(dict(zip(INTRADAY, failures, strict=True)))).fused("AAPL")


def test_a_source_without_a_single_bar_is_left_out_by_name() -> None:
    none = answer(bars("EURUSD=X", Timeframe.H4, count=0))
    warnings = service(FakeCandles({Timeframe.H4: none})).fused("EURUSD=X").warnings
    assert "4h is left out: EURUSD=X 4h: the market data source has no bars" in warnings


def test_bars_that_the_container_refuses_everywhere_are_bad_candles_with_its_reasons() -> None:
    refused = ItemError(code="bad_candles", detail="high below low at noon")
    with pytest.raises(BadCandles, match="high below low at noon"):
        service(endpoint=FakeEndpoint(dict.fromkeys(INTRADAY, refused))).fused("EURUSD=X")


def test_history_that_nobody_keeps_is_the_callers_moment_to_change() -> None:
    candles = FakeCandles(dict.fromkeys(INTRADAY, HistoryUnavailable("yahoo keeps no such history")))
    with pytest.raises(InvalidInput, match="keeps no such history") as raised:
        service(candles).fused("AAPL", as_of="2001-01-01T00:00:00Z")
    assert raised.value.field == "query/as_of"


def test_too_little_history_before_the_moment_asked_about_names_it() -> None:
    few = ItemError(code="too_few_bars", detail="660 bars are needed, 3 came")
    with pytest.raises(InvalidInput, match="2025-01-01T00:00:00Z"):
        service(endpoint=FakeEndpoint(dict.fromkeys(INTRADAY, few))).fused("EURUSD=X", as_of="2025-01-01T00:00:00Z")
    with pytest.raises(InferenceUnavailable, match="660 bars"):
        service(endpoint=FakeEndpoint(dict.fromkeys(INTRADAY, few))).fused("EURUSD=X")


def test_as_of_asks_for_that_moment_and_is_answered_as_of_its_newest_bar() -> None:
    candles = FakeCandles()
    response = service(candles).fused("EURUSD=X", as_of="2025-07-30T14:00:00+02:00")
    assert candles.asked[0]["as_of"] == NOON - 86_400_000
    assert response.as_of == "2025-07-30T12:00:00Z"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("yesterday", "no instant"),
        ("2025-07-31T12:00:00", "no instant"),
        ("2025-07-31", "no instant"),
        ("", "no instant"),
        ("2025-07-31T12:00:01Z", "lies in the future"),
        ("9999-12-31T23:59:59-23:59", "lies in the future"),
        ("1969-12-31T23:59:59Z", "before 1970"),
        ("0001-01-01T00:00:00+23:59", "before 1970"),
    ],
)
def test_a_wrong_as_of_names_the_field(text: str, told: str) -> None:
    with pytest.raises(InvalidInput, match=told) as raised:
        instant_of(text, now=NOON)
    assert raised.value.field == "query/as_of"


def test_as_of_may_be_now() -> None:
    assert instant_of("2025-07-31T12:00:00Z", now=NOON) == NOON


def test_a_wrong_symbol_names_where_it_came_from() -> None:
    with pytest.raises(InvalidInput) as raised:
        service().fused("not a symbol", field="body/symbol")
    assert raised.value.field == "body/symbol"


def test_a_deadline_that_is_over_is_unavailable_and_nothing_is_asked_of_the_models() -> None:
    endpoint = FakeEndpoint()
    with pytest.raises(InferenceUnavailable, match="no time is left"):
        service(endpoint=endpoint).fused("EURUSD=X", deadline=Deadline.after(0))
    assert endpoint.requests == []


def test_candles_leave_time_for_the_models() -> None:
    candles, endpoint = FakeCandles(), FakeEndpoint()
    service(candles, endpoint).fused("EURUSD=X", deadline=Deadline(at=25.0, clock=lambda: 0.0))
    service(candles, endpoint).fused("EURUSD=X", deadline=Deadline(at=4.0, clock=lambda: 0.0))
    assert [call["seconds"] for call in candles.asked] == [20.0, 3.0]
    assert endpoint.timeouts == [25.0, 4.0]


def test_warnings_of_the_market_are_said_once() -> None:
    told = "simulated market: invented prices, not a real one"
    replies = {timeframe: answer(bars("EURUSD=X", timeframe), told, source="simulated") for timeframe in INTRADAY}
    response = service(FakeCandles(replies)).fused("EURUSD=X", journal_for="u1")
    assert response.data_source == "simulated"
    assert response.warnings == [told, NEWS_NOTE, "journal=true had no effect: no journal is configured"]


def test_news_and_analyst_say_that_they_are_not_configured_only_when_asked() -> None:
    both = service().fused("EURUSD=X", include_llm=True)
    assert (both.sentiment, both.llm_analysis) == (None, None)
    assert both.warnings == [NEWS_NOTE, "llm_analysis is null: no language model is configured"]
    assert service().fused("EURUSD=X", include_sentiment=False).warnings == []


def test_every_number_of_every_kind_of_answer_is_finite() -> None:
    for votes in ((1, 1), (0, 0), (-1, 1), (1, None), (None, -1)):
        body = wire(service(endpoint=FakeEndpoint(dict.fromkeys(INTRADAY, votes))).fused("EURUSD=X"))
        assert all(math.isfinite(number) for number in numbers(body))
        assert body["reasoning"].startswith(f"EURUSD=X: {body['verdict']}, score ")


@pytest.mark.parametrize(
    ("good", "nonsense"),
    [
        (b'"abstain_below":0.45', b'"abstain_below":0.95'),
        (b'"atr":0.02', b'"atr":-0.02'),
        (b'"direction_accuracy":51.5', b'"direction_accuracy":5150'),
    ],
)
def test_numbers_that_cannot_be_are_an_error_and_never_shown(good: bytes, nonsense: bytes) -> None:
    endpoint = FakeEndpoint(change=lambda body: body.replace(good, nonsense))
    with pytest.raises(InferenceUnavailable, match="numbers that cannot be"):
        service(endpoint=endpoint).fused("EURUSD=X")


@pytest.mark.parametrize(
    ("symbol", "as_of", "unproven"),
    [
        ("EURUSD=X", "2025-07-30T20:00:00Z", True),  # 16:00 New York
        ("EURUSD=X", "2025-07-30T23:00:00Z", False),
        ("BTC-USD", "2025-07-30T20:00:00Z", False),
    ],
)
def test_a_forecast_at_rollover_says_that_its_direction_is_unproven(symbol: str, as_of: str, unproven: bool) -> None:
    assert (ROLLOVER_NOTE in service().fused(symbol, as_of=as_of).warnings) is unproven


def test_a_vote_against_the_predicted_close_is_said() -> None:
    endpoint = FakeEndpoint(change=lambda body: body.replace(b'"change":0.25', b'"change":-0.25'))
    assert (
        "1h: the LSTM votes BUY while its predicted close lies below the price; its confidence is the size of that "
        "change, no direction"
    ) in service(endpoint=endpoint).fused("EURUSD=X").warnings
    assert not [text for text in service().fused("EURUSD=X").warnings if "predicted close" in text]


def test_a_symbol_without_intraday_bars_is_not_found_rather_than_to_be_asked_for_again() -> None:
    none = TimeframeUnavailable("the folder has 1d bars of AAPL alone")
    with pytest.raises(NotFound, match="1d bars of AAPL alone"):
        service(FakeCandles(dict.fromkeys(INTRADAY, none))).fused("AAPL")
