"""One fused forecast, from a symbol to the published answer, within one deadline.

Always true here: candles of all four timeframes are asked for at once, the container once; a timeframe that fails is
``N/A`` with a warning that names it, and only when all fail is their error the answer. Nothing younger than ``as_of``
is looked at. News and analyst are one call each, last, and never fail the forecast. Forecasts of the present learn
from the outcomes of earlier ones how wide their intervals and how high their probabilities have to be; those of a past
moment neither read nor leave anything, so they are the same whenever they are asked for.

The forecast itself is pure (`agreement`, `targets`, `compose`); this module is where the calls are made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from fusiontrade.clock import Clock, iso, parse_iso, system_clock
from fusiontrade.deadline import Deadline
from fusiontrade.errors import (
    BadCandles,
    FusionTradeError,
    InferenceUnavailable,
    InvalidInput,
    ProviderUnavailable,
    Unavailable,
)
from fusiontrade.fusion.agreement import fuse
from fusiontrade.fusion.calibration_keeping import Learned, OnlineCalibration
from fusiontrade.fusion.compose import (
    Items,
    contradictions,
    logic_of,
    models_of,
    outlooks_of,
    targets_block,
    timeframes_block,
    views_of,
)
from fusiontrade.fusion.ports import Analyst, CalibrationStates, NoAnalyst, NoSentiment, Sentiment
from fusiontrade.fusion.reasoning import reasoning_of
from fusiontrade.fusion.response import FusionResponse
from fusiontrade.fusion.targets import targets_of
from fusiontrade.inference.client import InferenceClient
from fusiontrade.inference.contract import (
    BARS_NEEDED,
    CalibrationState,
    ForecastItem,
    ForecastRequest,
    ItemForecast,
)
from fusiontrade.inference.wire import columns_of
from fusiontrade.market.rollover import in_rollover, rolls_over
from fusiontrade.market.symbols import Symbol, parse_symbol
from fusiontrade.market.timeframes import INTRADAY, Timeframe

if TYPE_CHECKING:
    from fusiontrade.market.source import CandleAnswer

__all__ = ["Candles", "FusionService", "instant_of"]

BUDGET_SECONDS = 25.0
MODELS_SECONDS = 5.0
MODELS_SHARE = 0.25
ROLLOVER_NOTE = (
    "rollover hours: spreads widen from 16:00 to 19:00 New York, no model was trained or judged on entries then, "
    "and the direction of this forecast is unproven"
)


class Candles(Protocol):
    """The part of `fusiontrade.market.source.CandleSource` that the fusion needs."""

    def many(
        self, symbol: Symbol, timeframes: Sequence[Timeframe], *, count: int, as_of: int | None, deadline: Deadline
    ) -> Mapping[Timeframe, CandleAnswer | FusionTradeError]:
        """Return the newest ``count`` finished bars of each timeframe, or why there are none."""
        ...


@dataclass(frozen=True)
class _Market:
    """The candles that answered, and what the reader should know about them."""

    answers: Mapping[Timeframe, CandleAnswer]
    warnings: tuple[str, ...]

    @property
    def newest(self) -> CandleAnswer:
        return max(self.answers.values(), key=lambda answer: int(answer.frame.close_time[-1]))

    def of(self, items: Items) -> _Market:
        """Return the market of the timeframes that the models answered for."""
        used = {timeframe: answer for timeframe, answer in self.answers.items() if timeframe in items}
        return _Market(used, self.warnings)


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
        clock: Clock = system_clock,
        budget_seconds: float = BUDGET_SECONDS,
    ) -> None:
        self._candles = candles
        self._inference = inference
        self._sentiment = sentiment or NoSentiment()
        self._analyst = analyst or NoAnalyst()
        self._calibration = OnlineCalibration(calibration)
        self._clock = clock
        self._budget_seconds = budget_seconds

    def fused(
        self,
        symbol: str,
        *,
        include_sentiment: bool = True,
        include_llm: bool = False,
        as_of: str | None = None,
        deadline: Deadline | None = None,
        field: str = "path/symbol",
        notes: Sequence[str] = (),
    ) -> FusionResponse:
        """Return the fused forecast of ``symbol``.

        Parameters
        ----------
        symbol
            Yahoo's or an exchange's notation; ``field`` says where it came from, for the error.
        include_sentiment, include_llm
            Whether news and analyst are asked.
        as_of
            ISO-8601 instant with a zone: answered as it would have been then.
        deadline
            Seconds for everything together.
        notes
            Warnings of the caller's own, shown after ours.

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
        """
        deadline = deadline or Deadline.after(self._budget_seconds)
        parsed = parse_symbol(symbol, field=field)
        instant = None if as_of is None else instant_of(as_of, now=self._clock())
        market = self._market(parsed, instant, deadline)
        items, warnings = self._forecasts(parsed, market, instant, deadline)
        response = _composed(parsed, market.of(items), items, (*market.warnings, *warnings))
        if include_sentiment:
            response = self._with_sentiment(response, parsed, deadline)
        if include_llm:
            response = self._with_analysis(response, parsed, deadline)
        return _warned(response, notes)

    def _market(self, symbol: Symbol, as_of: int | None, deadline: Deadline) -> _Market:
        left = deadline.remaining()
        for_candles = deadline.within(left - min(MODELS_SECONDS, left * MODELS_SHARE))
        found = self._candles.many(symbol, INTRADAY, count=BARS_NEEDED, as_of=as_of, deadline=for_candles)
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
        return _Market(answers, tuple(warnings))

    def _forecasts(
        self, symbol: Symbol, market: _Market, as_of: int | None, deadline: Deadline
    ) -> tuple[Items, list[str]]:
        learned = Learned() if as_of is not None else self._learned(symbol, market, deadline)
        request = ForecastRequest(
            items=[
                _item(symbol, timeframe, answer, learned.to_send.get(timeframe))
                for timeframe, answer in market.answers.items()
            ]
        )
        response = self._inference.forecast(request, timeout=deadline.remaining())
        items = {item.timeframe: item for item in response.items if item.error is None}
        if not items:
            raise _unanswered(response.items, as_of)
        kept = self._calibration.keep(symbol, learned, items, deadline=deadline)
        said = [warning for item in response.items for warning in _said(item)]
        return items, [*said, *learned.warnings, *kept]

    def _learned(self, symbol: Symbol, market: _Market, deadline: Deadline) -> Learned:
        frames = {timeframe: answer.frame for timeframe, answer in market.answers.items()}
        return self._calibration.learned(symbol, frames, market.newest.source, deadline=deadline)

    def _with_sentiment(self, response: FusionResponse, symbol: Symbol, deadline: Deadline) -> FusionResponse:
        news = self._sentiment.read(symbol, as_of=parse_iso(response.as_of), deadline=deadline)
        return _warned(response.model_copy(update={"sentiment": news.block}), news.warnings)

    def _with_analysis(self, response: FusionResponse, symbol: Symbol, deadline: Deadline) -> FusionResponse:
        analysis = self._analyst.analyse(symbol, response, deadline=deadline)
        return _warned(response.model_copy(update={"llm_analysis": analysis.block}), analysis.warnings)


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


def _item(symbol: Symbol, timeframe: Timeframe, answer: CandleAnswer, state: CalibrationState | None) -> ForecastItem:
    frame = answer.frame.tail(BARS_NEEDED)
    if not symbol.has_volume:
        frame = frame.without_volume()
    return ForecastItem(
        symbol=symbol.code,
        timeframe=timeframe,
        candles=columns_of(frame),
        market=symbol.asset_class.value,
        state=state,
    )


def _said(item: ItemForecast) -> Iterable[str]:
    """Say what is missing from an item, in the container's words where it gave any."""
    if item.error:
        return [f"{item.timeframe} is left out: {item.error.detail}"]
    if item.warnings:
        return [f"{item.timeframe}: {warning}" for warning in item.warnings]
    missing = [name for name, model in (("LSTM", item.lstm), ("PatchTST", item.patchtst)) if model is None]
    return [f"{item.timeframe}: no {name} model answered" for name in missing]


def _unanswered(items: Sequence[ItemForecast], as_of: int | None) -> FusionTradeError:
    """Return the error of a request none of whose items was answered."""
    errors = [item.error for item in items if item.error]
    told = "; ".join(f"{item.timeframe} {item.error.detail}" for item in items if item.error)
    codes = {error.code for error in errors}
    if codes == {"too_few_bars"} and as_of is not None:
        return InvalidInput("query/as_of", f"too little history before {iso(as_of)} for a forecast: {told}")
    if codes == {"bad_candles"}:
        return BadCandles([error.detail for error in errors])
    return InferenceUnavailable(f"no timeframe could be forecast: {told}")


def _weightiest(failures: Iterable[FusionTradeError], as_of: int | None) -> FusionTradeError:
    """Return the failure to answer with: an outage before bad bars before what the caller could change."""
    ranked: tuple[type[FusionTradeError], ...] = (Unavailable, BadCandles, InvalidInput, FusionTradeError)
    worst = min(failures, key=lambda error: next(rank for rank, kind in enumerate(ranked) if isinstance(error, kind)))
    if isinstance(worst, InvalidInput) and as_of is None:  # the caller chose no moment, so it is no fault of theirs
        return ProviderUnavailable(str(worst))
    return worst


def _warned(response: FusionResponse, warnings: Iterable[str]) -> FusionResponse:
    """Return the response with these warnings after its own, each said once."""
    return response.model_copy(update={"warnings": list(dict.fromkeys((*response.warnings, *warnings)))})


def _unproven_hours(symbol: Symbol, newest: CandleAnswer) -> list[str]:
    """Say that no model was trained or judged on entries at rollover, where this is one."""
    if rolls_over(symbol) and in_rollover(newest.frame.close_time[-1:])[0]:
        return [ROLLOVER_NOTE]
    return []


def _composed(symbol: Symbol, market: _Market, items: Items, warnings: Sequence[str]) -> FusionResponse:
    newest = market.newest
    try:
        fusion = fuse(views_of(items))
        timeframes = timeframes_block(fusion, items)
        targets = targets_block(targets_of(fusion, outlooks_of(items), float(newest.frame.close[-1])), items)
        return FusionResponse(
            symbol=symbol.code,
            master_fusion_score=fusion.score,
            verdict=fusion.text,
            logic=logic_of(fusion),
            timeframes=timeframes,
            targets=targets,
            reasoning=reasoning_of(symbol.code, fusion, timeframes, targets),
            sentiment=None,
            llm_analysis=None,
            as_of=iso(int(newest.frame.close_time[-1])),
            market_open=newest.market_open,
            data_source=newest.source,
            models=models_of(items),
            warnings=[*warnings, *_unproven_hours(symbol, newest), *fusion.warnings, *contradictions(fusion, items)],
        )
    except ValueError as error:  # what the models answered breaks the rules of the answer: an error, not a guess
        raise InferenceUnavailable("the models answered with numbers that cannot be") from error
