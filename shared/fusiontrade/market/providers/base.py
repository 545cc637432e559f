"""What a source of candles has to be able to do.

A provider answers with checked bars or raises; it never answers with an empty frame, with bars that were not finished
by the instant asked about, or with the bars of something else. Caching, retries and staleness are not its business:
`fusiontrade.market.source` stands in front of it.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from fusiontrade.errors import InvalidInput, NotFound
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.symbols import Symbol
from fusiontrade.market.timeframes import Timeframe

__all__ = ["HistoryUnavailable", "Provider", "TimeframeUnavailable"]


class HistoryUnavailable(InvalidInput):
    """The provider knows the symbol but keeps no bars for the moment that was asked for."""

    def __init__(self, message: str) -> None:
        super().__init__("query/as_of", message)


class TimeframeUnavailable(NotFound):
    """The provider knows the symbol but has no bars of that length, nor shorter ones to make them from."""


@runtime_checkable
class Provider(Protocol):
    """A source of candles.

    Attributes
    ----------
    name
        ``files``, ``simulated``, ``yahoo``: what answers show as their data source.
    notice
        What every reader of its data has to be told, or None. The simulated market says here that it is invented.
    """

    @property
    def name(self) -> str: ...

    @property
    def notice(self) -> str | None: ...

    def candles(self, symbol: Symbol, timeframe: Timeframe, *, end: int, count: int, timeout: float) -> CandleFrame:
        """Return the newest ``count`` bars that were finished by ``end``.

        Parameters
        ----------
        symbol, timeframe
            What to answer for.
        end
            Instant in ms: no bar of the answer closes later, and none depends on anything that happened later.
        count
            At most so many bars, oldest first; fewer (never none) where the history begins within them.
        timeout
            Seconds after which an answer is of no use.

        Raises
        ------
        UnknownSymbol
            If the provider does not know the symbol.
        HistoryUnavailable
            If it has no bar of this length that was finished by ``end``.
        TimeframeUnavailable
            If it has no bars of this length at all.
        ProviderUnavailable
            If it does not answer in time, or answers nonsense.
        BadCandles
            If its bars break the rules of `fusiontrade.market.candles`.
        """
        ...

    def now(self, symbol: Symbol) -> int:
        """Return the instant, ms, that is the present for this provider and symbol."""
        ...

    def stand_in(self, symbol: Symbol) -> str | None:
        """Return in words which other instrument's bars are served for ``symbol``, or None: its own."""
        ...
