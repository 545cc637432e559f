"""Candle frames: the bars of one symbol and timeframe as columns.

Always true of a frame that passed `CandleFrame.checked`: open times rise strictly, every price is finite and
positive, ``low <= open, close <= high``, volume is finite and not negative, and all columns have one length.
Volume is ``None`` where the market has no real one (FX, spot gold): tick counts of a broker are not volume.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fusiontrade.errors import BadCandles
from fusiontrade.market.timeframes import Timeframe

__all__ = ["CandleFrame", "Floats", "Instants"]

Floats = NDArray[np.float64]
Instants = NDArray[np.int64]

_SHOWN = 3  # examples named per fault


@dataclass(frozen=True, eq=False)
class CandleFrame:
    """Bars of one symbol and timeframe.

    Parameters
    ----------
    symbol
        Yahoo's code, e.g. ``EURUSD=X``.
    timeframe
        Length of each bar.
    time
        (n,) int64: the instant each bar OPENS, ms since 1970-01-01 UTC.
    open, high, low, close
        (n,) float64: prices in the quote currency.
    volume
        (n,) float64 in base units, or None where the market has no real volume.
    """

    symbol: str
    timeframe: Timeframe
    time: Instants
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats | None = None

    def __len__(self) -> int:
        return len(self.time)

    @property
    def close_time(self) -> Instants:
        """(n,) int64: the instant each bar is finished, ms since 1970-01-01 UTC."""
        return self.time + self.timeframe.milliseconds

    def rows(self, chosen: slice | NDArray[np.bool_] | NDArray[np.intp]) -> CandleFrame:
        """Return a frame of the ``chosen`` rows (a slice shares memory, a mask copies)."""
        return replace(
            self,
            time=self.time[chosen],
            open=self.open[chosen],
            high=self.high[chosen],
            low=self.low[chosen],
            close=self.close[chosen],
            volume=None if self.volume is None else self.volume[chosen],
        )

    def tail(self, count: int) -> CandleFrame:
        """Return the newest ``count`` bars (all, if there are fewer)."""
        return self.rows(slice(max(0, len(self) - count), None))

    def finished_by(self, instant: int) -> CandleFrame:
        """Return the bars that were finished at ``instant`` (ms): what could be known then."""
        end = int(np.searchsorted(self.close_time, instant, side="right"))
        return self.rows(slice(0, end))

    def without_volume(self) -> CandleFrame:
        """Return the same bars with no volume column."""
        return replace(self, volume=None)

    def faults(self) -> list[str]:
        """Name every rule these bars break, with the first rows that break it; an empty list means none."""
        lengths = {len(column) for column in self._columns()}
        if len(lengths) > 1:
            return [f"columns differ in length: {sorted(lengths)}"]
        return [fault for broken, rule in self._rules() if (fault := _name(broken, rule, self.time))]

    def checked(self) -> CandleFrame:
        """Return this frame, or raise `BadCandles` with every fault it has."""
        if faults := self.faults():
            raise BadCandles([f"{self.symbol} {self.timeframe}: {fault}" for fault in faults])
        return self

    def _columns(self) -> Iterator[NDArray[np.float64] | NDArray[np.int64]]:
        yield from (self.time, self.open, self.high, self.low, self.close)
        if self.volume is not None:
            yield self.volume

    def _rules(self) -> Iterator[tuple[NDArray[np.bool_], str]]:
        step = np.diff(self.time, prepend=self.time[:1] - 1)
        yield np.asarray(step == 0), "duplicate open time"
        yield np.asarray(step < 0), "open time out of order"
        prices = np.stack([self.open, self.high, self.low, self.close])
        finite = np.asarray(np.isfinite(prices).all(axis=0))
        yield ~finite, "price is NaN or infinite"
        yield finite & (prices <= 0).any(axis=0), "price is zero or negative"
        body_high, body_low = np.maximum(self.open, self.close), np.minimum(self.open, self.close)
        yield finite & (self.high < self.low), "high below low"
        outside = (self.high < body_high) | (self.low > body_low)
        yield finite & (self.high >= self.low) & outside, "open or close outside high and low"
        if self.volume is not None:
            yield ~np.isfinite(self.volume) | (self.volume < 0), "volume is NaN, infinite or negative"


def _name(broken: NDArray[np.bool_], rule: str, time: Instants) -> str:
    """Return the fault in words, or an empty string where no row breaks the rule."""
    rows = np.flatnonzero(broken)
    if not len(rows):
        return ""
    shown = ", ".join(str(np.datetime64(int(time[row]), "ms")) + "Z" for row in rows[:_SHOWN])
    return f"{rule} at {shown}" + (f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else "")
