"""The busy hours of the week: how active a market usually is in each slot of the New York week.

Always true: a slot is as long as a bar; its figure is the mean true range there relative to that of the five days
before, so 1 is an ordinary slot and 0 one in which the market never trades. New York's clock is used for every
market: sessions, releases and the day's end of FX follow it through summer time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusiontrade.market.candles import CandleFrame, Floats, Instants
from fusiontrade.market.timeframes import Timeframe
from serving.features.bars import WINDOW, Bars
from serving.features.calendar import offsets
from serving.features.rolling import lag, rolling_sum
from serving.markets import row_of

__all__ = [
    "LEAST_SIZE",
    "Slots",
    "Week",
    "activity",
    "drawn_to",
    "newest_slots",
    "slots",
    "slots_a_day",
    "slots_a_week",
    "usual_activity",
    "usual_week",
    "with_own_times_of_day",
]

_DAY = 86_400_000
_MONDAY = 3 * _DAY  # 1970-01-01 was a Thursday
_LEVEL_DAYS = 5
_MOST = 6.0  # activity is cut here: one crash shall not make an hour of the week
_PRIOR_OF_DAY, _PRIOR_OF_WEEK, _PRIOR_OF_OWN = 30.0, 60.0, 5.0
_LEAST_USUAL = 0.02
LEAST_SIZE = 1e-6
"""Of the close: the range of a bar that did not move."""


def slots_a_day(timeframe: Timeframe) -> int:
    """Return how many bars a day has around the clock."""
    return _DAY // timeframe.milliseconds


def slots_a_week(timeframe: Timeframe) -> int:
    """Return how many slots a week has."""
    return 7 * slots_a_day(timeframe)


def slots(time: Instants, timeframe: Timeframe) -> NDArray[np.intp]:
    """Return (n,) the slot of the New York week, Monday 00:00 is 0, of bars that open at ``time`` (ms UTC)."""
    local = time + offsets(time, "America/New_York")
    return np.asarray((local + _MONDAY) % (7 * _DAY) // timeframe.milliseconds, np.intp)


@dataclass(frozen=True, eq=False)
class Slots:
    """Where in the week, and when in the day, each of n bars opens.

    Parameters
    ----------
    of_week
        (n,) as `slots` gives them.
    a_day
        How many a day has.
    """

    of_week: NDArray[np.intp]
    a_day: int

    @classmethod
    def of(cls, time: Instants, timeframe: Timeframe) -> Slots:
        """Return the slots of bars that open at ``time`` (n,), ms UTC."""
        return cls(slots(time, timeframe), slots_a_day(timeframe))

    @cached_property
    def by_time_of_day(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """(n,) the bars by their time of day, then by age, and their places: time of day · n + bar, rising."""
        time = (self.of_week % self.a_day).astype(np.int16)  # short integers are sorted by their digits
        order = np.argsort(time, kind="stable")
        return order, time[order].astype(np.intp) * len(time) + order


@lru_cache(maxsize=128)
def newest_slots(time: bytes, timeframe: Timeframe) -> Slots:
    """Return `Slots` of bars that open at these instants (int64 as bytes); all symbols ask for the same."""
    return Slots.of(np.frombuffer(time, np.int64), timeframe)


@dataclass(frozen=True, eq=False)
class Week:
    """The usual week of one market, and what follows from it: computed once, when asked for.

    Parameters
    ----------
    usual
        (slots of a week,) usual activity; 0 where the market never trades.
    """

    usual: Floats

    @classmethod
    def of(cls, usual: Sequence[float] | Floats | Week) -> Week:
        """Return the week of these figures."""
        return usual if isinstance(usual, Week) else cls(np.asarray(usual, np.float64))

    @cached_property
    def weights(self) -> Floats:
        """(slots of a week,): what sizes are divided by, the usual activity; 1 where the market never trades."""
        return np.where(self.usual > 0, np.maximum(self.usual, _LEAST_USUAL), 1.0)

    @cached_property
    def traded(self) -> NDArray[np.intp]:
        """The slots in which the market trades; all where it seems never to."""
        traded = np.flatnonzero(self.usual > 0)
        return traded if len(traded) else np.arange(len(self.usual))

    def following(self, slot: NDArray[np.intp], count: int) -> NDArray[np.intp]:
        """Return (n, count) the next slots in which the market trades, after each of ``slot`` (n,)."""
        ahead = np.searchsorted(self.traded, slot, side="right")[:, None] + np.arange(count)
        return np.asarray(self.traded[ahead % len(self.traded)], np.intp)


def activity(frame: CandleFrame) -> Floats:
    """Return (n,) the true range of each bar relative to the mean of the five days before it; NaN while unknown."""
    length = _LEVEL_DAYS * slots_a_day(frame.timeframe)
    bars = Bars.of(frame, len(frame))
    size = np.nan_to_num(bars.true_ranges) / bars.closes
    level = lag(rolling_sum(size, length) / length, 1)
    with np.errstate(invalid="ignore"):
        return np.minimum(size / np.where(level > 0, level, np.nan), _MOST)


def usual_week(season: Mapping[str, Sequence[float] | Floats], frame: CandleFrame, market: str | None) -> Floats:
    """Return (slots of a week,) the usual activity of the market that ``frame`` is of, at the frame's end.

    A symbol without a row of its own gets its kind's, times what its own times of day were in the newest 600 bars:
    London is busy in EURUSD and quiet in USDJPY, and a week of bars shows it.

    Parameters
    ----------
    season
        By symbol, kind of market and ``any``.
    frame
        Checked, finished bars; 600 or more.
    """
    if frame.symbol in season:
        return np.asarray(season[frame.symbol], np.float64)
    frame = frame.tail(WINDOW)
    bars = Bars.of(frame, len(frame) - 1)
    sizes = bars.newest(bars.true_ranges) / bars.close
    week = Week.of(row_of(season, frame.symbol, market))
    return with_own_times_of_day(week, sizes, Slots.of(frame.time[1:], frame.timeframe)).usual


def with_own_times_of_day(week: Week, sizes: Floats, slot: Slots) -> Week:
    """Return the week with each time of day drawn to its mean in these bars against a prior of five ordinary bars.

    The times of day before and after count half: a week has five to seven bars of each.

    Parameters
    ----------
    week
        The usual one.
    sizes, slot
        (n,) true range relative to the close, and slots, of the newest bars.
    """
    size = np.maximum(sizes, LEAST_SIZE) / week.weights[slot.of_week]
    busy = np.minimum(size / size.mean(), _MOST)
    day = slot.a_day
    time = slot.of_week % day
    total = _with_neighbours(np.bincount(time, busy, day))
    count = _with_neighbours(np.bincount(time, minlength=day))
    factor = (total + _PRIOR_OF_OWN) / (count + _PRIOR_OF_OWN)
    return Week((week.usual.reshape(-1, day) * factor).reshape(-1))


def _with_neighbours(by_time: NDArray[Any]) -> NDArray[np.float64]:
    around = np.concatenate((by_time[-1:], by_time, by_time[:1]))
    return np.asarray(by_time + 0.5 * (around[:-2] + around[2:]), np.float64)


def usual_activity(
    series: Sequence[tuple[str, str, NDArray[np.intp], Floats]], timeframe: Timeframe
) -> dict[str, NDArray[np.float64]]:
    """Return (slots,) the usual activity of every market kind, of every symbol, and of ``any``.

    A symbol's slot is drawn towards its kind's by the weight of sixty bars, a kind's slot towards its time of day by
    thirty; a slot without a bar is 0.

    Parameters
    ----------
    series
        Symbol, market kind, slot (n,) and activity (n,) of the training span's bars.
    """
    week, found = slots_a_week(timeframe), {}
    sums = {
        symbol: np.asarray((np.bincount(slot, values, week), np.bincount(slot, minlength=week)), np.float64)
        for symbol, _, slot, values in series
    }
    kinds = {of: [sums[symbol] for symbol, kind, _, _ in series if kind == of] for _, of, _, _ in series}
    for kind, parts in (*kinds.items(), ("any", list(sums.values()))):
        both = np.asarray(np.sum(parts, axis=0), np.float64)
        found[kind] = _drawn(both, _time_of_day(both, timeframe), _PRIOR_OF_DAY)
    for symbol, kind, slot, values in series:
        found[symbol] = drawn_to(found[kind], slot, values)
    return {name: np.round(values, 4) for name, values in found.items()}


def drawn_to(kind: Floats, slot: NDArray[np.intp], values: Floats) -> NDArray[np.float64]:
    """Return (slots,) the usual activity of one symbol, each slot drawn to its kind's by the weight of sixty bars.

    Parameters
    ----------
    kind
        (slots,) of the symbol's kind of market.
    slot, values
        (n,) slot and activity of the symbol's bars.
    """
    week = len(kind)
    both = np.asarray((np.bincount(slot, values, week), np.bincount(slot, minlength=week)), np.float64)
    return _drawn(both, kind, _PRIOR_OF_WEEK)


def _time_of_day(both: NDArray[np.float64], timeframe: Timeframe) -> NDArray[np.float64]:
    day = both.reshape(2, 7, slots_a_day(timeframe)).sum(axis=1)
    usual = np.where(day[1] > 0, day[0] / np.maximum(day[1], 1), 1.0)
    return np.tile(usual, 7)


def _drawn(both: NDArray[np.float64], towards: NDArray[np.float64], weight: float) -> NDArray[np.float64]:
    total, count = both
    towards = np.where(towards > 0, towards, 1.0)
    return np.where(count > 0, (total + weight * towards) / (count + weight), 0.0)
