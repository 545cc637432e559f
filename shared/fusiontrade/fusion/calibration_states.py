"""What outcomes have taught about the forecasts of one symbol, and the forecasts that wait for their own.

Two things are learned: how far the sides of the 90 % interval have to be moved, from the next close, and how far the
touch and win probabilities have to, from the whole horizon.

Always true here: a timeframe learns each outcome once, in the order of time, and from finished bars alone; nothing is
learned from an outcome that the bundle's own state knows already; a state never meets a forecast made before its
newest outcome. So of a waiting forecast the next close has taught exactly if it lies before ``as_of``. A state holds
for one bundle version and one source of market data. Pure: no input, no output, no clock; what is given is never
changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from fusiontrade.inference import intervals, probabilities
from fusiontrade.inference.contract import CalibrationState, ItemForecast, LstmForecast
from fusiontrade.journal.outcomes import HORIZON_BARS, in_time, touches, wins
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe

__all__ = ["MOST_WAITING", "Kept", "States", "Tracked", "Waiting", "issued", "sendable", "settled"]

MOST_WAITING = 2 * HORIZON_BARS
"""Forecasts of a timeframe that wait at most: one a bar, half of them for bars that a source may take back."""


@dataclass(frozen=True)
class Waiting:
    """A forecast whose horizon is not over yet.

    Parameters
    ----------
    bar_close
        When it was made, ms.
    entry, atr
        Last close and ATR(14) then, in the quote currency.
    raw_low, raw_high
        Its raw 90 % interval of the next close, in the quote currency.
    chances, leans
        Its probabilities as they were issued, and their leans, in the order of `LstmForecast.chances`.
    """

    bar_close: int
    entry: float
    atr: float
    raw_low: float
    raw_high: float
    chances: tuple[float, ...]
    leans: tuple[float, ...]


@dataclass(frozen=True)
class Tracked:
    """The state of one timeframe.

    Parameters
    ----------
    version
        Of the bundle it holds for.
    lower, upper
        What each side is moved outwards by, in shares of the raw interval's width.
    offsets, slopes, bends
        What the probabilities are moved by, as `fusiontrade.inference.probabilities` says, in the order of
        `LstmForecast.chances`.
    revision
        Next closes learned since the bundle was made.
    as_of
        Close of the newest bar that anything was learned from (of the bundle's own newest, where nothing was), ms.
    waiting
        Forecasts whose horizons are not over, oldest first, each of another bar.
    """

    version: str
    lower: float
    upper: float
    offsets: tuple[float, ...]
    slopes: tuple[float, ...]
    bends: tuple[float, ...]
    revision: int
    as_of: int
    waiting: tuple[Waiting, ...] = ()

    @classmethod
    def of(cls, state: CalibrationState) -> Tracked:
        """Return the beginning that the container told."""
        return cls(**dict(state))

    @property
    def state(self) -> CalibrationState:
        """What the container is told."""
        return CalibrationState(
            version=self.version,
            lower=self.lower,
            upper=self.upper,
            offsets=self.offsets,
            slopes=self.slopes,
            bends=self.bends,
            revision=self.revision,
            as_of=self.as_of,
        )


States = Mapping[Timeframe, Tracked]
"""The timeframes of one symbol; one that nothing is known about is absent."""


@dataclass(frozen=True)
class Kept:
    """What is stored of one symbol.

    Parameters
    ----------
    source
        Where the candles came from that it was learned from; empty where nothing is stored.
    states
        Each timeframe.
    revision
        Of the whole, counted by writes; 0 where nothing is stored.
    """

    source: str = ""
    states: States = field(default_factory=dict)
    revision: int = 0


def settled(stored: States, frames: Mapping[Timeframe, CandleFrame]) -> dict[Timeframe, Tracked]:
    """Return the states after the outcomes that ``frames`` know.

    Parameters
    ----------
    stored
        The states as they were kept.
    frames
        Finished bars of each timeframe, oldest first; one may be absent.

    The next close of a forecast is that of the first bar that opens at or after it; its horizon is that bar and the
    three after it. The next close teaches the sides as soon as it is there, the horizon what moves the probabilities
    once all of it is finished, and then the forecast leaves. It leaves without teaching them where the horizon took
    longer than `in_time` allows, and without teaching anything where it is from before the first bar of its frame:
    nobody can tell what came next.
    """
    return {
        timeframe: _settled(tracked, frames[timeframe]) if timeframe in frames else tracked
        for timeframe, tracked in stored.items()
    }


def sendable(states: States, frames: Mapping[Timeframe, CandleFrame]) -> dict[Timeframe, CalibrationState]:
    """Return what to send along with ``frames``: no state that knows an outcome younger than the newest bar."""
    return {
        timeframe: states[timeframe].state
        for timeframe, frame in frames.items()
        if timeframe in states and len(frame) and states[timeframe].as_of <= int(frame.close_time[-1])
    }


def issued(stored: States, items: Mapping[Timeframe, ItemForecast]) -> dict[Timeframe, Tracked]:
    """Return the states with the forecasts of ``items`` waiting for their outcomes.

    A forecast that is not newer than those that wait, or older than the newest outcome, changes nothing, nor does one
    whose outcome could not be told: without a price, without an ATR, or of another horizon than outcomes are settled
    by. A forecast of another bundle version begins anew from the state that the container used; what waited is
    dropped with the rest.
    """
    states = dict(stored)
    for timeframe, item in items.items():
        tracked = _issued(stored.get(timeframe), item)
        if tracked is not None:
            states[timeframe] = tracked
    return states


def _settled(tracked: Tracked, frame: CandleFrame) -> Tracked:
    known_to, waiting = tracked.as_of, []
    for forecast in tracked.waiting:
        first = int(np.searchsorted(frame.time, forecast.bar_close))
        if first == 0 and len(frame) and int(frame.time[0]) > forecast.bar_close:
            continue
        ahead = frame.rows(slice(first, first + HORIZON_BARS))
        if len(ahead) and forecast.bar_close >= known_to:
            tracked = _next_close_taught(tracked, forecast, ahead)
        if len(ahead) < HORIZON_BARS:
            waiting.append(forecast)
        elif in_time(forecast.bar_close, int(ahead.close_time[-1]), frame.timeframe.milliseconds):
            tracked = _horizon_taught(tracked, forecast, ahead)
    return replace(tracked, waiting=tuple(waiting))


def _next_close_taught(tracked: Tracked, forecast: Waiting, ahead: CandleFrame) -> Tracked:
    outcome = float(ahead.close[0])
    lower, upper = intervals.advance(tracked.lower, tracked.upper, forecast.raw_low, forecast.raw_high, outcome)
    as_of = max(tracked.as_of, int(ahead.close_time[0]))
    return replace(tracked, lower=lower, upper=upper, revision=tracked.revision + 1, as_of=as_of)


def _horizon_taught(tracked: Tracked, forecast: Waiting, ahead: CandleFrame) -> Tracked:
    entry, atr = np.array([forecast.entry]), np.array([forecast.atr])
    opened, high, low = ahead.open[None], ahead.high[None], ahead.low[None]
    came = np.concatenate((touches(entry, atr, high, low), wins(entry, atr, opened, high, low)), axis=1)[0]
    steps = probabilities.advance(
        *(tracked.offsets, tracked.slopes, tracked.bends), lean=forecast.leans, probability=forecast.chances, came=came
    )
    offsets, slopes, bends = (tuple(step.tolist()) for step in steps)
    return replace(
        tracked,
        offsets=offsets,
        slopes=slopes,
        bends=bends,
        as_of=max(tracked.as_of, int(ahead.close_time[-1])),
    )


def _issued(tracked: Tracked | None, item: ItemForecast) -> Tracked | None:
    lstm = item.lstm
    forecast = None if lstm is None else _waiting(item, lstm)
    if lstm is None or forecast is None:
        return tracked
    base = tracked if tracked is not None and tracked.version == lstm.state.version else Tracked.of(lstm.state)
    known = bool(base.waiting) and forecast.bar_close <= base.waiting[-1].bar_close
    if known or forecast.bar_close < base.as_of:
        return tracked
    return replace(base, waiting=(*base.waiting, forecast)[-MOST_WAITING:])


def _waiting(item: ItemForecast, lstm: LstmForecast) -> Waiting | None:
    """Return the forecast to wait for, or None where its outcome could not be told."""
    if item.bar_close is None or item.current_price is None or item.atr is None:
        return None
    if min(item.current_price, item.atr) <= 0.0 or lstm.horizon_bars != HORIZON_BARS:
        return None
    return Waiting(item.bar_close, item.current_price, item.atr, *lstm.interval_raw, lstm.chances, lstm.leans)
