"""The parabolic stop: every row is that of TA-Lib's own run over the row's own window."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import talib

from fusiontrade.market.candles import CandleFrame
from serving.features import WINDOW
from serving.features.stops import parabolic_sar


def of_own_windows(frame: CandleFrame) -> np.ndarray:
    """One run of TA-Lib for each row, from the left edge of its window."""
    starts = range(len(frame) - WINDOW + 1)
    windows = (slice(start, start + WINDOW) for start in starts)
    return np.array([talib.SAR(frame.high[window], frame.low[window], 0.02, 0.2)[-1] for window in windows])


def newest(frame: CandleFrame, rows: int) -> np.ndarray:
    return parabolic_sar(frame.high, frame.low, rows=rows)


def test_every_row_is_that_of_a_run_from_the_left_edge_of_its_window(frame: CandleFrame) -> None:
    np.testing.assert_array_equal(newest(frame, len(frame) - WINDOW + 1), of_own_windows(frame))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("tick", [0.01, 0.05, 0.25])
def test_it_is_where_prices_come_in_ticks_and_bars_without_range_are_common(make_frame, seed: int, tick: float) -> None:
    walk = make_frame(1_500, seed=seed)
    rounded = {name: np.round(getattr(walk, name) / tick) * tick for name in ("open", "high", "low", "close")}
    frame = replace(walk, **rounded)
    np.testing.assert_array_equal(newest(frame, 901), of_own_windows(frame))


@pytest.mark.parametrize("drift", [-0.004, 0.0008, 0.004])
def test_it_is_in_a_market_that_goes_one_way(make_frame, drift: float) -> None:
    walk = make_frame(1_500)
    trend = np.exp(drift * np.arange(1_500))
    frame = replace(walk, **{name: getattr(walk, name) * trend for name in ("open", "high", "low", "close")})
    np.testing.assert_array_equal(newest(frame, 901), of_own_windows(frame))


@pytest.mark.parametrize("rows", [1, 2, 60, 901])
def test_how_many_rows_are_asked_for_and_how_much_is_older_changes_none(make_frame, rows: int) -> None:
    frame = make_frame(1_500, seed=9)
    whole = newest(frame, 901)
    np.testing.assert_array_equal(newest(frame, rows), whole[-rows:])
    np.testing.assert_array_equal(newest(frame.tail(WINDOW + rows - 1), rows), whole[-rows:])


def test_several_series_have_the_stops_of_each(make_frame) -> None:
    frames = [make_frame(800, seed=1), make_frame(800, seed=2, price=3e-6), make_frame(800, seed=3, flat=(100, 750))]
    together = parabolic_sar(np.stack([one.high for one in frames]), np.stack([one.low for one in frames]), rows=60)
    assert together.shape == (3, 60)
    for stops, frame in zip(together, frames, strict=True):
        np.testing.assert_array_equal(stops, newest(frame, 60))
