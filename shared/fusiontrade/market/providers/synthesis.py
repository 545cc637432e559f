"""The arithmetic of the simulated market: log prices as a function of symbol and time alone.

Nothing here remembers or looks anything up, so any week can be computed without the weeks before it, and two windows
that overlap agree bar by bar. Three scales fit into each other:

- every `_ERA` weeks the log price stands at a bounded random distance from the symbol's usual level;
- between two of these, each week ends on a random walk whose steps follow that week's volatility, pinned to both ends
  (a bridge, its correction shared out by variance, hence too small in any week to be seen);
- inside a week every minute has a Student-t step, scaled by the time of day and by a volatility that wanders on
  horizons from an hour to a month, pinned to the week's ends in the same way.

So prices are continuous from week to week, volatility clusters and lasts, tails are fat, and direction is a coin toss.
Random numbers come from hashes of the symbol's code and the place in time (SHA-256 into Philox; SplitMix64 where single
values are needed), hence the same in every process.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fusiontrade.market.candles import Floats, Instants

__all__ = ["Character", "Minutes", "minutes_of_week", "week_ends"]

_HOUR = 3_600_000
_DAY = 24 * _HOUR
_ERA = 128  # weeks between two of the widest anchors
_ERA_REACH = 2.0  # the price stays within so many deviations of its level at those anchors
_TAIL_DEGREES = 5.0
_LARGEST_STEP = 10.0  # in deviations of that minute
_CELL = 15 * 60_000  # volatility is constant inside a cell
_WICK = 0.4  # mean reach of a minute's high and low beyond its body, in deviations of that minute

# (spacing of the random points in ms, deviation of log volatility): linear in between
_SLOW_WAVES = ((_DAY, 0.25), (4 * _DAY, 0.30), (28 * _DAY, 0.30))
_FAST_WAVES = ((_HOUR, 0.20), (6 * _HOUR, 0.25))

_UnsignedInts = NDArray[np.uint64]


@dataclass(frozen=True)
class Character:
    """How one symbol's invented prices behave.

    Parameters
    ----------
    level
        Usual price.
    weekly_volatility
        Deviation of a usual week's log return.
    session_gap, week_gap
        Deviation of the log return over the close before a session, and before the first one of a week, in units of
        ``weekly_volatility``.
    """

    level: float
    weekly_volatility: float
    session_gap: float
    week_gap: float


@dataclass(frozen=True, eq=False)
class Minutes:
    """The unrounded minutes of one week: (n,) prices, and (n,) activity, 1 on average, for volume to follow."""

    open: Floats
    high: Floats
    low: Floats
    close: Floats
    activity: Floats


def week_ends(code: str, character: Character, week: int, week_length: int) -> tuple[float, float]:
    """Return the log prices at the start and at the end of ``week`` (counted from any fixed moment)."""
    era, inside = divmod(week, _ERA)
    anchors = _era(code, character, era, week_length)
    return float(anchors[inside]), float(anchors[inside + 1])


def minutes_of_week(
    code: str, week: int, ends: tuple[float, float], character: Character, *, times: Instants, season: Floats
) -> Minutes:
    """Return the minutes of one week.

    Parameters
    ----------
    code, week
        The symbol and which week it is: the seed of everything.
    ends
        From `week_ends`: the log price before the first minute (and before the gap that leads to it) and at the last
        close.
    character
        The symbol's.
    times
        (n,) open times of the minutes in which the market trades, ms, n >= 1. A hole is a close with a gap in price.
    season
        (n,) usual volatility of each minute, in any unit.
    """
    count = len(times)
    generator = _generator(code, "week", week)
    scale = season / np.sqrt(np.mean(season**2)) * _volatility(code, times)
    deviation = character.weekly_volatility / np.sqrt(count) * scale
    noise = generator.standard_t(_TAIL_DEGREES, count) / np.sqrt(_TAIL_DEGREES / (_TAIL_DEGREES - 2))
    steps = deviation * np.clip(noise, -_LARGEST_STEP, _LARGEST_STEP)
    wicks = deviation * generator.exponential(_WICK, (2, count))
    gaps = _gaps(character, times, generator)

    missing = ends[1] - ends[0] - steps.sum() - gaps.sum()
    steps += missing * deviation**2 / np.sum(deviation**2)
    close = ends[0] + np.cumsum(steps + gaps)
    close[-1] = ends[1]
    first = np.concatenate([ends[:1], close[:-1]]) + gaps
    high, low = np.maximum(first, close) + wicks[0], np.minimum(first, close) - wicks[1]
    activity = scale * np.exp(generator.normal(-0.125, 0.5, count))
    return Minutes(np.exp(first), np.exp(high), np.exp(low), np.exp(close), activity)


def _gaps(character: Character, times: Instants, generator: np.random.Generator) -> Floats:
    """Return (n,) log jumps before each minute: zero except after a close."""
    after_close = np.flatnonzero(np.diff(times) > 60_000) + 1
    gaps = np.zeros(len(times))
    gaps[after_close] = character.session_gap
    gaps[0] = character.week_gap
    return gaps * character.weekly_volatility * np.clip(generator.standard_normal(len(times)), -4, 4)


@lru_cache(maxsize=1024)
def _era(code: str, character: Character, era: int, week_length: int) -> Floats:
    """Return (_ERA + 1,) log prices at the ends of an era's weeks, both ends shared with the neighbours."""
    edge = np.clip(_gaussians(_key(code, "era"), np.array([era, era + 1])), -_ERA_REACH, _ERA_REACH)
    reach = character.weekly_volatility * np.sqrt(_ERA / 2)
    start, end = np.log(character.level) + reach * edge
    days = era * _ERA * week_length + np.arange(_ERA * 7, dtype=np.int64) * (week_length // 7)
    variance = np.exp(2 * _waves(code, _SLOW_WAVES, days)).reshape(_ERA, 7).mean(axis=1)
    deviation = character.weekly_volatility * np.sqrt(variance)
    walk = np.concatenate([[0.0], np.cumsum(deviation * _generator(code, "era walk", era).standard_normal(_ERA))])
    share = np.concatenate([[0.0], np.cumsum(variance) / variance.sum()])
    anchors: Floats = start + walk + (end - start - walk[-1]) * share
    anchors[-1] = end
    return anchors


def _volatility(code: str, times: Instants) -> Floats:
    """Return (n,) factors on the usual volatility at each of the sorted ``times``, 1 in mean square."""
    cells = times // _CELL
    first = int(cells[0])
    grid = np.arange(first, int(cells[-1]) + 1, dtype=np.int64) * _CELL
    return np.exp(_waves(code, (*_SLOW_WAVES, *_FAST_WAVES), grid))[cells - first]


def _waves(code: str, waves: tuple[tuple[int, float], ...], times: Instants) -> Floats:
    """Return (n,) log volatility: a sum of waves, each linear between random points, less its mean-square growth."""
    total = np.zeros(len(times))
    for spacing, deviation in waves:
        points = np.arange(int(times[0]) // spacing, int(times[-1]) // spacing + 2, dtype=np.int64)
        values = _gaussians(_key(code, f"wave {spacing}"), points)
        total += deviation * np.interp(times, points * spacing, values) - deviation**2 * (2 / 3)
    return total


def _generator(code: str, purpose: str, index: int) -> np.random.Generator:
    digest = hashlib.sha256(f"{code}|{purpose}|{index}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "big")))


def _key(code: str, purpose: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{code}|{purpose}".encode()).digest()[:8], "big")


def _gaussians(key: int, indices: NDArray[np.int64]) -> Floats:
    """Return (n,) standard normal values, one for each index whatever the others are (Box and Muller)."""
    counters = indices.astype(np.uint64) * np.uint64(2)
    radius = np.sqrt(-2 * np.log(_uniforms(key, counters)))
    values: Floats = radius * np.cos(2 * np.pi * _uniforms(key, counters + np.uint64(1)))
    return values


def _uniforms(key: int, counters: _UnsignedInts) -> Floats:
    """Return (n,) values in (0, 1] by SplitMix64 (Steele, Lea, Flood 2014) at the given counters."""
    state = np.uint64(key) + (counters + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    return ((state >> np.uint64(11)).astype(np.float64) + 1) * 2.0**-53
