"""Small invented candles for the training tests: a coin that always trades, a currency pair that rests at weekends."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe

HOUR = 3_600_000
START = round(datetime(2024, 1, 1, tzinfo=UTC).timestamp() * 1000)


def candles(symbol: str, bars: int, seed: int, *, volume: bool = True, start: int = START) -> CandleFrame:
    """Hourly bars of a random walk with a volatility that depends on the hour; weekends are left out for pairs."""
    rng = np.random.default_rng(seed)
    time = start + HOUR * np.arange(bars * 2)
    if symbol.endswith("=X"):
        weekday = (time // (24 * HOUR) + 3) % 7
        time = time[weekday < 5]
    time = time[:bars].astype(np.int64)
    sigma = 0.002 * (1 + 0.8 * np.sin(2 * np.pi * (time // HOUR % 24) / 24))
    close = 100 * np.exp(np.cumsum(rng.standard_t(5, bars) * sigma))
    opened = np.concatenate(([100.0], close[:-1])) * (1 + rng.normal(0, 0.0002, bars))
    high = np.maximum(opened, close) * (1 + np.abs(rng.normal(0, 1, bars)) * sigma / 2)
    low = np.minimum(opened, close) * (1 - np.abs(rng.normal(0, 1, bars)) * sigma / 2)
    traded = rng.lognormal(3, 0.5, bars) if volume else None
    return CandleFrame(symbol, Timeframe.H1, time, opened, high, low, close, traded).checked()


def two_series() -> list[tuple[CandleFrame, bool]]:
    """What `serving.training.candles.read_candles` returns for such a folder; both series end in the same week."""
    return [(candles("EURUSD=X", 2400, 1, volume=False), True), (candles("BTC-USD", 3300, 2), False)]


def write_folder(folder: Path, *frames: CandleFrame) -> Path:
    """Write hourly frames as a user's folder of Parquet bars and return it."""
    folder.mkdir(parents=True)
    table = []
    for frame in frames:
        columns = {name: getattr(frame, name) for name in ("open", "high", "low", "close")}
        volume = np.zeros(len(frame)) if frame.volume is None else frame.volume
        bars = {"timestamp": frame.time.astype("datetime64[ms]"), **columns, "volume": volume}
        name = f"{frame.symbol.replace('=', '-')}.parquet"
        pq.write_table(pa.table(bars), folder / name)
        table.append(f'[symbols."{frame.symbol}"]\nfiles = {{ "1h" = "{name}" }}\n')
    (folder / "instruments.toml").write_text("\n".join(table))
    return folder
