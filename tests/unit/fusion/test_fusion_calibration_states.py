"""What one symbol's intervals learn: each outcome once, in order, and nothing from the future."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusiontrade.fusion.calibration_states import Pending, Tracked, issued, sendable, settled
from fusiontrade.inference.contract import CalibrationState, CandleColumns, ForecastItem, ItemForecast
from fusiontrade.inference.intervals import walk
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import INTRADAY, Timeframe
from tests.support.fusion_fakes import NOON, OWN_STATE, forecast

HOUR = Timeframe.H1.milliseconds
VERSION = OWN_STATE.version


def frame(*closes: float, start: int = NOON, skip: tuple[int, ...] = ()) -> CandleFrame:
    """Hourly bars from ``start`` on with these closes, those numbered in ``skip`` left out."""
    kept = [row for row in range(len(closes)) if row not in skip]
    close = np.array([closes[row] for row in kept])
    time = start + HOUR * np.array(kept, np.int64)
    return CandleFrame("EURUSD=X", Timeframe.H1, time, close, close, close, close)


def tracked(lower: float = 0.0, upper: float = 0.0, *, as_of: int = NOON, pending: Pending | None = None) -> Tracked:
    return Tracked(VERSION, lower, upper, 3, as_of, pending)


def told(bar_close: int, own: CalibrationState = OWN_STATE, sent: CalibrationState | None = None) -> ItemForecast:
    """The container's answer at ``bar_close`` with the raw interval 98.5 to 101.5."""
    candles = CandleColumns.of(frame(100.0, start=bar_close - HOUR))
    item = ForecastItem(symbol="EURUSD=X", timeframe=Timeframe.H1, candles=candles, interval=sent)
    return forecast(item, 1, 1, own)


WAITING = tracked(pending=Pending(NOON + HOUR, 98.5, 101.5))


def settle(state: Tracked, bars: CandleFrame) -> Tracked:
    return settled({Timeframe.H1: state}, {Timeframe.H1: bars})[Timeframe.H1]


def issue(state: Tracked | None, item: ItemForecast) -> Tracked:
    return issued({} if state is None else {Timeframe.H1: state}, {Timeframe.H1: item})[Timeframe.H1]


# --- outcomes ---------------------------------------------------------------------------------------------------------


def test_the_outcome_is_the_close_of_the_bar_that_opens_when_the_forecast_was_made() -> None:
    learned = settle(WAITING, frame(100.0, 102.0, 100.0))
    assert learned == Tracked(VERSION, pytest.approx(-0.0005), pytest.approx(0.0095), 4, NOON + 2 * HOUR, None)


def test_a_later_bar_is_the_outcome_where_the_next_one_was_never_traded() -> None:
    learned = settle(WAITING, frame(100.0, 0.1, 0.1, 97.0, skip=(1, 2)))
    assert (learned.lower, learned.upper) == pytest.approx((0.0095, -0.0005))
    assert learned.as_of == NOON + 4 * HOUR


def test_a_forecast_waits_while_its_bar_is_not_finished() -> None:
    assert settle(WAITING, frame(100.0)) == WAITING
    assert settle(WAITING, frame()) == WAITING


def test_a_forecast_from_before_the_first_bar_is_dropped_and_teaches_nothing() -> None:
    late = frame(200.0, 200.0, start=NOON + 2 * HOUR)
    assert settle(WAITING, late) == replace(WAITING, pending=None)


def test_the_first_bar_may_be_the_outcome_where_it_opens_when_the_forecast_was_made() -> None:
    assert settle(WAITING, frame(102.0, start=NOON + HOUR)).revision == 4


def test_an_outcome_is_learned_once_however_often_its_bar_is_seen() -> None:
    bars = frame(100.0, 102.0, 102.0, 102.0)
    once = settle(WAITING, bars)
    assert settle(once, bars) == once


def test_what_is_given_stays_as_it_was_and_a_timeframe_without_bars_is_passed_on() -> None:
    stored = {Timeframe.H1: WAITING, Timeframe.H4: tracked(0.2)}
    learned = settled(stored, {Timeframe.H1: frame(100.0, 102.0)})
    assert stored == {Timeframe.H1: WAITING, Timeframe.H4: tracked(0.2)}
    assert learned[Timeframe.H4] == tracked(0.2)


def test_an_outcome_is_judged_by_the_corrected_interval() -> None:
    wide = replace(WAITING, upper=0.5)
    assert settle(wide, frame(100.0, 102.0)).upper == pytest.approx(0.4995)


# --- what is sent -----------------------------------------------------------------------------------------------------


def test_a_state_is_sent_only_with_bars_at_least_as_new_as_what_it_knows() -> None:
    known = {Timeframe.H1: tracked(0.1, 0.2, as_of=NOON + 2 * HOUR)}
    sent = CalibrationState(version=VERSION, lower=0.1, upper=0.2, revision=3, as_of=NOON + 2 * HOUR)
    assert sendable(known, {Timeframe.H1: frame(1.0, 1.0)}) == {Timeframe.H1: sent}
    assert sendable(known, {Timeframe.H1: frame(1.0)}) == {}
    assert sendable(known, {Timeframe.H4: frame(1.0, 1.0)}) == {}


# --- forecasts --------------------------------------------------------------------------------------------------------


def test_a_first_forecast_waits_with_the_state_of_its_bundle() -> None:
    own = OWN_STATE.model_copy(update={"lower": 0.05, "upper": -0.02})
    assert issue(None, told(NOON, own)) == Tracked(VERSION, 0.05, -0.02, 0, own.as_of, Pending(NOON, 98.5, 101.5))


def test_a_newer_forecast_takes_the_place_of_the_waiting_one_and_an_equal_or_older_does_not() -> None:
    newer = issue(WAITING, told(NOON + 2 * HOUR))
    assert newer == replace(WAITING, pending=Pending(NOON + 2 * HOUR, 98.5, 101.5))
    assert issue(WAITING, told(NOON + HOUR)) is WAITING
    assert issue(WAITING, told(NOON)) is WAITING


def test_a_forecast_older_than_the_newest_outcome_never_waits() -> None:
    """Bars that went back in time, or a bundle that knows the outcome already: it would be learned a second time."""
    state = tracked(0.1, as_of=NOON)
    assert issue(state, told(NOON - HOUR)) is state
    assert issue(state, told(NOON)).pending == Pending(NOON, 98.5, 101.5)
    knowing = OWN_STATE.model_copy(update={"as_of": NOON + 1})
    assert issued({}, {Timeframe.H1: told(NOON, knowing)}) == {}


def test_another_bundle_begins_anew_from_the_state_that_the_container_used() -> None:
    own = OWN_STATE.model_copy(update={"version": "cccccccccccc", "lower": 0.03})
    begun = issue(WAITING, told(NOON, own, sent=WAITING.state))
    assert begun == Tracked("cccccccccccc", 0.03, 0.0, 0, own.as_of, Pending(NOON, 98.5, 101.5))


def test_a_timeframe_whose_lstm_did_not_answer_keeps_what_it_has() -> None:
    silent = told(NOON + 2 * HOUR).model_copy(update={"lstm": None})
    assert issue(WAITING, silent) is WAITING
    assert issued({}, {Timeframe.H1: silent}) == {}


# --- all together -----------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(90.0, 110.0), min_size=2, max_size=60), st.data())
def test_requests_at_any_moments_learn_what_one_walk_over_their_bars_learns(
    closes: list[float], data: st.DataObject
) -> None:
    """Asked at every bar, at some twice and in any rhythm: each bar's outcome counts once, in order."""
    bars = frame(*closes)
    states: dict[Timeframe, Tracked] = {}
    for row in range(1, len(closes) + 1):
        seen = bars.rows(slice(0, row))
        item = told(NOON + row * HOUR)
        for _ in range(data.draw(st.integers(1, 3))):
            states = issued(settled(states, {Timeframe.H1: seen}), {Timeframe.H1: item})
    count = len(closes) - 1
    _, _, lower, upper = walk(np.full(count, 98.5), np.full(count, 101.5), np.array(closes[1:]))
    learned = states[Timeframe.H1]
    assert (learned.lower, learned.upper, learned.revision) == (lower, upper, count)
    assert learned.as_of == NOON + (count + 1) * HOUR


@given(st.integers(1, 40), st.data())
def test_bars_that_are_not_finished_yet_change_nothing(row: int, data: st.DataObject) -> None:
    closes = data.draw(st.lists(st.floats(90.0, 110.0), min_size=row, max_size=row))
    future = data.draw(st.lists(st.floats(90.0, 110.0), max_size=5))
    now = NOON + row * HOUR
    one, other = frame(*closes), frame(*closes, *future).finished_by(now)
    assert settle(WAITING, one) == settle(WAITING, other)


def test_all_four_timeframes_learn_apart() -> None:
    stored = {each: replace(WAITING, lower=number / 10) for number, each in enumerate(INTRADAY)}
    learned = settled(stored, {Timeframe.H1: frame(100.0, 102.0)})
    assert {each for each in INTRADAY if learned[each] != stored[each]} == {Timeframe.H1}
