"""Fused forecasts, from symbols to published answers, within one deadline.

Always true here: candles of all four timeframes are asked for at once, the container once, for one symbol or for
many; a timeframe that fails is ``N/A`` with a warning that names it, and only when all fail is their error the answer.
Nothing younger than ``as_of`` is looked at. News and analyst are one call each, last, and never fail the forecast.
Forecasts of the present learn from the outcomes of earlier ones how wide their intervals and how high their
probabilities have to be, and are written to the journal before anyone can know their own; those of a past moment
neither read nor leave anything, so they are the same whenever they are asked for.

The forecast itself is pure (`agreement`, `targets`, `compose`, `answering`); this module is where the calls are made.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import TypeVar

from fusiontrade.clock import Clock, iso, parse_iso, system_clock
from fusiontrade.deadline import Deadline
from fusiontrade.errors import FusionTradeError, InvalidInput
from fusiontrade.fusion.answering import ROLLOVER_NOTE, answered, composed, item_of, said, warned
from fusiontrade.fusion.calibration_keeping import Learned, OnlineCalibration
from fusiontrade.fusion.gathering import Candles, Market, gather
from fusiontrade.fusion.ports import (
    Analyst,
    CalibrationStates,
    Degraded,
    Forecast,
    ForecastJournal,
    NoAnalyst,
    NoJournal,
    NoSentiment,
    Sentiment,
)
from fusiontrade.fusion.response import FusionResponse
from fusiontrade.inference.client import InferenceClient
from fusiontrade.inference.contract import ForecastItem, ForecastRequest, ItemForecast
from fusiontrade.market.symbols import Symbol, parse_symbol

__all__ = ["ROLLOVER_NOTE", "Candles", "FusionService", "instant_of"]

BUDGET_SECONDS = 25.0
MODELS_SECONDS = 5.0
MODELS_SHARE = 0.25
MOST_SYMBOLS = 40
NEVER_JOURNALED = "journal=true had no effect: a forecast of a past moment is never journaled"
_AT_ONCE = 8  # symbols of a batch that candles and states are fetched of at the same time

T = TypeVar("T")
A = TypeVar("A")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Question:
    """One symbol, ready to ask the models about."""

    symbol: Symbol
    market: Market
    learned: Learned

    @property
    def items(self) -> list[ForecastItem]:
        return [
            item_of(self.symbol, timeframe, answer, self.learned.to_send.get(timeframe))
            for timeframe, answer in self.market.answers.items()
        ]


class FusionService:
    """Answers what the models, agreed over four timeframes, say about a symbol.

    Parameters
    ----------
    candles
        Where bars come from.
    inference
        The client of the serving container.
    sentiment, analyst
        The news and the language model; by default neither is configured.
    calibration
        Where it is kept what outcomes taught; by default nowhere: each forecast is corrected by its bundle's own.
    journal
        Where forecasts of the present are written; by default nowhere.
    degraded
        Who knows which models have become worse, for a warning; by default nobody.
    clock
        The present instant, ms; an ``as_of`` after it is refused.
    budget_seconds
        Time for one answer where the caller sets no deadline.
    """

    def __init__(
        self,
        candles: Candles,
        inference: InferenceClient,
        *,
        sentiment: Sentiment | None = None,
        analyst: Analyst | None = None,
        calibration: CalibrationStates | None = None,
        journal: ForecastJournal | None = None,
        degraded: Degraded | None = None,
        clock: Clock = system_clock,
        budget_seconds: float = BUDGET_SECONDS,
    ) -> None:
        self._candles = candles
        self._inference = inference
        self._sentiment = sentiment or NoSentiment()
        self._analyst = analyst or NoAnalyst()
        self._calibration = OnlineCalibration(calibration)
        self._journal = journal or NoJournal()
        self._degraded = degraded
        self._clock = clock
        self._budget_seconds = budget_seconds

    def fused(
        self,
        symbol: str,
        *,
        include_sentiment: bool = True,
        include_llm: bool = False,
        as_of: str | None = None,
        journal_for: str | None = None,
        deadline: Deadline | None = None,
        field: str = "path/symbol",
    ) -> FusionResponse:
        """Return the fused forecast of ``symbol``.

        Parameters
        ----------
        symbol
            Yahoo's or an exchange's notation; ``field`` says where it came from, for the error.
        include_sentiment, include_llm
            Whether news and analyst are asked.
        as_of
            ISO-8601 instant with a zone: answered as it would have been then, and never journaled.
        journal_for
            The user whose journal the forecast is written to as well.
        deadline
            Seconds for everything together.

        Raises
        ------
        InvalidInput
            If the symbol is malformed, or ``as_of`` is, lies in the future, or before the history of every timeframe.
        UnknownSymbol
            If no source knows the symbol.
        ProviderUnavailable
            If no timeframe has candles in time.
        BadCandles
            If the bars of every timeframe break their own rules.
        InferenceUnavailable
            If the container does not answer in time, or no model answers.
        StateUnavailable
            If the user's own entry cannot be written.
        """
        deadline = deadline or Deadline.after(self._budget_seconds)
        parsed = parse_symbol(symbol, field=field)
        instant = None if as_of is None else instant_of(as_of, now=self._clock())
        question = self._question(parsed, instant, deadline)
        told = self._inference.forecast(ForecastRequest(items=question.items), timeout=deadline.remaining())
        forecast = self._forecast(question, told.items, instant, deadline)
        if instant is None:
            journaled = self._journal.note(forecast, user_id=journal_for, deadline=deadline)
        else:
            journaled = (NEVER_JOURNALED,) if journal_for else ()
        response = forecast.response
        if include_sentiment:
            response = self._with_sentiment(response, parsed, deadline)
        if include_llm:
            response = self._with_analysis(response, parsed, deadline)
        return warned(response, journaled)

    def many(
        self, symbols: Sequence[str], *, deadline: Deadline, field: str = "symbols"
    ) -> dict[str, Forecast | FusionTradeError]:
        """Return the forecast of each symbol now, or why there is none; the container is asked once for all.

        Neither news nor analyst is asked, and nothing is journaled: that is the caller's, who may have to know whether
        it was. One symbol's trouble is its own; the container's is everybody's who got as far.

        Parameters
        ----------
        symbols
            At most `MOST_SYMBOLS`: the candles of so many fit one request.

        Raises
        ------
        ValueError
            If there are more.
        """
        if len(symbols) > MOST_SYMBOLS:
            raise ValueError(f"the candles of {len(symbols)} symbols fit no request: ask for {MOST_SYMBOLS} at a time")
        done: dict[str, Forecast | FusionTradeError] = {}
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fusion") as pool:
            ready = _sorted_out(
                done,
                _each(pool, symbols, lambda text: self._question(parse_symbol(text, field=field), None, deadline)),
            )
            if not ready:
                return done
            items = [item for question in ready.values() for item in question.items]
            try:
                told = iter(self._inference.forecast(ForecastRequest(items=items), timeout=deadline.remaining()).items)
            except FusionTradeError as error:
                return done | dict.fromkeys(ready, error)
            parts = {text: [next(told) for _ in question.market.answers] for text, question in ready.items()}
            done |= _each(pool, list(ready), lambda text: self._forecast(ready[text], parts[text], None, deadline))
        return done

    def _question(self, symbol: Symbol, as_of: int | None, deadline: Deadline) -> _Question:
        left = deadline.remaining()
        for_candles = deadline.within(left - min(MODELS_SECONDS, left * MODELS_SHARE))
        market = gather(self._candles, symbol, as_of, for_candles)
        return _Question(symbol, market, Learned() if as_of is not None else self._learned(symbol, market, deadline))

    def _learned(self, symbol: Symbol, market: Market, deadline: Deadline) -> Learned:
        frames = {timeframe: answer.frame for timeframe, answer in market.answers.items()}
        return self._calibration.learned(symbol, frames, market.newest.source, deadline=deadline)

    def _forecast(
        self, question: _Question, told: Sequence[ItemForecast], as_of: int | None, deadline: Deadline
    ) -> Forecast:
        symbol, learned = question.symbol, question.learned
        items = answered(told, as_of)
        kept = self._calibration.keep(symbol, learned, items, deadline=deadline)
        market = question.market.of(items)
        warnings = (*market.warnings, *said(told), *learned.warnings, *kept)
        response = composed(symbol, market, items, warnings)
        if self._degraded is not None and as_of is None:
            response = warned(response, self._degraded.notes((model.id, model.version) for model in response.models))
        return Forecast(symbol, response, market.is_stale(symbol))

    def _with_sentiment(self, response: FusionResponse, symbol: Symbol, deadline: Deadline) -> FusionResponse:
        news = self._sentiment.read(symbol, as_of=parse_iso(response.as_of), deadline=deadline)
        return warned(response.model_copy(update={"sentiment": news.block}), news.warnings)

    def _with_analysis(self, response: FusionResponse, symbol: Symbol, deadline: Deadline) -> FusionResponse:
        analysis = self._analyst.analyse(symbol, response, deadline=deadline)
        return warned(response.model_copy(update={"llm_analysis": analysis.block}), analysis.warnings)


def instant_of(text: str, *, now: int, field: str = "query/as_of") -> int:
    """Return the past instant that ``text`` names, ms since 1970-01-01 UTC.

    Raises
    ------
    InvalidInput
        If it is no ISO-8601 instant with a zone, lies after ``now`` or before 1970.
    """
    try:
        instant = parse_iso(text)
    except (ValueError, OverflowError):
        raise InvalidInput(
            field,
            f"{text[:40]!r} is no instant: write ISO-8601 with a zone, e.g. 2025-07-31T12:00:00Z (in a URL, + is %2B)",
        ) from None
    if instant > now:
        raise InvalidInput(field, f"{text[:40]} lies in the future; it is {iso(now)}")
    if instant < 0:
        raise InvalidInput(field, "the instant lies before 1970, where no history reaches")
    return instant


def _each(pool: ThreadPoolExecutor, names: Sequence[str], work: Callable[[str], T]) -> dict[str, T | FusionTradeError]:
    """Return what ``work`` makes of each name, or its error, all at the same time."""
    futures = {name: pool.submit(copy_context().run, _caught, work, name) for name in names}
    return {name: future.result() for name, future in futures.items()}


def _caught(work: Callable[[str], T], name: str) -> T | FusionTradeError:
    try:
        return work(name)
    except FusionTradeError as error:
        return error
    except Exception:  # a fault of ours with one symbol is no reason to lose the others
        logger.exception("the forecast of %s failed", name)
        return FusionTradeError("something went wrong on our side")


def _sorted_out(done: dict[str, A | FusionTradeError], found: Mapping[str, T | FusionTradeError]) -> dict[str, T]:
    """Put the errors among ``found`` into ``done`` and return the others."""
    done.update({name: each for name, each in found.items() if isinstance(each, FusionTradeError)})
    return {name: each for name, each in found.items() if not isinstance(each, FusionTradeError)}
