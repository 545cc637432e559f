"""What is taken from yfinance's tables, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from fusiontrade.clock import iso
from fusiontrade.errors import ProviderUnavailable
from fusiontrade.market.providers.yahoo import frame_of
from fusiontrade.market.symbols import parse_symbol
from fusiontrade.market.timeframes import Timeframe

EURUSD = parse_symbol("EURUSD=X")


def table(**changes: Any) -> pd.DataFrame:
    index = pd.DatetimeIndex(["2025-07-23 09:00", "2025-07-23 10:00"], tz="Europe/London")
    prices = {"Open": [1.0, 1.1], "High": [1.2, 1.3], "Low": [0.9, 1.0], "Close": [1.1, 1.2], "Volume": [0, 0]}
    return pd.DataFrame({**prices, **changes}, index=index)


@pytest.mark.parametrize("symbol_first", [True, False])
def test_columns_of_two_levels_give_those_of_the_symbol(symbol_first: bool) -> None:
    both = pd.concat({"GBPUSD=X": table() * 2, "EURUSD=X": table()}, axis=1)
    frame = frame_of(both if symbol_first else both.swaplevel(axis=1), EURUSD, Timeframe.H1)
    np.testing.assert_array_equal(frame.close, [1.1, 1.2])
    assert iso(int(frame.time[0])) == "2025-07-23T08:00:00Z"


def test_columns_of_two_levels_without_the_symbol_are_refused() -> None:
    with pytest.raises(ProviderUnavailable, match="no columns for EURUSD=X"):
        frame_of(pd.concat({"GBPUSD=X": table()}, axis=1), EURUSD, Timeframe.H1)


def test_a_renamed_column_is_named() -> None:
    with pytest.raises(ProviderUnavailable, match=r"lacks Close \(it has Open, High, Low, Last, Volume\)"):
        frame_of(table().rename(columns={"Close": "Last"}), EURUSD, Timeframe.H1)


def test_unadjusted_prices_are_refused() -> None:
    with pytest.raises(ProviderUnavailable, match="not adjusted"):
        frame_of(table(**{"Adj Close": [1.0, 1.1]}), EURUSD, Timeframe.H1)


def test_times_without_a_zone_are_refused() -> None:
    with pytest.raises(ProviderUnavailable, match="no zone"):
        frame_of(table().tz_localize(None), EURUSD, Timeframe.H1)


def test_of_rows_of_one_time_the_last_counts() -> None:
    doubled = pd.concat([table(), table(Close=[1.15, 1.25])])
    np.testing.assert_array_equal(frame_of(doubled, EURUSD, Timeframe.H1).close, [1.15, 1.25])


def test_a_close_outside_its_bar_by_rounding_is_taken_in_and_by_more_is_not() -> None:
    rounded = frame_of(table(Close=[1.2 * (1 + 1e-12), 1.2]), EURUSD, Timeframe.H1)
    assert rounded.faults() == []
    assert rounded.high[0] == rounded.close[0]
    wrong = frame_of(table(Close=[1.2 * 1.001, 1.2]), EURUSD, Timeframe.H1)
    assert wrong.faults() == ["open or close outside high and low at 2025-07-23T08:00:00.000Z"]


@pytest.mark.parametrize(
    ("volume", "expected"), [([np.nan, 5.0], [0.0, 5.0]), ([np.nan, np.nan], None), ([0.0, 0.0], [0.0, 0.0])]
)
def test_a_gap_in_the_volume_is_no_trade_and_a_series_without_any_has_none(
    volume: list[float], expected: list[float] | None
) -> None:
    traded = frame_of(table(Volume=volume), parse_symbol("BTC-USD"), Timeframe.H1).volume
    assert (None if traded is None else traded.tolist()) == expected
