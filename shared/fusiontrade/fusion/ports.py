"""What the fusion asks of others: the news and the analyst, one call each; and where calibration states are kept.

A block that cannot be had is None and comes with a plain reason; it never delays or fails the forecast itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from fusiontrade.fusion.response import FusionResponse, LLMAnalysisBlock, SentimentBlock

if TYPE_CHECKING:
    from fusiontrade.deadline import Deadline
    from fusiontrade.fusion.calibration_states import Kept
    from fusiontrade.market.symbols import Symbol

__all__ = ["Analyst", "CalibrationStates", "NoAnalyst", "NoSentiment", "Noted", "Sentiment"]

Block = TypeVar("Block", SentimentBlock, LLMAnalysisBlock)


@dataclass(frozen=True)
class Noted(Generic[Block]):
    """A block, or None, with what the reader should know about it."""

    block: Block | None
    warnings: tuple[str, ...] = ()


class Sentiment(Protocol):
    """Reads the news about a symbol."""

    def read(self, symbol: Symbol, *, as_of: int, deadline: Deadline) -> Noted[SentimentBlock]:
        """Return what headlines published by ``as_of`` (ms) say; answers within ``deadline`` and never raises."""
        ...


class Analyst(Protocol):
    """Holds the two-phase conversation about a fused forecast."""

    def analyse(self, symbol: Symbol, fusion: FusionResponse, *, deadline: Deadline) -> Noted[LLMAnalysisBlock]:
        """Return the analysis of ``fusion``; answers within ``deadline`` and never raises."""
        ...


class CalibrationStates(Protocol):
    """Keeps what outcomes have taught about the intervals and probabilities of each symbol."""

    def read(self, symbol: Symbol) -> Kept:
        """Return what is kept of ``symbol``, empty where nothing is.

        Raises
        ------
        StateUnavailable
            If there is no answer within two seconds.
        """
        ...

    def write(self, symbol: Symbol, kept: Kept) -> None:
        """Keep ``kept`` in place of what was read at its revision; where another has written since, theirs stands.

        Raises
        ------
        StateUnavailable
            If there is no answer within two seconds; it may have been written or not.
        """
        ...


class NoSentiment:
    """No news source is configured: says so."""

    def read(self, symbol: Symbol, *, as_of: int, deadline: Deadline) -> Noted[SentimentBlock]:  # noqa: ARG002
        """Return no block and the reason."""
        return Noted(None, ("sentiment is null: no news source is configured",))


class NoAnalyst:
    """No language model is configured: says so."""

    def analyse(self, symbol: Symbol, fusion: FusionResponse, *, deadline: Deadline) -> Noted[LLMAnalysisBlock]:  # noqa: ARG002
        """Return no block and the reason."""
        return Noted(None, ("llm_analysis is null: no language model is configured",))
