"""One request's dealings with the kept states: one read before the models are asked, at most one write after.

Always true here: trouble with the store never fails a forecast and never delays it by more than a few seconds; it is
said in one plain warning. Two requests that learn the same outcome learn the same thing, so the one whose write comes
second lets the first one's stand. What could not be read is never written over.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fusiontrade.errors import StateUnavailable
from fusiontrade.fusion.calibration_states import Kept, States, issued, sendable, settled
from fusiontrade.market.rollover import in_rollover, rolls_over

if TYPE_CHECKING:
    from fusiontrade.deadline import Deadline
    from fusiontrade.fusion.ports import CalibrationStates
    from fusiontrade.inference.contract import CalibrationState, ItemForecast
    from fusiontrade.market.candles import CandleFrame
    from fusiontrade.market.symbols import Symbol
    from fusiontrade.market.timeframes import Timeframe

__all__ = ["NOT_READ", "NOT_WRITTEN", "STORE_SECONDS", "Learned", "OnlineCalibration"]

STORE_SECONDS = 2.0
"""The most that a store may take for one answer: a second to connect and one to read."""
_MODELS_SECONDS = 1.0  # left to the models after a store that used all of its time
_REST_SECONDS = 30.0

NOT_READ = (
    "interval_90 and the touch and win probabilities are corrected by what the models learned in training alone: "
    "what newer outcomes taught could not be read now"
)
NOT_WRITTEN = (
    "the outcome of this forecast will not correct later intervals and probabilities: it could not be stored now"
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Learned:
    """What outcomes have taught about a symbol while one request runs.

    Parameters
    ----------
    kept
        What was read, or None: then nothing is written either.
    states
        The same after the outcomes that the request's bars know.
    source
        Where those bars came from.
    to_send
        The states that go along to the container.
    warnings
        What the reader should know.
    """

    kept: Kept | None = None
    states: States = field(default_factory=dict)
    source: str = ""
    to_send: Mapping[Timeframe, CalibrationState] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class OnlineCalibration:
    """Lets forecasts of the present learn from the outcomes of earlier ones.

    Parameters
    ----------
    store
        Where the states are kept; None keeps nothing, and each forecast is corrected by its bundle's own.
    clock
        A monotonic clock, seconds: a store that did not answer is left alone for half a minute.
    """

    def __init__(self, store: CalibrationStates | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._rests_until = clock()

    def learned(
        self, symbol: Symbol, frames: Mapping[Timeframe, CandleFrame], source: str, *, deadline: Deadline
    ) -> Learned:
        """Return what the outcomes known to ``frames`` have taught; one read, never raises.

        Parameters
        ----------
        frames
            Finished bars of each timeframe, up to the present.
        source
            Where they came from; what was learned from another source counts as nothing.
        deadline
            Of the request; without time for the store and the models it is not asked.
        """
        if self._store is None:
            return Learned()
        if self._clock() < self._rests_until or deadline.remaining() < STORE_SECONDS + _MODELS_SECONDS:
            return Learned(warnings=(NOT_READ,))
        try:
            kept = self._store.read(symbol)
        except StateUnavailable as error:
            self._rest("read", symbol, error)
            return Learned(warnings=(NOT_READ,))
        states = settled(kept.states, frames) if kept.source == source else {}
        return Learned(kept, states, source, sendable(states, frames))

    def keep(
        self, symbol: Symbol, learned: Learned, items: Mapping[Timeframe, ItemForecast], *, deadline: Deadline
    ) -> tuple[str, ...]:
        """Keep what was learned, and the forecasts of ``items`` until their outcomes come; return warnings.

        One write, none where nothing changed; never raises. Forecasts of the rollover hours are not kept: the bundle's
        own state was learned and judged without them.
        """
        kept = learned.kept
        if kept is None or self._store is None:
            return ()
        now = Kept(learned.source, issued(learned.states, _teaching(symbol, items)), kept.revision)
        if now == kept or not (now.states or kept.states):
            return ()
        if deadline.remaining() < STORE_SECONDS:
            return (NOT_WRITTEN,)
        try:
            self._store.write(symbol, now)
        except StateUnavailable as error:
            self._rest("written", symbol, error)
            return (NOT_WRITTEN,)
        return ()

    def _rest(self, what: str, symbol: Symbol, error: StateUnavailable) -> None:
        logger.warning("the calibration states of %s could not be %s: %s", symbol.code, what, error)
        self._rests_until = self._clock() + _REST_SECONDS


def _teaching(symbol: Symbol, items: Mapping[Timeframe, ItemForecast]) -> Mapping[Timeframe, ItemForecast]:
    """Return the forecasts whose outcomes are learned from."""
    if not rolls_over(symbol):
        return items
    closes = np.array([-1 if item.bar_close is None else item.bar_close for item in items.values()], np.int64)
    return {
        timeframe: items[timeframe]
        for timeframe, left_out in zip(items, in_rollover(closes), strict=True)
        if not left_out
    }
