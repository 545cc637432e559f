"""Volume indicators: the five of the volume group and the five that weigh price with volume.

Where the market has no volume every column is masked: NaN for display, 0 for the models. Sums that are cumulative by
definition (obv, vpt, adi) run over the window of 600 bars, from its left edge.
"""

from __future__ import annotations

import numpy as np

from fusiontrade.market.candles import Floats
from serving.features.bars import WINDOW, Bars, Columns
from serving.features.rolling import ema, mean_and_deviation, mean_of, ratio, sums_of

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
    if bars.volumes is None:
        masked, neutral = np.full(bars.close.shape, np.nan), np.zeros(bars.close.shape)
        for name in VOLUME_COLUMNS:
            yield name, masked, neutral
        return
    of_price, of_flow, of_window = sums_of(bars.volumes, _PRICE_BARS, _FLOW_BARS, WINDOW, rows=bars.rows)
    usual = of_window / WINDOW
    nothing = _NONE * usual
    yield from _amounts(bars, bars.volumes, usual, nothing)
    yield from _running_totals(bars, bars.volumes, of_window)
    located, adi = sums_of(bars.past(bars.locations * bars.volumes, WINDOW - 1), _FLOW_BARS, WINDOW, rows=bars.rows)
    flow = ratio(located, of_flow, smallest=nothing, otherwise=0.0)
    yield "cmf", flow, flow
    yield "adi", adi, ratio(adi, of_window, smallest=0.0, otherwise=0.0)
    yield from _force_and_ease(bars, bars.volumes, usual, nothing)
    vwap = _weighted_price(bars, bars.volumes, of_price, nothing)
    yield "vwap", vwap, bars.distance(vwap, _PRICE_BARS)


def _amounts(bars: Bars, volumes: Floats, usual: Floats, nothing: Floats) -> Columns:
    traded, before = bars.newest(volumes), bars.newest(volumes, 1)
    change = ratio(traded - before, before, smallest=nothing, otherwise=0.0)
    yield "volume_change", change, volume_level(traded, usual) - volume_level(before, usual)
    average, spread = mean_and_deviation(volumes, _AVERAGE_BARS, rows=bars.rows)
    yield "volume_ma", average, volume_level(average, usual)
    yield "volume_std", spread, ratio(spread, average, smallest=nothing, otherwise=0.0)


def _running_totals(bars: Bars, volumes: Floats, window_total: Floats) -> Columns:
    changes, traded = bars.past(bars.changes, WINDOW - 2), bars.past(volumes, WINDOW - 2)
    flows = np.stack((np.sign(changes), changes / bars.past(bars.closes, WINDOW - 1)[..., :-1]))
    flows *= traded
    balance, flow = sums_of(flows, WINDOW - 1, rows=bars.rows)[0]
    obv = bars.newest(volumes, WINDOW - 1) + balance
    yield "obv", obv, ratio(obv, window_total, smallest=0.0, otherwise=0.0)
    yield "vpt", flow, ratio(flow, window_total, smallest=0.0, otherwise=0.0) / bars.volatility


def _force_and_ease(bars: Bars, volumes: Floats, usual: Floats, nothing: Floats) -> Columns:
    force = bars.newest(ema(bars.changes * volumes, _FORCE_BARS))
    yield "fi", force, ratio(force, usual, smallest=0.0, otherwise=0.0) * bars.per_unit

    traded = bars.newest(volumes)
    moved = (bars.high + bars.low - bars.newest(bars.highs, 1) - bars.newest(bars.lows, 1)) / 2.0
    ease = _EASE_SCALE * ratio(moved * bars.span, traded, smallest=nothing, otherwise=0.0)
    in_units = (moved * bars.per_unit) * (bars.span * bars.per_unit)
    yield "ease_of_movement", ease, np.arcsinh(ratio(usual, traded, smallest=nothing, otherwise=0.0) * in_units)


def _weighted_price(bars: Bars, volumes: Floats, weight: Floats, nothing: Floats) -> Floats:
    high, low, close = (bars.past(column, _PRICE_BARS - 1) for column in (bars.highs, bars.lows, bars.closes))
    typical = (high + low + close) / 3.0
    plain = mean_of(typical, _PRICE_BARS, rows=bars.rows)
    (weighted,) = sums_of(typical * bars.past(volumes, _PRICE_BARS - 1), _PRICE_BARS, rows=bars.rows)
    return ratio(weighted, weight, smallest=nothing, otherwise=plain)
