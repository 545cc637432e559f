"""The card of a swing bundle: what its graphs' answers are worth, learned on slices that fitted no weight."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from fusiontrade.inference.swing import HORIZONS
from serving.calibration import Identity, Isotonic, Platt
from serving.card import DataFingerprint, Windows
from serving.sealed import SealedCard

__all__ = ["ANY", "HORIZONS", "KIND", "Ranked", "Ranker", "ReturnMap", "SwingCard", "Universe"]

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


class Ranked(_Part):
    """What the ranks of a universe's stocks are worth.

    A stock's score is the sum of its columns times ``weights``; its return by the ranker is ``slope`` · score, and the
    ensemble's ``networks`` · what both networks come to + ``share`` · the ranker's, each by horizon.
    """

    weights: tuple[FiniteFloat, ...]
    slope: NotNegative
    networks: NotNegative
    share: NotNegative


class Ranker(_Part):
    """The member that sees a stock among the others of its run: ``columns`` of ``features`` of `cross_section`.

    ``universes`` are by name; the stocks of no universe go by ``any``. Fewer than ``fewest`` stocks are not ranked.
    """

    features: str
    columns: Annotated[tuple[str, ...], Field(min_length=1)]
    fewest: Annotated[int, Field(ge=3)]
    universes: Annotated[dict[str, Ranked], Field(min_length=1)]

    @model_validator(mode="after")
    def _wide(self) -> Ranker:
        for name, one in self.universes.items():
            if len(one.weights) != len(self.columns):
                raise ValueError(f"{name} has {len(one.weights)} weights for {len(self.columns)} columns")
        return self


class SwingCard(SealedCard):
    """``model.json``. ``encoder`` names the Kronos bundle whose embeddings were learned from, null: none were.

    ``veto`` calibrates the trees' logit, ``threshold`` is the least probability that a signal needs. A symbol of no
    universe is answered, and abstains: nothing proved its forecasts. Without a ``ranker``, or where it does not know a
    universe, the ensemble is what both networks come to; where it does, a stock that was not ranked abstains: only the
    ranked forecast was proven.
    """

    kind: Literal["swing"] = KIND
    features: str
    encoder: str | None = None
    stockformer: ReturnMap
    tft: ReturnMap
    ranker: Ranker | None = None
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
        if ANY in self.universes:
            raise ValueError(f"a universe is called {ANY!r}, which stands for the stocks of none")
        return self

    def universe(self, symbol: str) -> str:
        """Return the name of the universe that ``symbol`` is in, `ANY` where it is in none."""
        return next((name for name, one in self.universes.items() if symbol in one.symbols), ANY)

    def ranked(self, symbol: str) -> Ranked | None:
        """Return what ranks ``symbol``, None where nothing does."""
        return None if self.ranker is None else self.ranker.universes.get(self.universe(symbol))

    def abstains(self, symbol: str, *, ranked: bool = True) -> bool:
        """Tell whether ``symbol`` gets no signal; ``ranked``: it was, in the run that is answered."""
        if not ranked and self.ranked(symbol) is not None:
            return True
        name = self.universe(symbol)
        return name == ANY or self.universes[name].abstains
