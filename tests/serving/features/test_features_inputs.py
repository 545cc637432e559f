"""Model inputs: the same numbers in training and in serving, of the past alone."""

from __future__ import annotations

import numpy as np
import pytest

from fusiontrade.errors import BadCandles
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from serving.features import (
    BARS_NEEDED,
    CANDLE_CHANNELS,
    PATCHTST_BARS_NEEDED,
    WINDOW,
    CandleWindows,
    LstmWindows,
    atr,
    calendar_columns,
    gather,
    indicators,
    lstm_inputs,
    patchtst_inputs,
)

ROWS = [BARS_NEEDED - 1, 901, 1_313, 1_700, 1_999]


def test_training_features_equal_the_served_features_of_the_same_bar(frame: CandleFrame) -> None:
    trained, trained_calendar = LstmWindows.of(frame).gather(ROWS)
    for place, row in enumerate(ROWS):
        served, calendar = lstm_inputs(frame.rows(slice(0, row + 1)).tail(BARS_NEEDED))
        np.testing.assert_allclose(served[0], trained[place], atol=1e-6)
        np.testing.assert_array_equal(calendar[0], trained_calendar[place])


def test_training_candles_equal_the_served_candles_of_the_same_bar(frame: CandleFrame) -> None:
    trained, trained_calendar = CandleWindows.of(frame).gather(ROWS)
    for place, row in enumerate(ROWS):
        served, calendar = patchtst_inputs(frame.rows(slice(0, row + 1)).tail(PATCHTST_BARS_NEEDED))
        np.testing.assert_allclose(served[0], trained[place], atol=1e-6, rtol=1e-6)
        np.testing.assert_array_equal(calendar[0], trained_calendar[place])


def test_the_newest_row_is_asked_for_by_default_whatever_the_length(make_frame) -> None:
    frame = make_frame()
    for inputs in (lstm_inputs, patchtst_inputs):
        by_default = inputs(frame)
        named = inputs(frame, [1_999])
        np.testing.assert_allclose(by_default[0], named[0], atol=1e-6)
        np.testing.assert_array_equal(by_default[1], named[1])


def test_lstm_input_is_sixty_rows_of_indicators_and_calendar(make_frame) -> None:
    frame = make_frame()
    features, calendar = lstm_inputs(frame, [800, 700])

    assert features.shape == (2, 60, 50)
    assert calendar.shape == (2, 60, 8)
    assert features.dtype == calendar.dtype == np.float32
    np.testing.assert_array_equal(features[1], indicators(frame).scaled[641:701])
    np.testing.assert_array_equal(calendar[0], calendar_columns(frame.time, frame.timeframe)[741:801])


def test_candles_are_log_distances_from_the_last_close_in_atr(make_frame) -> None:
    frame = make_frame()
    row = 1_000
    candles, calendar = patchtst_inputs(frame, [row])
    unit = atr(frame)[row] / frame.close[row]
    window = slice(row - 119, row + 1)

    assert CANDLE_CHANNELS == ("open", "high", "low", "close", "volume")
    assert candles.shape == (1, 120, 5)
    assert calendar.shape == (1, 8)
    assert candles[0, -1, 3] == 0
    for channel, name in enumerate(CANDLE_CHANNELS[:4]):
        expected = np.log(getattr(frame, name)[window] / frame.close[row]) / unit
        np.testing.assert_allclose(candles[0, :, channel], expected, rtol=1e-5, atol=1e-5)
    usual = frame.volume[row - WINDOW + 1 : row + 1].mean()
    expected = np.log((frame.volume[window] / usual + 0.01) / 1.01)
    np.testing.assert_allclose(candles[0, :, 4], expected, rtol=1e-5, atol=1e-6)


def test_without_volume_the_volume_channel_is_zero(make_frame) -> None:
    candles, _ = patchtst_inputs(make_frame(volume=False))
    assert (candles[..., 4] == 0).all()
    assert (candles[..., :3] != 0).any()


def test_every_row_with_enough_bars_behind_it_is_offered_and_finite(make_frame) -> None:
    frame = make_frame(rows=700, flat=(100, 690), timeframe=Timeframe.H4)
    lstm, candle = LstmWindows.of(frame), CandleWindows.of(frame)

    assert lstm.rows.tolist() == list(range(658, 700))
    assert candle.rows.tolist() == list(range(599, 700))
    assert all(np.isfinite(part).all() for part in lstm.gather(lstm.rows))
    assert all(np.isfinite(part).all() for part in candle.gather(candle.rows))


@pytest.mark.parametrize(("inputs", "needed"), [(lstm_inputs, 659), (patchtst_inputs, 600)])
def test_too_few_bars_are_refused(make_frame, inputs, needed: int) -> None:
    with pytest.raises(BadCandles, match=f"needs {needed} bars, has {needed - 1}"):
        inputs(make_frame(rows=needed - 1))
    with pytest.raises(BadCandles, match=f"rows must lie between {needed - 1} and 699"):
        inputs(make_frame(rows=700), [needed - 2])
    with pytest.raises(BadCandles, match="rows must lie between"):
        inputs(make_frame(rows=700), [700])


def test_gather_returns_the_rows_that_end_at_each_asked_for() -> None:
    matrix = np.arange(20.0).reshape(10, 2)
    np.testing.assert_array_equal(gather(matrix, [2, 9], 3), [matrix[0:3], matrix[7:10]])
    assert gather(matrix, [], 3).shape == (0, 3, 2)
