"""Volume indicators: the five of the volume group and the five that weigh price with volume.

Where the market has no volume every column is masked: NaN for display, 0 for the models. Sums that are cumulative by
definition (obv, vpt, adi) run over the window of 600 bars, from its left edge.
"""

from __future__ import annotations

import numpy as np

from fusiontrade.market.candles import Floats
from serving.features.bars import WINDOW, Bars, Columns
from serving.features.rolling import ema, lag, ratio, rolling_std, rolling_sum

__all__ = ["VOLUME_COLUMNS", "volume", "volume_level"]

VOLUME_COLUMNS: tuple[str, ...] = (
    "volume_change",
    "volume_ma",
    "volume_std",
    "obv",
    "vpt",
    "cmf",
    "fi",
    "adi",
    "ease_of_movement",
    "vwap",
)
"""The columns that need real volume."""

_AVERAGE_BARS = 20
_FLOW_BARS = 20
_FORCE_BARS = 13
_PRICE_BARS = 14
_EASE_SCALE = 1e8  # keeps raw values readable, as `ta` has it
_NONE = 1e-12  # of the usual volume: less is rounding of the source, and dividing by it says nothing
_PART = 0.01  # of the usual volume, added before logarithms so that a bar without trades is a number


def volume_level(traded: Floats, usual: Floats) -> Floats:
    """Return log((traded + 1 %) / (usual + 1 %)), the 1 % being of ``usual``; 0 where nothing is usual."""
    idle = usual <= 0.0
    below = np.where(idle, 1.0, usual)
    return np.where(idle, 0.0, np.log((traded / below + _PART) / (1.0 + _PART)))


def volume(bars: Bars) -> Columns:
    """Yield the ten columns of `VOLUME_COLUMNS`."""
    if bars.volume is None:
        rows = len(bars.close)
        for name in VOLUME_COLUMNS:
            yield name, np.full(rows, np.nan), np.zeros(rows)
        return
    usual = rolling_sum(bars.volume, WINDOW) / WINDOW
    yield from _amounts(bars.volume, usual)
    yield from _running_totals(bars, bars.volume, usual)
    yield from _weighted(bars, bars.volume, usual)


def _amounts(traded: Floats, usual: Floats) -> Columns:
    before = lag(traded, 1)
    change = ratio(traded - before, before, smallest=_NONE * usual, otherwise=0.0)
    yield "volume_change", change, volume_level(traded, usual) - volume_level(before, usual)
    average = rolling_sum(traded, _AVERAGE_BARS) / _AVERAGE_BARS
    yield "volume_ma", average, volume_level(average, usual)
    spread = rolling_std(traded, _AVERAGE_BARS)
    yield "volume_std", spread, ratio(spread, average, smallest=_NONE * usual, otherwise=0.0)


def _running_totals(bars: Bars, traded: Floats, usual: Floats) -> Columns:
    window_total = usual * WINDOW
    first = lag(traded, WINDOW - 1)
    balance = rolling_sum(np.sign(bars.close - bars.previous) * traded, WINDOW - 1)
    obv = first + balance
    yield "obv", obv, ratio(obv, window_total, smallest=0.0, otherwise=0.0)
    vpt = rolling_sum((bars.close / bars.previous - 1.0) * traded, WINDOW - 1)
    yield "vpt", vpt, ratio(vpt, window_total, smallest=0.0, otherwise=0.0) / bars.volatility
    adi = rolling_sum(_close_location(bars) * traded, WINDOW)
    yield "adi", adi, ratio(adi, window_total, smallest=0.0, otherwise=0.0)


def _weighted(bars: Bars, traded: Floats, usual: Floats) -> Columns:
    recent = rolling_sum(traded, _FLOW_BARS)
    flow = ratio(rolling_sum(_close_location(bars) * traded, _FLOW_BARS), recent, smallest=_NONE * usual, otherwise=0.0)
    yield "cmf", flow, flow
    force = ema((bars.close - bars.previous) * traded, _FORCE_BARS)
    yield "fi", force, ratio(force, usual, smallest=0.0, otherwise=0.0) / bars.unit

    moved = (bars.high + bars.low - lag(bars.high, 1) - lag(bars.low, 1)) / 2.0
    span = bars.high - bars.low
    ease = _EASE_SCALE * ratio(moved * span, traded, smallest=_NONE * usual, otherwise=0.0)
    relative = ratio(usual, traded, smallest=_NONE * usual, otherwise=0.0) * (moved / bars.unit) * (span / bars.unit)
    yield "ease_of_movement", ease, np.arcsinh(relative)

    typical = bars.typical
    plain = rolling_sum(typical, _PRICE_BARS) / _PRICE_BARS
    weight = rolling_sum(traded, _PRICE_BARS)
    vwap = ratio(rolling_sum(typical * traded, _PRICE_BARS), weight, smallest=_NONE * usual, otherwise=plain)
    yield "vwap", vwap, bars.distance(vwap, _PRICE_BARS)


def _close_location(bars: Bars) -> Floats:
    """Return where in its bar the close lies, -1 (low) to 1 (high); 0 for a bar without range."""
    span = bars.high - bars.low
    return ratio((bars.close - bars.low) - (bars.high - bars.close), span, smallest=bars.nothing, otherwise=0.0)
