"""The same invariants on a folder of real candles, where there is one."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from serving.features import (
    BARS_NEEDED,
    WINDOW,
    CandleWindows,
    LstmWindows,
    activity,
    indicators,
    lstm_inputs,
    patchtst_inputs,
    slots,
    usual_activity,
    volatility_columns,
)

FOLDER = Path(os.environ.get("FUSIONTRADE_REAL_DATA", Path(__file__).parents[4] / "shared" / "data"))
SERIES = {
    "fx/EURUSD_1h.parquet": (Timeframe.H1, False),
    "fx/XAUUSD_15m.parquet": (Timeframe.M15, False),
    "crypto/BTCUSDT_spot_1h.parquet": (Timeframe.H1, True),
    "crypto/DOGEUSDT_perp_1h.parquet": (Timeframe.H1, True),
}


@pytest.fixture(scope="module", params=SERIES)
def history(request: pytest.FixtureRequest) -> CandleFrame:
    path = FOLDER / request.param
    if not path.is_file():
        pytest.skip(f"no real candles at {path}: set FUSIONTRADE_REAL_DATA")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(path)
    timeframe, has_volume = SERIES[request.param]
    columns = {name: table[name].to_numpy().astype(np.float64) for name in ("open", "high", "low", "close", "volume")}
    time = table["timestamp"].to_numpy().astype("datetime64[ms]").astype(np.int64)
    frame = CandleFrame(path.stem, timeframe, time, **columns).checked().tail(20_000)
    return frame if has_volume else frame.without_volume()


@pytest.mark.real_data
def test_real_bars_give_finite_features_that_serving_repeats(history: CandleFrame) -> None:
    features, candles = LstmWindows.of(history), CandleWindows.of(history)
    assert np.isfinite(indicators(history).scaled[WINDOW - 1 :]).all()

    rows = np.random.default_rng(7).integers(BARS_NEEDED, len(history), 25)
    trained, trained_calendar = features.gather(rows)
    trained_candles, _ = candles.gather(rows)
    for place, row in enumerate(rows):
        known = history.rows(slice(0, int(row) + 1)).tail(BARS_NEEDED)
        served, calendar = lstm_inputs(known)
        np.testing.assert_allclose(served[0], trained[place], atol=1e-6)
        np.testing.assert_array_equal(calendar[0], trained_calendar[place])
        np.testing.assert_allclose(patchtst_inputs(known)[0][0], trained_candles[place], rtol=1e-6, atol=1e-6)


@pytest.mark.real_data
def test_real_bars_give_volatility_columns_that_serving_repeats(history: CandleFrame) -> None:
    busy = activity(history)
    seen = np.isfinite(busy)
    series = (history.symbol, "any kind", slots(history.time[seen], history.timeframe), busy[seen])
    usual = usual_activity([series], history.timeframe)["any"]
    trained = volatility_columns(history, usual)
    assert np.isfinite(trained[WINDOW - 1 :]).all()
    for row in np.random.default_rng(8).integers(WINDOW, len(history), 25).tolist():
        served = volatility_columns(history.rows(slice(0, row + 1)).tail(WINDOW), usual)
        np.testing.assert_allclose(served[-1], trained[row], rtol=0, atol=1e-6)
