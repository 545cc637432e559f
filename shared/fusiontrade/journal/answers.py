"""What the journal's endpoints answer: names, nulls and numbers as clients know them.

Always true here: every number is finite, instants are ISO-8601 UTC with ``Z``, what is undefined is null. Fields may be
added, never renamed.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from fusiontrade.clock import iso

__all__ = ["EntryPageAnswer", "ImportReport", "JournalEntry", "StatisticsAnswer", "statistics_answer"]

Instant = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Count = Annotated[int, Field(ge=0)]
Probability = Annotated[FiniteFloat, Field(ge=0, le=1)]

_ENTRY_EXAMPLE: dict[str, Any] = {
    "id": "1753963200000-9f86d081884c7d65",
    "user_id": "3f0c1c9e7c0f4c66a1f2f2a4c1f7f0aa",
    "source": "manual",
    "symbol": "EURUSD=X",
    "interval": "1h",
    "signal": "BUY",
    "verdict": "MODERATE BUY",
    "lstm_signal": "BUY",
    "patchtst_signal": "BUY",
    "fusion_score": 68.5,
    "probability": 0.43,
    "entry_price": 1.1,
    "tp1": 1.104,
    "tp2": 1.106,
    "tp3": 1.108,
    "stop_loss": 1.097,
    "atr": 0.002,
    "status": "WIN",
    "outcome_price": 1.104,
    "outcome_at": "2025-07-31T14:00:00Z",
    "pips": 40.0,
    "opened_at": "2025-07-31T12:00:00Z",
    "expires_at": "2025-07-31T16:00:00Z",
    "models": [{"timeframe": "1h", "id": "lstm-1h", "version": "7f3a91bc00de"}],
    "data_source": "yahoo",
}


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False)


class ModelMade(_Answer):
    """One bundle that a forecast was made with."""

    timeframe: str
    id: str
    version: str


class JournalEntry(_Answer):
    """One forecast as it was written before its outcome, and what became of it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_ENTRY_EXAMPLE]})

    id: str
    user_id: str | None = Field(description="null: an entry of the platform")
    source: Literal["manual", "daily", "agent", "webhook"]
    symbol: str
    interval: str = Field(description="the timeframe that the targets come from")
    signal: Literal["BUY", "SELL", "HOLD"] = Field(description="a HOLD makes no claim: counted, never settled")
    verdict: str | None
    lstm_signal: str | None
    patchtst_signal: str | None
    fusion_score: FiniteFloat | None
    probability: Probability | None = Field(description="p_win: tp1 is touched before stop_loss before expiry")
    entry_price: FiniteFloat | None
    tp1: FiniteFloat | None
    tp2: FiniteFloat | None
    tp3: FiniteFloat | None
    stop_loss: FiniteFloat | None
    atr: FiniteFloat | None
    status: Literal["PENDING", "WIN", "LOSS", "EXPIRED"] = Field(
        description="a HOLD, which nothing can settle, is EXPIRED from the start and has no outcome"
    )
    outcome_price: FiniteFloat | None
    outcome_at: Instant | None
    pips: FiniteFloat | None = Field(description="gained, negative where lost, in pips of the symbol")
    opened_at: Instant = Field(description="close of the newest bar used")
    expires_at: Instant
    models: list[ModelMade]
    data_source: str


class EntryPageAnswer(_Answer):
    """Some entries, newest first; ``next_cursor`` asks for those before them, null at the end."""

    items: list[JournalEntry]
    next_cursor: str | None


class Summary(_Answer):
    """Counts and pips of some entries."""

    total: Count
    pending: Count
    wins: Count
    losses: Count
    expired: Count
    holds: Count
    win_rate: Probability | None = Field(description="wins / (wins + losses)")
    profit_factor: Annotated[FiniteFloat, Field(ge=0, le=999)] | None = Field(
        description="pips gained / pips lost; 999.0 where nothing was lost"
    )
    total_pips: FiniteFloat
    average_pips: FiniteFloat | None
    expectancy: FiniteFloat | None = Field(description="mean pips of what is settled")


class EquityPoint(_Answer):
    """The sum of pips after an outcome."""

    at: Instant
    equity: FiniteFloat


class CalibrationBin(_Answer):
    """How often probabilities between ``from`` and ``to`` came true."""

    begins: Probability = Field(alias="from")
    ends: Probability = Field(alias="to")
    count: Count
    predicted: Probability | None = Field(description="mean probability that was given")
    won: Probability | None = Field(description="share of WIN among them")


class StatisticsAnswer(Summary):
    """What a range of entries came to."""

    max_drawdown: Annotated[FiniteFloat, Field(ge=0)] = Field(description="pips; equity ordered by outcome_at")
    by_symbol: dict[str, Summary]
    by_asset_class: dict[str, Summary] = Field(description="pips of different classes are different things")
    equity_curve: list[EquityPoint] = Field(description="at most 500 points; the last is the newest")
    brier: Probability | None = Field(description="of the probabilities that were given; EXPIRED is no win")
    calibration: list[CalibrationBin]


class RowFault(_Answer):
    """Why a row cannot be imported; row 1 is the first one below the names of the columns."""

    row: Annotated[int, Field(ge=1)]
    field: str
    message: str


class ImportReport(_Answer):
    """What came of an import: with errors nothing was imported, else every row is there."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"rows": 2, "imported": 0, "skipped": 0, "failed": 1, "errors": [
                    {"row": 2, "field": "symbol", "message": "no market data source knows the symbol 'NOSUCH'"}
                ]}
            ]
        }
    )  # fmt: skip

    rows: Count
    imported: Count
    skipped: Count = Field(description="rows that were in the journal already, or twice in the file")
    failed: Count = Field(description="rows that have a fault")
    errors: list[RowFault] = Field(description="one for each faulty row, the first 200")


def statistics_answer(told: dict[str, Any]) -> StatisticsAnswer:
    """Return the answer of `fusiontrade.journal.statistics.statistics_of`."""
    curve = [{"at": iso(point["at"]), "equity": point["equity"]} for point in told["equity_curve"]]
    return StatisticsAnswer.model_validate(told | {"equity_curve": curve})
