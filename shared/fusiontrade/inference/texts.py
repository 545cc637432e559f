"""What is said between the product and the serving container of headlines: texts out, a mood for each back.

The body of a request is JSON with the content type `TEXTS`; the answer has the same number of items in the same order
and names the scorer that was used. A text that cannot be scored carries its own ``error`` and touches no other.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fusiontrade.inference.contract import ModelReference

__all__ = ["MOODS", "MOST_TEXTS", "TEXTS", "TextError", "TextRequest", "TextResponse", "TextScore"]

TEXTS = "application/vnd.fusiontrade.texts+json"
"""The content type that tells texts from candles before a body is read."""

MOST_TEXTS = 512
"""Texts of a request."""
MOODS = ("positive", "negative", "neutral")
Probability = Annotated[float, Field(ge=0.0, le=1.0)]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TextRequest(_Message):
    """Body of ``POST /invocations`` for texts."""

    texts: Annotated[list[str], Field(min_length=1, max_length=MOST_TEXTS)]


class TextError(_Message):
    """Why a text has no score; ``empty`` is one in which the scorer finds nothing that it could read."""

    code: Literal["empty", "model_failed", "timed_out"]
    detail: str


class TextScore(_Message):
    """The mood of one text: probabilities that sum to 1, null where there is an ``error``.

    ``score`` is positive less negative, from −1 to 1; ``truncated`` tells that only the first 512 tokens were read.
    """

    positive: Probability | None = None
    negative: Probability | None = None
    neutral: Probability | None = None
    score: Annotated[float, Field(ge=-1.0, le=1.0)] | None = None
    truncated: bool = False
    error: TextError | None = None

    @model_validator(mode="after")
    def _said(self) -> Self:
        said = [value is not None for value in (self.positive, self.negative, self.neutral, self.score)]
        if not (all(said) if self.error is None else not any(said)):
            raise ValueError("a text has its three probabilities and their score, or an error, and never both")
        return self


class TextResponse(_Message):
    """Answer of ``POST /invocations`` for texts; ``scorer`` says what ``model`` is."""

    scorer: Literal["classifier", "lexicon"]
    model: ModelReference
    items: list[TextScore]
