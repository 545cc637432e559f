"""The card of a swing bundle: what its graphs' answers are worth, learned on slices that fitted no weight."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from fusiontrade.inference.swing import HORIZONS
from serving.calibration import Identity, Isotonic, Platt
from serving.card import DataFingerprint, Windows
from serving.sealed import SealedCard

__all__ = ["ANY", "HORIZONS", "KIND", "ReturnMap", "SwingCard", "Universe"]

KIND: Literal["swing"] = "swing"
ANY = "any"

Three = tuple[FiniteFloat, FiniteFloat, FiniteFloat]
Positive = tuple[
    Annotated[FiniteFloat, Field(gt=0)], Annotated[FiniteFloat, Field(gt=0)], Annotated[FiniteFloat, Field(gt=0)]
]
NotNegative = tuple[
    Annotated[FiniteFloat, Field(ge=0)], Annotated[FiniteFloat, Field(ge=0)], Annotated[FiniteFloat, Field(ge=0)]
]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class ReturnMap(_Part):
    """From a model's scores to returns, one number for each horizon: slope · (score − centre), as a fraction.

    ``below`` and ``above`` are what its own spread, times ATR over close, is multiplied by to reach the 10 % and the
    90 % quantile: of the deviation (StockFormer), of the distances of its quantiles from the median (TFT).
    """

    centre: Three
    slope: NotNegative
    below: Positive
    above: Positive


class Universe(_Part):
    """Stocks that were ranked against each other; ``abstains``: their rank was not proven to be forecast."""

    symbols: Annotated[tuple[str, ...], Field(min_length=1)]
    abstains: bool


class SwingCard(SealedCard):
    """``model.json``. ``encoder`` names the Kronos bundle whose embeddings were learned from, null: none were.

    ``veto`` calibrates the trees' logit, ``threshold`` is the least probability that a signal needs. A symbol of no
    universe is answered, and abstains where every universe does.
    """

    kind: Literal["swing"] = KIND
    features: str
    encoder: str | None = None
    stockformer: ReturnMap
    tft: ReturnMap
    veto: Identity | Platt | Isotonic = Field(discriminator="kind")
    threshold: Annotated[float, Field(ge=0.5, lt=1.0)] = 0.65
    universes: Annotated[dict[str, Universe], Field(min_length=1)]
    data: DataFingerprint
    windows: Windows
    seed: int

    @model_validator(mode="after")
    def _apart(self) -> SwingCard:
        names = [symbol for one in self.universes.values() for symbol in one.symbols]
        if len(set(names)) != len(names):
            raise ValueError("a symbol is in two universes")
        return self

    def abstains(self, symbol: str) -> bool:
        """Tell whether ``symbol`` never gets a signal."""
        for universe in self.universes.values():
            if symbol in universe.symbols:
                return universe.abstains
        return all(universe.abstains for universe in self.universes.values())
