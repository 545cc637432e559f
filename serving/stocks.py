"""Requests of daily stocks on their way through the program: answered in parts, by a thread of their own.

A part is a few stocks, ranked among all of their request; requests that wait take turns with their parts, and before
each of these who is more urgent has a moment to be done. Always true here: at most `PLACES` stocks wait, except that
where none waits any one request is admitted; what is wrong with a stock stays with it; a request is answered by the
bundle and the encoder that served when it began; it ends with the part at work where its client is gone, its time is up
or the program gives up, and stocks that have no answer by then say so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from fusiontrade.inference.contract import ItemError
from fusiontrade.inference.swing import DailyItem, StockForecast, SwingRequest, SwingResponse
from serving.batching import Overloaded
from serving.kronos.encoder import Encoder
from serving.swing.bundle import SwingBundle
from serving.swing.desk import answered, ranked

__all__ = ["PLACES", "Stocks"]

_log = logging.getLogger(__name__)

PLACES = 512
"""Stocks that may wait: their numbers take about 150 kB each until they are answered."""
_PART = 16  # more together gain little, and hold who waits for longer
_RETRY_AFTER = 5
_GIVING_WAY = 0.25  # seconds: a part takes about as long, so that a flood of the urgent leaves stocks a half
_LOOKING = 0.002


def _nobody() -> bool:
    return False


class Stocks:
    """Answers requests of daily stocks.

    Parameters
    ----------
    urgent
        Tells whether somebody waits whom stocks let go first; called on the event loop.
    """

    def __init__(self, urgent: Callable[[], bool] = _nobody) -> None:
        self._urgent = urgent
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="stocks")
        self._taken = 0
        self._given_up = False

    @property
    def unanswered(self) -> int:
        """Stocks that wait or are being answered."""
        return self._taken

    async def answer(
        self, request: SwingRequest, bundle: SwingBundle, encoder: Encoder | None, *, seconds: float
    ) -> SwingResponse:
        """Return the answers to ``request``, in its order.

        Parameters
        ----------
        encoder
            The one that serves; it is used only if it is the one that the bundle's card names.
        seconds
            Stocks whose part has not begun by then carry an error instead.

        Raises
        ------
        Overloaded
            At once, where too many stocks wait.
        BundleRefused
            If the bundle learned from an encoder that does not serve, or a graph cannot be opened.
        """
        if self._taken and self._taken + len(request.items) > PLACES:
            raise Overloaded(_RETRY_AFTER)
        self._taken += len(request.items)
        try:
            return await self._answered(request, bundle, encoder, seconds)
        finally:
            self._taken -= len(request.items)

    def give_up(self) -> None:
        """Let every request end with the part that is at work."""
        self._given_up = True

    def close(self) -> None:
        """Let go of the thread without waiting for it."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _answered(
        self, request: SwingRequest, bundle: SwingBundle, encoder: Encoder | None, seconds: float
    ) -> SwingResponse:
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        chosen = encoder if bundle.card.encoder is not None else None
        async with self._turn:
            await self._give_way()
            scores = await loop.run_in_executor(self._thread, _made_ready, request, bundle, chosen)
        found: list[StockForecast] = []
        for start in range(0, len(request.items), _PART):
            async with self._turn:
                await self._give_way()
                if self._given_up or loop.time() >= until:
                    break
                part = slice(start, start + _PART)
                given = request.items[part], scores[part], bundle, chosen
                found += await loop.run_in_executor(self._thread, _part_answered, *given)
        why = "the program had to end before the answer" if self._given_up else "no answer in time"
        return SwingResponse(
            model=bundle.card.reference,
            encoder=None if chosen is None else chosen.card.reference,
            items=[*found, *(_failed(item, "timed_out", why) for item in request.items[len(found) :])],
        )

    async def _give_way(self) -> None:
        """Return when nobody is more urgent, or it has been long enough; at once where the program gives up."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _GIVING_WAY
        while self._urgent() and not self._given_up and loop.time() < until:
            await asyncio.sleep(_LOOKING)


def _made_ready(request: SwingRequest, bundle: SwingBundle, encoder: Encoder | None) -> list[float | None]:
    """Open what was not opened yet and return the scores of the request's stocks, None where one is not ranked.

    Raises
    ------
    BundleRefused
        Where a graph cannot be opened, or the encoder is not what the bundle needs.
    """
    bundle.check(encoder)
    _ = bundle.sessions
    if encoder is not None:
        encoder.open()
    return ranked(request, bundle)


def _part_answered(
    part: Sequence[DailyItem], scores: Sequence[float | None], bundle: SwingBundle, encoder: Encoder | None
) -> Sequence[StockForecast]:
    """Return the answers to a few stocks; where that fails for all of them, try them one by one."""
    try:
        return answered(SwingRequest.model_construct(items=list(part)), bundle, encoder, scores).items
    except Exception as error:  # bars that break features or graphs must cost this stock alone
        if len(part) > 1:
            alone = (_part_answered([item], [score], bundle, encoder) for item, score in zip(part, scores, strict=True))
            return [one for answers in alone for one in answers]
        (item,) = part
        extra = {"bundle": bundle.card.model_id, "symbol": item.symbol, "reason": str(error)[:500]}
        _log.exception("stock failed", extra=extra)
        return [_failed(item, "model_failed", f"{bundle.card.model_id} failed: {type(error).__name__}")]


def _failed(item: DailyItem, code: str, detail: str) -> StockForecast:
    return StockForecast(symbol=item.symbol, error=ItemError.model_validate({"code": code, "detail": detail}))
