"""One item on its way through the engine: its bars checked, its features computed, its answers collected.

Always true here: what is wrong with an item is noted in its `Window` and nowhere raised; what libraries say of a
failure stays in the log, the item's error names the kind of failure alone.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fusiontrade.errors import BadCandles
from fusiontrade.inference.contract import (
    ItemError,
    ItemForecast,
    LstmForecast,
    ModelKind,
    PatchTstForecast,
)
from fusiontrade.market.candles import CandleFrame
from serving.asked import Asked
from serving.card import ModelCard
from serving.features import (
    BARS_NEEDED,
    PATCHTST_BARS_NEEDED,
    WINDOW,
    atr,
    lstm_inputs,
    patchtst_inputs,
    usual_week,
    volatility_columns,
)
from serving.markets import row_of

__all__ = ["KINDS", "Forecast", "Inputs", "ModelFault", "Window", "failure", "opened", "prepare", "told"]

_log = logging.getLogger(__name__)

KINDS: tuple[ModelKind, ...] = ("lstm", "patchtst")
_BARS: dict[ModelKind, int] = {"lstm": BARS_NEEDED, "patchtst": PATCHTST_BARS_NEEDED}
_LAST_INSTANT = 4_102_444_800_000  # 2100-01-01: calendars end somewhere
_LEAST_PRICE, _MOST_PRICE = 1e-15, 1e15  # beyond what is traded; the square of none overflows or vanishes
_GRAVITY = ("timed_out", "model_failed", "too_few_bars", "no_model")

Inputs = dict[str, NDArray[np.float32]]
Forecast = LstmForecast | PatchTstForecast
_Season = tuple[tuple[float, ...], bool]


class ModelFault(Exception):
    """A model did not answer as it must; the message is ours and may be told."""


@dataclass(eq=False)
class Window:
    """One item: what was read from it, and what has been answered so far.

    Parameters
    ----------
    asked
        The item.
    frame
        Its checked newest bars, None where ``error`` says why there are none.
    close, atr
        Of the newest bar, in the quote currency.
    inputs
        By kind: what its graph takes, (1, ...) each, not scaled yet.
    late
        Why there is no answer of the kinds that neither answered nor failed.
    abandoned
        Nobody waits for the answer any more.
    """

    asked: Asked
    frame: CandleFrame | None = None
    close: float = float("nan")
    atr: float = float("nan")
    error: ItemError | None = None
    inputs: dict[ModelKind, Inputs] = field(default_factory=dict)
    activity: dict[_Season, NDArray[np.float32]] = field(default_factory=dict)
    answers: dict[ModelKind, Forecast] = field(default_factory=dict)
    failures: dict[ModelKind, ItemError] = field(default_factory=dict)
    warnings: dict[ModelKind, str] = field(default_factory=dict)
    late: ItemError | None = None
    abandoned: bool = False

    def fail(self, card: ModelCard, error: Exception) -> None:
        """Note that the bundle of ``card`` has no answer to this item, and log why."""
        symbol, timeframe = self.asked.symbol, self.asked.timeframe
        _log.error(
            "model failed",
            extra={"bundle": card.model_id, "symbol": symbol, "timeframe": timeframe, "reason": str(error)[:500]},
        )
        why = str(error) if isinstance(error, ModelFault) else type(error).__name__
        self.failures[card.kind] = failure("model_failed", f"{card.model_id} failed: {why}")

    @property
    def faults(self) -> list[ItemError]:
        """Why kinds have no answer, in the order of `KINDS` whoever failed first."""
        found = [self.failures[kind] for kind in KINDS if kind in self.failures]
        return [*found, self.late] if self.late is not None else found


def failure(code: str, detail: str) -> ItemError:
    """Return the error ``code`` of an item."""
    return ItemError.model_validate({"code": code, "detail": detail})


def opened(asked: Asked) -> Window:
    """Return the item with its checked bars, last close and ATR, or with its error."""
    if isinstance(asked.frame, ItemError):
        return Window(asked, error=asked.frame)
    try:
        frame = _checked(asked.frame)
    except BadCandles as error:
        return Window(asked, error=failure("bad_candles", str(error)))
    if len(frame) < min(_BARS.values()):
        return Window(asked, error=failure("too_few_bars", f"needs {max(_BARS.values())} bars, got {len(frame)}"))
    frame = frame.tail(max(_BARS.values()))
    return Window(asked, frame, close=float(frame.close[-1]), atr=float(atr(frame)[-1]))


def _checked(frame: CandleFrame) -> CandleFrame:
    frame = frame.checked()
    if len(frame) and not (frame.time[0] >= 0 and frame.time[-1] < _LAST_INSTANT):
        raise BadCandles(["open times must lie between 1970 and 2100, in ms since 1970-01-01 UTC"])
    if len(frame) and not (frame.low.min() >= _LEAST_PRICE and frame.high.max() <= _MOST_PRICE):
        raise BadCandles([f"prices must lie between {_LEAST_PRICE:g} and {_MOST_PRICE:g}"])
    return frame


def prepare(card: ModelCard, windows: Sequence[Window]) -> list[Window]:
    """Compute what the graph of ``card`` takes of each of ``windows``; return those of which that was possible."""
    return [window for window in windows if _prepared(card, window)]


def _prepared(card: ModelCard, window: Window) -> bool:
    frame = window.frame
    if frame is None or len(frame) < _BARS[card.kind]:
        have = 0 if frame is None else len(frame)
        detail = f"{card.model_id} needs {_BARS[card.kind]} bars, got {have}"
        window.failures[card.kind] = failure("too_few_bars", detail)
        return False
    try:
        window.inputs[card.kind] = _features(card, window, frame)
    except Exception as error:  # whatever these bars broke, the other items have to be answered
        window.fail(card, error)
        return False
    return True


def _features(card: ModelCard, window: Window, frame: CandleFrame) -> Inputs:
    volatility = _activity(card, window, frame)
    if card.kind == "lstm":
        features, calendar = lstm_inputs(frame)
        return {"features": features, "calendar": calendar, "volatility": volatility}
    candles, calendar = patchtst_inputs(frame)
    return {"candles": candles, "calendar": calendar, "volatility": volatility}


def _activity(card: ModelCard, window: Window, frame: CandleFrame) -> NDArray[np.float32]:
    """Return (1, V) volatility columns of the newest bar; bundles that know the same season share them."""
    asked = window.asked
    key = row_of(card.season, asked.symbol, asked.market), asked.symbol in card.season
    if key not in window.activity:
        usual = usual_week(card.season, frame, asked.market)
        window.activity[key] = volatility_columns(frame.tail(WINDOW), usual)[-1:]
    return window.activity[key]


def told(window: Window) -> ItemForecast:
    """Return the item's answer; an item that no model answered carries the gravest of its failures as error."""
    asked, error = window.asked, window.error
    if error is None and not window.answers:
        error = min(window.faults, key=lambda one: _GRAVITY.index(one.code))
    if error is not None:
        return ItemForecast(symbol=asked.symbol, timeframe=asked.timeframe, error=error)
    lstm, patchtst = window.answers.get("lstm"), window.answers.get("patchtst")
    frame = window.frame
    return ItemForecast(
        symbol=asked.symbol,
        timeframe=asked.timeframe,
        bar_close=None if frame is None else int(frame.close_time[-1]),
        current_price=window.close,
        atr=window.atr,
        lstm=lstm if isinstance(lstm, LstmForecast) else None,
        patchtst=patchtst if isinstance(patchtst, PatchTstForecast) else None,
        warnings=[
            *(fault.detail for fault in window.faults),
            *(window.warnings[kind] for kind in KINDS if kind in window.warnings),
        ],
    )
