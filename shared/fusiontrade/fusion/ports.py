"""What the fusion asks of others: the news and the analyst, one call each; where calibration states are kept; and who
writes forecasts down.

A block that cannot be had is None and comes with a plain reason; it never delays or fails the forecast itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from fusiontrade.fusion.response import FusionResponse, LLMAnalysisBlock, SentimentBlock

if TYPE_CHECKING:
    from fusiontrade.deadline import Deadline
    from fusiontrade.fusion.calibration_states import Kept
    from fusiontrade.market.symbols import Symbol

__all__ = [
    "Analyst",
    "CalibrationStates",
    "Forecast",
    "ForecastJournal",
    "NoAnalyst",
    "NoJournal",
    "NoSentiment",
    "Noted",
    "Sentiment",
]

Block = TypeVar("Block", SentimentBlock, LLMAnalysisBlock)


@dataclass(frozen=True)
class Noted(Generic[Block]):
    """A block, or None, with what the reader should know about it."""

    block: Block | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Forecast:
    """A fused forecast of the present with what its readers need not know.

    Parameters
    ----------
    symbol
        What it is about.
    response
        What is published.
    is_stale
        Whether newer bars than it was made from should exist already, so that its outcome may be known to somebody.
    """

    symbol: Symbol
    response: FusionResponse
    is_stale: bool


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


class ForecastJournal(Protocol):
    """Writes forecasts of the present down before their outcomes."""

    def note(self, forecast: Forecast, *, user_id: str | None, deadline: Deadline) -> tuple[str, ...]:
        """Write ``forecast`` for the platform, and for the user where one asked; return what the reader should know.

        Raises
        ------
        StateUnavailable
            If the user's own entry cannot be written. The platform's never fails the answer.
        """
        ...


class Degraded(Protocol):
    """Knows which models' forecasts have become worse."""

    def notes(self, models: Iterable[tuple[str, str]]) -> tuple[str, ...]:
        """Return a warning for each of ``models`` (id, version) that has; never raises."""
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


class NoJournal:
    """No journal is configured: says so to who asked for an entry."""

    def note(self, forecast: Forecast, *, user_id: str | None, deadline: Deadline) -> tuple[str, ...]:  # noqa: ARG002
        """Return the reason why nothing was written, where somebody waits for it."""
        return ("journal=true had no effect: no journal is configured",) if user_id else ()
