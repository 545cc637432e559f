"""What every family of indicators starts from: the columns of frames, and the units model inputs are measured in.

All thresholds are relative to the close, so multiplying every price by a constant changes no decision here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import talib

from fusiontrade.market.candles import CandleFrame, Floats
from serving.features.rolling import (
    by_series,
    ema,
    highest,
    lowest,
    mean_and_deviation,
    mean_of,
    newest,
    ratio,
    sums_of,
)

__all__ = ["ATR_BARS", "BAND_BARS", "WINDOW", "Bars", "Column", "Columns"]

WINDOW = 600
"""Bars a row may depend on, itself included."""

ATR_BARS = 14
BAND_BARS = 20
_VOLATILITY_BARS = 100
_LEAST_UNIT = 1e-7  # of the close: a thousandth of a pip; below it a market is flat and no unit of measure
_NOTHING = 1e-10  # of the close: a price difference below it is rounding

Column = tuple[str, Floats, Floats | None]
"""Name; raw values for display; scale-free values for models, None where the raw ones only have to be measured in ATR
(`serving.features.columns`). Values are (..., rows) float64."""

Columns = Iterator[Column]


@dataclass(frozen=True, eq=False)
class Bars:
    """Columns of one frame, or of several of one length, and what indicators share: computed once, when asked for.

    Names in the plural are whole columns, (n,) or (frames, n), oldest bar first; names in the singular are their newest
    ``rows`` values, (rows,) or (frames, rows): those that are asked for. All are float64.

    Parameters
    ----------
    opens, highs, lows, closes
        Prices in the quote currency.
    volumes
        In base units, or None where the market has none.
    rows
        How many of the newest bars are asked for; all others are their past.
    """

    opens: Floats
    highs: Floats
    lows: Floats
    closes: Floats
    volumes: Floats | None
    rows: int

    @classmethod
    def of(cls, frame: CandleFrame, rows: int) -> Bars:
        """Return the columns of ``frame``, (n,) each."""
        prices = (frame.open, frame.high, frame.low, frame.close)
        opens, highs, lows, closes = (np.ascontiguousarray(column, np.float64) for column in prices)
        volumes = None if frame.volume is None else np.ascontiguousarray(frame.volume, np.float64)
        return cls(opens, highs, lows, closes, volumes, rows)

    @classmethod
    def of_many(cls, frames: Sequence[CandleFrame], rows: int) -> Bars:
        """Return the columns of ``frames``, (frames, n) each; all have one length, and all a volume or none."""
        traded = [frame.volume for frame in frames if frame.volume is not None]
        return cls(
            np.array([frame.open for frame in frames], np.float64),
            np.array([frame.high for frame in frames], np.float64),
            np.array([frame.low for frame in frames], np.float64),
            np.array([frame.close for frame in frames], np.float64),
            np.array(traded, np.float64) if len(traded) == len(frames) else None,
            rows,
        )

    def newest(self, column: Floats, ago: int = 0) -> Floats:
        """Return (..., rows) of a column that ends with the newest bar, as it was ``ago`` bars earlier."""
        return newest(column, self.rows, ago)

    def past(self, column: Floats, bars: int) -> Floats:
        """Return (..., rows + bars) of a whole column: what is asked for and the ``bars`` before it."""
        return newest(column, self.rows + bars)

    @property
    def open(self) -> Floats:
        """Prices at which bars open."""
        return self.newest(self.opens)

    @cached_property
    def high(self) -> Floats:
        """Highest prices of bars."""
        return self.newest(self.highs)

    @cached_property
    def low(self) -> Floats:
        """Lowest prices of bars."""
        return self.newest(self.lows)

    @cached_property
    def close(self) -> Floats:
        """Prices at which bars close."""
        return self.newest(self.closes)

    @cached_property
    def previous(self) -> Floats:
        """The close one bar earlier."""
        return self.newest(self.closes, 1)

    @cached_property
    def changes(self) -> Floats:
        """The close less the one before it; NaN in the first bar."""
        changes = np.empty(self.closes.shape)
        changes[..., 0] = np.nan
        np.subtract(self.closes[..., 1:], self.closes[..., :-1], out=changes[..., 1:])
        return changes

    @cached_property
    def change(self) -> Floats:
        """The close less the one before it."""
        return self.newest(self.changes)

    @cached_property
    def log_returns(self) -> Floats:
        """(..., n - 1): logarithm of the close over the one before it."""
        return np.log(self.closes[..., 1:] / self.closes[..., :-1])

    @cached_property
    def spans(self) -> Floats:
        """High less low."""
        return self.highs - self.lows

    @cached_property
    def span(self) -> Floats:
        """High less low."""
        return self.newest(self.spans)

    @cached_property
    def locations(self) -> Floats:
        """Where in its bar the close lies, -1 (low) to 1 (high); 0 for a bar without range."""
        above_less_below = (self.closes - self.lows) - (self.highs - self.closes)
        return ratio(above_less_below, self.spans, smallest=self.least(self.closes), otherwise=0.0)

    @cached_property
    def true_ranges(self) -> Floats:
        """Wilder's true range; NaN in the first bar."""
        ranges, before = np.empty(self.closes.shape), self.closes[..., :-1]
        ranges[..., 0] = np.nan
        highest, lowest = np.maximum(self.highs[..., 1:], before), np.minimum(self.lows[..., 1:], before)
        np.subtract(highest, lowest, out=ranges[..., 1:])
        return ranges

    @cached_property
    def atr(self) -> Floats:
        """Average true range of 14 bars, Wilder's average."""
        return self.newest(by_series(talib.ATR, self.highs, self.lows, self.closes, timeperiod=ATR_BARS))

    @cached_property
    def unit(self) -> Floats:
        """``atr``, but at least 1e-7 of the close: the unit of price distances."""
        return self.at_least(self.atr)

    @cached_property
    def per_unit(self) -> Floats:
        """One over ``unit``."""
        return 1.0 / self.unit

    @cached_property
    def nothing(self) -> Floats:
        """The price difference that counts as none: 1e-10 of the close."""
        return self.least(self.close)

    @cached_property
    def volatility(self) -> Floats:
        """Root mean square of the newest 100 log returns, at least 1e-7."""
        returns = self.past(self.log_returns, _VOLATILITY_BARS - 1)
        mean_square = mean_of(returns * returns, _VOLATILITY_BARS, rows=self.rows)
        return np.maximum(np.sqrt(mean_square), _LEAST_UNIT)

    @cached_property
    def extremes(self) -> dict[int, tuple[Floats, Floats]]:
        """By bars: (..., rows + 2) the highest high and the lowest low of 9, 14, 26, 52 bars."""
        rows, windows = self.rows + 2, (9, 14, 26, 52)
        tops, bottoms = highest(self.highs, *windows, rows=rows), lowest(self.lows, *windows, rows=rows)
        return dict(zip(windows, zip(tops, bottoms, strict=True), strict=True))

    @cached_property
    def averages(self) -> dict[int, Floats]:
        """By bars: the mean of 14, 20, 50, 200 closes."""
        windows = (14, 20, 50, 200)
        sums = sums_of(self.closes, *windows, rows=self.rows)
        return {bars: total / bars for bars, total in zip(windows, sums, strict=True)}

    @cached_property
    def bands(self) -> tuple[Floats, Floats]:
        """(1 or 2, ..., rows): mean and deviation of 20 closes, and where there is volume, of 20 volumes."""
        columns = [
            newest(column, self.rows + BAND_BARS - 1) for column in (self.closes, self.volumes) if column is not None
        ]
        return mean_and_deviation(np.array(columns), BAND_BARS, rows=self.rows)

    @cached_property
    def emas_12(self) -> Floats:
        """Exponential moving average of 12 closes."""
        return ema(self.closes, 12)

    @cached_property
    def emas_26(self) -> Floats:
        """Exponential moving average of 26 closes."""
        return ema(self.closes, 26)

    @cached_property
    def macds(self) -> Floats:
        """The average of 12 closes less that of 26."""
        return self.emas_12 - self.emas_26

    @staticmethod
    def least(closes: Floats) -> Floats:
        """Return the price differences that count as none beside ``closes``."""
        return _NOTHING * closes

    def at_least(self, length: Floats) -> Floats:
        """Return the price difference, raised to the least one that is a unit of measure."""
        return np.maximum(length, _LEAST_UNIT * self.close)
