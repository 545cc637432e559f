"""Other futures: the same bars up to a row, and after it bars that never were; and invented bars to try things on.

Always true: what comes back is a valid frame, its rows up to and including the named one are equal bit for bit to the
original's, its times are the same, and it shares no memory with it. `earlier` alone moves bars to other times.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fusiontrade.market.candles import CandleFrame, Floats
from fusiontrade.market.timeframes import Timeframe

__all__ = ["all_altered", "altered_futures", "copied", "earlier", "invented"]

_FACTOR, _TRADED, _NOISE = 1.5, 3.0, 0.05
_DAY = 86_400_000
_WEEKS = 52 * 7 * _DAY
_START = 1_704_067_200_000  # 2024-01-01, a Monday


def copied(frame: CandleFrame, rows: slice = slice(None)) -> CandleFrame:
    """Return some rows of a frame in memory of their own."""
    return frame.rows(np.arange(len(frame))[rows])


def altered_futures(frame: CandleFrame, last: int, random: np.random.Generator) -> Iterator[tuple[str, CandleFrame]]:
    """Yield the frame with every bar after row ``last`` altered, and in words how.

    Multiplied: a level never seen; shuffled: the same bars in another order; scattered: each bar moved by its own
    random factor. What survives one of them (a mean of all bars does not notice an order) does not survive all.
    """
    after = np.arange(len(frame)) > last
    order = np.arange(len(frame))
    order[after] = random.permutation(order[after])
    noise = np.where(after, np.exp(_NOISE * random.standard_normal(len(frame))), 1.0)
    yield "multiplied", _scaled(frame, np.where(after, _FACTOR, 1.0), np.where(after, _TRADED, 1.0))
    yield "shuffled", _ordered(frame, order)
    yield "scattered", _scaled(frame, noise, noise)


def all_altered(frame: CandleFrame, random: np.random.Generator) -> CandleFrame:
    """Return the frame with every bar moved by its own random factor: the same instants, none of the same prices."""
    noise = np.exp(_NOISE * random.standard_normal(len(frame)))
    return _scaled(frame, noise, noise)


def earlier(frame: CandleFrame) -> CandleFrame:
    """Return the bars but the oldest, 52 weeks earlier: the same hours of the week, other instants, other rows."""
    bars = copied(frame, slice(1, None))
    return CandleFrame(
        bars.symbol, bars.timeframe, bars.time - _WEEKS, bars.open, bars.high, bars.low, bars.close, bars.volume
    )


def invented(symbol: str, timeframe: Timeframe, bars: int, seed: int) -> CandleFrame:
    """Return a random walk whose volatility depends on the hour; FX and metals rest at weekends, without volume."""
    random = np.random.default_rng(seed)
    rests = symbol.endswith(("=X", "=F"))
    time = _START + timeframe.milliseconds * np.arange(2 * bars, dtype=np.int64)
    weekday = (time // _DAY + 3) % 7
    time = time[weekday < 5][:bars] if rests else time[:bars]
    sigma = 0.002 * (1.0 + 0.8 * np.sin(2 * np.pi * (time % _DAY) / _DAY))
    close = 100 * np.exp(np.cumsum(random.standard_t(5, bars) * sigma))
    opened = np.concatenate(([100.0], close[:-1])) * (1 + random.normal(0, 0.0002, bars))
    above, below = np.abs(random.normal(0, 1, (2, bars))) * sigma / 2
    return CandleFrame(
        symbol,
        timeframe,
        time,
        opened,
        np.maximum(opened, close) * (1 + above),
        np.minimum(opened, close) * (1 - below),
        close,
        None if rests else random.lognormal(3, 0.5, bars),
    ).checked()


def _scaled(frame: CandleFrame, prices: Floats, volume: Floats) -> CandleFrame:
    return CandleFrame(
        frame.symbol,
        frame.timeframe,
        frame.time.copy(),
        frame.open * prices,
        frame.high * prices,
        frame.low * prices,
        frame.close * prices,
        None if frame.volume is None else frame.volume * volume,
    )


def _ordered(frame: CandleFrame, order: NDArray[np.intp]) -> CandleFrame:
    """Return the frame's own times with the bars of the rows ``order``."""
    bars = frame.rows(order)
    volume = bars.volume
    time = frame.time.copy()
    return CandleFrame(frame.symbol, frame.timeframe, time, bars.open, bars.high, bars.low, bars.close, volume)
