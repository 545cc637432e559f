"""The client's moods: what adds up is returned, an error stays an error, everything else is unavailable."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from fusiontrade.errors import InferenceUnavailable, InvalidInput
from fusiontrade.inference.client import MOST_BYTES, InferenceClient
from fusiontrade.inference.texts import MOST_TEXTS, TEXTS, TextScore

GOOD = {"positive": 0.7, "negative": 0.1, "neutral": 0.2, "score": 0.6}
FAILED = {"error": {"code": "model_failed", "detail": "the scorer failed on these texts"}}


class Answering:
    """Our Endpoint port: answers every text with the next of ``items``, or with ``raw``."""

    def __init__(self, *items: dict[str, Any], raw: bytes | None = None, fails: Exception | None = None) -> None:
        self.items, self.raw, self.fails = items, raw, fails
        self.asked: list[tuple[list[str], str, float]] = []

    def invoke(self, body: bytes, *, content_type: str, timeout: float) -> bytes:
        self.asked.append((json.loads(body)["texts"], content_type, timeout))
        if self.fails:
            raise self.fails
        said = {"scorer": "classifier", "model": {"id": "finbert", "version": "1"}, "items": list(self.items)}
        return self.raw if self.raw is not None else json.dumps(said).encode()


def test_moods_come_in_the_order_asked_with_their_scorer_and_errors_stay_errors() -> None:
    endpoint = Answering(GOOD, FAILED)
    response = InferenceClient(endpoint).moods(["shares rise", "x"], timeout=3.0)
    assert (response.scorer, response.model.id) == ("classifier", "finbert")
    first, second = response.items
    assert (first.positive, first.score, first.error) == (0.7, 0.6, None)
    assert (second.neutral, second.score) == (None, None)
    assert second.error is not None
    assert second.error.code == "model_failed"
    assert endpoint.asked == [(["shares rise", "x"], TEXTS, 3.0)]


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [
        (Answering(GOOD), "something other than what was asked"),
        (Answering(GOOD, GOOD, GOOD), "something other than what was asked"),
        (Answering(GOOD, {**GOOD, "positive": 0.9}), "something other than what was asked"),
        (Answering(GOOD, {**GOOD, "score": -0.6}), "something other than what was asked"),
        (Answering(GOOD, {}), "could not be read"),
        (Answering(GOOD, {**GOOD, "score": None}), "could not be read"),
        (Answering(GOOD, {**GOOD, **FAILED}), "could not be read"),
        (Answering(GOOD, {**GOOD, "score": float("nan")}), "could not be read"),
        (Answering(GOOD, {**GOOD, "neutral": 1.2}), "could not be read"),
        (Answering(raw=b"<html>502</html>"), "could not be read"),
        (Answering(raw=b""), "could not be read"),
        (Answering(raw=b'{"items": null}'), "could not be read"),
        (Answering(fails=InferenceUnavailable("the forecasting models do not answer now")), "do not answer now"),
    ],
)
def test_nonsense_is_unavailable_and_never_neutral(endpoint: Answering, told: str) -> None:
    with pytest.raises(InferenceUnavailable, match=told):
        InferenceClient(endpoint).moods(["a", "b"], timeout=3.0)


def test_what_no_request_can_be_is_not_sent() -> None:
    endpoint = Answering()
    client = InferenceClient(endpoint)
    for timeout in (0.0, -1.0):
        with pytest.raises(InferenceUnavailable, match="no time is left"):
            client.moods(["a"], timeout=timeout)
    for texts in ([], ["a"] * (MOST_TEXTS + 1)):
        with pytest.raises(InvalidInput, match=f"{len(texts)} texts: a request has 1 to 512"):
            client.moods(texts, timeout=3.0)
    with pytest.raises(InvalidInput, match=r"400 texts make \d+ bytes, .* ask for about 314 at a time") as refused:
        client.moods(["a" * 20_000] * 400, timeout=3.0)
    assert (refused.value.field, endpoint.asked, MOST_BYTES) == ("texts", [], 6_291_456)


def test_half_a_character_is_sent_as_a_question_mark() -> None:
    endpoint = Answering(GOOD)
    InferenceClient(endpoint).moods(["rise \ud83d 利益 🚀"], timeout=3.0)
    assert endpoint.asked[0][0] == ["rise ? 利益 🚀"]


def test_a_text_has_a_mood_or_an_error() -> None:
    for said in ({}, {"positive": 1.0}, {**GOOD, **FAILED}):
        with pytest.raises(ValidationError, match="never both"):
            TextScore.model_validate(said)
