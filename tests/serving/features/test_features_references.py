"""Agreement with TA-Lib and `ta` 0.11 wherever the definition is the same; docs/features.md lists where it is not."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import ta.momentum
import ta.others
import ta.trend
import ta.volatility
import ta.volume
import talib

from fusiontrade.market.candles import CandleFrame
from serving.features import INDICATORS, WINDOW, indicators

# TA-Lib's own functions, of a namespace with the columns of the bars
TALIB: dict[str, Callable[..., np.ndarray]] = {
    "rsi": lambda b: talib.RSI(b.close, 14),
    "stoch_k": lambda b: talib.STOCHF(b.high, b.low, b.close, 14, 3, 0)[0],
    "stoch_d": lambda b: talib.STOCHF(b.high, b.low, b.close, 14, 3, 0)[1],
    "williams_r": lambda b: talib.WILLR(b.high, b.low, b.close, 14),
    "roc": lambda b: talib.ROC(b.close, 12),
    "momentum": lambda b: talib.MOM(b.close, 10),
    "ultimate_oscillator": lambda b: talib.ULTOSC(b.high, b.low, b.close, 7, 14, 28),
    "sma_20": lambda b: talib.SMA(b.close, 20),
    "sma_50": lambda b: talib.SMA(b.close, 50),
    "sma_200": lambda b: talib.SMA(b.close, 200),
    "ema_12": lambda b: talib.EMA(b.close, 12),
    "ema_26": lambda b: talib.EMA(b.close, 26),
    "macd": lambda b: talib.MACD(b.close, 12, 26, 9)[0],
    "macd_signal": lambda b: talib.MACD(b.close, 12, 26, 9)[1],
    "macd_histogram": lambda b: talib.MACD(b.close, 12, 26, 9)[2],
    "adx": lambda b: talib.ADX(b.high, b.low, b.close, 14),
    "cci": lambda b: talib.CCI(b.high, b.low, b.close, 20),
    "trix": lambda b: talib.TRIX(b.close, 15),
    "bb_upper": lambda b: talib.BBANDS(b.close, 20, 2, 2, 0)[0],
    "bb_middle": lambda b: talib.BBANDS(b.close, 20, 2, 2, 0)[1],
    "bb_lower": lambda b: talib.BBANDS(b.close, 20, 2, 2, 0)[2],
    "atr": lambda b: talib.ATR(b.high, b.low, b.close, 14),
    "ppo": lambda b: talib.PPO(b.close, 12, 26, 1),
}

# cumulative or path-dependent in TA-Lib: the same function over the row's own window
TALIB_ON_WINDOW: dict[str, Callable[..., np.ndarray]] = {
    "obv": lambda b: talib.OBV(b.close, b.volume),
    "adi": lambda b: talib.AD(b.high, b.low, b.close, b.volume),
    "parabolic_sar": lambda b: talib.SAR(b.high, b.low, 0.02, 0.2),
}

TA: dict[str, Callable[..., pd.Series]] = {
    "returns": lambda b: ta.others.daily_return(b.close) / 100,
    "rsi": lambda b: ta.momentum.rsi(b.close, 14),
    "stoch_k": lambda b: ta.momentum.stoch(b.high, b.low, b.close, 14, 3),
    "stoch_d": lambda b: ta.momentum.stoch_signal(b.high, b.low, b.close, 14, 3),
    "williams_r": lambda b: ta.momentum.williams_r(b.high, b.low, b.close, 14),
    "roc": lambda b: ta.momentum.roc(b.close, 12),
    "ultimate_oscillator": lambda b: ta.momentum.ultimate_oscillator(b.high, b.low, b.close),
    "sma_20": lambda b: ta.trend.sma_indicator(b.close, 20),
    "sma_50": lambda b: ta.trend.sma_indicator(b.close, 50),
    "sma_200": lambda b: ta.trend.sma_indicator(b.close, 200),
    "ema_12": lambda b: ta.trend.ema_indicator(b.close, 12),
    "ema_26": lambda b: ta.trend.ema_indicator(b.close, 26),
    "macd": lambda b: ta.trend.macd(b.close),
    "macd_signal": lambda b: ta.trend.macd_signal(b.close),
    "macd_histogram": lambda b: ta.trend.macd_diff(b.close),
    "cci": lambda b: ta.trend.cci(b.high, b.low, b.close, 20),
    "trix": lambda b: ta.trend.trix(b.close, 15),
    "dpo": lambda b: ta.trend.dpo(b.close, 20),
    "bb_upper": lambda b: ta.volatility.bollinger_hband(b.close, 20, 2),
    "bb_middle": lambda b: ta.volatility.bollinger_mavg(b.close, 20),
    "bb_lower": lambda b: ta.volatility.bollinger_lband(b.close, 20, 2),
    "bb_width": lambda b: ta.volatility.bollinger_wband(b.close, 20, 2),
    "atr": lambda b: ta.volatility.average_true_range(b.high, b.low, b.close, 14),
    "keltner_upper": lambda b: ta.volatility.keltner_channel_hband(b.high, b.low, b.close, 20, 10, False, False),
    "keltner_lower": lambda b: ta.volatility.keltner_channel_lband(b.high, b.low, b.close, 20, 10, False, False),
    "cmf": lambda b: ta.volume.chaikin_money_flow(b.high, b.low, b.close, b.volume, 20),
    "fi": lambda b: ta.volume.force_index(b.close, b.volume, 13),
    "ease_of_movement": lambda b: ta.volume.ease_of_movement(b.high, b.low, b.volume),
    "vwap": lambda b: ta.volume.volume_weighted_average_price(b.high, b.low, b.close, b.volume, 14),
    "ichimoku_a": lambda b: ta.trend.ichimoku_a(b.high, b.low, 9, 26),
    "ichimoku_b": lambda b: ta.trend.ichimoku_b(b.high, b.low, 26, 52),
    "kst": lambda b: ta.trend.kst(b.close),
    "kst_signal": lambda b: ta.trend.kst_sig(b.close),
    "ulcer_index": lambda b: ta.volatility.ulcer_index(b.close, 14),
    "ppo": lambda b: ta.momentum.ppo(b.close),
    "ppo_signal": lambda b: ta.momentum.ppo_signal(b.close),
}

# cumulative in `ta`: the same function over the row's own window
TA_ON_WINDOW: dict[str, Callable[..., pd.Series]] = {
    "vpt": lambda b: ta.volume.volume_price_trend(b.close, b.volume),
    "adi": lambda b: ta.volume.acc_dist_index(b.high, b.low, b.close, b.volume),
}

NO_REFERENCE = {
    *("log_returns", "price_change", "high_low_range", "body_ratio"),
    *("volume_change", "volume_ma", "volume_std", "pgo"),
}


@pytest.fixture(scope="module")
def bars(make_frame):
    frame = make_frame(rows=1_500, seed=11)
    return frame, indicators(frame).raw


def columns_of(frame: CandleFrame, kind: Callable[[np.ndarray], object] = np.asarray) -> SimpleNamespace:
    names = ("open", "high", "low", "close", "volume")
    return SimpleNamespace(**{name: kind(getattr(frame, name)) for name in names})


def assert_agrees(got: np.ndarray, expected: np.ndarray) -> None:
    """Agree to 1e-9 of the value, or of the column's size where an oscillator passes through zero."""
    size = np.abs(expected).max()
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9 * size)


@pytest.mark.parametrize("name", TALIB)
def test_agrees_with_talib(bars, name: str) -> None:
    frame, raw = bars
    assert_agrees(raw[WINDOW:, INDICATORS.index(name)], TALIB[name](columns_of(frame))[WINDOW:])


@pytest.mark.parametrize("name", TA)
def test_agrees_with_ta(bars, name: str) -> None:
    frame, raw = bars
    assert_agrees(raw[WINDOW:, INDICATORS.index(name)], TA[name](columns_of(frame, pd.Series)).to_numpy()[WINDOW:])


@pytest.mark.parametrize("row", [WINDOW - 1, 800, 1_499])
@pytest.mark.parametrize("name", TALIB_ON_WINDOW)
def test_a_path_agrees_with_talib_over_the_rows_own_window(bars, name: str, row: int) -> None:
    frame, raw = bars
    window = columns_of(frame.rows(slice(row - WINDOW + 1, row + 1)))
    assert raw[row, INDICATORS.index(name)] == pytest.approx(TALIB_ON_WINDOW[name](window)[-1], rel=1e-9)


@pytest.mark.parametrize("row", [WINDOW - 1, 800, 1_499])
@pytest.mark.parametrize("name", TA_ON_WINDOW)
def test_a_running_total_agrees_with_ta_over_the_rows_own_window(bars, name: str, row: int) -> None:
    frame, raw = bars
    window = columns_of(frame.rows(slice(row - WINDOW + 1, row + 1)), pd.Series)
    assert raw[row, INDICATORS.index(name)] == pytest.approx(TA_ON_WINDOW[name](window).iloc[-1], rel=1e-9)


def test_what_no_library_has_is_what_its_formula_says(bars) -> None:
    frame, raw = bars
    close, volume = pd.Series(frame.close), pd.Series(frame.volume)
    true_range = pd.Series(talib.TRANGE(frame.high, frame.low, frame.close))
    expected = {
        "log_returns": np.log(close / close.shift(1)),
        "price_change": close - frame.open,
        "high_low_range": frame.high - frame.low,
        "body_ratio": (close - frame.open).abs() / (frame.high - frame.low),
        "volume_change": volume / volume.shift(1) - 1,
        "volume_ma": volume.rolling(20).mean(),
        "volume_std": volume.rolling(20).std(ddof=0),
        "pgo": (close - close.rolling(14).mean()) / true_range[1:].ewm(span=14, adjust=False).mean(),
    }
    assert set(expected) == NO_REFERENCE
    for name, values in expected.items():
        assert_agrees(raw[WINDOW:, INDICATORS.index(name)], np.asarray(values)[WINDOW:])


def test_every_indicator_has_a_reference() -> None:
    assert set(INDICATORS) == {*TALIB, *TALIB_ON_WINDOW, *TA, *TA_ON_WINDOW, *NO_REFERENCE}
