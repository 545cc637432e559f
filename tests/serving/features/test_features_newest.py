"""Inputs of the newest bars of many frames at once: the numbers of each alone, and of its own history."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fusiontrade.errors import BadCandles
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from serving.features import (
    BARS_NEEDED,
    PATCHTST_BARS_NEEDED,
    CandleWindows,
    LstmWindows,
    NewestInputs,
    atr,
    slots_a_week,
    usual_week,
    volatility_columns,
)

TIMEFRAMES = (Timeframe.H1, Timeframe.M15, Timeframe.H1, Timeframe.H4)


def close_to(got: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(got, expected, rtol=2e-6, atol=2e-6)


def week(timeframe: Timeframe, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.3, 3.0, slots_a_week(timeframe))


@pytest.fixture(scope="module")
def frames(make_frame) -> list[CandleFrame]:
    """Four markets of different size, timeframe and mood."""
    moods = ({}, {"price": 3e-6}, {"flat": (500, 1_100)}, {"price": 4e5, "idle": (0, 900)})
    return [
        replace(make_frame(1_200, seed=seed, timeframe=timeframe, **mood), symbol=f"S{seed}")
        for seed, (timeframe, mood) in enumerate(zip(TIMEFRAMES, moods, strict=True))
    ]


@pytest.mark.parametrize("volume", [True, False])
def test_many_frames_at_once_have_the_inputs_that_training_cuts_out_of_each(frames, volume: bool) -> None:
    if not volume:
        frames = [frame.without_volume() for frame in frames]
    newest = NewestInputs([frame.tail(BARS_NEEDED) for frame in frames])
    features, calendar = newest.lstm()
    candles, last_calendar = newest.patchtst()
    usual = [week(frame.timeframe, place) for place, frame in enumerate(frames)]
    volatility = newest.volatility(usual)

    assert features.dtype == candles.dtype == volatility.dtype == np.float32
    for place, frame in enumerate(frames):
        row = [len(frame) - 1]
        trained, trained_calendar = LstmWindows.of(frame).gather(row)
        close_to(features[place], trained[0])
        np.testing.assert_array_equal(calendar[place], trained_calendar[0])
        trained, trained_calendar = CandleWindows.of(frame).gather(row)
        close_to(candles[place], trained[0])
        np.testing.assert_array_equal(last_calendar[place], trained_calendar[0])
        close_to(volatility[place], volatility_columns(frame, usual[place])[-1])
        assert newest.atr[place] == pytest.approx(atr(frame)[-1], rel=1e-9)
        assert newest.close[place] == frame.close[-1]


def test_no_frame_changes_the_numbers_of_another(frames) -> None:
    together = NewestInputs(frames)
    for place, frame in enumerate(frames):
        alone, usual = NewestInputs([frame]), week(frame.timeframe, place)
        np.testing.assert_array_equal(together.lstm()[0][place], alone.lstm()[0][0])
        np.testing.assert_array_equal(together.patchtst()[0][place], alone.patchtst()[0][0])
        others = [week(other.timeframe, seed) for seed, other in enumerate(frames)]
        np.testing.assert_array_equal(together.volatility(others)[place], alone.volatility([usual])[0])


def test_the_usual_week_is_the_symbols_own_or_its_kinds_with_its_own_times_of_day(frames) -> None:
    newest = NewestInputs(frames)
    for place, frame in enumerate(frames):
        known = {frame.symbol: week(frame.timeframe, 1), "any": week(frame.timeframe, 2)}
        np.testing.assert_array_equal(newest.usual_week(known, None, place).usual, known[frame.symbol])
        kinds = {"crypto": week(frame.timeframe, 3), "any": week(frame.timeframe, 2)}
        for market in ("crypto", "fx", None):
            expected = usual_week(kinds, frame, market)
            np.testing.assert_allclose(newest.usual_week(kinds, market, place).usual, expected, rtol=1e-12)
            assert np.ptp(expected / kinds.get(market or "any", kinds["any"])) > 0


def test_six_hundred_bars_are_enough_for_all_but_the_lstm(make_frame) -> None:
    short = NewestInputs([make_frame(PATCHTST_BARS_NEEDED)])
    assert short.patchtst()[0].shape == (1, 120, 5)
    assert np.isfinite(short.volatility([np.ones(168)])).all()
    with pytest.raises(BadCandles, match="needs 659 bars, has 600"):
        short.lstm()
    with pytest.raises(BadCandles, match="needs 600 bars, has 599"):
        NewestInputs([make_frame(599)])


def test_frames_that_do_not_fit_together_are_refused(make_frame) -> None:
    for frames in (
        [],
        [make_frame(700), make_frame(701)],
        [make_frame(700), make_frame(700, volume=False)],
    ):
        with pytest.raises(ValueError, match="one length, and all with a volume or all without"):
            NewestInputs(frames)


def test_calendars_shared_between_frames_cannot_be_written_to(make_frame) -> None:
    first, second = NewestInputs([make_frame(700)]), NewestInputs([make_frame(700, seed=1)])
    before = second.lstm()[1].copy()
    first.lstm()[1][:] = 7.0
    np.testing.assert_array_equal(second.lstm()[1], before)
    np.testing.assert_array_equal(NewestInputs([make_frame(700, seed=2)]).lstm()[1], before)


def test_absurd_volumes_warn_nobody_and_change_no_other_frame(frames) -> None:
    absurd = replace(frames[0], volume=np.full(len(frames[0]), 1.7e308))
    newest, alone = NewestInputs([absurd, frames[1]]), NewestInputs([frames[1]])
    usual = [week(frame.timeframe, 0) for frame in frames[:2]]
    for got, expected in (
        (newest.lstm()[0][1], alone.lstm()[0][0]),
        (newest.patchtst()[0][1], alone.patchtst()[0][0]),
        (newest.volatility(usual)[1], alone.volatility(usual[1:])[0]),
    ):
        np.testing.assert_array_equal(got, expected)
    assert np.isfinite(newest.volatility(usual)).all()


def test_what_was_asked_for_once_is_kept(frames) -> None:
    newest = NewestInputs(frames)
    assert newest.lstm()[0] is newest.lstm()[0]
    assert newest.patchtst()[0] is newest.patchtst()[0]
