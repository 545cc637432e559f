"""Where requests for moods wait: one thread scores the texts of all that wait together, and knows when it is too much.

Always true here: at most `PLACES` texts wait, except that an idle desk takes any one request; whoever goes away or
waits too long is not scored if that has not begun; every request is answered by the scorer that was there when its
texts were taken.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from fusiontrade.inference.contract import ModelReference
from fusiontrade.inference.texts import TextError, TextResponse, TextScore
from serving.sentiment.lexicon import Lexicon

__all__ = ["PLACES", "Desk", "Scorer"]

_log = logging.getLogger(__name__)

PLACES = 2048
"""Texts that may wait."""
_TOGETHER = 256  # texts that are scored in one go at most, but for a request that has more


class Scorer(Protocol):
    """A classifier, or the lexicon."""

    @property
    def reference(self) -> ModelReference:
        """What answers name it by."""

    def scores(self, texts: Sequence[str]) -> list[TextScore]:
        """Return the mood of each text, in order."""


@dataclass(eq=False)
class _Asked:
    texts: Sequence[str]
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[TextResponse]


class Desk:
    """Answers texts with whatever ``scorer`` returns at the time."""

    def __init__(self, scorer: Callable[[], Scorer]) -> None:
        self._scorer = scorer
        self._waiting: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._taken = 0
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def unanswered(self) -> int:
        """Texts that wait or are being scored."""
        return self._taken

    def has_room(self, texts: int) -> bool:
        """Whether so many texts more may wait."""
        return not self._taken or self._taken + texts <= PLACES

    async def answer(self, texts: Sequence[str], *, seconds: float) -> TextResponse:
        """Return the moods of texts that there is room for; after ``seconds`` each is an error instead."""
        loop = asyncio.get_running_loop()
        asked = _Asked(texts, loop, loop.create_future())
        with self._lock:
            self._taken += len(texts)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="moods", daemon=True)
                self._thread.start()
        self._waiting.put(asked)
        try:
            async with asyncio.timeout(seconds):
                return await asked.answer
        except TimeoutError:
            late = TextScore(error=TextError(code="timed_out", detail=f"no answer within {seconds:g} s"))
            return _response(self._scorer(), [late] * len(texts))

    def close(self) -> None:
        """End the thread after what it does now."""
        self._waiting.put(None)

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            together, ending = self._beside(first)
            self._score(together)
            if ending:
                return

    def _beside(self, first: _Asked) -> tuple[list[_Asked], bool]:
        """Return ``first`` and what waits behind it, as far as it fits; and whether the end was among it."""
        found, texts = [first], len(first.texts)
        while texts < _TOGETHER:
            try:
                other = self._waiting.get_nowait()
            except queue.Empty:
                break
            if other is None:
                return found, True
            found.append(other)
            texts += len(other.texts)
        return found, False

    def _score(self, together: Sequence[_Asked]) -> None:
        wanted = [asked for asked in together if not asked.answer.done()]
        scorer = self._scorer()
        texts = [text for asked in wanted for text in asked.texts]
        try:
            scores = scorer.scores(texts)
        except Exception:  # a fault of the scorer's own code must cost these texts alone, not the thread
            _log.exception("texts failed", extra={"texts": len(texts)})
            failed = TextScore(error=TextError(code="model_failed", detail="the scorer failed on these texts"))
            scores = [failed] * len(texts)
        at = 0
        for asked in wanted:
            own = scores[at : at + len(asked.texts)]
            at += len(asked.texts)
            _tell(asked, _response(scorer, own))
        with self._lock:
            self._taken -= sum(len(asked.texts) for asked in together)


def _response(scorer: Scorer, items: list[TextScore]) -> TextResponse:
    kind = "lexicon" if isinstance(scorer, Lexicon) else "classifier"
    return TextResponse(scorer=kind, model=scorer.reference, items=items)


def _tell(asked: _Asked, response: TextResponse) -> None:
    def told() -> None:
        if not asked.answer.done():
            asked.answer.set_result(response)

    try:
        asked.loop.call_soon_threadsafe(told)
    except RuntimeError:  # the loop has ended: nobody waits
        return
