"""The engine at work, as the HTTP face sees it: requests in, answers out, bundles exchanged underneath."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future

from fusiontrade.inference.contract import FUSED, ForecastResponse
from serving.asked import Asked
from serving.batching import Batcher, Overloaded
from serving.companions import Companions
from serving.engine import Engine
from serving.measuring import Metrics
from serving.sentiment.desk import Desk
from serving.sentiment.lexicon import Lexicon
from serving.settings import ServingSettings
from serving.stocks import Stocks
from serving.swapping import Reader, SwapReport

__all__ = ["Asked", "Overloaded", "Running", "SwapReport", "start"]

_log = logging.getLogger(__name__)

_LEXICON = Lexicon()
_JOIN_SECONDS = 2.0


class Running:
    """Bundles that serve, the threads that answer, and what is counted about both.

    Parameters
    ----------
    settings
        Sizes and limits.

    Raises
    ------
    BundleRefused
        If nothing at all can serve.
    """

    def __init__(self, settings: ServingSettings) -> None:
        self.metrics = Metrics()
        self._settings = settings
        self._reader = Reader(
            settings.bundles,
            device=settings.device,
            threads=settings.threads,
            slow_seconds=settings.slow_seconds,
        )
        engine = self._reader.first()
        places = settings.workers + settings.queue_of_a_process
        self._batcher = Batcher(
            engine,
            self.metrics,
            workers=settings.workers,
            places=places,
            batch=settings.batch,
            model_seconds=settings.model_seconds,
        )
        self._companions = Companions()
        self.desk = Desk(lambda: self._companions.classifier or _LEXICON)
        self.stocks = Stocks(lambda: self._batcher.unanswered > 0)
        self.metrics.watch_places(places, lambda: self._batcher.unanswered)
        self.metrics.read("changed", engine, 0, len(engine.refused))
        self._given_up = False
        self._reading, self._beginning = threading.Lock(), threading.Lock()
        self._ending = threading.Event()
        self._whole: Future[None] = Future()
        self._opening = threading.Thread(target=self._open_rest, name="rest", daemon=True)
        if settings.watch_seconds:
            threading.Thread(target=self._watch, args=(settings.watch_seconds,), name="bundles", daemon=True).start()

    @property
    def engine(self) -> Engine:
        """What answers the requests admitted from now on."""
        return self._batcher.engine

    @property
    def companions(self) -> Companions:
        """What serves beside the forecasters."""
        return self._companions

    @property
    def swap(self) -> SwapReport:
        """What the newest reading of the bundle folder came to."""
        return self._reader.report

    def admit(self, items: int = 1) -> None:
        """Raise `Overloaded` where ``items`` more would not be admitted now."""
        self._batcher.admit(items)

    def open_rest(self) -> None:
        """Let what serves beside the fused kinds be opened in the background, if that was not begun yet."""
        with self._beginning:
            if self._opening.ident is None:
                self._opening.start()

    async def whole(self, seconds: float) -> float:
        """Wait, ``seconds`` at most, for what is opened right after a start; return how many of them are left."""
        self.open_rest()
        if self._whole.done():
            return seconds
        until = time.monotonic() + seconds
        await asyncio.wait([asyncio.wrap_future(self._whole)], timeout=seconds)
        return max(0.0, until - time.monotonic())

    async def answer(self, asked: Sequence[Asked], *, seconds: float) -> ForecastResponse:
        """Return one answer per item, in order.

        Whoever is cancelled while waiting here gives the places back at once. Whoever asks for other kinds than the
        fused ones right after a start waits until these are open.

        Parameters
        ----------
        asked
            One item or more.
        seconds
            What is not answered by then carries an error instead.

        Raises
        ------
        Overloaded
            At once, where all places are taken.
        """
        loop, left = asyncio.get_running_loop(), seconds
        if not self._whole.done() and any(kind not in FUSED for one in asked for kind in one.models):
            left = await self.whole(seconds)
        ticket = self._batcher.submit(asked, loop)
        patience = loop.call_later(left, ticket.wake)
        try:
            await ticket.done
            self._batcher.withdraw(ticket)
            late = "the program had to end before the answer" if self._given_up else f"no answer within {seconds:g} s"
            return ForecastResponse(items=ticket.answers(late))
        finally:
            patience.cancel()
            self._batcher.withdraw(ticket)
            ticket.release()

    def give_up(self) -> None:
        """Answer every admitted request at once with what it has; called on the event loop when a drain is over."""
        self._given_up = True
        self._batcher.give_up()
        self.desk.give_up()
        self.stocks.give_up()

    def reload(self) -> SwapReport:
        """Read the bundle folder again and let what is new and good answer from now on; blocks meanwhile.

        Returns what came of it; never raises for what is wrong with a bundle.
        """
        self.open_rest()
        self._whole.result()
        with self._reading:
            self._companions = self._read_companions(self._companions)
            before = self.engine
            after = self._reader.again(before)
            if after is not before:
                self._batcher.install(after)
            report = self._reader.report
            self.metrics.read(report.outcome, after, report.generation, len(report.failed))
            return report

    def close(self) -> None:
        """End the threads; what a model still computes is ended too."""
        self._ending.set()
        if self._opening.ident is not None:
            self._opening.join(_JOIN_SECONDS)
        self.desk.close()
        self.stocks.close()
        self._batcher.close()

    def _read_companions(self, before: Companions | None) -> Companions:
        settings = self._settings
        try:
            return Companions.read(settings.bundles, device=settings.device, threads=settings.threads, before=before)
        except Exception:  # whatever a library makes of a broken file, the forecasters are to be read
            _log.exception("what serves beside the forecasters could not be read")
            return before or Companions()

    def _open_rest(self) -> None:
        try:
            self._open_beside()
            if not self._ending.is_set():
                self._companions = self._read_companions(None)
            gc.freeze()  # as what was there before
        finally:
            self._whole.set_result(None)

    def _open_beside(self) -> None:
        try:
            before = self.engine
            engine = self._reader.rest(before, self._ending)
            if engine is not before:
                self._batcher.install(engine)
                self.metrics.serves(engine, self._reader.report.generation, len(engine.refused))
        except Exception:  # the fused kinds and the companions serve whatever this was
            _log.exception("what serves beside the fused kinds could not be opened")

    def _watch(self, seconds: float) -> None:
        while not self._ending.wait(seconds):
            if self._reader.settled_anew():
                self.reload()


def start(settings: ServingSettings) -> Running:
    """Load the bundles, warm them up and start the threads; blocks meanwhile.

    Raises
    ------
    BundleRefused
        If nothing at all can serve.
    """
    return Running(settings)
