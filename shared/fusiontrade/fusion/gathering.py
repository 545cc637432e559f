"""The candles that a fused forecast is made of: all four timeframes at once, and why some are missing.

Always true here: a timeframe that fails is left out by name, and only when all fail is their error the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from fusiontrade.deadline import Deadline
from fusiontrade.errors import BadCandles, FusionTradeError, InvalidInput, ProviderUnavailable, Unavailable
from fusiontrade.fusion.compose import Items
from fusiontrade.inference.contract import BARS_NEEDED
from fusiontrade.market.freshness import is_outlived
from fusiontrade.market.symbols import Symbol
from fusiontrade.market.timeframes import INTRADAY, Timeframe

if TYPE_CHECKING:
    from fusiontrade.market.source import CandleAnswer

__all__ = ["Candles", "Market", "gather"]


class Candles(Protocol):
    """The part of `fusiontrade.market.source.CandleSource` that the fusion needs."""

    def many(
        self, symbol: Symbol, timeframes: Sequence[Timeframe], *, count: int, as_of: int | None, deadline: Deadline
    ) -> Mapping[Timeframe, CandleAnswer | FusionTradeError]:
        """Return the newest ``count`` finished bars of each timeframe, or why there are none."""
        ...


@dataclass(frozen=True)
class Market:
    """The candles that answered, and what the reader should know about them."""

    answers: Mapping[Timeframe, CandleAnswer]
    warnings: tuple[str, ...]

    @property
    def newest(self) -> CandleAnswer:
        """The answer whose newest bar is the newest of all."""
        return max(self.answers.values(), key=lambda answer: int(answer.frame.close_time[-1]))

    def is_stale(self, symbol: Symbol) -> bool:
        """Whether the newest bar of all is older than the market's hours explain, whichever timeframes are missing."""
        newest = self.newest
        return newest.stale or is_outlived(int(newest.frame.close_time[-1]), symbol, newest.as_of)

    def of(self, items: Items) -> Market:
        """Return the market of the timeframes that the models answered for."""
        used = {timeframe: answer for timeframe, answer in self.answers.items() if timeframe in items}
        return Market(used, self.warnings)


def gather(candles: Candles, symbol: Symbol, as_of: int | None, deadline: Deadline) -> Market:
    """Return the candles of ``symbol`` that a forecast as of ``as_of`` (ms; None is now) needs.

    Raises
    ------
    InvalidInput, UnknownSymbol, ProviderUnavailable, BadCandles
        The weightiest failure where no timeframe has candles.
    """
    found = candles.many(symbol, INTRADAY, count=BARS_NEEDED, as_of=as_of, deadline=deadline)
    answers: dict[Timeframe, CandleAnswer] = {}
    failures: dict[Timeframe, FusionTradeError] = {}
    for timeframe in INTRADAY:
        answer = found[timeframe]
        if isinstance(answer, FusionTradeError):
            failures[timeframe] = answer
        elif not len(answer.frame):
            failures[timeframe] = ProviderUnavailable(f"{symbol} {timeframe}: the market data source has no bars")
        else:
            answers[timeframe] = answer
    if not answers:
        raise _weightiest(failures.values(), as_of)
    warnings = [text for answer in answers.values() for text in answer.warnings]
    warnings += [f"{timeframe} is left out: {error}" for timeframe, error in failures.items()]
    return Market(answers, tuple(warnings))


def _weightiest(failures: Iterable[FusionTradeError], as_of: int | None) -> FusionTradeError:
    """Return the failure to answer with: an outage before bad bars before what the caller could change."""
    ranked: tuple[type[FusionTradeError], ...] = (Unavailable, BadCandles, InvalidInput, FusionTradeError)
    worst = min(failures, key=lambda error: next(rank for rank, kind in enumerate(ranked) if isinstance(error, kind)))
    if isinstance(worst, InvalidInput) and as_of is None:  # the caller chose no moment, so it is no fault of theirs
        return ProviderUnavailable(str(worst))
    return worst
