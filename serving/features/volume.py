"""Volume indicators: the five of the volume group and the five that weigh price with volume.

Where the market has no volume every column is masked: NaN for display, 0 for the models. Sums that are cumulative by
definition (obv, vpt, adi) run over the window of 600 bars, from its left edge.
"""

from __future__ import annotations

import math

import numpy as np

from fusiontrade.market.candles import Floats
from serving.features.bars import WINDOW, Bars, Columns
from serving.features.rolling import ema, mean_of, ratio, sums_of

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
    of_price, of_flow, of_window = _flows(bars, bars.volumes)
    usual = of_window[0] / WINDOW
    nothing = _NONE * usual
    yield from _amounts(bars, bars.volumes, usual, nothing)
    yield from _running_totals(bars, *of_window)
    flow = ratio(of_flow[1], of_flow[0], smallest=nothing, otherwise=0.0)
    yield "cmf", flow, flow
    yield from _force_and_ease(bars, bars.volumes, usual, nothing)
    vwap = _weighted_price(bars, bars.volumes, of_price[0], nothing)
    yield "vwap", vwap, (vwap - bars.close) * bars.per_unit * (1.0 / math.sqrt(_PRICE_BARS))


def _flows(bars: Bars, volumes: Floats) -> tuple[Floats, Floats, Floats]:
    """Return (4, ..., rows) sums over 14 bars, 20 and the window: of volume, and of volume times three columns.

    They are the location of the close in its bar; the sign of the change since the close before; and that change
    relative to it. The latter two have no value at the window's first bar, whose close before lies outside.
    """
    past = WINDOW - 2
    changes, before = bars.past(bars.changes, past), bars.past(bars.closes, past + 1)[..., :-1]
    volumes, locations = bars.past(volumes, past + 1), bars.past(bars.locations, past + 1)
    traded = volumes[..., 1:]
    flows = np.array((traded, locations[..., 1:] * traded, np.sign(changes) * traded, changes / before * traded))
    of_price, of_flow, of_window = sums_of(flows, _PRICE_BARS, _FLOW_BARS, WINDOW - 1, rows=bars.rows)
    first = volumes[..., : bars.rows]
    of_window[0] += first
    of_window[1] += locations[..., : bars.rows] * first
    of_window[2] += first
    return of_price, of_flow, of_window


def _amounts(bars: Bars, volumes: Floats, usual: Floats, nothing: Floats) -> Columns:
    traded, before = bars.newest(volumes), bars.newest(volumes, 1)
    change = ratio(traded - before, before, smallest=nothing, otherwise=0.0)
    yield "volume_change", change, volume_level(traded, usual) - volume_level(before, usual)
    average, spread = (of_both[1] for of_both in bars.bands)
    yield "volume_ma", average, volume_level(average, usual)
    yield "volume_std", spread, ratio(spread, average, smallest=nothing, otherwise=0.0)


def _running_totals(bars: Bars, total: Floats, adi: Floats, obv: Floats, vpt: Floats) -> Columns:
    share = ratio(np.ones(total.shape), total, smallest=0.0, otherwise=0.0)
    yield "obv", obv, obv * share
    yield "vpt", vpt, vpt * share / bars.volatility
    yield "adi", adi, adi * share


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
