"""A text classifier as it serves: a verified bundle of kind ``sentiment``, its tokenizer and its session.

Always true here: a text's answer depends on itself alone, whichever texts ride with it; a text that cannot be scored,
as one of which the classifier knows no word, is an error of its own; probabilities are of positive, negative and
neutral by the names of the labels, whatever their order in the graph. `Classifier.scores` may be called from several
threads at once. No torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from fusiontrade.errors import BundleRefused
from fusiontrade.inference.contract import ModelReference
from fusiontrade.inference.texts import MOODS, TextError, TextScore
from serving.bundle import GRAPH
from serving.sealed import SealedCard, opened, read_sealed

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["KIND", "TOKENIZER", "Classifier", "SentimentCard", "load_classifier", "tokenizer_of"]

KIND: Literal["sentiment"] = "sentiment"
TOKENIZER = "tokenizer.json"
_TOKENS = 4096  # of a run, padding counted: more gain nothing on a core
_TEXTS = 32  # of a run
_CHARACTERS = 20_000  # of a text that are looked at: 512 tokens hardly ever need more
_SAME = 1e-4

Integers = NDArray[np.int64]


class SentimentCard(SealedCard):
    """The card of a classifier: ``labels`` in the order of the graph's columns, ``tokens`` it reads at most."""

    kind: Literal["sentiment"] = KIND
    labels: tuple[str, ...]
    tokens: Annotated[int, Field(ge=8, le=4096)]
    pad: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _moods(self) -> Self:
        if sorted(self.labels) != sorted(MOODS):
            raise ValueError(f"labels have to be {', '.join(MOODS)} in any order, these are {', '.join(self.labels)}")
        return self


@dataclass(frozen=True, eq=False)
class Classifier:
    """A verified classifier, ready to run."""

    folder: Path
    card: SentimentCard
    tokenizer: Tokenizer
    session: Any

    @property
    def reference(self) -> ModelReference:
        """What answers name it by."""
        return self.card.reference

    @cached_property
    def unknown(self) -> int | None:
        """The token of words that the tokenizer does not know; None where it knows all."""
        name = json.loads(self.tokenizer.to_str())["model"].get("unk_token")
        return self.tokenizer.token_to_id(name) if isinstance(name, str) else None

    def scores(self, texts: Sequence[str]) -> list[TextScore]:
        """Return the mood of each text, in order; never raises for what is wrong with one."""
        answers: list[TextScore] = [_EMPTY] * len(texts)
        read = [text.strip() for text in texts]
        rows = []
        for row, encoding in enumerate(self.tokenizer.encode_batch([text[:_CHARACTERS] for text in read])):
            content = {
                token for token, made in zip(encoding.ids, encoding.special_tokens_mask, strict=True) if not made
            }
            if content - {self.unknown}:
                rows.append((row, encoding.ids, bool(encoding.overflowing) or len(read[row]) > _CHARACTERS))
            elif content:
                answers[row] = _UNREAD
        longest_first = sorted(rows, key=lambda one: (-len(one[1]), one[0]))
        for part in _parts(longest_first):
            moods = self._moods([ids for _, ids, _ in part])
            for (row, _, truncated), mood in zip(part, moods, strict=True):
                answers[row] = _score(mood, truncated=truncated)
        return answers

    def _moods(self, rows: Sequence[list[int]]) -> list[NDArray[np.float64] | None]:
        """Return probabilities in the order of `MOODS`, None for a text that the graph fails on."""
        try:
            logits = self.logits(rows)
        except Exception:
            if len(rows) == 1:
                return [None]
            return [mood for one in rows for mood in self._moods([one])]
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares = (raised / raised.sum(axis=1, keepdims=True))[:, [self.card.labels.index(mood) for mood in MOODS]]
        return [share if np.isfinite(share).all() else None for share in shares]

    def logits(self, rows: Sequence[list[int]]) -> NDArray[np.float64]:
        """Return (n, 3) logits in the order of the card's labels, of n lists of token ids."""
        length = max(len(ids) for ids in rows)
        tokens = np.full((len(rows), length), self.card.pad, np.int64)
        mask = np.zeros((len(rows), length), np.int64)
        for row, ids in enumerate(rows):
            tokens[row, : len(ids)], mask[row, : len(ids)] = ids, 1
        answers = self.session.run(["logits"], {"input_ids": tokens, "attention_mask": mask})[0]
        return np.asarray(answers, np.float64)


def load_classifier(folder: Path, *, device: str = "cpu", threads: int = 1) -> Classifier:
    """Verify the bundle in ``folder`` and make it ready to run; parameters and errors as for `load_bundle`."""
    card, files = read_sealed(folder, SentimentCard)
    if TOKENIZER not in files:
        raise BundleRefused(f"a bundle of kind {KIND} needs {TOKENIZER}")
    axes = ("tensor(int64)", (None, None))
    session = opened(
        files[GRAPH],
        card,
        {"input_ids": axes, "attention_mask": axes},
        {"logits": ("tensor(float)", (None, len(card.labels)))},
        device=device,
        threads=threads,
    )
    classifier = Classifier(folder, card, tokenizer_of(files[TOKENIZER], card.tokens), session)
    _self_test(classifier)
    return classifier


def tokenizer_of(content: bytes, tokens: int) -> Tokenizer:
    """Return the tokenizer that ``tokenizer.json`` describes, cutting at ``tokens`` and padding nothing.

    Raises
    ------
    BundleRefused
        If it is none.
    """
    from tokenizers import Tokenizer

    try:
        made = Tokenizer.from_str(content.decode("utf-8"))
    except Exception as error:  # the library raises nothing more precise
        raise BundleRefused(f"{TOKENIZER} is no tokenizer: {str(error)[:300]}") from None
    made.enable_truncation(tokens)
    made.no_padding()
    return made


_EMPTY = TextScore(error=TextError(code="empty", detail="there is no text to score"))
_UNREAD = TextScore(error=TextError(code="empty", detail="the classifier knows no word of this text"))
_FAILED = TextScore(error=TextError(code="model_failed", detail="the classifier failed on this text"))


def _parts(rows: Sequence[tuple[int, list[int], bool]]) -> Iterator[Sequence[tuple[int, list[int], bool]]]:
    """Yield runs of rows, longest first, of few enough tokens with their padding."""
    at = 0
    while at < len(rows):
        count = max(1, min(_TEXTS, _TOKENS // max(1, len(rows[at][1]))))
        yield rows[at : at + count]
        at += count


def _score(mood: NDArray[np.float64] | None, *, truncated: bool) -> TextScore:
    if mood is None:
        return _FAILED
    positive, negative, neutral = mood.tolist()
    return TextScore(
        positive=positive, negative=negative, neutral=neutral, score=positive - negative, truncated=truncated
    )


def _self_test(classifier: Classifier) -> None:
    """Score a short and a longer text together, and the short one alone: finite, and the same."""
    short, longer = (classifier.tokenizer.encode(text).ids for text in ("up", "shares fell sharply after the report"))
    size = classifier.tokenizer.get_vocab_size()
    if not short or max(*short, *longer, classifier.card.pad) >= size:
        raise BundleRefused(f"{TOKENIZER} gives no tokens of its own vocabulary for plain English")
    try:
        both, alone = classifier.logits([short, longer]), classifier.logits([short])
    except Exception as error:
        raise BundleRefused(f"the graph fails its self-test: {str(error).splitlines()[0][:300]}") from None
    if not np.isfinite(both).all():
        raise BundleRefused("the graph answers plain English with something that is not a finite number")
    if np.abs(both[0] - alone[0]).max() > _SAME:
        raise BundleRefused("what the graph says of a text depends on the texts that ride with it")
