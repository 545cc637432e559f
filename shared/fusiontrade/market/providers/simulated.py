"""A market that does not exist, for trying everything out without a network.

The same symbol and moment give the same bar in every process and whatever window is asked for; every timeframe is put
together from the same minutes by the market's own resampling. It keeps the hours of the real market, has sessions,
weekends, gaps, clustered volatility, fat tails and, where the real one has it, volume. Its prices mean nothing, which
`SimulatedProvider.notice` says and every answer repeats. Knows the shipped catalogue and no other symbol.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fusiontrade.clock import Clock, iso, parse_iso, system_clock
from fusiontrade.errors import UnknownSymbol
from fusiontrade.market.calendar import calendar_of
from fusiontrade.market.candles import CandleFrame, Floats, Instants
from fusiontrade.market.providers.base import HistoryUnavailable
from fusiontrade.market.providers.characters import character_of, decimals_of, season_of, volume_of
from fusiontrade.market.providers.synthesis import minutes_of_week, week_ends
from fusiontrade.market.resampling import grid_of, resample
from fusiontrade.market.symbols import Symbol, is_listed
from fusiontrade.market.timeframes import Timeframe
from fusiontrade.market.zones import NEW_YORK, to_utc, wall_clock

__all__ = ["SimulatedProvider"]

_HOUR = 3_600_000
_DAY = 24 * _HOUR
_WEEK = 7 * _DAY
_BEGINNING = parse_iso("2005-01-03T00:00:00Z")
_FX_WEEK = (NEW_YORK, 3 * _DAY + 17 * _HOUR)  # Sunday 17:00 New York; 1970-01-04 was a Sunday
_UTC_WEEK = ("UTC", 4 * _DAY)  # Monday 00:00 UTC


@dataclass(frozen=True)
class _Week:
    """One week of a symbol: no session and no bucket of any timeframe reaches across its ends."""

    number: int
    start: int
    end: int


class SimulatedProvider:
    """Invented bars; see the module.

    Parameters
    ----------
    clock
        Says what now is.
    """

    name = "simulated"
    notice: str | None = "simulated market: invented prices, not a real one"

    def __init__(self, clock: Clock = system_clock) -> None:
        self._clock = clock

    def candles(self, symbol: Symbol, timeframe: Timeframe, *, end: int, count: int, timeout: float) -> CandleFrame:  # noqa: ARG002
        """Return the newest ``count`` bars finished by ``end``; see `fusiontrade.market.providers.base.Provider`.

        There is no history before 2005. ``timeout`` is not needed: nothing is waited for.
        """
        if not is_listed(symbol):
            raise UnknownSymbol(symbol.code)
        weeks: list[CandleFrame] = []
        found, number = 0, _week_number(symbol, end)
        while found < count and (week := _week(symbol, number)).start >= _BEGINNING:
            bars = _bars(symbol, week, timeframe)
            bars = bars.rows(slice(0, int(np.searchsorted(grid_of(symbol).ends(bars.time, timeframe), end, "right"))))
            weeks.append(bars)
            found += len(bars)
            number -= 1
        if not found:
            raise HistoryUnavailable(
                f"the simulated market has no {timeframe} bar of {symbol} that was finished by {iso(end)}: "
                f"it begins at {iso(_BEGINNING)}"
            )
        return _joined(weeks[::-1]).tail(count)

    def now(self, symbol: Symbol) -> int:  # noqa: ARG002 - one clock for all
        """Return the clock's present instant, ms."""
        return self._clock()

    def stand_in(self, symbol: Symbol) -> str | None:  # noqa: ARG002 - everything is invented alike
        """Return None: `notice` says what there is to say."""
        return None


def _week_clock(symbol: Symbol) -> tuple[str, int]:
    return _FX_WEEK if symbol.calendar == "FX" else _UTC_WEEK


def _week_number(symbol: Symbol, instant: int) -> int:
    zone, first = _week_clock(symbol)
    return (int(wall_clock(zone, np.array([instant]))[0]) - first) // _WEEK


def _week(symbol: Symbol, number: int) -> _Week:
    zone, first = _week_clock(symbol)
    edges = first + np.array([number, number + 1], np.int64) * _WEEK
    start, end = to_utc(zone, edges, edges)
    return _Week(number, int(start), int(end))


def _bars(symbol: Symbol, week: _Week, timeframe: Timeframe) -> CandleFrame:
    """Return one week in bars of ``timeframe``, oldest first."""
    base = _quarter_hours(symbol, week) if timeframe.milliseconds >= Timeframe.M15.milliseconds else None
    frame = _minutes(symbol, week) if base is None else base
    return resample(frame, timeframe, grid_of(symbol), start=week.start, end=week.end)


@lru_cache(maxsize=512)
def _quarter_hours(symbol: Symbol, week: _Week) -> CandleFrame:
    """Return one week in 15m bars: what every longer timeframe is made of, kept because it is small."""
    return resample(_minutes(symbol, week), Timeframe.M15, grid_of(symbol), start=week.start, end=week.end)


@lru_cache(maxsize=8)
def _minutes(symbol: Symbol, week: _Week) -> CandleFrame:
    """Return one week in 1m bars."""
    opens, closes = calendar_of(symbol).sessions(week.start, week.end)
    times = np.concatenate(
        [np.arange(start, end, 60_000, dtype=np.int64) for start, end in zip(opens, closes, strict=True)]
        or [np.empty(0, np.int64)]
    )
    if not len(times):
        nothing: Floats = np.empty(0)
        volume = nothing if symbol.has_volume else None
        return CandleFrame(symbol.code, Timeframe.M1, times, nothing, nothing, nothing, nothing, volume)
    return _priced(symbol, week, times, season_of(symbol, times, opens, closes))


def _priced(symbol: Symbol, week: _Week, times: Instants, season: Floats) -> CandleFrame:
    character = character_of(symbol)
    ends = week_ends(symbol.code, character, week.number, _WEEK)
    minutes = minutes_of_week(symbol.code, week.number, ends, character, times=times, season=season)
    decimals = decimals_of(symbol)
    first, high, low, last = (
        np.round(column, decimals) for column in (minutes.open, minutes.high, minutes.low, minutes.close)
    )
    volume = volume_of(symbol, minutes.activity) if symbol.has_volume else None
    return CandleFrame(symbol.code, Timeframe.M1, times, first, high, low, last, volume)


def _joined(frames: list[CandleFrame]) -> CandleFrame:
    """Return consecutive frames, oldest first, as one."""
    first = frames[0]
    volumes = [frame.volume for frame in frames if frame.volume is not None]
    return CandleFrame(
        first.symbol,
        first.timeframe,
        np.concatenate([frame.time for frame in frames]),
        np.concatenate([frame.open for frame in frames]),
        np.concatenate([frame.high for frame in frames]),
        np.concatenate([frame.low for frame in frames]),
        np.concatenate([frame.close for frame in frames]),
        np.concatenate(volumes) if volumes else None,
    )
