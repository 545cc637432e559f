"""What one symbol's forecasts learn: each outcome once, in order, and nothing from the future."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusiontrade.fusion.calibration_states import MOST_WAITING, Tracked, Waiting, issued, sendable, settled
from fusiontrade.inference.contract import CHANCES, CalibrationState, CandleColumns, ForecastItem, ItemForecast
from fusiontrade.inference.intervals import walk
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import INTRADAY, Timeframe
from tests.support.fusion_fakes import BASE_CHANCES, BASE_LEANS, NOON, OWN_STATE, forecast

HOUR = Timeframe.H1.milliseconds
VERSION = OWN_STATE.version
STILL = (0.0,) * CHANCES


def frame(
    *closes: float,
    start: int = NOON,
    skip: tuple[int, ...] = (),
    high: Sequence[float] | None = None,
    low: Sequence[float] | None = None,
) -> CandleFrame:
    """Hourly bars from ``start`` on with these closes and edges, those numbered in ``skip`` left out."""
    kept = [row for row in range(len(closes)) if row not in skip]
    close = np.array([closes[row] for row in kept])
    top = close if high is None else np.array([high[row] for row in kept])
    bottom = close if low is None else np.array([low[row] for row in kept])
    time = start + HOUR * np.array(kept, np.int64)
    return CandleFrame("EURUSD=X", Timeframe.H1, time, close, top, bottom, close)


def waits(bar_close: int, chances: tuple[float, ...] = BASE_CHANCES, leans: tuple[float, ...] = BASE_LEANS) -> Waiting:
    """A forecast from 100 with an ATR of 1 and the raw interval 98.5 to 101.5."""
    return Waiting(bar_close, 100.0, 1.0, 98.5, 101.5, chances, leans)


def tracked(lower: float = 0.0, upper: float = 0.0, *waiting: Waiting, as_of: int = NOON) -> Tracked:
    return Tracked(VERSION, lower, upper, STILL, STILL, STILL, 3, as_of, waiting)


def told(bar_close: int, own: CalibrationState = OWN_STATE, sent: CalibrationState | None = None) -> ItemForecast:
    """The container's answer at ``bar_close``, the forecast that `waits` names."""
    candles = CandleColumns.of(frame(100.0, start=bar_close - HOUR))
    item = ForecastItem(symbol="EURUSD=X", timeframe=Timeframe.H1, candles=candles, state=sent)
    return forecast(item, 1, 1, own)


WAITING = tracked(0.0, 0.0, waits(NOON + HOUR))


def settle(state: Tracked, bars: CandleFrame) -> Tracked:
    return settled({Timeframe.H1: state}, {Timeframe.H1: bars})[Timeframe.H1]


def issue(state: Tracked | None, item: ItemForecast) -> Tracked:
    return issued({} if state is None else {Timeframe.H1: state}, {Timeframe.H1: item})[Timeframe.H1]


def came(*names: str) -> list[float]:
    """The offsets after the forecast that `waits` names, with these outcomes: ``+2`` touched, ``long`` won."""
    levels = ("1", "1.5", "2", "3", "4")
    order = [f"{side}{level}" for side in "+-±" for level in levels] + ["long", "short"]
    assert set(names) <= set(order)
    return [0.005 * ((name in names) - chance) for name, chance in zip(order, BASE_CHANCES, strict=True)]


def sloped(offsets: list[float]) -> list[float]:
    """The slopes that go with these offsets after that one forecast."""
    return [
        step * (math.log(chance / (1.0 - chance)) + 1.0) for step, chance in zip(offsets, BASE_CHANCES, strict=True)
    ]


def bent(offsets: list[float]) -> list[float]:
    """The bends that go with these offsets after that one forecast: at half their rate, times a parabola up to 3."""
    leans = [math.log(chance / (1.0 - chance)) + 1.0 for chance in BASE_CHANCES]
    return [0.5 * step * (min(lean * lean, 4.0) - 1.0) for step, lean in zip(offsets, leans, strict=True)]


# --- the next close ---------------------------------------------------------------------------------------------------


def test_the_next_close_is_that_of_the_bar_that_opens_when_the_forecast_was_made() -> None:
    learned = settle(WAITING, frame(100.0, 102.0, 100.0))
    assert learned == replace(
        WAITING, lower=pytest.approx(-0.00025), upper=pytest.approx(0.00475), revision=4, as_of=NOON + 2 * HOUR
    )


def test_a_later_bar_is_the_next_close_where_the_next_one_was_never_traded() -> None:
    learned = settle(WAITING, frame(100.0, 0.1, 0.1, 97.0, skip=(1, 2)))
    assert (learned.lower, learned.upper) == pytest.approx((0.00475, -0.00025))
    assert learned.as_of == NOON + 4 * HOUR


def test_a_forecast_waits_while_its_bar_is_not_finished() -> None:
    assert settle(WAITING, frame(100.0)) == WAITING
    assert settle(WAITING, frame()) == WAITING


def test_a_forecast_from_before_the_first_bar_leaves_and_teaches_nothing() -> None:
    late = frame(200.0, 200.0, 200.0, 200.0, 200.0, start=NOON + 2 * HOUR)
    assert settle(WAITING, late) == replace(WAITING, waiting=())


def test_the_first_bar_may_be_the_next_close_where_it_opens_when_the_forecast_was_made() -> None:
    assert settle(WAITING, frame(102.0, start=NOON + HOUR)).revision == 4


def test_a_next_close_is_learned_once_however_often_its_bar_is_seen() -> None:
    once = settle(WAITING, frame(100.0, 102.0))
    assert settle(once, frame(100.0, 102.0, 102.0, 102.0)) == once


def test_what_is_given_stays_as_it_was_and_a_timeframe_without_bars_is_passed_on() -> None:
    stored = {Timeframe.H1: WAITING, Timeframe.H4: tracked(0.2)}
    learned = settled(stored, {Timeframe.H1: frame(100.0, 102.0)})
    assert stored == {Timeframe.H1: WAITING, Timeframe.H4: tracked(0.2)}
    assert learned[Timeframe.H4] == tracked(0.2)


def test_a_next_close_is_judged_by_the_corrected_interval() -> None:
    wide = replace(WAITING, upper=0.5)
    assert settle(wide, frame(100.0, 102.0)).upper == pytest.approx(0.49975)


def test_next_closes_of_several_forecasts_teach_in_the_order_of_time() -> None:
    both = tracked(0.0, 0.0, waits(NOON + HOUR), waits(NOON + 2 * HOUR))
    learned = settle(both, frame(100.0, 101.51, 101.51))  # the first miss moves the side over the second outcome
    assert learned.upper == pytest.approx(0.00475 - 0.00025)
    assert (learned.revision, learned.as_of, len(learned.waiting)) == (5, NOON + 3 * HOUR, 2)


# --- the horizon ------------------------------------------------------------------------------------------------------


def test_touches_and_wins_teach_once_four_bars_are_finished_and_the_forecast_leaves() -> None:
    closes, high, low = (100.0,) * 5, (105.0, 100.0, 102.0, 100.5, 100.0), (95.0, 99.0, 99.5, 100.0, 98.6)
    three = settle(WAITING, frame(*closes[:4], high=high, low=low))
    assert (three.offsets, three.slopes, three.bends) == (STILL, STILL, STILL)
    assert (three.waiting, three.revision) == (WAITING.waiting, 4)
    learned = settle(three, frame(*closes, high=high, low=low))
    steps = came("+1", "+1.5", "+2", "-1", "±1", "±1.5", "±2", "long")
    assert learned.offsets == pytest.approx(steps)
    assert learned.slopes == pytest.approx(sloped(steps))
    assert learned.bends == pytest.approx(bent(steps))
    assert (learned.waiting, learned.revision, learned.as_of) == ((), 4, NOON + 5 * HOUR)


def test_bars_after_the_horizon_teach_nothing() -> None:
    short, long = frame(*(100.0,) * 5), frame(*(100.0,) * 5, 200.0, 1.0)
    learned = settle(WAITING, long)
    assert learned == settle(WAITING, short)
    assert learned.offsets == pytest.approx(came())
    assert learned.slopes == pytest.approx(sloped(came()))
    assert learned.bends == pytest.approx(bent(came()))


def test_a_horizon_is_learned_once_however_often_its_bars_are_seen() -> None:
    bars = frame(*(100.0,) * 9)
    once = settle(WAITING, bars)
    assert settle(once, bars) == once
    again = issue(once, told(NOON + HOUR))
    assert again == once


def test_a_gap_within_the_horizon_is_passed_over() -> None:
    high = (100.0, 0.0, 0.0, 100.0, 100.0, 100.0, 104.0)
    learned = settle(WAITING, frame(*(100.0,) * 7, skip=(1, 2), high=high))
    touched = [f"{side}{level}" for side in "+±" for level in ("1", "1.5", "2", "3", "4")]
    assert learned.offsets == pytest.approx(came(*touched, "long"))
    assert learned.slopes == pytest.approx(sloped(came(*touched, "long")))
    assert learned.bends == pytest.approx(bent(came(*touched, "long")))


@pytest.mark.parametrize(("hours", "learned"), [(72, True), (73, False)])
def test_a_horizon_may_take_three_days_beyond_its_bars_and_else_leaves_without_teaching_probabilities(
    hours: int, learned: bool
) -> None:
    bars = frame(*(100.0,) * (5 + hours), skip=tuple(range(4, 4 + hours)))
    after = settle(WAITING, bars)
    assert (after.waiting, after.revision) == ((), 4)
    assert after.offsets == (pytest.approx(came()) if learned else STILL)
    assert after.slopes == (pytest.approx(sloped(came())) if learned else STILL)
    assert after.bends == (pytest.approx(bent(came())) if learned else STILL)
    assert after.as_of == (int(bars.close_time[-1]) if learned else NOON + 2 * HOUR)


def test_what_is_known_never_gets_older_in_whatever_order_it_comes() -> None:
    both = tracked(0.0, 0.0, waits(NOON + HOUR), waits(NOON + 3 * HOUR))
    assert settle(both, frame(*(100.0,) * 5)).as_of == NOON + 5 * HOUR  # a horizon, then an older next close
    apart = tracked(0.0, 0.0, waits(NOON + HOUR), waits(NOON + 6 * HOUR))
    holes = settle(apart, frame(*(100.0,) * 7, skip=(2, 3, 4, 5)))
    assert (holes.as_of, len(holes.waiting)) == (NOON + 7 * HOUR, 2)
    filled = settle(holes, frame(*(100.0,) * 7))
    assert (filled.as_of, filled.waiting) == (NOON + 7 * HOUR, (waits(NOON + 6 * HOUR),))


def test_probabilities_learn_from_what_was_issued_and_not_from_what_would_be_now() -> None:
    sure = tracked(0.0, 0.0, waits(NOON + HOUR, (0.25,) * CHANCES, tuple(range(CHANCES))))
    known = replace(sure, offsets=(0.5,) * CHANCES, slopes=(0.25,) * CHANCES, bends=(0.05,) * CHANCES)
    learned = settle(known, frame(*(100.0,) * 5))
    assert learned.offsets == pytest.approx([0.5 - 0.005 * 0.25] * CHANCES)
    assert learned.slopes == pytest.approx([0.25 - 0.005 * 0.25 * lean for lean in range(CHANCES - 1)] + [0.23])
    falls = [-1.0, 0.0, *[3.0] * (CHANCES - 2)]
    assert learned.bends == pytest.approx([0.05 - 0.0025 * 0.25 * fall for fall in falls])


def test_a_forecast_that_leaned_neither_way_teaches_no_slope() -> None:
    usual = tracked(0.0, 0.0, waits(NOON + HOUR, leans=STILL))
    learned = settle(replace(usual, slopes=(0.25,) * CHANCES), frame(*(100.0,) * 5))
    assert learned.offsets == pytest.approx(came())
    assert learned.slopes == (0.25,) * CHANCES
    assert learned.bends == pytest.approx([-step / 2.0 for step in came()])  # at usual: the middle of the curve


def test_a_forecast_one_logit_from_usual_teaches_no_bend() -> None:
    apart = tracked(0.0, 0.0, waits(NOON + HOUR, leans=(1.0, *[-1.0] * (CHANCES - 1))))
    learned = settle(replace(apart, bends=(0.05,) * CHANCES), frame(*(100.0,) * 5))
    assert learned.offsets == pytest.approx(came())
    assert learned.bends == (0.05,) * CHANCES


@pytest.mark.parametrize(("lean", "end"), [(100.0, -0.5), (-100.0, 0.5)])
def test_offsets_slopes_and_bends_end_where_the_contract_ends_them(lean: float, end: float) -> None:
    waiting = (waits(NOON + HOUR, leans=(lean,) * CHANCES),)
    ends = {"offsets": (-2.0,) * CHANCES, "slopes": (end,) * CHANCES, "bends": (-0.1,) * CHANCES}
    learned = settle(replace(WAITING, **ends, waiting=waiting), frame(*(100.0,) * 5))
    assert {name: getattr(learned, name) for name in ends} == ends
    assert {name: getattr(learned.state, name) for name in ends} == ends


# --- what is sent -----------------------------------------------------------------------------------------------------


def test_a_state_is_sent_only_with_bars_at_least_as_new_as_what_it_knows() -> None:
    steps = {"offsets": (0.5, *STILL[1:]), "slopes": (*STILL[1:], -0.25), "bends": (*STILL[1:], 0.05)}
    known = {Timeframe.H1: replace(tracked(0.1, 0.2, as_of=NOON + 2 * HOUR), **steps)}
    sent = CalibrationState(version=VERSION, lower=0.1, upper=0.2, **steps, revision=3, as_of=NOON + 2 * HOUR)
    assert sendable(known, {Timeframe.H1: frame(1.0, 1.0)}) == {Timeframe.H1: sent}
    assert sendable(known, {Timeframe.H1: frame(1.0)}) == {}
    assert sendable(known, {Timeframe.H4: frame(1.0, 1.0)}) == {}


# --- forecasts --------------------------------------------------------------------------------------------------------


def test_a_first_forecast_waits_with_the_state_of_its_bundle() -> None:
    offsets = (0.5, *STILL[1:])
    slopes, bends = (0.25, *STILL[1:]), (0.05, *STILL[1:])
    steps = {"offsets": offsets, "slopes": slopes, "bends": bends}
    own = OWN_STATE.model_copy(update={"lower": 0.05, "upper": -0.02} | steps)
    odds = math.exp(0.5 + 0.25)  # even ones, which lean up by 1, moved; a bend is nothing there
    begun = issue(None, told(NOON, own))
    waiting = waits(NOON, (pytest.approx(odds / (1.0 + odds)), *BASE_CHANCES[1:]))
    assert begun == Tracked(VERSION, 0.05, -0.02, offsets, slopes, bends, 0, own.as_of, (waiting,))


def test_a_newer_forecast_waits_beside_the_older_ones_and_an_equal_or_older_does_not() -> None:
    newer = issue(WAITING, told(NOON + 2 * HOUR))
    assert newer == replace(WAITING, waiting=(waits(NOON + HOUR), waits(NOON + 2 * HOUR)))
    assert issue(WAITING, told(NOON + HOUR)) is WAITING
    assert issue(WAITING, told(NOON)) is WAITING


def test_a_forecast_older_than_the_newest_outcome_never_waits() -> None:
    """Bars that went back in time, or a bundle that knows the outcome already: it would be learned a second time."""
    state = tracked(0.1, as_of=NOON)
    assert issue(state, told(NOON - HOUR)) is state
    assert issue(state, told(NOON)).waiting == (waits(NOON),)
    knowing = OWN_STATE.model_copy(update={"as_of": NOON + 1})
    assert issued({}, {Timeframe.H1: told(NOON, knowing)}) == {}


def test_another_bundle_begins_anew_from_the_state_that_the_container_used() -> None:
    own = OWN_STATE.model_copy(update={"version": "cccccccccccc", "lower": 0.03})
    learned = replace(WAITING, offsets=(0.5,) * CHANCES, slopes=(0.25,) * CHANCES, bends=(0.05,) * CHANCES)
    begun = issue(learned, told(NOON, own, sent=learned.state))
    assert begun == Tracked("cccccccccccc", 0.03, 0.0, STILL, STILL, STILL, 0, own.as_of, (waits(NOON),))


def test_a_timeframe_whose_lstm_did_not_answer_keeps_what_it_has() -> None:
    silent = told(NOON + 2 * HOUR).model_copy(update={"lstm": None})
    assert issue(WAITING, silent) is WAITING
    assert issued({}, {Timeframe.H1: silent}) == {}


@pytest.mark.parametrize(
    "lacking",
    [{"bar_close": None}, {"current_price": None}, {"atr": None}, {"atr": 0.0}, {"atr": -1.0}, {"current_price": 0.0}],
)
def test_a_forecast_whose_outcome_could_not_be_told_never_waits(lacking: dict[str, float | None]) -> None:
    assert issue(WAITING, told(NOON + 2 * HOUR).model_copy(update=lacking)) is WAITING


def test_a_forecast_of_another_horizon_than_outcomes_are_settled_by_never_waits() -> None:
    item = told(NOON + 2 * HOUR)
    assert item.lstm is not None
    longer = item.model_copy(update={"lstm": item.lstm.model_copy(update={"horizon_bars": 8})})
    assert issue(WAITING, longer) is WAITING


def test_of_forecasts_whose_bars_never_come_the_oldest_are_dropped() -> None:
    state = tracked()
    for row in range(MOST_WAITING + 3):
        state = issue(state, told(NOON + row * HOUR))
    assert [each.bar_close for each in state.waiting] == [NOON + row * HOUR for row in range(3, MOST_WAITING + 3)]


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
    assert len(learned.waiting) == min(4, len(closes))


@given(st.integers(1, 40), st.data())
def test_bars_that_are_not_finished_yet_change_nothing(row: int, data: st.DataObject) -> None:
    closes = data.draw(st.lists(st.floats(90.0, 110.0), min_size=row, max_size=row))
    future = data.draw(st.lists(st.floats(90.0, 110.0), max_size=5))
    several = tracked(0.0, 0.0, *(waits(NOON + hours * HOUR) for hours in range(1, 5)))
    now = NOON + row * HOUR
    one, other = frame(*closes), frame(*closes, *future).finished_by(now)
    assert settle(several, one) == settle(several, other)


@given(st.lists(st.floats(90.0, 110.0), min_size=10, max_size=10), st.data())
def test_bars_seen_one_by_one_teach_what_they_teach_at_once(closes: list[float], data: st.DataObject) -> None:
    made = data.draw(st.sets(st.integers(0, 6), min_size=1))
    several = tracked(0.0, 0.0, *(waits(NOON + hours * HOUR) for hours in sorted(made)))
    step_by_step = several
    for row in range(1, 11):
        step_by_step = settle(step_by_step, frame(*closes[:row]))
    assert step_by_step == settle(several, frame(*closes))


def test_all_four_timeframes_learn_apart() -> None:
    stored = {each: replace(WAITING, lower=number / 10) for number, each in enumerate(INTRADAY)}
    learned = settled(stored, {Timeframe.H1: frame(100.0, 102.0)})
    assert {each for each in INTRADAY if learned[each] != stored[each]} == {Timeframe.H1}
