"""A fused forecast as a journal entry: what it says, when it ends, and what makes it the same one."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from fusiontrade.clock import parse_iso
from fusiontrade.deadline import Deadline
from fusiontrade.errors import InvalidInput
from fusiontrade.fusion.journaling import entry_of
from fusiontrade.fusion.ports import Forecast
from fusiontrade.fusion.service import FusionService
from fusiontrade.inference.client import InferenceClient
from fusiontrade.journal.entries import PLATFORM, Entry, Model
from fusiontrade.journal.horizons import expiry
from fusiontrade.market.symbols import parse_symbol
from fusiontrade.market.timeframes import INTRADAY, Timeframe
from tests.support.fusion_fakes import NOON, FakeCandles, FakeEndpoint

QUARTER = Timeframe.M15.milliseconds
FRIDAY_EVENING = parse_iso("2025-08-01T20:00:00Z")  # 16:00 New York, an hour before the week ends


def forecast(votes: Any = (1, 1), *, symbol: str = "EURUSD=X", now: int = NOON, **more: Any) -> Forecast:
    endpoint = FakeEndpoint(dict.fromkeys(INTRADAY, votes) if isinstance(votes, tuple) else votes, **more)
    service = FusionService(FakeCandles(now=now), InferenceClient(endpoint), clock=lambda: now)
    found = service.many([symbol], deadline=Deadline.after(20))[symbol]
    assert isinstance(found, Forecast)
    return found


def entry(made: Forecast, owner: str = PLATFORM) -> Entry:
    return entry_of(made.symbol, made.response, owner=owner, source="daily")


def test_an_entry_says_what_the_answer_said() -> None:
    made = forecast()
    told, targets = entry(made), made.response.targets
    assert (told.owner, told.source, told.symbol, told.interval) == ("PLATFORM", "daily", "EURUSD=X", "4h")
    assert (told.signal, told.verdict, told.status) == ("BUY", "STRONG BUY", "PENDING")
    assert (told.lstm_signal, told.patchtst_signal) == ("BUY", "BUY")
    assert told.fusion_score == Decimal(repr(made.response.master_fusion_score))
    assert (told.probability, told.entry_price, told.atr) == (Decimal("0.42"), Decimal("1.15"), Decimal("0.05"))
    assert [float(price or 0) for price in (told.tp1, told.tp2, told.tp3, told.stop_loss)] == [
        targets.tp1, targets.tp2, targets.tp3, targets.sl,
    ]  # fmt: skip
    assert told.data_source == "files"
    assert told.models[0] == Model("15m", "lstm-15m", "aaaaaaaaaaaa")
    assert len(told.models) == 8


def test_an_entry_opens_at_its_newest_bar_and_lives_for_the_horizon_of_its_timeframe() -> None:
    told = entry(forecast(now=NOON + QUARTER))
    assert told.opened_at == NOON + QUARTER
    assert told.expires_at == expiry(parse_symbol("EURUSD=X"), Timeframe.H4, NOON + QUARTER, 4)
    assert told.expires_at >= told.opened_at + 4 * Timeframe.H4.milliseconds
    assert told.due_at == NOON + 2 * QUARTER


def test_a_weekend_does_not_eat_the_horizon() -> None:
    told = entry(forecast(now=FRIDAY_EVENING))
    assert told.opened_at == FRIDAY_EVENING
    assert told.expires_at > parse_iso("2025-08-04T00:00:00Z")  # Monday
    crypto = entry(forecast(symbol="BTC-USD", now=FRIDAY_EVENING))
    assert crypto.expires_at == FRIDAY_EVENING + 4 * Timeframe.H4.milliseconds


def test_a_sell_is_its_mirror() -> None:
    told = entry(forecast((-1, -1)))
    assert (told.signal, told.verdict, told.probability) == ("SELL", "STRONG SELL", Decimal("0.38"))
    assert told.tp1 is not None
    assert told.stop_loss is not None
    assert told.entry_price is not None
    assert told.tp1 < told.entry_price < told.stop_loss


@pytest.mark.parametrize("votes", [(0, 0), (1, -1)])
def test_without_a_direction_it_is_a_hold_that_claims_nothing_and_waits_for_nothing(votes: tuple[int, int]) -> None:
    told = entry(forecast(votes))
    assert (told.signal, told.status, told.due_at, told.probability) == ("HOLD", "EXPIRED", None, None)
    assert {told.tp1, told.tp2, told.tp3, told.stop_loss} == {None}
    assert told.atr == Decimal("0.05")


def test_a_hold_without_an_lstm_has_an_end_too() -> None:
    told = entry(forecast({**dict.fromkeys(INTRADAY, (1, 1)), Timeframe.H4: (None, 0), Timeframe.H1: (None, -1)}))
    assert told.expires_at > told.opened_at


def test_the_same_forecast_is_one_entry_whoever_makes_it_and_another_bar_bundle_or_timeframe_is_another() -> None:
    first = entry(forecast())
    assert entry(forecast(), owner="u1").id == first.id
    others = [
        entry(forecast(now=NOON + QUARTER)),
        entry(forecast(symbol="BTC-USD")),
        entry(forecast({**dict.fromkeys(INTRADAY, (1, 1)), Timeframe.H4: (0, 0)})),
        entry(forecast(own=FakeEndpoint().own.model_copy(update={"version": "cccccccccccc"}))),
    ]
    assert len({first.id, *(other.id for other in others)}) == 5
    assert first.id < others[0].id  # ids sort by time


def test_a_forecast_whose_levels_are_no_prices_cannot_be_journaled() -> None:
    made = forecast()
    below_zero = made.response.model_copy(update={"targets": made.response.targets.model_copy(update={"sl": -0.1})})
    with pytest.raises(InvalidInput, match="positive price"):
        entry(replace(made, response=below_zero))


def test_a_forecast_without_an_atr_cannot_be_journaled() -> None:
    made = forecast()
    without = made.response.model_copy(update={"targets": made.response.targets.model_copy(update={"timeframe": None})})
    with pytest.raises(InvalidInput, match="without an ATR"):
        entry(replace(made, response=without))


@pytest.mark.parametrize("verdict", ["", "ERROR", "N/A", "STRONG", "BUYER"])
def test_what_is_no_verdict_is_never_taken_for_a_hold(verdict: str) -> None:
    made = forecast()
    spoiled = replace(made, response=made.response.model_copy(update={"verdict": verdict}))
    with pytest.raises(InvalidInput, match="is no verdict"):
        entry(spoiled)
