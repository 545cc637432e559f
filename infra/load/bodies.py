"""Seeded requests: candles that are never the same twice, as whole HTTP messages ready to be sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fusiontrade.inference import wire
from fusiontrade.inference.contract import (
    BARS_NEEDED,
    FUSED,
    MOST_SAMPLES,
    CandleColumns,
    ForecastItem,
    ForecastRequest,
    ModelKind,
)
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe

__all__ = ["SYMBOLS", "TIMEFRAMES", "Message", "message", "messages", "walk"]

TIMEFRAMES = (Timeframe.M15, Timeframe.M30, Timeframe.H1, Timeframe.H4)
SYMBOLS = {"EURUSD=X": "fx", "USDJPY=X": "fx", "GBPUSD=X": "fx", "GC=F": "metal", "BTC-USD": "crypto"}
_WITH_VOLUME = {"crypto"}
_START = 1_704_067_200_000  # a Monday


@dataclass(frozen=True)
class Message:
    """One request and the bytes that ask it; ``size`` is the length of its body."""

    request: ForecastRequest
    wire: bytes
    size: int


def walk(random: np.random.Generator, symbol: str, timeframe: Timeframe, bars: int = BARS_NEEDED) -> CandleFrame:
    """Return ``bars`` bars of a random walk, prices of five decimals as markets quote them."""
    step = timeframe.milliseconds
    close = 1.1 * np.exp(np.cumsum(random.normal(0, 0.001, bars)))
    opened = np.concatenate([[1.1], close[:-1]])
    high = np.maximum(opened, close) * (1 + random.uniform(0, 0.0005, bars))
    low = np.minimum(opened, close) * (1 - random.uniform(0, 0.0005, bars))
    opened, close = (np.round(column, 5) for column in (opened, close))
    high, low = (
        np.maximum(np.round(high, 5), np.maximum(opened, close)),
        np.minimum(np.round(low, 5), np.minimum(opened, close)),
    )
    volume = np.round(random.uniform(1, 900, bars), 1) if SYMBOLS[symbol] in _WITH_VOLUME else None
    time = _START + step * np.arange(bars, dtype=np.int64)
    return CandleFrame(symbol, timeframe, time, opened, high, low, close, volume)


def message(request: ForecastRequest, content_type: str, path: str = "/invocations") -> Message:
    """Return ``request`` as an HTTP/1.1 message whose body is of ``content_type``."""
    body = wire.encode(request) if content_type == wire.NPY else request.model_dump_json().encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return Message(request, head.encode() + body, len(body))


def messages(
    count: int,
    *,
    seed: int,
    content_types: Sequence[str] = (wire.NPY,),
    items: Sequence[int] = (1,),
    symbols: Sequence[str] = tuple(SYMBOLS),
    bars: int = BARS_NEEDED,
    path: str = "/invocations",
    models: Sequence[ModelKind] = FUSED,
) -> list[Message]:
    """Return ``count`` messages; types of body and numbers of items take turns, symbols and timeframes are drawn.

    Each item asks for ``models``; where that is more than the fused kinds, also for a drawn number of samples.
    """
    random = np.random.default_rng(seed)
    found = []
    for place in range(count):
        asked = []
        for _ in range(items[place % len(items)]):
            symbol = str(random.choice(list(symbols)))
            timeframe = TIMEFRAMES[int(random.integers(len(TIMEFRAMES)))]
            columns = CandleColumns.of(walk(random, symbol, timeframe, bars))
            samples = None if models == FUSED else int(random.integers(1, MOST_SAMPLES + 1))
            item = ForecastItem(
                symbol=symbol,
                timeframe=timeframe,
                candles=columns,
                market=SYMBOLS[symbol],
                models=tuple(models),
                samples=samples,
            )
            asked.append(item)
        found.append(message(ForecastRequest(items=asked), content_types[place % len(content_types)], path))
    return found
