"""Requests for moods: scored together, answered apart, and never more of them held than there is room for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from fusiontrade.inference.contract import ModelReference
from fusiontrade.inference.texts import TextScore
from serving.sentiment.desk import PLACES, Desk
from serving.sentiment.lexicon import Lexicon


class Scorer:
    """Says how long each text is, once it may; keeps what it was given together."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self.given: list[list[str]] = []

    @property
    def reference(self) -> ModelReference:
        return ModelReference(id="lengths", version="1")

    def scores(self, texts: Sequence[str]) -> list[TextScore]:
        self.given.append(list(texts))
        self.may.wait(10)
        if "raise" in texts:
            raise RuntimeError("as it was told")
        return [TextScore(positive=1.0, negative=0.0, neutral=0.0, score=min(1.0, len(text) / 100)) for text in texts]


async def until(condition: object) -> None:
    while not condition():  # type: ignore[operator]
        await asyncio.sleep(0.001)


def test_what_waits_is_scored_together_and_answered_apart() -> None:
    async def asked() -> None:
        scorer = Scorer()
        desk = Desk(lambda: scorer)
        first = asyncio.ensure_future(desk.answer(["a"], seconds=10))
        await until(lambda: scorer.given)
        others = [asyncio.ensure_future(desk.answer(["b" * n, "c"], seconds=10)) for n in (2, 3)]
        await asyncio.sleep(0)
        assert desk.unanswered == 5
        scorer.may.set()
        answers = [await one for one in (first, *others)]
        assert [[item.score for item in answer.items] for answer in answers] == [[0.01], [0.02, 0.01], [0.03, 0.01]]
        assert scorer.given == [["a"], ["bb", "c", "bbb", "c"]]
        assert answers[0].scorer == "classifier"
        assert answers[0].model.id == "lengths"
        await until(lambda: desk.unanswered == 0)
        desk.close()

    asyncio.run(asked())


def test_whoever_waits_too_long_is_told_and_not_scored() -> None:
    async def asked() -> None:
        scorer = Scorer()
        desk = Desk(lambda: scorer)
        first = asyncio.ensure_future(desk.answer(["a"], seconds=10))
        await until(lambda: scorer.given)
        late = await desk.answer(["b", "c"], seconds=0.01)
        assert [item.error and item.error.code for item in late.items] == ["timed_out", "timed_out"]
        gone = asyncio.ensure_future(desk.answer(["d"], seconds=10))
        await asyncio.sleep(0)
        gone.cancel()
        scorer.may.set()
        await first
        assert (await desk.answer(["e"], seconds=10)).items[0].score == 0.01
        assert not [texts for texts in scorer.given if {"b", "c", "d"} & set(texts)]
        await until(lambda: desk.unanswered == 0)
        desk.close()

    asyncio.run(asked())


def test_many_texts_are_scored_in_parts_that_end_with_their_reader() -> None:
    async def asked() -> None:
        scorer = Scorer()
        desk = Desk(lambda: scorer)
        gone = asyncio.ensure_future(desk.answer(["g"] * 100, seconds=10))
        await until(lambda: scorer.given)
        other = asyncio.ensure_future(desk.answer(["o" * 9000, "p" * 9000, "q"], seconds=10))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        scorer.may.set()
        answer = await other
        assert [item.score for item in answer.items] == [1.0, 1.0, 0.01]
        assert scorer.given == [["g"] * 32, ["o" * 9000], ["p" * 9000, "q"]]
        await until(lambda: desk.unanswered == 0)
        desk.close()

    asyncio.run(asked())


def test_a_program_that_ends_answers_everybody_with_what_was_scored() -> None:
    async def asked() -> None:
        scorer = Scorer()
        scorer.may.set()
        scores = scorer.scores

        def stuck_from_the_second_part(texts: Sequence[str]) -> list[TextScore]:
            if scorer.given:
                scorer.may.clear()
            return scores(texts)

        scorer.scores = stuck_from_the_second_part  # type: ignore[method-assign]
        desk = Desk(lambda: scorer)
        waiting = [asyncio.ensure_future(desk.answer(["a"] * count, seconds=30)) for count in (40, 2)]
        await until(lambda: len(scorer.given) == 2)
        desk.give_up()
        first, second = [await one for one in waiting]
        assert [item.score for item in first.items] == [0.01] * 32 + [None] * 8
        told = [item.error and (item.error.code, item.error.detail) for item in (*first.items, *second.items)]
        assert told == [None] * 32 + [("timed_out", "the program ends")] * 10
        scorer.may.set()
        await until(lambda: desk.unanswered == 0)
        desk.close()

    asyncio.run(asked())


def test_a_scorer_that_raises_costs_its_texts_alone() -> None:
    async def asked() -> None:
        scorer = Scorer()
        scorer.may.set()
        desk = Desk(lambda: scorer)
        broken = await desk.answer(["raise", "x"], seconds=10)
        assert [item.error and item.error.code for item in broken.items] == ["model_failed", "model_failed"]
        assert (await desk.answer(["x"], seconds=10)).items[0].error is None
        desk.close()

    asyncio.run(asked())


def test_there_is_room_for_so_many_texts_and_for_any_one_request() -> None:
    async def asked() -> None:
        scorer = Scorer()
        desk = Desk(lambda: scorer)
        assert desk.has_room(PLACES * 2)
        first = asyncio.ensure_future(desk.answer(["a"] * (PLACES - 1), seconds=10))
        await until(lambda: scorer.given)
        assert desk.has_room(1)
        assert not desk.has_room(2)
        scorer.may.set()
        await first
        await until(lambda: desk.unanswered == 0)
        desk.close()

    asyncio.run(asked())


def test_a_scorer_that_came_later_answers_from_then_on() -> None:
    async def asked() -> None:
        serving: list[object] = [Lexicon()]
        desk = Desk(lambda: serving[-1])  # type: ignore[arg-type, return-value]
        assert (await desk.answer(["profit"], seconds=10)).scorer == "lexicon"
        scorer = Scorer()
        scorer.may.set()
        serving.append(scorer)
        assert (await desk.answer(["profit"], seconds=10)).scorer == "classifier"
        desk.close()

    asyncio.run(asked())
