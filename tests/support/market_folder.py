"""A folder of Parquet bars, made up and written by a test, and a short way to ask it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fusiontrade.clock import parse_iso
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.providers.base import Provider
from fusiontrade.market.symbols import parse_symbol
from fusiontrade.market.timeframes import Timeframe

START = parse_iso("2025-07-28T00:00:00Z")  # a Monday


def bars(timeframe: Timeframe, count: int, *, seed: int = 1, start: int = START) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    close = 100 + np.cumsum(generator.normal(size=count))
    first = close + generator.normal(size=count)
    return {
        "timestamp": (start + np.arange(count) * timeframe.milliseconds).astype("datetime64[ms]"),
        "open": first,
        "high": np.maximum(first, close) + 1,
        "low": np.minimum(first, close) - 1,
        "close": close,
        "volume": np.round(generator.uniform(1, 9, count)),
    }


def write(folder: Path, path: str, columns: dict[str, np.ndarray]) -> None:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / path)


def listing(folder: Path, text: str) -> Path:
    (folder / "instruments.toml").write_text(text, encoding="utf-8")
    return folder


def ask(
    provider: Provider, code: str, timeframe: Timeframe, end: str | int = "2025-08-01T00:00:00Z", count: int = 9999
) -> CandleFrame:
    instant = parse_iso(end) if isinstance(end, str) else end
    return provider.candles(parse_symbol(code), timeframe, end=instant, count=count, timeout=1.0)
