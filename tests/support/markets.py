"""A provider of our own port, with a clock to move and a script of what happens, and callers who come at once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

import numpy as np

from fusiontrade.clock import parse_iso
from fusiontrade.deadline import Deadline
from fusiontrade.errors import ProviderUnavailable
from fusiontrade.market.calendar import calendar_of
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.retry import RetryPolicy
from fusiontrade.market.source import CandleAnswer, CandleSource
from fusiontrade.market.symbols import Symbol, parse_symbol
from fusiontrade.market.timeframes import INTRADAY, Timeframe

__all__ = [
    "DAY",
    "DOWN",
    "EURUSD",
    "HOUR",
    "NOW",
    "Market",
    "Meeting",
    "ask",
    "bars",
    "failing",
    "many",
    "source_of",
    "together",
]

NOW = parse_iso("2025-07-23T15:07:12Z")  # a Wednesday
HOUR = 3_600_000
DAY = 24 * HOUR
EURUSD = parse_symbol("EURUSD=X")

Meeting = Callable[[CandleFrame], CandleFrame]
"""How a request is met: given the good answer, returns what is sent, or raises."""


class Market:
    """A provider with a clock to move and a script of what happens to the next requests."""

    name = "market"
    notice: str | None = None

    def __init__(self) -> None:
        self.clock = NOW
        self.asked: list[tuple[str, Timeframe, int, int]] = []
        self.timeouts: list[float] = []
        self.script: deque[Meeting] = deque()
        self.always: Meeting | None = None
        self.history_begins = 0

    def now(self, symbol: Symbol) -> int:
        return self.clock

    def stand_in(self, symbol: Symbol) -> str | None:
        return None

    def candles(self, symbol: Symbol, timeframe: Timeframe, *, end: int, count: int, timeout: float) -> CandleFrame:
        self.asked.append((symbol.code, timeframe, end, count))
        self.timeouts.append(timeout)
        meets = self.script.popleft() if self.script else self.always
        frame = bars(symbol, timeframe, end, count, begins=self.history_begins)
        return frame if meets is None else meets(frame)


def bars(symbol: Symbol, timeframe: Timeframe, end: int, count: int, *, begins: int = 0) -> CandleFrame:
    length = timeframe.milliseconds
    opens = calendar_of(symbol).bar_opens(timeframe, end - 3 * count * length - 5 * DAY, end - length + 1)[-count:]
    opens = opens[opens >= begins]
    close = 100 + 10 * np.sin(opens / 7e7)
    return CandleFrame(symbol.code, timeframe, opens, close, close + 1, close - 1, close)


def failing(error: Exception) -> Meeting:
    def fail(_: CandleFrame) -> CandleFrame:
        raise error

    return fail


DOWN = failing(ProviderUnavailable("the market is down", retry_after=1))


def source_of(market: Market, **options) -> CandleSource:
    options.setdefault("retry", RetryPolicy(attempts=1))
    return CandleSource(market, clock=lambda: NOW + DAY, sleep=lambda _: None, **options)


def ask(
    source: CandleSource,
    symbol: Symbol = EURUSD,
    timeframe: Timeframe = Timeframe.H1,
    *,
    count: int = 50,
    as_of: int | None = None,
    seconds: float = 10.0,
) -> CandleAnswer:
    return source.candles(symbol, timeframe, count=count, as_of=as_of, deadline=Deadline.after(seconds))


def many(source: CandleSource, *, timeframes=INTRADAY, count=40, as_of=None, seconds=10.0):
    return source.many(EURUSD, timeframes, count=count, as_of=as_of, deadline=Deadline.after(seconds))


def together(count: int, call: Callable[[], object]) -> list[object]:
    """Return what ``count`` threads got, errors included."""
    results: list[object] = []
    everybody = threading.Barrier(count)

    def caller() -> None:
        everybody.wait()
        try:
            results.append(call())
        except Exception as error:
            results.append(error)

    threads = [threading.Thread(target=caller) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
