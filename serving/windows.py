"""One item on its way through the engine: its bars, where its features are, its answers.

Always true here: what is wrong with an item is noted in its `Window` and nowhere raised; what libraries say of a
failure stays in the log, the item's error names the kind of failure alone.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fusiontrade.inference.contract import (
    FUSED,
    ItemError,
    ItemForecast,
    LstmForecast,
    ModelKind,
    PatchTstForecast,
    SequenceForecast,
)
from fusiontrade.market.candles import CandleFrame
from serving.asked import Asked
from serving.card import ModelCard

__all__ = ["Forecast", "Inputs", "ModelFault", "Window", "failure", "told"]

_log = logging.getLogger(__name__)

_GRAVITY = ("timed_out", "model_failed", "too_few_bars", "no_model")

Inputs = dict[str, NDArray[np.float32]]
Forecast = LstmForecast | PatchTstForecast


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
        """Why kinds have no answer, in the order they were asked for whoever failed first."""
        found = [self.failures[kind] for kind in self.asked.models if kind in self.failures]
        return [*found, self.late] if self.late is not None else found


def failure(code: str, detail: str) -> ItemError:
    """Return the error ``code`` of an item."""
    return ItemError.model_validate({"code": code, "detail": detail})


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
        bar_close=None if frame is None else int(frame.time[-1]) + frame.timeframe.milliseconds,
        current_price=window.close,
        atr=window.atr,
        lstm=lstm if isinstance(lstm, LstmForecast) else None,
        patchtst=patchtst if isinstance(patchtst, PatchTstForecast) else None,
        beside={
            kind: answer
            for kind, answer in window.answers.items()
            if kind not in FUSED and isinstance(answer, SequenceForecast)
        },
        warnings=[
            *(fault.detail for fault in window.faults),
            *(window.warnings[kind] for kind in asked.models if kind in window.warnings),
        ],
    )
