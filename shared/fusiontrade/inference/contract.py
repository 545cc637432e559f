"""What is said between the product and the serving container: one request, one answer.

A request carries the candles of any number of symbols and timeframes; the container computes features, runs the
models, calibrates, and answers item by item. An item that cannot be answered carries its own ``error`` and never
touches the others. Times are ms since 1970-01-01 UTC, prices in the quote currency, probabilities in [0, 1].
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from fusiontrade.inference.intervals import NARROWEST, WIDEST
from fusiontrade.inference.probabilities import FARTHEST, SHARPEST, STEEPEST
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe

__all__ = [
    "BARS_NEEDED",
    "CHANCES",
    "FUSED",
    "MOST_SAMPLES",
    "SEQUENCE_KINDS",
    "TOUCH_LEVELS",
    "Bends",
    "CalibrationState",
    "CandleColumns",
    "ForecastItem",
    "ForecastRequest",
    "ForecastResponse",
    "IntervalSide",
    "ItemError",
    "ItemForecast",
    "Leans",
    "LstmForecast",
    "Market",
    "ModelKind",
    "ModelReference",
    "Offsets",
    "PatchTstForecast",
    "SequenceForecast",
    "Slopes",
    "Uncertainty",
]

TOUCH_LEVELS: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0, 4.0)
"""Distances, in ATR(14) from the last close, whose touch within the horizon is forecast on each side."""

BARS_NEEDED = 720
"""Bars to send per item: the feature window (600) and the sequence before it (59 LSTM, 119 PatchTST), with a margin."""

ModelKind = Literal["lstm", "patchtst", "gru", "cnn", "transformer"]
FUSED: tuple[ModelKind, ...] = ("lstm", "patchtst")
"""The kinds that are fused: asked where an item names none."""
SEQUENCE_KINDS: tuple[ModelKind, ...] = ("lstm", "gru", "cnn", "transformer")
"""The kinds that take 60 bars of indicators and answer what an LSTM answers."""
MOST_SAMPLES = 256
"""Thinned networks that may be asked for an uncertainty: more change its figures by less than a hundredth."""
Market = Literal["fx", "metal", "crypto", "equity"]
"""Kind of market, as `fusiontrade.market.symbols.AssetClass` names it: which hours of the week are usually busy."""
CHANCES = 3 * len(TOUCH_LEVELS) + 2
"""Probabilities an LSTM gives of its horizon: the touches above, below, on either side, a long's win, a short's."""
IntervalSide = Annotated[FiniteFloat, Field(ge=NARROWEST, le=WIDEST)]
Offsets = Annotated[
    tuple[Annotated[FiniteFloat, Field(ge=-FARTHEST, le=FARTHEST)], ...], Field(min_length=CHANCES, max_length=CHANCES)
]
Slopes = Annotated[
    tuple[Annotated[FiniteFloat, Field(ge=-STEEPEST, le=STEEPEST)], ...],
    Field(min_length=CHANCES, max_length=CHANCES),
]
Bends = Annotated[
    tuple[Annotated[FiniteFloat, Field(ge=-SHARPEST, le=SHARPEST)], ...],
    Field(min_length=CHANCES, max_length=CHANCES),
]
Leans = Annotated[tuple[FiniteFloat, ...], Field(min_length=CHANCES, max_length=CHANCES)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
_Instants = Annotated[list[int], Field(fail_fast=True)]  # a million wrong values are one fault
_Prices = Annotated[list[FiniteFloat], Field(fail_fast=True)]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CandleColumns(_Message):
    """Finished bars, oldest first, one list a column; ``volume`` is null where the market has no real one."""

    time: _Instants
    open: _Prices
    high: _Prices
    low: _Prices
    close: _Prices
    volume: _Prices | None = None

    @classmethod
    def of(cls, frame: CandleFrame) -> CandleColumns:
        """Return the columns of ``frame``."""
        return cls(
            time=frame.time.tolist(),
            open=frame.open.tolist(),
            high=frame.high.tolist(),
            low=frame.low.tolist(),
            close=frame.close.tolist(),
            volume=None if frame.volume is None else frame.volume.tolist(),
        )


class CalibrationState(_Message):
    """How far the forecasts of one symbol, timeframe and bundle have to be moved, learned from their outcomes.

    ``lower`` and ``upper`` are added below and above the raw interval, as shares of its width (negative narrows it),
    within the ends that `fusiontrade.inference.intervals` sets: beyond them bounds could cross. ``offsets``, ``slopes``
    and ``bends`` move the logits of the `CHANCES` probabilities as `fusiontrade.inference.probabilities` says, in the
    order of `LstmForecast.chances`.
    ``revision`` counts the next-bar outcomes since the bundle was made, 0 is the bundle's own state; ``as_of`` is the
    close of the newest outcome in it, ms. It holds for the bundle of ``version`` alone, and
    for bars that reach as far as it does: with others the bundle's own is used.
    """

    version: str
    lower: IntervalSide
    upper: IntervalSide
    offsets: Offsets
    slopes: Slopes
    bends: Bends = (0.0,) * CHANCES
    revision: Annotated[int, Field(ge=0)]
    as_of: int


class ForecastItem(_Message):
    """One symbol on one timeframe; ``state`` None asks for the answer with the bundle's own state.

    ``models`` are the kinds that shall answer; ``samples`` is how often those that sample their dropout do so, None:
    as often as their bundles say.
    """

    symbol: Annotated[str, Field(min_length=1, max_length=64)]
    timeframe: Timeframe
    candles: CandleColumns
    market: Market | None = None
    state: CalibrationState | None = None
    models: Annotated[tuple[ModelKind, ...], Field(min_length=1, max_length=8)] = FUSED
    samples: Annotated[int, Field(ge=1, le=MOST_SAMPLES)] | None = None

    def frame(self) -> CandleFrame:
        """Return the bars as a checked frame; raises `fusiontrade.errors.BadCandles`."""
        columns = self.candles
        volume = None if columns.volume is None else np.asarray(columns.volume, np.float64)
        return CandleFrame(
            self.symbol,
            self.timeframe,
            np.asarray(columns.time, np.int64),
            np.asarray(columns.open, np.float64),
            np.asarray(columns.high, np.float64),
            np.asarray(columns.low, np.float64),
            np.asarray(columns.close, np.float64),
            volume,
        ).checked()


class ForecastRequest(_Message):
    """Body of ``POST /invocations``; the answer has the same number of items in the same order."""

    items: Annotated[list[ForecastItem], Field(min_length=1, max_length=512)]


class ModelReference(_Message):
    """The bundle that answered."""

    id: str
    version: str


class LstmForecast(_Message):
    """Calibrated answer of an LSTM bundle for the bar after the newest one given.

    ``abstain_below``/``abstain_above`` bound the band of ``probability_up`` inside which the direction head abstains;
    ``change_scale`` is the 95th percentile of |predicted change| on the calibration slice, in the unit of ``change``
    (ATR); ``direction_accuracy`` is the measured hold-out accuracy of the votes in percent, null where the symbol
    never gets one. ``interval_raw`` are the 5 % and 95 % quantiles of the next close as the model gives them,
    ``interval_90`` the same corrected by ``state``, by which the touch and win probabilities are moved too;
    ``leans`` are the logits these had before, less what is usual for each.
    """

    model: ModelReference
    probability_up: Probability
    abstain_below: Probability
    abstain_above: Probability
    direction_accuracy: float | None
    change: float
    change_scale: Annotated[float, Field(gt=0)]
    predicted_price: float
    interval_90: tuple[float, float]
    interval_raw: tuple[float, float]
    state: CalibrationState
    horizon_bars: Annotated[int, Field(ge=1)]
    expected_range: float
    touch_up: Annotated[list[Probability], Field(min_length=len(TOUCH_LEVELS), max_length=len(TOUCH_LEVELS))]
    touch_down: Annotated[list[Probability], Field(min_length=len(TOUCH_LEVELS), max_length=len(TOUCH_LEVELS))]
    touch_either: Annotated[list[Probability], Field(min_length=len(TOUCH_LEVELS), max_length=len(TOUCH_LEVELS))]
    win_long: Probability
    win_short: Probability
    leans: Leans

    @property
    def chances(self) -> tuple[float, ...]:
        """The `CHANCES` probabilities of the horizon: touches above, below, on either side, a long's win, a short's."""
        return (*self.touch_up, *self.touch_down, *self.touch_either, self.win_long, self.win_short)


class Uncertainty(_Message):
    """What Monte-Carlo dropout says of probabilities: ``mean`` and ``std`` over the samples, ``entropy`` in nats.

    ``entropy`` is that of the mean. Direction first, then the `CHANCES` of the horizon; calibrated, not moved by any
    state.
    """

    samples: Annotated[int, Field(ge=1)]
    mean: Annotated[tuple[Probability, ...], Field(min_length=1 + CHANCES, max_length=1 + CHANCES)]
    std: Annotated[
        tuple[Annotated[FiniteFloat, Field(ge=0)], ...], Field(min_length=1 + CHANCES, max_length=1 + CHANCES)
    ]
    entropy: Annotated[
        tuple[Annotated[FiniteFloat, Field(ge=0)], ...], Field(min_length=1 + CHANCES, max_length=1 + CHANCES)
    ]


class SequenceForecast(LstmForecast):
    """Calibrated answer of a GRU, CNN or Transformer bundle; ``uncertainty`` where its dropout was sampled."""

    uncertainty: Uncertainty | None = None


class PatchTstForecast(_Message):
    """Calibrated class probabilities of a PatchTST bundle; they sum to 1.

    ``abstains`` where the bundle's direction is unproven: its probabilities stand, and it votes for nothing.
    """

    model: ModelReference
    up: Probability
    flat: Probability
    down: Probability
    abstains: bool


class ItemError(_Message):
    """Why an item has no answer."""

    code: Literal["bad_candles", "too_few_bars", "no_model", "model_failed", "timed_out"]
    detail: str


class ItemForecast(_Message):
    """The answer to one item; a model that is missing or failed is null and ``warnings`` says why.

    ``beside`` are the answers of kinds that are not fused.
    """

    symbol: str
    timeframe: Timeframe
    bar_close: int | None = None
    current_price: float | None = None
    atr: float | None = None
    lstm: LstmForecast | None = None
    patchtst: PatchTstForecast | None = None
    beside: dict[ModelKind, SequenceForecast] = {}
    warnings: list[str] = []
    error: ItemError | None = None


class ForecastResponse(_Message):
    """Answer of ``POST /invocations``."""

    items: list[ItemForecast]
