"""Reading the body of one request: 4 timeframes of 500 bars as columns, against the same bars as JSON records.

Each side ends with a float64 or int64 array for each column of each item, which is what the features start from. The
records are read as a plain program reads them: ``json.loads``, then numpy. Beside them stand the records read by
pydantic, which checks them as our own side does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from pydantic import BaseModel, TypeAdapter

from fusiontrade.inference import wire
from fusiontrade.inference.contract import CandleColumns, ForecastItem, ForecastRequest
from infra.bench.opponents import walk
from infra.bench.rows import Row, paired

__all__ = ["rows"]

TIMEFRAMES = ("15m", "30m", "1h", "4h")
BARS = 500
COLUMNS = ("time", "open", "high", "low", "close", "volume")


class Bar(BaseModel):
    """One record."""

    time: int
    open: float
    high: float
    low: float
    close: float
    volume: float


class Item(BaseModel):
    """One symbol and timeframe as records."""

    symbol: str
    timeframe: str
    candles: list[Bar]


def _columns(items: list[Any]) -> list[list[Any]]:
    return [[np.array([bar[name] for bar in item["candles"]]) for name in COLUMNS] for item in items]


def rows() -> Iterator[Row]:
    """Measure the binary body and the JSON columns."""
    frame = walk(BARS)
    candles = CandleColumns.of(frame)
    items = [ForecastItem(symbol="BTC-USD", timeframe=timeframe, candles=candles) for timeframe in TIMEFRAMES]
    request = ForecastRequest(items=items)
    binary, text = wire.encode(request), request.model_dump_json().encode()
    bars = [
        dict(zip(COLUMNS, values, strict=True)) for values in zip(*(getattr(candles, c) for c in COLUMNS), strict=True)
    ]
    records = json.dumps(
        [{"symbol": item.symbol, "timeframe": item.timeframe, "candles": bars} for item in items]
    ).encode()
    checked = TypeAdapter(list[Item])

    def from_records() -> object:
        return _columns(json.loads(records))

    def from_checked_records() -> object:
        read = checked.validate_json(records)
        return [[np.array([getattr(bar, name) for bar in item.candles]) for name in COLUMNS] for item in read]

    def from_text() -> object:
        return [item.frame() for item in ForecastRequest.model_validate_json(text).items]

    def from_binary() -> object:
        return [item.frame() for item in wire.decode(binary).items]

    size = f"{len(binary) / 1000:.0f} kB; JSON columns {len(text) / 1000:.0f} kB, records {len(records) / 1000:.0f} kB"
    what = f"payload of {len(TIMEFRAMES)} x {BARS} bars, "
    yield Row.of(
        what + "npy, decoded", "JSON records", paired(lambda: wire.decode(binary), from_records, rounds=30, repeat=3),
        50.0, size,
    )  # fmt: skip
    found = paired(from_binary, from_checked_records, rounds=30, repeat=3)
    yield Row.of(what + "npy, decoded and checked", "JSON records, checked", found, None)
    yield Row.of(what + "JSON columns", "JSON records", paired(from_text, from_records, rounds=30, repeat=3), None)
