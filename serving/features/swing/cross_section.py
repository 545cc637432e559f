"""What a stock is among the others of its run: columns of one session, ranked across its stocks.

The strongest of them are moves that the common factors of the stocks do not explain (Avellaneda and Lee, 2010): they
tend to be taken back. Every column is a rank within ±0.5, 0 where it is unknown, so no stock's scale matters. A
session's columns are a function of the stocks' newest `SESSIONS` + 1 common sessions up to it: later bars change
nothing, nor does the order of the stocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusiontrade.market.candles import CandleFrame, Floats, Instants
from serving.features.bars import WINDOW

__all__ = ["CROSS_SECTION_NAMES", "CROSS_SECTION_VERSION", "FEWEST", "SESSIONS", "Market", "cross_section"]

CROSS_SECTION_VERSION = "1"
"""Changes whenever a definition of a column changes a number."""
SESSIONS = 504
"""Returns, two years of them, that a session's columns are made of."""
FEWEST = 25
"""Stocks without which nothing is ranked: ten factors of fewer stocks would be the stocks themselves."""

_YEAR, _QUARTER, _MONTH, _WEEK = 252, 63, 21, 5
_JUMP = 0.30  # of the logarithm: more in a session may be a split or demerger that nobody adjusted for
_PRESENT = 0.9  # of the sessions: a stock that traded on fewer has no factors
_FACTORS, _FEW_FACTORS, _PER_FACTOR = 10, 3, 4
_NEAREST = 8
_TINY = 1e-12

_RESIDUAL = (
    *("residual_1", "residual_fast", "residual_week", "residual_slow", "residual_21", "residual_63"),
    *("few_residual_1", "few_residual_fast", "few_residual_week", "few_residual_slow"),
)
_NEIGHBOURS = ("neighbour_gap_1", "neighbour_gap_5", "neighbour_move_21")
_MOVES = ("move_1", "move_5", "move_21", "move_126_21", "move_252_21", "residual_momentum")
_RISK = ("beta", "volatility_21", "volatility_252", "idiosyncratic_21", "idiosyncratic_252", "skew_252")
_EXTREMES = ("highest_5", "highest_21", "lowest_21", "rising_252")
_HOURS = ("night_1", "night_21", "night_252", "day_1", "day_5", "day_252")
_LEVELS = ("below_high_252", "above_low_252", "above_low_21", "since_high_252", "place_1", "place_5", "range_1")
_VOLUME = ("volume_1", "volume_5", "volume_21", "illiquidity", "volume_move_5")
CROSS_SECTION_NAMES: tuple[str, ...] = (
    *_RESIDUAL,
    *_NEIGHBOURS,
    *_MOVES,
    *_RISK,
    *_EXTREMES,
    *_HOURS,
    *_LEVELS,
    *_VOLUME,
)
"""Of the factors' residuals: the newest, decayed sums with half-lives of 2, 5 and 10 sessions, sums of 21 and 63; the
same of three factors alone. Less the eight most correlated stocks' mean, and that mean. Moves over sessions, those of
126 and 252 without the newest 21. Slope on the mean stock, deviations, skewness, extremes. Gaps between sessions and
moves within them. Distances from highs and lows, place in the session's range, range over its mean. Volume over its
mean, move over turnover, moves weighted by volume."""


@dataclass(frozen=True, eq=False)
class Market:
    """Daily bars of S stocks side by side, NaN where a stock has none.

    Parameters
    ----------
    closes
        (T,) instants at which sessions are finished, ms UTC, rising.
    open, high, low, close, volume
        (T, S).
    """

    closes: Instants
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats

    @classmethod
    def of(cls, frames: Sequence[CandleFrame]) -> Market:
        """Return the bars of checked daily frames, in their order."""
        closes = np.unique(np.concatenate([one.close_time for one in frames])) if frames else np.empty(0, np.int64)
        found = np.full((5, len(closes), len(frames)), np.nan)
        for place, one in enumerate(frames):
            rows = np.searchsorted(closes, one.close_time)
            volume = np.full(len(one), np.nan) if one.volume is None else one.volume
            found[:, rows, place] = one.open, one.high, one.low, one.close, volume
        return cls(closes, *found)


def cross_section(
    market: Market, session: int, *, fewest: int = FEWEST
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return which stocks are ranked on a session, (k,) rising, and their (k, C) columns, `CROSS_SECTION_NAMES`.

    A stock is ranked that has a bar on the session, `WINDOW` bars up to it, and one on nine tenths of the newest
    `SESSIONS` on which at least half of such stocks traded. None is where fewer than ``fewest`` are.

    Parameters
    ----------
    session
        Row of the market.
    """
    nothing = np.empty(0, np.intp), np.empty((0, len(CROSS_SECTION_NAMES)), np.float32)
    traded = np.isfinite(market.close[: session + 1])
    stocks = np.flatnonzero(traded[-1] & (traded.sum(axis=0) >= WINDOW))
    if len(stocks) < fewest:
        return nothing
    common = np.flatnonzero(2 * traded[:, stocks].sum(axis=1) >= len(stocks))[-SESSIONS - 1 :]
    if len(common) <= SESSIONS:
        return nothing
    stocks = stocks[traded[np.ix_(common, stocks)].mean(axis=0) >= _PRESENT]
    if len(stocks) < fewest:
        return nothing
    with np.errstate(all="ignore"):  # bars that leap over every bound: what is not finite is unknown
        columns = _columns(_Window.of(market, common, stocks))
    raw = np.stack([columns[name] for name in CROSS_SECTION_NAMES], axis=1)
    return stocks.astype(np.intp), _ranked(raw)


@dataclass(frozen=True, eq=False)
class _Window:
    """(SESSIONS, k) each: log moves from close to close, their parts at night and by day; prices that follow them."""

    moves: Floats
    night: Floats
    day: Floats
    close: Floats
    high: Floats
    low: Floats
    volume: Floats
    turnover: Floats

    @classmethod
    def of(cls, market: Market, sessions: NDArray[np.intp], stocks: NDArray[np.intp]) -> _Window:
        """Return the sessions' moves; a session without a bar moves nothing, one that jumps is none."""
        chosen = np.ix_(sessions, stocks)
        opened, high, low, close, volume = (
            column[chosen] for column in (market.open, market.high, market.low, market.close, market.volume)
        )
        newest = np.maximum.accumulate(np.where(np.isfinite(close), np.arange(len(close))[:, None], 0), axis=0)
        held = np.log(np.take_along_axis(close, newest, axis=0))
        moves, night = np.diff(held, axis=0), np.log(opened[1:]) - held[:-1]
        nothing = ~np.isfinite(moves) | ~np.isfinite(night) | (np.abs(moves) > _JUMP)
        moves, night = np.where(nothing, 0.0, moves), np.where(nothing, 0.0, night)
        path = np.exp(np.cumsum(moves, axis=0))
        above = np.where(nothing, 1.0, high[1:] / close[1:])
        under = np.where(nothing, 1.0, low[1:] / close[1:])
        volume = np.where(volume[1:] > 0, volume[1:], np.nan)
        return cls(moves, night, moves - night, path, path * above, path * under, volume, volume * close[1:])


def _columns(seen: _Window) -> dict[str, Floats]:
    """Return (k,) raw values by name; NaN where one is unknown."""
    found = _of_factors(seen) | _of_moves(seen) | _of_levels(seen)
    return found | _of_volume(seen)


def _of_factors(seen: _Window) -> dict[str, Floats]:
    """Return what the stocks' common factors and nearest stocks do not explain, in deviations of each stock."""
    moves = seen.moves
    deviation = moves.std(axis=0) + _TINY
    scaled = (moves - moves.mean(axis=0)) / deviation
    _, vectors = np.linalg.eigh(scaled.T @ scaled / len(scaled))
    most = max(1, scaled.shape[1] // _PER_FACTOR)
    found: dict[str, Floats] = {}
    for name, count in (("residual", _FACTORS), ("few_residual", _FEW_FACTORS)):
        factors = vectors[:, -min(count, most) :]
        newest = scaled[-_YEAR:]
        left = newest - (newest @ factors) @ factors.T
        found[f"{name}_1"] = left[-1]
        for pace, half_life in (("fast", 2), ("week", 5), ("slow", 10)):
            found[f"{name}_{pace}"] = 0.5 ** (np.arange(len(left))[::-1] / half_life) @ left
        found |= {f"{name}_{count}": left[-count:].sum(axis=0) for count in (_MONTH, _QUARTER)}
    apart = scaled[-_YEAR:] - scaled[-_YEAR:].mean(axis=1, keepdims=True)
    apart = apart - apart.mean(axis=0)
    apart = apart / (np.sqrt((apart**2).sum(axis=0)) + _TINY)
    alike = apart.T @ apart
    np.fill_diagonal(alike, -np.inf)
    nearest = np.argsort(-alike, axis=1, kind="stable")[:, : min(_NEAREST, most)]
    for count in (1, _WEEK):
        own = moves[-count:].sum(axis=0)
        found[f"neighbour_gap_{count}"] = own - own[nearest].mean(axis=1)
    found["neighbour_move_21"] = moves[-_MONTH:].sum(axis=0)[nearest].mean(axis=1)
    return found


def _of_moves(seen: _Window) -> dict[str, Floats]:
    """Return moves over sessions, and how wild they are."""
    year = seen.moves[-_YEAR:]
    mean = year.mean(axis=1, keepdims=True)
    centred = year - year.mean(axis=0)
    variance = (centred**2).mean(axis=0) + _TINY
    apart = mean - mean.mean()
    beta = (centred * apart).mean(axis=0) / ((apart**2).mean() + _TINY)
    own = year - beta * mean
    earlier = own[:-_MONTH]
    found = {f"move_{count}": year[-count:].sum(axis=0) for count in (1, _WEEK, _MONTH)}
    found |= {f"move_{count}_21": year[-count:-_MONTH].sum(axis=0) for count in (126, _YEAR)}
    return found | {
        "residual_momentum": earlier.sum(axis=0) / (earlier.std(axis=0) + _TINY),
        "beta": beta,
        "volatility_21": year[-_MONTH:].std(axis=0),
        "volatility_252": np.sqrt(variance),
        "idiosyncratic_21": own[-_MONTH:].std(axis=0),
        "idiosyncratic_252": own.std(axis=0),
        "skew_252": (centred**3).mean(axis=0) / variance**1.5,
        "highest_5": year[-_WEEK:].max(axis=0),
        "highest_21": year[-_MONTH:].max(axis=0),
        "lowest_21": year[-_MONTH:].min(axis=0),
        "rising_252": (year > 0).mean(axis=0),
        **{f"night_{count}": seen.night[-count:].sum(axis=0) for count in (1, _MONTH, _YEAR)},
        **{f"day_{count}": seen.day[-count:].sum(axis=0) for count in (1, _WEEK, _YEAR)},
    }


def _of_levels(seen: _Window) -> dict[str, Floats]:
    """Return where the newest close stands between highs and lows."""
    close = seen.close[-1]
    span = seen.high - seen.low
    place = np.where(span > _TINY, (seen.close - seen.low) / np.where(span > _TINY, span, 1.0), 0.5)
    wide = np.log(seen.high / seen.low)
    return {
        "below_high_252": close / seen.high[-_YEAR:].max(axis=0),
        "above_low_252": close / seen.low[-_YEAR:].min(axis=0),
        "above_low_21": close / seen.low[-_MONTH:].min(axis=0),
        "since_high_252": _YEAR - 1.0 - seen.high[-_YEAR:].argmax(axis=0),
        "place_1": place[-1],
        "place_5": place[-_WEEK:].mean(axis=0),
        "range_1": wide[-1] / (wide[-_QUARTER:].mean(axis=0) + _TINY),
    }


def _of_volume(seen: _Window) -> dict[str, Floats]:
    """Return how much is traded against before; NaN where less than half of a stretch has a volume.

    A session without one adds nothing to the moves weighted by volume, as long as half of the five have one.
    """
    size = np.log(seen.volume)
    usual = _mean(size[-_QUARTER:])
    surge = size[-_WEEK:] - usual
    week = _mean(surge)
    cost = np.abs(seen.moves) / seen.turnover
    illiquidity = np.log(_mean(cost[-_MONTH:])) - np.log(_mean(cost[-_YEAR:]))
    return {
        "volume_1": surge[-1],
        "volume_5": week,
        "volume_21": _mean(size[-_MONTH:]) - _mean(size[-_YEAR:]),
        "illiquidity": illiquidity,
        "volume_move_5": np.where(np.isfinite(week), np.nansum(seen.moves[-_WEEK:] * surge, axis=0), np.nan),
    }


def _mean(values: Floats) -> Floats:
    """Return (k,) means of what is known of (n, k) values; NaN where less than half is."""
    known = np.isfinite(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.where(2 * count >= len(values), total / np.maximum(count, 1), np.nan)


def _ranked(raw: Floats) -> NDArray[np.float32]:
    """Return (k, C) mean ranks within ±0.5 of what is known of each column, 0 of what is not."""
    known = np.isfinite(raw)
    found = np.zeros(raw.shape)
    for place in range(raw.shape[1]):
        rows = np.flatnonzero(known[:, place])
        values = raw[rows, place]
        ordered = np.sort(values)
        before, after = (np.searchsorted(ordered, values, side=side) for side in ("left", "right"))
        found[rows, place] = (before + after) / (2.0 * max(1, len(rows))) - 0.5
    return found.astype(np.float32)
