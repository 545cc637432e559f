"""The service with calibration states: sent along, advanced once, left alone by past moments, missed without harm."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest

from fusiontrade.deadline import Deadline
from fusiontrade.errors import InferenceUnavailable, ProviderUnavailable
from fusiontrade.fusion.calibration_keeping import NOT_READ, NOT_WRITTEN, OnlineCalibration
from fusiontrade.fusion.calibration_states import Kept, Tracked, Waiting
from fusiontrade.fusion.response import FusionResponse
from fusiontrade.fusion.service import FusionService
from fusiontrade.inference.client import InferenceClient
from fusiontrade.inference.contract import CalibrationState, ItemError
from fusiontrade.inference.probabilities import moved
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.symbols import AssetClass, parse_symbol
from fusiontrade.market.timeframes import INTRADAY, Timeframe
from tests.support.fusion_fakes import (
    BASE_CHANCES,
    BASE_LEANS,
    NOON,
    OWN_STATE,
    FakeCalibrationStates,
    FakeCandles,
    FakeEndpoint,
    answer,
    bars,
)

QUARTER = Timeframe.M15.milliseconds
HOUR = Timeframe.H1.milliseconds
EURUSD = "EURUSD=X"
UNTOUCHED = [-0.005 * chance for chance in BASE_CHANCES]
"""The offsets after one horizon of the fake candles: they reach 0.01 beyond their price, less than one ATR."""
SLOPED = [step * lean for step, lean in zip(UNTOUCHED, BASE_LEANS, strict=True)]
"""The slopes after it."""
BENT = [step / 2.0 * (min(lean**2, 4.0) - 1.0) for step, lean in zip(UNTOUCHED, BASE_LEANS, strict=True)]
"""The bends after it."""


class Desk:
    """The service over fakes whose present is ``candles.now``."""

    def __init__(self) -> None:
        self.candles, self.endpoint, self.store = FakeCandles(), FakeEndpoint(), FakeCalibrationStates()
        self.service = FusionService(
            self.candles, InferenceClient(self.endpoint), calibration=self.store, clock=lambda: self.candles.now
        )

    def ask(self, symbol: str = EURUSD, **more: object) -> FusionResponse:
        return self.service.fused(symbol, include_sentiment=False, **more)  # type: ignore[arg-type]

    def states(self, symbol: str = EURUSD) -> dict[Timeframe, Tracked]:
        return dict(self.store.items[symbol].states)

    def sent(self) -> dict[Timeframe, CalibrationState | None]:
        return {item.timeframe: item.state for item in self.endpoint.requests[-1].items}


def waits(bar_close: int, price: float, chances: tuple[float, ...] = BASE_CHANCES) -> Waiting:
    """A forecast of the fake container from ``price``."""
    atr = price / 100
    low, high = pytest.approx(price - 1.5 * atr), pytest.approx(price + 1.5 * atr)
    return Waiting(bar_close, price, atr, low, high, chances, BASE_LEANS)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def jumped(timeframe: Timeframe, *, end: int, close: float) -> CandleFrame:
    """`bars` whose newest one closed at another price."""
    frame = bars(EURUSD, timeframe, end=end)
    moved = frame.close.copy()
    moved[-1] = close
    high, low = np.maximum(frame.high, moved), np.minimum(frame.low, moved)
    return CandleFrame(EURUSD, timeframe, frame.time, frame.open, high, low, moved, frame.volume)


def test_a_first_forecast_has_its_bundles_own_interval_and_then_waits(desk: Desk) -> None:
    response = desk.ask()
    assert desk.sent() == dict.fromkeys(INTRADAY)
    assert response.timeframes.h1.interval_90 == pytest.approx((1.97, 2.03))
    assert response.warnings == []
    kept = desk.store.items[EURUSD]
    assert (kept.source, kept.revision) == ("files", 1)
    assert kept.states[Timeframe.H1] == replace(Tracked.of(OWN_STATE), waiting=(waits(NOON, 2.0),))
    assert kept.states[Timeframe.H1].state == OWN_STATE


def test_next_closes_are_learned_and_sent_along_and_correct_the_published_interval(desk: Desk) -> None:
    desk.ask()
    desk.candles.now = NOON + QUARTER
    desk.candles.replies = {Timeframe.M15: answer(jumped(Timeframe.M15, end=NOON + QUARTER, close=1.5))}
    response = desk.ask()
    learned = OWN_STATE.model_copy(update={"lower": -0.00025, "upper": 0.00475, "revision": 1, "as_of": NOON + QUARTER})
    assert desk.sent()[Timeframe.M15] == learned
    assert desk.sent()[Timeframe.H1] == OWN_STATE  # what waits for its hour has learned nothing yet
    width = 0.03 * 1.5
    assert response.timeframes.m15.interval_90 == pytest.approx(
        (1.5 - width / 2 + 0.00025 * width, 1.5 + width / 2 + 0.00475 * width)
    )
    assert desk.states()[Timeframe.M15].waiting == (waits(NOON, 1.15), waits(NOON + QUARTER, 1.5))
    assert (desk.states()[Timeframe.M15].revision, desk.states()[Timeframe.H1].revision) == (1, 0)


def test_touches_and_wins_are_learned_after_four_bars_and_move_the_published_probabilities(desk: Desk) -> None:
    first = desk.ask()
    desk.candles.now = NOON + 3 * QUARTER
    before = desk.ask()
    assert before.timeframes.m15.touch == first.timeframes.m15.touch
    assert desk.states()[Timeframe.M15].offsets == OWN_STATE.offsets
    assert desk.states()[Timeframe.M15].slopes == OWN_STATE.slopes
    assert desk.states()[Timeframe.M15].bends == OWN_STATE.bends
    desk.candles.now = NOON + 4 * QUARTER
    response = desk.ask()
    sent, longer = desk.sent()[Timeframe.M15], desk.sent()[Timeframe.M30]
    assert sent is not None
    assert longer is not None
    assert (sent.offsets, sent.slopes) == (pytest.approx(UNTOUCHED), pytest.approx(SLOPED))
    assert sent.bends == pytest.approx(BENT)
    assert (sent.revision, sent.as_of) == (2, NOON + 4 * QUARTER)
    assert (longer.offsets, longer.slopes) == (OWN_STATE.offsets, OWN_STATE.slopes)  # two of its bars are finished
    issued = moved(BASE_CHANCES, BASE_LEANS, UNTOUCHED, SLOPED, BENT)
    touch = response.timeframes.m15.touch
    assert touch is not None
    assert list(touch.up.model_dump().values()) == pytest.approx(issued[:5])
    waiting = desk.states()[Timeframe.M15].waiting
    assert [forecast.bar_close for forecast in waiting] == [NOON + 3 * QUARTER, NOON + 4 * QUARTER]
    assert waiting[1].chances == pytest.approx(issued)
    assert waiting[1].leans == BASE_LEANS  # as they were before anything moved them


def test_each_outcome_is_learned_once_and_nothing_is_written_where_nothing_changed(desk: Desk) -> None:
    for _ in range(3):
        desk.ask()
    assert (desk.store.reads, desk.store.writes) == (3, 1)
    desk.candles.now = NOON + QUARTER
    for _ in range(3):
        desk.ask()
    assert (desk.store.reads, desk.store.writes) == (6, 2)
    assert desk.states()[Timeframe.M15].revision == 1
    desk.candles.now = NOON + 2 * QUARTER
    desk.ask()
    assert desk.states()[Timeframe.M15].revision == 2
    assert desk.states()[Timeframe.M30].revision == 1


@pytest.mark.parametrize("as_of", ["2025-07-31T12:00:00Z", "2025-07-01T12:00:00Z"])
def test_a_past_moment_neither_reads_nor_writes_and_is_answered_by_the_bundles_own_state(
    desk: Desk, as_of: str
) -> None:
    desk.ask()
    desk.candles.now = NOON + QUARTER
    desk.ask()
    reads, writes = desk.store.reads, desk.store.writes
    before = desk.ask(as_of=as_of)
    assert desk.sent() == dict.fromkeys(INTRADAY)
    desk.store.items.clear()
    assert desk.ask(as_of=as_of) == before
    assert (desk.store.reads, desk.store.writes) == (reads, writes)


def test_bars_that_went_back_in_time_get_no_state_from_their_future_and_leave_it_alone(desk: Desk) -> None:
    desk.ask()
    desk.candles.now = NOON + QUARTER
    desk.ask()
    kept = desk.store.items[EURUSD]
    desk.candles.now = NOON
    desk.ask()
    assert desk.sent()[Timeframe.M15] is None
    assert desk.store.items[EURUSD] == kept


def test_another_bundle_uses_its_own_state_and_learning_begins_anew(desk: Desk) -> None:
    desk.ask()
    desk.candles.now = NOON + QUARTER
    desk.endpoint.own = OWN_STATE.model_copy(update={"version": "cccccccccccc", "upper": 0.25})
    response = desk.ask()
    assert response.timeframes.h1.interval_90 == pytest.approx((1.97, 2.03 + 0.25 * 0.06))
    assert {state.version for state in desk.states().values()} == {"cccccccccccc"}
    assert {state.revision for state in desk.states().values()} == {0}


def test_what_was_learned_from_another_market_counts_as_nothing(desk: Desk) -> None:
    desk.ask()
    invented = {each: answer(bars(EURUSD, each, end=NOON), source="simulated") for each in INTRADAY}
    desk.candles.replies = invented
    desk.ask()
    assert desk.sent() == dict.fromkeys(INTRADAY)
    assert (desk.store.items[EURUSD].source, desk.store.items[EURUSD].revision) == ("simulated", 2)


def test_nothing_is_written_about_a_symbol_without_an_lstm(desk: Desk) -> None:
    desk.endpoint.votes = dict.fromkeys(INTRADAY, (None, 1))
    desk.ask()
    assert (desk.store.reads, desk.store.writes) == (1, 0)


@pytest.mark.parametrize("symbol", [EURUSD, "GC=F"])
def test_a_forecast_at_rollover_teaches_nothing_for_none_was_trained_or_judged_on(desk: Desk, symbol: str) -> None:
    desk.candles.now = NOON + 7 * HOUR
    desk.ask(symbol)
    before = desk.states(symbol)
    desk.candles.now = NOON + 8 * HOUR  # 16:00 New York
    desk.ask(symbol)
    at_rollover = desk.states(symbol)
    assert at_rollover[Timeframe.H1] == replace(
        before[Timeframe.H1],
        lower=pytest.approx(-0.00025),
        upper=pytest.approx(-0.00025),
        revision=1,
        as_of=NOON + 8 * HOUR,
    )
    assert [forecast.bar_close for forecast in at_rollover[Timeframe.H1].waiting] == [NOON + 7 * HOUR]
    desk.candles.now = NOON + 9 * HOUR
    desk.ask(symbol)
    assert desk.states(symbol)[Timeframe.H1] == at_rollover[Timeframe.H1]
    desk.candles.now = NOON + 11 * HOUR  # 19:00 New York
    desk.ask(symbol)
    after = desk.states(symbol)[Timeframe.H1]
    assert after.offsets == pytest.approx(UNTOUCHED)
    assert after.slopes == pytest.approx(SLOPED)
    assert after.bends == pytest.approx(BENT)
    assert [forecast.bar_close for forecast in after.waiting] == [NOON + 11 * HOUR]


def test_a_market_without_rollover_learns_at_every_hour(desk: Desk) -> None:
    for hours, revision in ((8, 0), (9, 1), (10, 2)):
        desk.candles.now = NOON + hours * HOUR
        desk.ask("BTC-USD")
        assert desk.states("BTC-USD")[Timeframe.H1].revision == revision


def test_symbols_learn_apart(desk: Desk) -> None:
    desk.ask()
    desk.ask("BTC-USD")
    assert set(desk.store.items) == {EURUSD, "BTC-USD"}


def test_a_timeframe_that_fails_keeps_what_it_has(desk: Desk) -> None:
    desk.ask()
    before = desk.states()
    desk.candles.now = NOON + 4 * 3_600_000
    desk.candles.replies = {Timeframe.H4: ProviderUnavailable("down")}
    desk.endpoint.votes = {**dict.fromkeys(INTRADAY, (1, 1)), Timeframe.H1: (None, 1)}
    desk.ask()
    assert desk.states()[Timeframe.H4] == before[Timeframe.H4]
    assert (desk.states()[Timeframe.H1].revision, desk.states()[Timeframe.H1].waiting) == (1, ())


def test_models_that_do_not_answer_leave_the_outcome_to_the_next_request(desk: Desk) -> None:
    desk.ask()
    kept = desk.store.items[EURUSD]
    desk.candles.now = NOON + QUARTER
    desk.endpoint.votes = dict.fromkeys(INTRADAY, ItemError(code="model_failed", detail="it failed"))
    with pytest.raises(InferenceUnavailable):
        desk.ask()
    assert desk.store.items[EURUSD] == kept
    desk.endpoint.votes = dict.fromkeys(INTRADAY, (1, 1))
    desk.ask()
    assert desk.states()[Timeframe.M15].revision == 1


# --- trouble ----------------------------------------------------------------------------------------------------------


def test_a_store_that_does_not_answer_costs_one_warning_and_a_bundles_own_correction(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.store.down = True
    with caplog.at_level(logging.WARNING):
        response = desk.ask()
    assert response.verdict == "STRONG BUY"
    assert response.timeframes.h1.interval_90 == pytest.approx((1.97, 2.03))
    assert response.warnings == [NOT_READ]
    assert (desk.store.reads, desk.store.writes) == (1, 0)
    assert "EURUSD=X could not be read: the database did not answer" in caplog.text


def test_a_store_that_fails_while_writing_costs_a_warning(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(symbol: object) -> Kept:
        desk.store.down = True
        return Kept()

    monkeypatch.setattr(desk.store, "read", breaks)
    assert desk.ask().warnings == [NOT_WRITTEN]
    assert desk.store.items == {}


def test_a_store_that_is_down_is_left_alone_for_half_a_minute_and_then_used_again() -> None:
    now = [0.0]
    store = FakeCalibrationStates(down=True)
    calibration = OnlineCalibration(store, clock=lambda: now[0])
    symbol, deadline = parse_symbol(EURUSD), Deadline.after(60)
    for now[0] in (0.0, 1.0, 29.9):
        assert calibration.learned(symbol, {}, "files", deadline=deadline).warnings == (NOT_READ,)
    assert store.reads == 1
    store.down, now[0] = False, 30.0
    assert calibration.learned(symbol, {}, "files", deadline=deadline).warnings == ()
    assert store.reads == 2


def test_without_time_for_it_the_store_is_not_asked(desk: Desk) -> None:
    response = desk.ask(deadline=Deadline(at=2.9, clock=lambda: 0.0))
    assert response.warnings == [NOT_READ]
    assert desk.store.reads == 0


def test_models_that_took_the_time_leave_none_to_write(desk: Desk) -> None:
    now = [0.0]

    def slow(body: bytes) -> bytes:
        now[0] = 9.0
        return body

    desk.endpoint.change = slow
    response = desk.ask(deadline=Deadline(at=10.0, clock=lambda: now[0]))
    assert response.warnings == [NOT_WRITTEN]
    assert (desk.store.reads, desk.store.writes) == (1, 0)


def test_a_write_that_another_request_was_first_with_is_no_trouble(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = Kept("files", {}, 7)
    monkeypatch.setattr(desk.store, "read", lambda symbol: Kept())
    desk.store.items[EURUSD] = theirs
    assert desk.ask().warnings == []
    assert desk.store.items[EURUSD] == theirs


def test_where_nothing_is_kept_nothing_is_missed() -> None:
    endpoint = FakeEndpoint()
    service = FusionService(FakeCandles(), InferenceClient(endpoint), clock=lambda: NOON)
    hurried = Deadline(at=1.5, clock=lambda: 0.0)
    assert service.fused(EURUSD, include_sentiment=False, deadline=hurried).warnings == []
    assert {item.state for item in endpoint.requests[0].items} == {None}


# --- the kind of market -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("symbol", "market"),
    [(EURUSD, AssetClass.FX), ("GC=F", AssetClass.METAL), ("BTC-USD", AssetClass.CRYPTO), ("AAPL", AssetClass.EQUITY)],
)
def test_the_kind_of_market_is_sent_along(desk: Desk, symbol: str, market: AssetClass) -> None:
    desk.ask(symbol)
    assert {item.market for item in desk.endpoint.requests[0].items} == {market.value}
