"""What outcomes have taught about the 90 % intervals of one symbol, and the forecast that waits for its own.

Always true here: a timeframe learns each outcome once, in the order of time, and from finished bars alone; nothing is
learned from an outcome that the bundle's own state knows already; a state never meets a forecast made before its
newest outcome. A state holds for one bundle version and one source of market data. Pure: no input, no output, no
clock; what is given is never changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from fusiontrade.inference.contract import CalibrationState, ItemForecast, LstmForecast
from fusiontrade.inference.intervals import advance
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe

__all__ = ["Kept", "Pending", "States", "Tracked", "issued", "sendable", "settled"]


@dataclass(frozen=True)
class Pending:
    """A forecast whose outcome is not known yet: made at ``bar_close`` (ms), its raw interval in the quote currency."""

    bar_close: int
    raw_low: float
    raw_high: float


@dataclass(frozen=True)
class Tracked:
    """The state of one timeframe.

    Parameters
    ----------
    version
        Of the bundle it holds for.
    lower, upper
        What each side is moved outwards by, in shares of the raw interval's width.
    revision
        Outcomes learned since the bundle was made.
    as_of
        Close of the newest of them (of the bundle's own newest, where it is 0), ms.
    pending
        The newest forecast, until its outcome is known.
    """

    version: str
    lower: float
    upper: float
    revision: int
    as_of: int
    pending: Pending | None = None

    @classmethod
    def of(cls, state: CalibrationState) -> Tracked:
        """Return the beginning that the container told."""
        return cls(state.version, state.lower, state.upper, state.revision, state.as_of)

    @property
    def state(self) -> CalibrationState:
        """What the container is told."""
        return CalibrationState(
            version=self.version, lower=self.lower, upper=self.upper, revision=self.revision, as_of=self.as_of
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

    The outcome of a forecast is the close of the first bar that opens at or after it. A forecast from before the
    first bar of its frame is dropped: nobody can tell what came next.
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

    A forecast that is not newer than the waiting one, or older than the newest outcome, changes nothing. A forecast
    of another bundle version begins anew from the state that the container used.
    """
    states = dict(stored)
    for timeframe, item in items.items():
        if item.lstm is not None and item.bar_close is not None:
            tracked = _issued(stored.get(timeframe), item.lstm, item.bar_close)
            if tracked is not None:
                states[timeframe] = tracked
    return states


def _settled(tracked: Tracked, frame: CandleFrame) -> Tracked:
    pending = tracked.pending
    if pending is None:
        return tracked
    row = int(np.searchsorted(frame.time, pending.bar_close))
    if row == len(frame):
        return tracked
    if row == 0 and int(frame.time[0]) > pending.bar_close:
        return replace(tracked, pending=None)
    outcome = float(frame.close[row])
    lower, upper = advance(tracked.lower, tracked.upper, pending.raw_low, pending.raw_high, outcome)
    return Tracked(tracked.version, lower, upper, tracked.revision + 1, int(frame.close_time[row]))


def _issued(tracked: Tracked | None, lstm: LstmForecast, bar_close: int) -> Tracked | None:
    told = lstm.state
    base = tracked if tracked is not None and tracked.version == told.version else Tracked.of(told)
    waiting = base.pending is not None and bar_close <= base.pending.bar_close
    if waiting or bar_close < base.as_of:
        return tracked
    return replace(base, pending=Pending(bar_close, *lstm.interval_raw))
