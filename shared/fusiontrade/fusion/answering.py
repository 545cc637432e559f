"""From one symbol's candles to the items that the container is asked, and from its items to the published answer.

Always true here: no call is made; an answer is made of what the container said and of nothing else, and what it could
not say is named in a warning or, where it said nothing at all, an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from fusiontrade.clock import iso
from fusiontrade.errors import BadCandles, FusionTradeError, InferenceUnavailable, InvalidInput
from fusiontrade.fusion.agreement import fuse
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
from fusiontrade.fusion.gathering import Market
from fusiontrade.fusion.reasoning import reasoning_of
from fusiontrade.fusion.response import FusionResponse
from fusiontrade.fusion.targets import targets_of
from fusiontrade.inference.contract import BARS_NEEDED, CalibrationState, ForecastItem, ItemForecast
from fusiontrade.inference.wire import columns_of
from fusiontrade.market.rollover import in_rollover, rolls_over
from fusiontrade.market.symbols import Symbol
from fusiontrade.market.timeframes import Timeframe

if TYPE_CHECKING:
    from fusiontrade.market.source import CandleAnswer

__all__ = ["ROLLOVER_NOTE", "answered", "composed", "item_of", "said", "warned"]

ROLLOVER_NOTE = (
    "rollover hours: spreads widen from 16:00 to 19:00 New York, no model was trained or judged on entries then, "
    "and the direction of this forecast is unproven"
)


def item_of(symbol: Symbol, timeframe: Timeframe, answer: CandleAnswer, state: CalibrationState | None) -> ForecastItem:
    """Return what the container is asked about one timeframe."""
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


def answered(items: Sequence[ItemForecast], as_of: int | None) -> Items:
    """Return the items that have an answer; raises the error of a symbol none of whose items has one."""
    found = {item.timeframe: item for item in items if item.error is None}
    if not found:
        raise _unanswered(items, as_of)
    return found


def said(items: Iterable[ItemForecast]) -> list[str]:
    """Say what is missing from the items, in the container's words where it gave any."""
    return [warning for item in items for warning in _said(item)]


def composed(symbol: Symbol, market: Market, items: Items, warnings: Sequence[str]) -> FusionResponse:
    """Return the answer for the candles of ``market`` and the container's ``items``.

    Raises
    ------
    InferenceUnavailable
        If the numbers cannot be: an error, not a guess.
    """
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
    except ValueError as error:
        raise InferenceUnavailable("the models answered with numbers that cannot be") from error


def warned(response: FusionResponse, warnings: Iterable[str]) -> FusionResponse:
    """Return the response with these warnings after its own, each said once."""
    return response.model_copy(update={"warnings": list(dict.fromkeys((*response.warnings, *warnings)))})


def _said(item: ItemForecast) -> Iterable[str]:
    if item.error:
        return [f"{item.timeframe} is left out: {item.error.detail}"]
    if item.warnings:
        return [f"{item.timeframe}: {warning}" for warning in item.warnings]
    missing = [name for name, model in (("LSTM", item.lstm), ("PatchTST", item.patchtst)) if model is None]
    return [f"{item.timeframe}: no {name} model answered" for name in missing]


def _unanswered(items: Sequence[ItemForecast], as_of: int | None) -> FusionTradeError:
    """Return the error of a symbol none of whose items was answered."""
    errors = [item.error for item in items if item.error]
    told = "; ".join(f"{item.timeframe} {item.error.detail}" for item in items if item.error)
    codes = {error.code for error in errors}
    if codes == {"too_few_bars"} and as_of is not None:
        return InvalidInput("query/as_of", f"too little history before {iso(as_of)} for a forecast: {told}")
    if codes == {"bad_candles"}:
        return BadCandles([error.detail for error in errors])
    return InferenceUnavailable(f"no timeframe could be forecast: {told}")


def _unproven_hours(symbol: Symbol, newest: CandleAnswer) -> list[str]:
    """Say that no model was trained or judged on entries at rollover, where this is one."""
    if rolls_over(symbol) and in_rollover(newest.frame.close_time[-1:])[0]:
        return [ROLLOVER_NOTE]
    return []
