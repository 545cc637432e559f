"""Batching: the items of many requests share features and model runs, and no request waits for another to come.

There is no timer. The event loop takes what waits (at most ``batch`` items, in turn from every request) as soon as it
has read what had arrived on its connections: an idle engine starts a lone item at once, a busy one finds batches
waiting. It computes their features itself: they hold Python's lock, so a thread of their own would only take turns
with the reading of requests, and batches would be smaller. Each item is left in the lanes of the bundles it needs; any
worker that is free drives a lane, one at a time each, outside the lock, so a slow model holds one worker and the
requests that asked for it.

Always true here: at most ``places`` items are admitted and not answered, except that an idle engine admits any one
request; an item that nobody waits for any more gives its place back at once; a request is answered by the bundles
that served when it was admitted; every admitted request is answered, cut off by its own time, or withdrawn.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from fusiontrade.inference.contract import ItemForecast
from serving.asked import Asked
from serving.engine import Engine, run
from serving.graph import Stop
from serving.preparing import opened
from serving.tickets import Installed, Lane, Seat, Ticket, answer_of
from serving.windows import Inputs, ModelFault

if TYPE_CHECKING:
    from serving.measuring import Metrics

__all__ = ["Batcher", "Overloaded", "Ticket"]

_log = logging.getLogger(__name__)

_LONGEST_RETRY = 30
_FORGETTING = 0.05  # weight of the newest batch in the usual time of an item
_TURNS = 2  # of the loop, from a readable socket to `Batcher.submit`
_JOIN_SECONDS = 1.0


class Overloaded(Exception):
    """All places are taken.

    Parameters
    ----------
    retry_after
        Seconds, whole and at least 1, after which there is likely to be room.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"all places are taken; try again in {retry_after} s")
        self.retry_after = retry_after


class Batcher:
    """Worker threads that answer the items of all requests together.

    Parameters
    ----------
    engine
        What serves until `install` is called.
    metrics
        Where batches, waits and outcomes are counted.
    workers
        Threads that run models.
    places
        Items that may be admitted and not answered.
    batch
        Items that ride together at most.
    model_seconds
        A run of a model is ended after this time.
    """

    def __init__(
        self, engine: Engine, metrics: Metrics, *, workers: int, places: int, batch: int, model_seconds: float
    ) -> None:
        self._metrics, self._places, self._batch, self._model_seconds = metrics, places, batch, model_seconds
        self._changed = threading.Condition(threading.Lock())
        self._open: set[Ticket] = set()
        self._queue: deque[Ticket] = deque()
        self._ready: deque[Lane] = deque()
        self._taken = 0
        self._forming: asyncio.AbstractEventLoop | None = None
        self._arrived = 0  # requests since the last look at them
        self._usual = 0.005  # seconds an item
        self._ending = threading.Event()
        self._lanes: WeakSet[Lane] = WeakSet()
        self._installed = self._with_lanes(engine)
        self._threads = [threading.Thread(target=self._watch, name="watch", daemon=True)]
        self._threads += [threading.Thread(target=self._work, name=f"answer-{n}", daemon=True) for n in range(workers)]
        for thread in self._threads:
            thread.start()

    @property
    def engine(self) -> Engine:
        """What answers the requests admitted from now on."""
        return self._installed.engine

    @property
    def unanswered(self) -> int:
        """Items that are admitted and not answered."""
        return self._taken

    def install(self, engine: Engine) -> None:
        """Let ``engine`` answer the requests admitted from now on; those already admitted keep theirs."""
        with self._changed:
            self._installed = self._with_lanes(engine)

    def admit(self, items: int) -> None:
        """Raise `Overloaded` where ``items`` more would not be admitted now."""
        if self._taken and self._taken + items > self._places:
            self._metrics.overloaded()
            raise Overloaded(min(_LONGEST_RETRY, 1 + int(self._taken * self._usual)))

    def submit(self, asked: Sequence[Asked], loop: asyncio.AbstractEventLoop) -> Ticket:
        """Admit a request of one item or more, or raise `Overloaded`; called on ``loop``'s thread."""
        ticket = Ticket(self._installed, loop, loop.create_future(), time.perf_counter(), unanswered=len(asked))
        ticket.seats = [Seat(one, ticket) for one in asked]
        ticket.queued.extend(ticket.seats)
        with self._changed:
            self.admit(len(asked))
            self._taken += len(asked)
            self._open.add(ticket)
            self._queue.append(ticket)
        self._arrived += 1
        if self._forming is not loop:  # one that ended never came to it
            self._forming = loop
            loop.call_soon(self._form, loop, _TURNS)
        return ticket

    def withdraw(self, ticket: Ticket) -> None:
        """Give back the places of what ``ticket`` still waits for; nothing happens where it is answered."""
        with self._changed:
            self._open.discard(ticket)
            if ticket.closed or not ticket.unanswered:
                return
            ticket.closed = True
            self._taken -= ticket.unanswered
            if ticket.queued:  # else a worker has taken all of it
                self._queue.remove(ticket)
            for seat in ticket.seats:
                if seat.window is not None:
                    seat.window.abandoned = True
            for lane in ticket.installed.lanes.values():
                if any(seat.ticket is ticket for seat in lane.waiting):
                    lane.waiting = deque(seat for seat in lane.waiting if seat.ticket is not ticket)

    def give_up(self) -> None:
        """Let every request go on with what it has; called on the loop's thread."""
        for ticket in list(self._open):
            ticket.wake()

    def close(self) -> None:
        """End the threads, and the runs of models that still go on."""
        with self._changed:
            self._ending.set()
            self._changed.notify_all()
            lanes = list(self._lanes)
        for lane in lanes:
            if (stop := lane.stop) is not None:
                stop.now()
        for thread in self._threads:
            thread.join(_JOIN_SECONDS)

    def _with_lanes(self, engine: Engine) -> Installed:
        known = {lane.bundle: lane for lane in self._lanes}
        lanes = {bundle: known.get(bundle) or Lane(bundle) for bundle in engine.bundles.values()}
        self._lanes.update(lanes.values())
        return Installed(engine, lanes)

    def _form(self, loop: asyncio.AbstractEventLoop, turns: int) -> None:
        """Compute the features of the next batch once ``turns`` of the loop brought nothing new; called on it."""
        if self._arrived:
            self._arrived, turns = 0, _TURNS
        if turns and len(self._queue) < self._batch:
            loop.call_soon(self._form, loop, turns - 1)
            return
        with self._changed:
            seats = self._taken_in_turn()
        if seats:
            self._prepare(seats)
        self._forming = loop if self._queue else None
        if self._queue:
            loop.call_soon(self._form, loop, _TURNS)

    def _prepare(self, seats: Sequence[Seat]) -> None:
        begun = time.perf_counter()
        try:
            self._serve(seats)
        except Exception:  # a fault of this module must cost these items alone, not the loop
            _log.exception("items failed", extra={"items": len(seats)})
            self._finish(seats)
        usual = (time.perf_counter() - begun) / len(seats)
        self._usual += _FORGETTING * (usual - self._usual)

    def _work(self) -> None:
        while self._worked():
            pass

    def _worked(self) -> bool:
        """Drive the next lane, of which nothing is held afterwards; False when the program ends."""
        lane = self._next()
        if lane is not None:
            self._drive(lane)
        return lane is not None

    def _next(self) -> Lane | None:
        """Return a lane that nobody drives; None when the program ends."""
        with self._changed:
            while not self._ending.is_set():
                while self._ready:
                    lane = self._ready.popleft()
                    if lane.waiting and not lane.driven:
                        if self._ready:  # whoever was woken for this may find it taken: wake another
                            self._changed.notify()
                        return lane
                self._changed.wait()
        return None

    def _taken_in_turn(self) -> list[Seat]:
        """Return the next items, in turn from every request that waits."""
        taken: list[Seat] = []
        while self._queue and len(taken) < self._batch:
            ticket = self._queue.popleft()
            share = max(1, (self._batch - len(taken)) // (len(self._queue) + 1))
            taken += [ticket.queued.popleft() for _ in range(min(share, len(ticket.queued)))]
            if ticket.queued:
                self._queue.append(ticket)
        return taken

    def _serve(self, seats: Sequence[Seat]) -> None:
        by_engine: dict[Installed, list[Seat]] = {}
        for seat in seats:
            by_engine.setdefault(seat.ticket.installed, []).append(seat)
        for installed, own in by_engine.items():
            begun = time.perf_counter()
            self._metrics.waited([begun - seat.ticket.begun for seat in own])
            windows = opened([seat.asked for seat in own])
            seat_of = dict(zip(windows, own, strict=True))
            for window, seat in seat_of.items():
                seat.window = window
                window.abandoned = seat.ticket.closed
            riders = installed.engine.riders(windows)
            self._metrics.prepared(len(own), time.perf_counter() - begun)
            with self._changed:
                for bundle, riding in riders:
                    for window in riding:
                        seat_of[window].awaited += 1
                    installed.lanes[bundle].waiting.extend(seat_of[window] for window in riding)
                    self._ready.append(installed.lanes[bundle])
                self._changed.notify(len(riders))
                done = [seat for seat in own if not seat.awaited]
            self._finish(done)

    def _drive(self, lane: Lane) -> None:
        """Run one batch of what waits in ``lane``, unless another worker is at it."""
        with self._changed:
            if lane.driven or not lane.waiting:
                return
            riding = [lane.waiting.popleft() for _ in range(min(self._batch, len(lane.waiting)))]
            lane.driven = True
        try:
            windows = [seat.window for seat in riding if seat.window is not None and not seat.window.abandoned]
            if windows:
                run(lane.bundle, windows, lambda inputs: self._watched(lane, inputs))
        except Exception:  # as in `_prepare`
            _log.exception("items failed", extra={"items": len(riding)})
        with self._changed:
            lane.driven = False
            if lane.waiting:
                self._ready.append(lane)
                self._changed.notify()
            for seat in riding:
                seat.awaited -= 1
            done = [seat for seat in riding if not seat.awaited]
        self._finish(done)

    def _watched(self, lane: Lane, inputs: Inputs) -> Mapping[str, NDArray[np.float32]]:
        """Run the lane's graph, ended by `_watch` where it takes too long."""
        stop, begun = Stop(), time.perf_counter()
        lane.since, lane.stop = begun, stop
        try:
            return lane.bundle.graph.run(inputs, stop)
        except Exception:
            if stop.asked:
                raise ModelFault(f"took longer than {self._model_seconds:g} s") from None
            raise
        finally:
            lane.stop = None
            items = len(next(iter(inputs.values())))
            self._metrics.ran(lane.bundle.card.model_id, items, time.perf_counter() - begun)

    def _watch(self) -> None:
        while not self._ending.wait(min(0.25, self._model_seconds / 4)):
            with self._changed:  # nobody installs an engine's lanes meanwhile, which would end the loop over them
                lanes = list(self._lanes)
            for lane in lanes:
                stop = lane.stop
                if stop is not None and time.perf_counter() - lane.since > self._model_seconds:
                    stop.now()

    def _finish(self, seats: Iterable[Seat]) -> None:
        """Tell the answers of ``seats`` that have none yet, and wake the requests that wait for nothing else."""
        answers = [(seat, answer_of(seat)) for seat in seats if seat.answer is None and not seat.ticket.closed]
        told_now: list[ItemForecast] = []
        done: dict[asyncio.AbstractEventLoop, list[Ticket]] = {}
        with self._changed:
            for seat, answer in answers:
                ticket = seat.ticket
                if seat.answer is not None or ticket.closed:
                    continue
                seat.answer = answer
                told_now.append(answer)
                ticket.unanswered -= 1
                self._taken -= 1
                if not ticket.unanswered:
                    done.setdefault(ticket.loop, []).append(ticket)
        self._metrics.told(told_now)
        for loop, tickets in done.items():
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits there any more
                loop.call_soon_threadsafe(_resolve, tickets)


def _resolve(tickets: Sequence[Ticket]) -> None:
    for ticket in tickets:
        ticket.wake()
