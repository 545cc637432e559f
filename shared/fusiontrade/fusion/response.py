"""The published answer of the fusion: names, nulls and numbers exactly as clients already use them.

Always true of a `FusionResponse`: all four timeframes are there, every number is finite, a model that did not answer
is ``N/A`` with nulls, instants are ISO-8601 UTC with ``Z``. Fields may be added, never renamed.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from fusiontrade.fusion.examples import FUSION_EXAMPLE
from fusiontrade.market.timeframes import Timeframe

__all__ = [
    "FusionResponse",
    "Headline",
    "KeyLevels",
    "LLMAnalysisBlock",
    "Logic",
    "ModelUsed",
    "SentimentBlock",
    "TargetsBlock",
    "TimeframeBlock",
    "TimeframesBlock",
    "TokenUsage",
    "TouchBlock",
    "TouchLevels",
]

SignalName = Literal["BUY", "SELL", "HOLD", "N/A"]
VerdictText = Literal[
    "STRONG BUY", "MODERATE BUY", "WEAK BUY", "STRONG SELL", "MODERATE SELL", "WEAK SELL", "HOLD", "DIVERGENT (HOLD)"
]  # fmt: skip
Instant = Annotated[str, Field(pattern=r"Z$", json_schema_extra={"format": "date-time"})]
Probability = Annotated[FiniteFloat, Field(ge=0.0, le=1.0)]
Positive = Annotated[FiniteFloat, Field(gt=0.0)]


class _Block(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False)


class Logic(_Block):
    """The sign of each model's weighted vote, and whether both point in one direction."""

    primary_lstm: SignalName
    secondary_patchtst: SignalName
    confluence: bool


class TouchLevels(_Block):
    """Calibrated chance that price touches so many ATR away within the horizon; never rises with the distance."""

    one: Probability = Field(alias="1")
    one_and_a_half: Probability = Field(alias="1.5")
    two: Probability = Field(alias="2")
    three: Probability = Field(alias="3")
    four: Probability = Field(alias="4")


class TouchBlock(_Block):
    """Touch probabilities above and below the last close."""

    up: TouchLevels
    down: TouchLevels


class TimeframeBlock(_Block):
    """What the models say about one timeframe; nulls where a model, or the market data, is missing."""

    lstm: SignalName
    patchtst: SignalName = Field(
        description="the likeliest class; HOLD too where the model's direction is unproven, whatever its probabilities"
    )
    agreement: Annotated[
        FiniteFloat, Field(ge=0, le=1, description="1.0 same direction, 0.5 one missing or HOLD, 0.0 opposed")
    ]
    lstm_confidence: Probability | None = Field(description="predicted change against its usual size")
    lstm_direction_confidence: Probability | None = Field(description="the direction head's probability of a rise")
    lstm_direction_accuracy: Annotated[FiniteFloat, Field(ge=0, le=100)] | None = Field(
        description="of its votes, measured on untouched bars, in percent; null where it never votes on this symbol"
    )
    patchtst_confidence: Probability | None
    patchtst_prob_up: Probability | None
    patchtst_prob_flat: Probability | None
    patchtst_prob_down: Probability | None
    current_price: Positive | None = Field(description="close of the newest bar used")
    predicted_price: FiniteFloat | None = Field(description="forecast of the next bar's close")
    interval_90: tuple[FiniteFloat, FiniteFloat] | None = Field(description="90 % interval of the next bar's close")
    calibrated_prob_up: Probability | None = Field(description="the next bar closes above the last")
    atr: Positive | None = Field(description="ATR(14) of this timeframe, in price units")
    expected_range: FiniteFloat | None = Field(description="high minus low over the horizon, in price units")
    horizon_bars: Annotated[int, Field(ge=1)] | None
    bar_close: Instant | None = Field(description="close time of the newest bar used")
    touch: TouchBlock | None


class TimeframesBlock(_Block):
    """The four timeframes of the intraday fusion."""

    m15: TimeframeBlock = Field(alias="15m")
    m30: TimeframeBlock = Field(alias="30m")
    h1: TimeframeBlock = Field(alias="1h")
    h4: TimeframeBlock = Field(alias="4h")


class TargetsBlock(_Block):
    """Prices to act at; null without a direction. ``atr`` and ``touch`` stand on HOLD too."""

    tp1: FiniteFloat | None
    tp2: FiniteFloat | None
    tp3: FiniteFloat | None
    sl: FiniteFloat | None
    atr: Positive | None
    p_win: Probability | None = Field(description="chance that tp1 is touched before sl, before the horizon ends")
    horizon_bars: Annotated[int, Field(ge=1)] | None = Field(description="bars of `timeframe` until expiry")
    entry: Positive | None = Field(description="close of the newest finished bar, which the distances start from")
    timeframe: Timeframe | None = Field(description="the timeframe whose ATR sets the distances")
    touch: TouchBlock | None = Field(description="touch probabilities of that timeframe")


class ModelUsed(_Block):
    """One bundle that answered."""

    timeframe: Timeframe
    id: str
    version: str


class Headline(_Block):
    """One scored headline; text from a feed, shown as data."""

    title: str
    source: str
    url: str
    published_at: Instant
    score: Annotated[FiniteFloat, Field(ge=-1, le=1)]


class SentimentBlock(_Block):
    """What the news says about the symbol."""

    overall_sentiment: Literal["bullish", "bearish", "neutral"]
    overall_score: Annotated[FiniteFloat, Field(ge=-1, le=1)]
    trading_bias: Literal["BUY", "SELL", "HOLD"]
    bias_strength: Literal["weak", "moderate", "strong"]
    positive_count: Annotated[int, Field(ge=0)]
    negative_count: Annotated[int, Field(ge=0)]
    neutral_count: Annotated[int, Field(ge=0)]
    news_count: Annotated[int, Field(ge=0)]
    top_headlines: list[Headline]
    model: str
    as_of: Instant


class KeyLevels(_Block):
    """Prices the analyst named; null where it named none."""

    entry: FiniteFloat | None
    sl: FiniteFloat | None
    tp1: FiniteFloat | None


class TokenUsage(_Block):
    """What one analysis cost."""

    input_tokens: Annotated[int, Field(ge=0)]
    output_tokens: Annotated[int, Field(ge=0)]


class LLMAnalysisBlock(_Block):
    """The analyst's independent view, and whether it supports the fusion."""

    action: str
    confidence_level: Literal["low", "medium", "high"]
    independent_bias: str
    validates_fusion: bool
    divergence_reason: str | None
    market_structure: str
    news_impact: str
    entry_strategy: str
    key_levels: KeyLevels
    warnings: list[str]
    raw_response: str
    model: str
    usage: TokenUsage


class FusionResponse(_Block):
    """One fused forecast of a symbol over four timeframes."""

    model_config = ConfigDict(json_schema_extra={"examples": [FUSION_EXAMPLE]})

    symbol: str
    master_fusion_score: Annotated[FiniteFloat, Field(ge=0, le=100)] = Field(
        description="55 plus what the timeframes that vote for the direction add by confidence, agreement and weight; "
        "30 without a direction"
    )
    verdict: VerdictText = Field(
        description="STRONG from a score of 75, MODERATE from 60, else WEAK; then the direction"
    )
    logic: Logic
    timeframes: TimeframesBlock
    targets: TargetsBlock
    reasoning: str
    sentiment: SentimentBlock | None
    llm_analysis: LLMAnalysisBlock | None
    as_of: Instant = Field(description="close time of the newest bar used")
    market_open: bool
    data_source: str = Field(description="`yahoo`, `files`, `simulated`, …")
    models: list[ModelUsed]
    warnings: list[str]
