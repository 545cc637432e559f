"""What is admitted and not answered: requests, their items, and the lanes of models that items wait in.

Data alone: who may touch it when, and the lock it is touched under, are `serving.batching`'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from fusiontrade.inference.contract import ItemError, ItemForecast
from serving.asked import Asked
from serving.bundle import Bundle
from serving.engine import Engine
from serving.graph import Stop
from serving.windows import Window, failure, told

__all__ = ["Installed", "Lane", "Seat", "Ticket", "answer_of"]

_log = logging.getLogger(__name__)


@dataclass(eq=False, repr=False)
class Lane:
    """What waits for one bundle; at most one worker drives it."""

    bundle: Bundle
    waiting: deque[Seat] = field(default_factory=deque)
    driven: bool = False
    stop: Stop | None = None
    since: float = 0.0


@dataclass(eq=False, repr=False)
class Installed:
    """An engine and the lanes of its bundles."""

    engine: Engine
    lanes: Mapping[Bundle, Lane]


@dataclass(eq=False, repr=False, slots=True)
class Seat:
    """One item of a request: its place in the queue, then in the lanes of the models it waits for."""

    asked: Asked
    ticket: Ticket
    window: Window | None = None
    awaited: int = 0
    answer: ItemForecast | None = None


@dataclass(eq=False, repr=False)
class Ticket:
    """One admitted request; ``done`` is resolved on ``loop`` when every item has been answered, or time is up."""

    installed: Installed
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None]
    begun: float
    seats: list[Seat] = field(default_factory=list)
    queued: deque[Seat] = field(default_factory=deque)
    unanswered: int = 0
    closed: bool = False

    def wake(self) -> None:
        """Let whoever awaits ``done`` go on; called on ``loop``."""
        if not self.done.done():
            self.done.set_result(None)

    def answers(self, missing: str) -> list[ItemForecast]:
        """Return one answer per item; an item that has none says what is ``missing`` instead."""
        return [seat.answer or cut_off(seat, failure("timed_out", missing)) for seat in self.seats]

    def release(self) -> None:
        """Let go of the items: a seat knows its ticket, and a circle of megabytes would wait for the collector."""
        self.seats = []


def answer_of(seat: Seat) -> ItemForecast:
    """Return the answer of an item whose models have run, been ended or failed."""
    try:
        if seat.window is not None and (seat.window.error or seat.window.answers or seat.window.failures):
            return told(seat.window)
    except Exception:  # an answer that cannot be told is this item's error alone
        _log.exception("an answer could not be told", extra={"symbol": seat.asked.symbol})
    return cut_off(seat, failure("model_failed", "something went wrong inside; the log has the reason"))


def cut_off(seat: Seat, missing: ItemError) -> ItemForecast:
    """Return what there is of an answer that is not complete."""
    window = seat.window or Window(seat.asked)
    window.late = missing
    return told(window)
