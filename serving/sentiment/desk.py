"""Where requests for moods wait: one thread scores the texts of all that wait together, and knows when it is too much.

Always true here: at most `PLACES` texts wait, except that an idle desk takes any one request; texts are scored a few
at a time, and of whoever went away or waited too long no more are; every request is answered by the scorer that was
there when its texts were taken, with what was scored of it in time and an error for each other text.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from fusiontrade.inference.contract import ModelReference
from fusiontrade.inference.texts import TextError, TextResponse, TextScore
from serving.sentiment.lexicon import Lexicon

__all__ = ["PLACES", "Desk", "Scorer"]

_log = logging.getLogger(__name__)

PLACES = 2048
"""Texts that may wait."""
_TOGETHER = 256  # texts that are taken at once at most, but for a request that has more
_PART, _PART_CHARACTERS = 32, 16_000  # of one call of a scorer: seconds of a classifier's time, which nobody can end


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
    scorer: Scorer | None = None
    scores: dict[int, TextScore] = field(default_factory=dict)

    def response(self, scorer: Scorer, detail: str = "it was not scored in time") -> TextResponse:
        """Return what was scored, and ``detail`` as the error of each other text."""
        late = TextScore(error=TextError(code="timed_out", detail=detail))
        items = [self.scores.get(place, late) for place in range(len(self.texts))]
        kind = "lexicon" if isinstance(scorer, Lexicon) else "classifier"
        return TextResponse(scorer=kind, model=scorer.reference, items=items)


class Desk:
    """Answers texts with whatever ``scorer`` returns at the time."""

    def __init__(self, scorer: Callable[[], Scorer]) -> None:
        self._scorer = scorer
        self._waiting: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._open: set[_Asked] = set()
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
        """Return the moods of texts that there is room for; what is not scored after ``seconds`` is an error."""
        loop = asyncio.get_running_loop()
        asked = _Asked(texts, loop, loop.create_future())
        with self._lock:
            self._taken += len(texts)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="moods", daemon=True)
                self._thread.start()
        self._open.add(asked)
        self._waiting.put(asked)
        try:
            async with asyncio.timeout(seconds):
                return await asked.answer
        except TimeoutError:
            return asked.response(asked.scorer or self._scorer(), "no answer in time")
        finally:
            self._open.discard(asked)

    def give_up(self) -> None:
        """Answer everybody with what there is, on the thread of the loop: the program ends."""
        for asked in self._open:
            if not asked.answer.done():
                asked.answer.set_result(asked.response(asked.scorer or self._scorer(), "the program ends"))

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
        scorer = self._scorer()
        for asked in together:
            asked.scorer = scorer
        left = [(asked, place) for asked in together for place in range(len(asked.texts))]
        while left := [(asked, place) for asked, place in left if not asked.answer.done()]:
            count = _fitting(asked.texts[place] for asked, place in left)
            part, left = left[:count], left[count:]
            scores = _scored(scorer, [asked.texts[place] for asked, place in part])
            for (asked, place), score in zip(part, scores, strict=True):
                asked.scores[place] = score
                if len(asked.scores) == len(asked.texts):
                    _tell(asked, asked.response(scorer))
        with self._lock:
            self._taken -= sum(len(asked.texts) for asked in together)


def _fitting(texts: Iterable[str]) -> int:
    """Return how many of the first texts make a part; at least one."""
    count = characters = 0
    for text in islice(texts, _PART):
        characters += len(text)
        if count and characters > _PART_CHARACTERS:
            break
        count += 1
    return count


def _scored(scorer: Scorer, texts: Sequence[str]) -> list[TextScore]:
    try:
        return scorer.scores(texts)
    except Exception:  # a fault of the scorer's own code must cost these texts alone, not the thread
        _log.exception("texts failed", extra={"texts": len(texts)})
        return [TextScore(error=TextError(code="model_failed", detail="the scorer failed on these texts"))] * len(texts)


def _tell(asked: _Asked, response: TextResponse) -> None:
    def told() -> None:
        if not asked.answer.done():
            asked.answer.set_result(response)

    try:
        asked.loop.call_soon_threadsafe(told)
    except RuntimeError:  # the loop has ended: nobody waits
        return
