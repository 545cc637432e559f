"""What a Kronos graph is fed: by hand, against the standard library's calendar, and from each window's own bars."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusiontrade.errors import InvalidInput
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from serving.kronos.windows import columns_of, normalised, stamps_of, windows_of

HOUR = 3_600_000
FIRST = 1_709_200_800_000  # 2024-02-29 10:00, a Thursday


def frame(bars: int, *, seed: int = 5, volume: bool = True) -> CandleFrame:
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.01, bars)))
    opened = close * (1 + random.normal(0, 0.003, bars))
    return CandleFrame(
        "TEST",
        Timeframe.H1,
        FIRST + HOUR * np.arange(bars),
        opened,
        np.maximum(opened, close) * 1.01,
        np.minimum(opened, close) * 0.99,
        close,
        random.uniform(1, 100, bars) if volume else None,
    )


def test_columns_are_normalised_by_mean_and_population_deviation_and_cut() -> None:
    window = np.zeros((4, 6))
    window[:, 0] = (1, 2, 3, 4)
    window[:, 4] = (0, 0, 0, 1e9)
    found = normalised(window)
    deviation = np.sqrt(1.25)
    np.testing.assert_allclose(found[:, 0], np.array((-1.5, -0.5, 0.5, 1.5)) / deviation, rtol=1e-4)
    np.testing.assert_array_equal(found[:, 1], 0)
    assert found.dtype == np.float32
    window = np.zeros((120, 6))
    window[-1] = 1e9
    assert normalised(window).max() == 5.0


@given(st.lists(st.integers(-500_000_000, 6_000_000_000), min_size=1, max_size=5))
def test_stamps_are_those_of_the_calendar(seconds: list[int]) -> None:
    found = stamps_of(np.array(seconds) * 1000)
    moments = [datetime.fromtimestamp(second, UTC) for second in seconds]
    assert found.tolist() == [[m.minute, m.hour, m.weekday(), m.day, m.month] for m in moments]
    assert found.dtype == np.int64


def test_a_market_without_volume_has_none_and_no_amount() -> None:
    with_volume, without = columns_of(frame(3)), columns_of(frame(3, volume=False))
    np.testing.assert_allclose(with_volume[:, 5], with_volume[:, 4] * with_volume[:, :4].mean(axis=1))
    np.testing.assert_array_equal(without[:, 4:], 0)
    np.testing.assert_array_equal(without[:, :4], with_volume[:, :4])


def test_a_window_is_made_of_its_own_bars_alone() -> None:
    history = frame(60)
    bars, stamps = windows_of(history, 20, [19, 40, 59])
    assert bars.shape == (3, 20, 6)
    assert stamps[0, 0].tolist() == [0, 10, 3, 29, 2]
    for place, row in enumerate((19, 40, 59)):
        alone = history.rows(slice(row - 19, row + 1))
        np.testing.assert_array_equal(bars[place], normalised(columns_of(alone)))
        np.testing.assert_array_equal(stamps[place], stamps_of(alone.time))
        known = history.rows(slice(0, row + 1))
        np.testing.assert_array_equal(bars[place], windows_of(known, 20, [row])[0][0])


def test_windows_that_cannot_be_are_refused() -> None:
    assert [one.shape for one in windows_of(frame(30), 20, [])] == [(0, 20, 6), (0, 20, 5)]
    for row in (18, 30, -1):
        with pytest.raises(InvalidInput, match=r"end at 19 … 29"):
            windows_of(frame(30), 20, [row])
    with pytest.raises(InvalidInput, match=r"\(\.\.\., T, 6\)"):
        normalised(np.zeros((3, 5)))
    with pytest.raises(InvalidInput, match="not finite"):
        normalised(np.full((3, 6), np.nan))
    for large in (1e200, 1e308):
        window = np.ones((3, 6))
        window[1] = large
        with pytest.raises(InvalidInput, match="too large to be compared"):
            normalised(window)


def test_bars_beyond_all_measure_are_refused_and_not_guessed_at() -> None:
    history = frame(30)
    large = replace(history, **{name: getattr(history, name) * 1e306 for name in ("open", "high", "low", "close")})
    with pytest.raises(InvalidInput, match="not finite"):
        windows_of(large, 20, [25])
