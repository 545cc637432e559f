"""What holds for every swing column: its window, its finiteness, its freedom from scale, the layouts of the vectors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fusiontrade.errors import BadCandles
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from serving.features import WINDOW, indicators
from serving.features.columns import INDICATORS
from serving.features.swing import (
    ALIGNMENT,
    CONTEXT_NAMES,
    SMART_MONEY,
    SWING_NAMES,
    TECHNICAL,
    VETO_NAMES,
    context,
    price_windows,
    smart_money,
    swing_vectors,
    technical,
    veto_vectors,
)

DAY = 86_400_000
MARKETS = [
    {},
    {"flat": (300, 1_000)},
    {"flat": (900, 1_300), "idle": (850, 1_400)},
    {"price": 3e-6, "seed": 3},
    {"volume": False, "seed": 5},
]


@pytest.fixture(scope="module", params=MARKETS, ids=["walk", "long_flat", "flat_and_idle", "tiny_price", "no_volume"])
def days(request, make_frame) -> CandleFrame:
    """1,400 daily bars of each kind of market that must not matter."""
    return make_frame(1_400, timeframe=Timeframe.D1, **request.param)


def scaled(frame: CandleFrame, price: float, volume: float) -> CandleFrame:
    columns = {name: price * getattr(frame, name) for name in ("open", "high", "low", "close")}
    return replace(frame, **columns, volume=None if frame.volume is None else volume * frame.volume)


def test_the_layouts_are_named_and_as_wide_as_the_models_expect() -> None:
    assert (len(CONTEXT_NAMES), len(SWING_NAMES), len(VETO_NAMES)) == (29, 541, 551)
    assert (len(ALIGNMENT), len(SMART_MONEY), len(TECHNICAL)) == (5, 12, 12)
    assert len(set(VETO_NAMES)) == 551
    assert SWING_NAMES[0] == "kronos_0"
    assert SWING_NAMES[512] == "alignment_1M"
    assert SWING_NAMES[517] == "bullish_order_blocks"
    assert SWING_NAMES[529] == "rsi"
    assert VETO_NAMES[541] == "stockformer_return_3d"
    assert VETO_NAMES[547:] == ("stockformer_uncertainty", "tft_uncertainty", "tft_width", "tft_entropy")


def test_vectors_put_their_parts_where_the_names_say() -> None:
    vectors = swing_vectors(np.full((2, 512), 1.0), np.full((2, 29), 2.0))
    whole = veto_vectors(vectors, [[3.0] * 6] * 2, [[4.0] * 4] * 2)
    assert whole.dtype == np.float32
    assert whole[1].tolist() == [1.0] * 512 + [2.0] * 29 + [3.0] * 6 + [4.0] * 4
    with pytest.raises(ValueError, match=r"contexts must be \(rows, 29\), got \(2, 28\)"):
        swing_vectors(np.zeros((2, 512)), np.zeros((2, 28)))


def test_the_first_599_rows_are_marked_and_every_other_is_finite(days: CandleFrame) -> None:
    values = context(days)
    assert values.shape == (1_400, 29)
    assert values.dtype == np.float32
    assert np.isnan(values[: WINDOW - 1]).all()
    assert np.isfinite(values[WINDOW - 1 :]).all()
    assert np.abs(values[WINDOW - 1 :]).max() <= 3


@pytest.mark.parametrize("end", [WINDOW, 957, 1_101])
def test_bars_of_the_future_change_no_column(days: CandleFrame, end: int) -> None:
    np.testing.assert_array_equal(
        context(days.rows(slice(0, end)))[WINDOW - 1 :], context(days)[WINDOW - 1 : end], strict=True
    )


@pytest.mark.parametrize("start", [1, 397, 800])
def test_bars_older_than_the_window_change_no_column(days: CandleFrame, start: int) -> None:
    part, whole = context(days.rows(slice(start, None))), context(days)
    for place, name in enumerate(CONTEXT_NAMES):
        np.testing.assert_allclose(
            part[WINDOW - 1 :, place], whole[start + WINDOW - 1 :, place], rtol=0, atol=1e-6, err_msg=name
        )


def test_the_newest_row_of_the_window_alone_is_the_row_of_the_whole_history(days: CandleFrame) -> None:
    whole = context(days)
    for row in (WINDOW - 1, 700, 961, 1_399):
        alone = context(days.rows(slice(row - WINDOW + 1, row + 1)))[-1]
        np.testing.assert_allclose(alone, whole[row], rtol=0, atol=1e-6)


def test_another_past_and_another_future_change_no_column(make_frame) -> None:
    mine = make_frame(1_500, seed=1, timeframe=Timeframe.D1)
    other = make_frame(1_500, seed=2, price=800.0, timeframe=Timeframe.D1)
    mixed = {}
    for name in ("open", "high", "low", "close", "volume"):
        values = getattr(other, name).copy()
        values[400:1_100] = getattr(mine, name)[400:1_100]
        mixed[name] = values
    rows = slice(400 + WINDOW - 1, 1_100)
    np.testing.assert_allclose(context(replace(mine, **mixed))[rows], context(mine)[rows], rtol=0, atol=1e-6)


def test_prices_and_volumes_may_be_in_any_unit(days: CandleFrame) -> None:
    there, back = context(scaled(days, 1024.0, 8.0)), context(days)  # powers of two: no rounding of their own
    np.testing.assert_allclose(there, back, rtol=0, atol=2e-6)


def test_smart_money_and_technical_columns_mirror_a_mirrored_market(make_frame) -> None:
    frame = make_frame(900, timeframe=Timeframe.D1)
    mirrored = replace(
        frame, open=300 - frame.open, high=300 - frame.low, low=300 - frame.high, close=300 - frame.close
    ).checked()
    here, there = smart_money(frame)[WINDOW - 1 :], smart_money(mirrored)[WINDOW - 1 :]
    swapped = [1, 0, 3, 2, 4, 5, 7, 6, 9, 8, 11, 10]
    counts = [0, 1, 2, 3, 8, 9, 10, 11]
    np.testing.assert_array_equal(here[:, counts], there[:, swapped][:, counts])
    close = np.stack((frame.close, mirrored.close))[:, WINDOW - 1 :]
    np.testing.assert_allclose(here[:, 6] * close[0], there[:, 7] * close[1], rtol=1e-4)
    np.testing.assert_allclose(here[:, 4] * close[0], -there[:, 4] * close[1], rtol=1e-4, atol=1e-4)


def test_technical_columns_are_the_indicators_in_another_unit(make_frame) -> None:
    frame = make_frame(800, timeframe=Timeframe.D1)
    raw, columns = indicators(frame).raw[-1], technical(frame)[-1]
    known = dict(zip(INDICATORS, raw, strict=True))
    found = dict(zip(TECHNICAL, columns.tolist(), strict=True))
    close, volume = frame.close[-1], frame.volume
    width = known["bb_upper"] - known["bb_lower"]
    assert volume is not None
    expected = {
        "rsi": known["rsi"] / 100,
        "macd": known["macd"] / close,
        "macd_histogram": known["macd_histogram"] / close,
        "bb_position": (close - known["bb_lower"]) / width,
        "atr": known["atr"] / close,
        "adx": known["adx"] / 100,
        "obv_trend": (np.sign(np.diff(frame.close))[-20:] * volume[-20:]).sum() / volume[-20:].sum(),
        "vwap_distance": close / known["vwap"] - 1,
        "volume_ratio": volume[-1] / volume[-20:].mean(),
    }
    for bars, name in ((9, "ema_9"), (21, "ema_21")):
        weights = (1 - 2 / (bars + 1)) ** np.arange(len(frame))[::-1]
        expected[name] = (weights @ frame.close) / weights.sum() / close
    expected["ema_spread"] = expected["ema_9"] - expected["ema_21"]
    assert found == pytest.approx(expected, abs=2e-6)


def test_columns_of_volume_are_nothing_where_the_market_has_none(make_frame) -> None:
    frame = make_frame(700, timeframe=Timeframe.D1, volume=False)
    masked = [TECHNICAL.index(name) for name in ("obv_trend", "vwap_distance", "volume_ratio")]
    assert (technical(frame)[WINDOW - 1 :, masked] == 0).all()


def test_the_price_window_is_measured_by_its_own_mean_and_deviation(make_frame) -> None:
    frame = make_frame(300, timeframe=Timeframe.D1)
    found = price_windows(frame, [119, 299])
    assert found.shape == (2, 120, 5)
    for place, name in enumerate(("open", "high", "low", "close", "volume")):
        window = getattr(frame, name)[180:300]
        expected = np.clip((window - window.mean()) / window.std(), -3, 3) / 3
        np.testing.assert_allclose(found[1, :, place], expected, atol=1e-6)
    every = price_windows(frame)
    assert every.shape == (300, 120, 5)
    assert np.isnan(every[:119]).all()
    np.testing.assert_array_equal(every[[119, 299]], found)


def test_a_price_window_that_does_not_vary_is_nothing(make_frame) -> None:
    frame = make_frame(400, flat=(100, 400), volume=False, timeframe=Timeframe.D1)
    assert (price_windows(frame, [399]) == 0).all()


def test_what_has_too_few_bars_or_no_days_is_refused_with_its_name(make_frame) -> None:
    with pytest.raises(BadCandles, match="TEST-USD 1d: needs 600 bars, has 599"):
        context(make_frame(599, timeframe=Timeframe.D1))
    with pytest.raises(BadCandles, match="TEST-USD 1h: swing features are made of daily bars"):
        context(make_frame(700))
    with pytest.raises(BadCandles, match="rows must lie between 119 and 699"):
        price_windows(make_frame(700, timeframe=Timeframe.D1), [118])
