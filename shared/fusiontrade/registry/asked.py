"""What callers ask of the registry's jobs: trainings, fine-tunings, exchanges, backtests."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fusiontrade.clock import parse_iso
from fusiontrade.errors import InvalidInput
from fusiontrade.market.symbols import parse_symbol
from fusiontrade.registry.versions import ModelVersion

__all__ = ["BacktestWanted", "FinetuneWanted", "FinetuneWantedOf", "LoadWanted", "ModelsAnswer", "TrainingWanted"]

Interval = Literal["15m", "30m", "1h", "4h"]
ModelType = Literal["lstm", "patchtst", "gru", "cnn", "transformer"]
SymbolText = Annotated[str, Field(min_length=1, max_length=64, examples=["EURUSD=X"])]
Epochs = Annotated[int, Field(ge=1, le=200, description="Most passes over the data.")]
Bars = Annotated[int, Field(ge=2_000, le=200_000, description="Newest bars of each symbol to learn from.")]

FINETUNE_BARS = 6_000
FINETUNE_RATE = 3e-4


class TrainingWanted(BaseModel):
    """What to train."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    symbol: SymbolText
    symbols: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=64)]],
        Field(max_length=30, description="More symbols to learn from."),
    ] = []
    interval: Interval
    model_type: ModelType = "lstm"
    epochs: Epochs = 20
    bars: Bars = 20_000
    batch: Annotated[int, Field(ge=16, le=4096, description="Rows per step.")] = 256
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 20240

    def request(self) -> dict[str, Any]:
        """Return the job's request; raises `InvalidInput`."""
        symbols = [parse_symbol(text, field=f"body/symbols/{place}").code for place, text in enumerate(self.symbols)]
        return {
            "symbol": parse_symbol(self.symbol, field="body/symbol").code,
            "symbols": symbols,
            "interval": self.interval,
            "model_type": self.model_type,
            "bars": self.bars,
            "epochs": self.epochs,
            "batch": self.batch,
            "seed": self.seed,
            "bootstrap": 200,
        }


class FinetuneWantedOf(BaseModel):
    """How to fine-tune the model of a timeframe on a symbol's newest candles."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    timeframe: Interval
    model_type: ModelType = "lstm"
    epochs: Annotated[int, Field(ge=1, le=20, description="Most passes over the data.")] = 3

    def request_of(self, symbol: str, *, field: str) -> dict[str, Any]:
        """Return the job's request; raises `InvalidInput` of ``field``."""
        return {
            "symbol": parse_symbol(symbol, field=field).code,
            "interval": self.timeframe,
            "model_type": self.model_type,
            "bars": FINETUNE_BARS,
            "epochs": self.epochs,
            "batch": 256,
            "learning_rate": FINETUNE_RATE,
            "bootstrap": 200,
        }


class FinetuneWanted(FinetuneWantedOf):
    """The same with the symbol beside it."""

    symbol: SymbolText


class LoadWanted(BaseModel):
    """Which version shall serve."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    model_id: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    version: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    force: Annotated[
        bool,
        Field(description="Also where nothing shows that it is not worse; its self-test is never left out."),
    ] = False


class BacktestWanted(BaseModel):
    """Which signals to trade on paper, over which time, at what costs."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    symbol: SymbolText
    interval: Interval
    since: Annotated[str, Field(alias="from", max_length=40, examples=["2025-05-01T00:00:00Z"])]
    until: Annotated[str, Field(alias="to", max_length=40, examples=["2025-08-01T00:00:00Z"])]
    costs_bps: Annotated[
        float | None,
        Field(
            strict=True,
            ge=0,
            le=500,
            description="Of each side of a trade, in basis points; null: the usual spread, slippage and commission of "
            "the asset class, which the result names.",
        ),
    ] = None

    def request(self, now: int) -> dict[str, Any]:
        """Return the job's request, asked for at ``now`` (ms); raises `InvalidInput`."""
        begins, ends = _instant(self.since, "body/from"), _instant(self.until, "body/to")
        if ends > now:
            raise InvalidInput("body/to", f"{self.until} lies in the future: a backtest is of bars that are over")
        if begins >= ends:
            raise InvalidInput("body/to", "to has to lie after from: nothing can be in between")
        return {
            "symbol": parse_symbol(self.symbol, field="body/symbol").code,
            "interval": self.interval,
            "from": begins,
            "to": ends,
            "costs_bps": self.costs_bps,
        }


class ModelsAnswer(BaseModel):
    """What serves now."""

    models: Annotated[list[ModelVersion], Field(description="The version of each model that serves.")]
    warnings: Annotated[list[str], Field(description="Models whose forecasts have become worse.")]


def _instant(text: str, field: str) -> int:
    try:
        if (instant := parse_iso(f"{text}T00:00:00Z" if len(text) == 10 else text)) < 0:
            raise InvalidInput(field, f"{text!r} lies before 1970: there are no bars of that time")
        return instant
    except (ValueError, OverflowError):
        told = f"{text!r} is no instant: use one with a zone, 2025-07-31T12:00:00Z, or a day"
        raise InvalidInput(field, told) from None
