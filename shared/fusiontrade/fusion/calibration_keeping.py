"""One request's dealings with the kept states: one read before the models are asked, at most one write after.

Always true here: trouble with the store never fails a forecast and never delays it by more than a few seconds; it is
said in one plain warning. Two requests that learn the same outcome learn the same thing, so the one whose write comes
second lets the first one's stand. What could not be read is never written over.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fusiontrade.errors import StateUnavailable
from fusiontrade.fusion.calibration_states import Kept, Pending, States, Tracked, issued, sendable, settled
from fusiontrade.inference.contract import CalibrationState
from fusiontrade.market.rollover import in_rollover, rolls_over
from fusiontrade.market.timeframes import Timeframe

if TYPE_CHECKING:
    from fusiontrade.cloud.tables import Table
    from fusiontrade.deadline import Deadline
    from fusiontrade.fusion.ports import CalibrationStates
    from fusiontrade.inference.contract import ItemForecast
    from fusiontrade.market.candles import CandleFrame
    from fusiontrade.market.symbols import Symbol

__all__ = ["STORE_SECONDS", "Learned", "OnlineCalibration", "TableCalibrationStates"]

STORE_SECONDS = 2.0
"""The most that a store may take for one answer: a second to connect and one to read."""
_MODELS_SECONDS = 1.0  # left to the models after a store that used all of its time
_REST_SECONDS = 30.0

NOT_READ = (
    "interval_90 is corrected by what the models learned in training alone: "
    "what newer outcomes taught could not be read now"
)
NOT_WRITTEN = "the outcome of this forecast will not correct later intervals: it could not be stored now"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Learned:
    """What is known of a symbol's intervals while one request runs.

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
        Where the states are kept; None keeps nothing, and each forecast has its bundle's own interval.
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


class TableCalibrationStates:
    """Keeps the states in a table of documents, one item a symbol: ``CALIBRATION#{symbol}``, ``STATE``.

    Parameters
    ----------
    table
        One that answers or fails within `STORE_SECONDS`.
    """

    def __init__(self, table: Table) -> None:
        self._table = table

    def read(self, symbol: Symbol) -> Kept:
        """Return what is kept of ``symbol``; raises `StateUnavailable`."""
        item = self._table.get(_key(symbol))
        return Kept() if item is None else _kept(symbol, item)

    def write(self, symbol: Symbol, kept: Kept) -> None:
        """Keep ``kept`` if nobody wrote since its revision was read; raises `StateUnavailable`."""
        from fusiontrade.cloud.tables import Condition, ConditionFailed

        item = {
            **_key(symbol),
            "source": kept.source,
            "revision": kept.revision + 1,
            "states": {timeframe.value: _document(tracked) for timeframe, tracked in kept.states.items()},
        }
        unchanged = Condition("#revision = :revision", {"revision": kept.revision})
        try:
            self._table.put(item, condition=unchanged if kept.revision else Condition("attribute_not_exists(#pk)"))
        except ConditionFailed:
            logger.info("the calibration states of %s were written by another request first", symbol.code)


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


def _key(symbol: Symbol) -> dict[str, str]:
    return {"pk": f"CALIBRATION#{symbol.code}", "sk": "STATE"}


def _document(tracked: Tracked) -> dict[str, Any]:
    pending = tracked.pending
    return {
        "version": tracked.version,
        "lower": tracked.lower,
        "upper": tracked.upper,
        "revision": tracked.revision,
        "as_of": tracked.as_of,
        "pending": pending
        and {"bar_close": pending.bar_close, "raw_low": pending.raw_low, "raw_high": pending.raw_high},
    }


def _kept(symbol: Symbol, item: Mapping[str, Any]) -> Kept:
    """Return what an item says; one that cannot be read counts as empty and is written over."""
    revision = item.get("revision")
    try:
        states = {Timeframe(name): _tracked(document) for name, document in item["states"].items()}
        return Kept(str(item["source"]), states, int(item["revision"]))
    except (AttributeError, KeyError, TypeError, ValueError):
        logger.warning("the calibration states of %s cannot be read and are learned anew", symbol.code)
        return Kept(revision=revision if isinstance(revision, int) else 0)


def _tracked(document: Mapping[str, Any]) -> Tracked:
    """Return a state that may be sent: what the contract refuses raises `ValueError` here."""
    state = CalibrationState(
        version=str(document["version"]),
        lower=float(document["lower"]),
        upper=float(document["upper"]),
        revision=int(document["revision"]),
        as_of=int(document["as_of"]),
    )
    pending = document["pending"]
    if pending is None:
        return Tracked.of(state)
    low, high = float(pending["raw_low"]), float(pending["raw_high"])
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"a raw interval must be finite, got {low} … {high}")
    return replace(Tracked.of(state), pending=Pending(int(pending["bar_close"]), low, high))
