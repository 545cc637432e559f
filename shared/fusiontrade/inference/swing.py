"""What is said between the product and the serving container of daily stocks: bars out, a forecast for each back.

The body of a request is JSON with the content type `SWING`; the answer has the same number of items in the same order.
A stock that cannot be answered carries its own ``error`` and touches no other. Returns are fractions over 3, 5 and 10
sessions from the next open.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from fusiontrade.inference.contract import CandleColumns, ItemError, ModelReference

__all__ = ["DAILY_BARS_NEEDED", "HORIZONS", "SWING", "DailyItem", "StockForecast", "SwingRequest", "SwingResponse"]

SWING = "application/vnd.fusiontrade.swing+json"
"""The content type that tells daily bars from intraday ones before a body is read."""

DAILY_BARS_NEEDED = 600
"""Finished daily bars to send per stock."""

HORIZONS = (3, 5, 10)
"""Sessions, from the next open to the close of the last of them."""

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Returns = Annotated[tuple[float, ...], Field(min_length=len(HORIZONS), max_length=len(HORIZONS))]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DailyItem(_Message):
    """One stock with its finished daily bars, oldest first."""

    symbol: Annotated[str, Field(min_length=1, max_length=64)]
    candles: CandleColumns


class SwingRequest(_Message):
    """Body of ``POST /invocations`` for daily stocks."""

    items: Annotated[list[DailyItem], Field(min_length=1, max_length=256)]


class StockForecast(_Message):
    """The answer to one stock; only ``error`` is set where there is none.

    ``signal`` is the sign of the ensemble's 3-day return, HOLD with ``confidence`` 0 where ``veto``, the calibrated
    probability that the trade wins, is below the bundle's threshold, or the bundle ``abstains`` from the stock's
    universe. ``uncertainty`` is StockFormer's deviation; ``p10``, ``p50``, ``p90`` and ``attention`` (weights of
    stretches of the window, the oldest first) are TFT's.

    ``ranker`` is what the stock's place among the others of its universe in the request says. It is null where the
    bundle has no ranker, or none that knows the stock's universe; fewer stocks of the universe with the same newest
    session came in the request than the bundle needs (25); the stock's own newest bar is of another session; it has no
    bar on one in ten of the newest 504 sessions that the others traded on; it came twice with different bars; or the
    stocks' sessions do not fall together. The ensemble is then what both networks come to, and ``abstains`` is true if
    the bundle was proven with ranks.
    """

    symbol: str
    bar_close: int | None = None
    signal: Literal["BUY", "SELL", "HOLD"] | None = None
    confidence: Probability | None = None
    veto: Probability | None = None
    abstains: bool | None = None
    returns: Returns | None = None
    stockformer: Returns | None = None
    tft: Returns | None = None
    ranker: Returns | None = None
    uncertainty: Returns | None = None
    p10: Returns | None = None
    p50: Returns | None = None
    p90: Returns | None = None
    attention: tuple[Probability, ...] | None = None
    error: ItemError | None = None


class SwingResponse(_Message):
    """Answer of ``POST /invocations`` for daily stocks; ``encoder`` made the embeddings, null: there were none."""

    model: ModelReference
    encoder: ModelReference | None
    items: list[StockForecast]
