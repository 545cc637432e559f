"""What holds for every indicator: its window, its finiteness, its freedom from scale, its mask."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st

from fusiontrade.errors import BadCandles
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from serving.features import INDICATORS, VOLUME_COLUMNS, WINDOW, Indicators, atr, indicators

TOLERANCE = 1e-6
MASKED = [INDICATORS.index(name) for name in VOLUME_COLUMNS]


def column(answer: Indicators, name: str) -> np.ndarray:
    return answer.raw[:, INDICATORS.index(name)]


def assert_same_rows(part: Indicators, whole: Indicators, part_rows: slice, whole_rows: slice) -> None:
    """Compare column by column, relative to the size the column has in the whole series."""
    for place, name in enumerate(INDICATORS):
        for a, b in ((part.raw, whole.raw), (part.scaled, whole.scaled)):
            size = np.nanmax(np.abs(b[WINDOW:, place]), initial=0.0)
            np.testing.assert_allclose(
                a[part_rows, place], b[whole_rows, place], rtol=0, atol=TOLERANCE * max(size, 1e-300), err_msg=name
            )


def test_there_are_fifty_indicators_in_the_order_of_the_contract() -> None:
    assert len(INDICATORS) == len(set(INDICATORS)) == 50
    assert INDICATORS[:10] == (
        *("returns", "log_returns", "price_change", "high_low_range", "body_ratio"),
        *("volume_change", "volume_ma", "volume_std", "obv", "vpt"),
    )
    assert INDICATORS[17] == "sma_20"
    assert INDICATORS[29] == "bb_upper"
    assert INDICATORS[36] == "cmf"
    assert INDICATORS[-1] == "ppo_signal"


def test_the_first_599_rows_are_marked_and_every_other_is_finite(frame: CandleFrame) -> None:
    answer = indicators(frame)

    assert answer.raw.shape == answer.scaled.shape == (2_000, 50)
    assert answer.scaled.dtype == np.float32
    assert not answer.valid[: WINDOW - 1].any()
    assert answer.valid[WINDOW - 1 :].all()
    assert np.isnan(answer.raw[: WINDOW - 1]).all()
    assert np.isnan(answer.scaled[: WINDOW - 1]).all()
    assert np.isfinite(answer.scaled[WINDOW - 1 :]).all()
    assert np.abs(answer.scaled[WINDOW - 1 :]).max() <= 10
    shown = answer.raw if frame.volume is not None else np.delete(answer.raw, MASKED, axis=1)
    assert np.isfinite(shown[WINDOW - 1 :]).all()


@pytest.mark.parametrize("end", [WINDOW, 997, 1_400])
def test_bars_of_the_future_change_no_column(frame: CandleFrame, end: int) -> None:
    rows = slice(WINDOW - 1, end)
    assert_same_rows(indicators(frame.rows(slice(0, end))), indicators(frame), rows, rows)


@pytest.mark.parametrize("start", [1, 601, 1_350])
def test_bars_older_than_the_window_change_no_column(frame: CandleFrame, start: int) -> None:
    part = indicators(frame.rows(slice(start, None)))
    assert_same_rows(part, indicators(frame), slice(WINDOW - 1, None), slice(start + WINDOW - 1, None))


def test_another_past_and_another_future_change_no_column(make_frame) -> None:
    mine, other = make_frame(seed=1), make_frame(seed=2, price=800.0)
    mixed = {}
    for name in ("open", "high", "low", "close", "volume"):
        values = getattr(other, name).copy()
        values[700:1_400] = getattr(mine, name)[700:1_400]
        mixed[name] = values

    rows = slice(700 + WINDOW - 1, 1_400)
    assert_same_rows(indicators(replace(mine, **mixed)), indicators(mine), rows, rows)


@pytest.mark.parametrize("factor", [7e-7, 0.3, 1.1, 9.7e5])
def test_model_inputs_ignore_the_scale_of_prices_and_of_volumes(frame: CandleFrame, factor: float) -> None:
    prices = {name: getattr(frame, name) * factor for name in ("open", "high", "low", "close")}
    volume = None if frame.volume is None else frame.volume * 3.7

    changed = indicators(replace(frame, **prices, volume=volume))

    np.testing.assert_allclose(
        changed.scaled[WINDOW - 1 :], indicators(frame).scaled[WINDOW - 1 :], rtol=1e-5, atol=1e-5
    )


def test_without_volume_the_volume_columns_are_masked_and_no_other_changes(make_frame) -> None:
    with_volume = indicators(make_frame())
    without = indicators(make_frame().without_volume())

    assert np.isnan(without.raw[:, MASKED]).all()
    assert (without.scaled[WINDOW - 1 :, MASKED] == 0).all()
    np.testing.assert_array_equal(
        np.delete(without.scaled, MASKED, axis=1), np.delete(with_volume.scaled, MASKED, axis=1)
    )


def test_only_the_volume_columns_depend_on_volume(make_frame) -> None:
    frame = make_frame()
    changed = indicators(replace(frame, volume=frame.volume[::-1].copy())).scaled[WINDOW:]
    differs = (changed != indicators(frame).scaled[WINDOW:]).any(axis=0)

    assert sorted(np.flatnonzero(differs)) == sorted(MASKED)


def test_a_market_that_never_moves_gives_the_neutral_values() -> None:
    rows = 700
    still = np.full(rows, 5.0)
    frame = CandleFrame(
        "FLAT", Timeframe.H1, np.arange(rows, dtype=np.int64), still, still, still, still, np.zeros(rows)
    )

    last = dict(zip(INDICATORS, indicators(frame).raw[-1].tolist(), strict=True))

    assert {name for name, value in last.items() if value == 5.0} == {
        *("sma_20", "sma_50", "sma_200", "ema_12", "ema_26", "bb_upper", "bb_middle", "bb_lower"),
        *("keltner_upper", "keltner_lower", "vwap", "ichimoku_a", "ichimoku_b", "parabolic_sar"),
    }
    assert last["rsi"] == last["stoch_k"] == last["stoch_d"] == last["ultimate_oscillator"] == 50.0
    assert last["williams_r"] == -50.0
    zeros = {name for name, value in last.items() if value == 0.0}
    assert {"returns", "body_ratio", "adx", "cci", "atr", "cmf", "obv", "volume_change", "ease_of_movement"} <= zeros
    assert len(zeros) == 50 - 14 - 5


def test_momentum_forgets_a_trend_that_lies_outside_its_window(make_frame) -> None:
    frame = make_frame(rows=1_400, flat=(100, 1_400))
    assert column(indicators(frame), "rsi")[-1] == 50.0
    assert column(indicators(frame), "adx")[-1] == pytest.approx(0.0, abs=1e-30)


def test_parabolic_sar_is_started_at_the_left_edge_of_each_window(make_frame) -> None:
    frame = make_frame()
    got = column(indicators(frame), "parabolic_sar")

    for row in (WINDOW - 1, 1_111, 1_999):
        window = slice(row - WINDOW + 1, row + 1)
        assert got[row] == talib.SAR(frame.high[window], frame.low[window], 0.02, 0.2)[-1]


def test_too_few_bars_are_refused_with_how_many_are_needed(make_frame) -> None:
    with pytest.raises(BadCandles, match="TEST-USD 1h: needs 600 bars, has 599"):
        indicators(make_frame(rows=599))


def test_atr_is_wilders_and_never_zero(make_frame) -> None:
    frame = make_frame(flat=(1_000, 2_000))
    unit = atr(frame)

    np.testing.assert_allclose(unit[600:1_000], column(indicators(frame), "atr")[600:1_000], rtol=1e-12)
    assert unit[-1] == pytest.approx(1e-7 * frame.close[-1])


_STRETCH = st.tuples(st.integers(0, 700), st.integers(1, 700)).map(lambda pair: (pair[0], sum(pair)))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    price=st.floats(1e-8, 1e8),
    flat=st.none() | _STRETCH,
    idle=st.none() | _STRETCH,
    jumps=st.lists(st.tuples(st.integers(0, 779), st.sampled_from([1e-3, 0.5, 1.01, 3.0, 1e3])), max_size=3),
    dust=st.lists(st.tuples(st.integers(0, 779), st.sampled_from([1e-300, 1e-9, 1e12])), max_size=3),
)
def test_whatever_the_market_does_the_answer_is_finite_and_ignores_the_future(
    make_frame, seed, price, flat, idle, jumps, dust
) -> None:
    frame = make_frame(rows=780, seed=seed, price=price, flat=flat, idle=idle)
    shift, volume = np.ones(780), frame.volume.copy()
    for row, factor in jumps:
        shift[row:] *= factor
    for row, traded in dust:
        volume[row] = traded
    prices = {name: getattr(frame, name) * shift for name in ("open", "high", "low", "close")}
    frame = replace(frame, **prices, volume=volume)

    whole, part = indicators(frame), indicators(frame.rows(slice(0, 690)))

    assert np.isfinite(whole.raw[WINDOW - 1 :]).all()
    assert np.isfinite(whole.scaled[WINDOW - 1 :]).all()
    np.testing.assert_allclose(part.scaled[WINDOW - 1 :], whole.scaled[WINDOW - 1 : 690], atol=1e-6)


@pytest.mark.parametrize(("price", "volume"), [(1e100, 1e100), (1e100, 1e-100), (1e-100, 1e100), (1e-100, 1e-100)])
def test_prices_and_volumes_of_any_size_up_to_a_googol_give_finite_numbers(
    make_frame, price: float, volume: float
) -> None:
    walk = make_frame(700, price=1.0)
    frame = replace(
        walk,
        **{name: getattr(walk, name) * price for name in ("open", "high", "low", "close")},
        volume=walk.volume * volume,
    )
    answer = indicators(frame)
    assert np.isfinite(answer.raw[WINDOW - 1 :]).all()
    assert np.isfinite(answer.scaled[WINDOW - 1 :]).all()
