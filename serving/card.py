"""The model card: everything about a bundle that is not its weights (``model.json``).

Always true of a card that was read: it has this schema version, the heads of its kind each have a calibration map
that fits them, one of a model of 60 bars has a scaler, thresholds, direction rules and adjustments, and every number
is finite.
What differs between markets (busy hours, direction rules, adjustments) is a table by symbol, kind of market and
``any``: a symbol without a row of its own is answered by its kind's, a kind without one by ``any``; busy hours are then
adjusted to the symbol's own (`serving.features.usual_week`). Times are ms since 1970-01-01 UTC; distances are in
ATR(14) unless said otherwise.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    JsonValue,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from fusiontrade.inference.contract import (
    CHANCES,
    SEQUENCE_KINDS,
    TOUCH_LEVELS,
    Bends,
    CalibrationState,
    IntervalSide,
    ModelKind,
    ModelReference,
    Offsets,
    Slopes,
)
from fusiontrade.market.timeframes import Timeframe
from serving.calibration import CalibrationMap, Identity, Isotonic, Maps, Platt, Temperature
from serving.markets import ANY

if TYPE_CHECKING:
    from serving.features.season import Week

__all__ = [
    "HEADS",
    "SCHEMA_VERSION",
    "TOUCH_SIDES",
    "Adjustment",
    "DataFingerprint",
    "DirectionRule",
    "Dropout",
    "FeatureList",
    "Metric",
    "ModelCard",
    "Precision",
    "Scaler",
    "Series",
    "Sha256",
    "Thresholds",
    "Windows",
]

SCHEMA_VERSION: Literal[2] = 2

TOUCH_SIDES = ("up", "down", "either")
_TOUCH_HEADS = tuple(f"touch_{side}_{level:g}" for side in TOUCH_SIDES for level in TOUCH_LEVELS)
HEADS: dict[ModelKind, tuple[str, ...]] = {
    **dict.fromkeys(SEQUENCE_KINDS, (*_TOUCH_HEADS, "win_long", "win_short")),
    "patchtst": ("classes",),
}
"""Names of the calibrated heads of each kind in graph order: ``touch_up_1``, ``touch_up_1.5`` … ``touch_either_4``."""

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Span = tuple[int, int]

Precision = Literal["f32", "int8", "bf16", "f16"]
"""How a graph keeps and multiplies its weights: in float32; as integers; in 16 bits, made float32 when it is loaded."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy without what was derived from the fields that ``update`` may replace."""
        copy = super().model_copy(update=update, deep=deep)
        for name in vars(copy).keys() - type(self).model_fields.keys():
            del vars(copy)[name]
        return copy


class FeatureList(_Part):
    """What the graph is fed: names in column order, and the version of the code that computes them."""

    name: Literal["indicators", "candles"]
    version: str
    window: Annotated[int, Field(ge=1)]
    columns: tuple[str, ...]
    calendar: tuple[str, ...]
    volatility: tuple[str, ...]
    sequence: Annotated[int, Field(ge=1)]


class Scaler(_Part):
    """Robust scaling of the indicators, fitted on the training slice: clip((x − center) / scale, ±clip)."""

    center: tuple[FiniteFloat, ...]
    scale: tuple[Annotated[float, Field(gt=0.0)], ...]
    clip: Annotated[float, Field(gt=0.0)] = 5.0

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if len(self.center) != len(self.scale):
            raise ValueError(f"center and scale must have one length, got {len(self.center)} and {len(self.scale)}")
        return self

    @cached_property
    def _row(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return np.array(self.center, np.float32), np.array(self.scale, np.float32)

    def apply(self, columns: ArrayLike) -> NDArray[np.float32]:
        """Return scaled float32 columns of the same shape (..., len(center)); the one place this is computed."""
        center, scale = self._row
        scaled = np.asarray(np.asarray(columns, np.float32) - center)
        scaled /= scale
        np.minimum(scaled, np.float32(self.clip), out=scaled)
        return np.maximum(scaled, np.float32(-self.clip), out=scaled)


class Adjustment(_Part):
    """What a market's forecasts are moved by before the first outcome is learned after training.

    ``lower`` and ``upper`` are added to the raw 90 % interval, as shares of its width (negative narrows it),
    ``offsets``, ``slopes`` and ``bends`` move the logits of the touch and win probabilities as
    `fusiontrade.inference.probabilities` says, in the order of ``HEADS["lstm"]``.
    """

    lower: IntervalSide
    upper: IntervalSide
    offsets: Offsets
    slopes: Slopes
    bends: Bends = (0.0,) * CHANCES

    @model_serializer(mode="wrap")
    def _without_no_bends(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave bends of 0 out, as cards that are older than they are left them out."""
        content: dict[str, Any] = written(self)
        if not any(self.bends):
            del content["bends"]
        return content


class DirectionRule(_Part):
    """How a direction logit becomes a probability and a vote: the head votes outside the band, else it abstains.

    A market without proven skill answers its base rate (a `Platt` map of slope 0) and abstains always: band (0, 1).
    """

    calibration: Identity | Platt | Isotonic = Field(discriminator="kind")
    abstain_below: Probability
    abstain_above: Probability

    @property
    def never_votes(self) -> bool:
        """Whether the band holds every probability, so that there is no accuracy of votes either."""
        return self.abstain_below <= 0.0 and self.abstain_above >= 1.0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.abstain_below > self.abstain_above:
            raise ValueError(
                f"abstain_below must not exceed abstain_above, got {self.abstain_below} > {self.abstain_above}"
            )
        return self


class Thresholds(_Part):
    """The 95th percentile of |predicted change| on the calibration slice, in ATR."""

    change_scale: Annotated[float, Field(gt=0.0)]


class Dropout(_Part):
    """Monte-Carlo dropout: ``samples`` masks over ``columns`` of the network, each dropped with probability ``rate``.

    Mask s is the same in every run, whatever the number of samples.
    """

    columns: Annotated[int, Field(ge=1)]
    rate: Annotated[float, Field(gt=0.0, lt=1.0)]
    samples: Annotated[int, Field(ge=1, le=1000)]
    seed: Annotated[int, Field(ge=0)]

    @cached_property
    def masks(self) -> NDArray[np.float32]:
        """(samples, columns) factors: 0, or 1 / (1 - rate) so that the mean stays."""
        return self.drawn(self.samples)

    def drawn(self, samples: int) -> NDArray[np.float32]:
        """Return ``masks`` of another number of samples: the same ones, as far as both reach."""
        drawn = np.random.default_rng(self.seed).random((samples, self.columns))
        return np.where(drawn < self.rate, 0.0, 1.0 / (1.0 - self.rate)).astype(np.float32)


class Metric(_Part):
    """A figure measured on the untouched test slice with its bootstrap interval; shares are in [0, 1], not percent."""

    value: FiniteFloat
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    n: Annotated[int, Field(ge=0)] | None = None


class Series(_Part):
    """One symbol's candles as training saw them."""

    symbol: str
    rows: Annotated[int, Field(ge=1)]
    first: int
    last: int
    sha256: Sha256


class DataFingerprint(_Part):
    """The data behind a bundle, series by series, and one hash over all."""

    fingerprint: str
    series: tuple[Series, ...]


class Windows(_Part):
    """First and last instant of each slice, ms."""

    train: Span
    calibration: Span
    test: Span
    validation: Span | None = None

    @model_validator(mode="after")
    def _forward(self) -> Self:
        for name in ("train", "calibration", "test", "validation"):
            span: Span | None = getattr(self, name)
            if span is not None and span[0] >= span[1]:
                raise ValueError(f"{name} must end after it starts, got {span[0]} … {span[1]}")
        return self


class ModelCard(_Part):
    """``model.json``. ``version`` is the first 12 hex digits of `ModelCard.digest`, empty before it is stamped.

    ``season`` is the usual activity of each slot of the week, ``adjustments`` what the calibration slice taught,
    ``centres`` the mean logit of each touch and win probability there, from which leans are counted;
    ``abstains`` tells that a PatchTST did not prove its direction there and never votes. ``adopted`` are series
    that taught a season and adjustments of their own, and nothing to the weights. ``precision`` is the graph's;
    ``dropout`` is what its ``masks`` are drawn by, null for a graph without such an input. The width of the raw
    interval is multiplied by (ATR / what it usually is) to the power of ``unrest_exponent``.
    """

    schema_version: Literal[2] = SCHEMA_VERSION
    model_id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,62}$")]
    version: Annotated[str, Field(pattern=r"^([0-9a-f]{12})?$")] = ""
    kind: ModelKind
    timeframe: Timeframe
    universe: Annotated[tuple[str, ...], Field(min_length=1)]
    horizon_bars: Annotated[int, Field(ge=1)]
    features: FeatureList
    config: dict[str, JsonValue]
    scaler: Scaler | None = None
    season: dict[str, tuple[Annotated[float, Field(ge=0.0)], ...]]
    volatility_scaler: Scaler
    calibration: dict[str, CalibrationMap]
    directions: dict[str, DirectionRule] = {}
    centres: tuple[FiniteFloat, ...] = ()
    unrest_exponent: Annotated[FiniteFloat, Field(ge=-1.0, le=1.0)] = 0.0
    adjustments: dict[str, Adjustment] = {}
    thresholds: Thresholds | None = None
    abstains: bool = False
    adopted: tuple[Series, ...] = ()
    precision: Precision = "f32"
    dropout: Dropout | None = None
    metrics: dict[str, Metric]
    data: DataFingerprint
    windows: Windows
    code_version: str
    seed: int
    libraries: dict[str, str]

    @cached_property
    def reference(self) -> ModelReference:
        """What answers name this bundle by."""
        return ModelReference(id=self.model_id, version=self.version)

    @property
    def is_sequence(self) -> bool:
        """Whether it takes 60 bars of indicators and answers what an LSTM answers."""
        return self.kind in SEQUENCE_KINDS

    @cached_property
    def weeks(self) -> dict[str, Week]:
        """The rows of ``season``; equal ones are one object, whichever card they are of."""
        return {key: _week(usual) for key, usual in self.season.items()}

    @cached_property
    def chance_maps(self) -> tuple[Maps, NDArray[np.float64]]:
        """The maps of an LSTM's touch and win probabilities in the order of ``HEADS``, and (CHANCES,) ``centres``."""
        return Maps.of(self.calibration[head] for head in HEADS["lstm"]), np.array(self.centres, np.float64)

    @cached_property
    def direction_maps(self) -> tuple[Maps, NDArray[np.float64]]:
        """The maps of ``directions``, and (2, k) the lower and upper ends of their bands, in the order of the table."""
        rules = self.directions.values()
        bands = np.array([(rule.abstain_below, rule.abstain_above) for rule in rules], np.float64).reshape(-1, 2)
        return Maps.of(rule.calibration for rule in rules), bands.T

    @cached_property
    def states(self) -> dict[str, CalibrationState]:
        """What each row of ``adjustments`` says, as the state that answers are told to be made with."""
        as_of = self.windows.calibration[1] + self.timeframe.milliseconds
        return {
            key: CalibrationState(**dict(own), version=self.version, revision=0, as_of=as_of)
            for key, own in self.adjustments.items()
        }

    def stamped(self, graph: bytes) -> ModelCard:
        """Return this card with the version that it and ``graph`` (the bytes of ``model.onnx``) define."""
        return self.model_copy(update={"version": self.digest(graph)[:12]})

    def digest(self, graph: bytes) -> str:
        """Return sha256 over ``graph`` followed by this card without its version, as canonical JSON.

        A precision of f32, no dropout and an exponent of 0 are left out, as cards that are older than the fields left
        them out.
        """
        usual = {
            "precision": self.precision == "f32",
            "dropout": self.dropout is None,
            "unrest_exponent": self.unrest_exponent == 0.0,
        }
        content = self.model_dump(mode="json", exclude={"version", *(name for name, is_so in usual.items() if is_so)})
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(graph + canonical.encode("ascii")).hexdigest()

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if set(self.calibration) != set(HEADS[self.kind]):
            missing, strange = (
                set(HEADS[self.kind]) - set(self.calibration),
                set(self.calibration) - set(HEADS[self.kind]),
            )
            raise ValueError(f"calibration of a {self.kind}: missing {sorted(missing)}, unknown {sorted(strange)}")
        for head, chosen in self.calibration.items():
            if isinstance(chosen, Temperature) != (head == "classes"):
                raise ValueError(f"calibration of {head!r} cannot be {chosen.kind!r}")
        weeks = {len(week) for week in self.season.values()}
        if ANY not in self.season or weeks != {7 * 86_400_000 // self.timeframe.milliseconds}:
            raise ValueError(f"season needs {ANY!r} and one figure for each {self.timeframe} slot of a week")
        _one_for_each(self.volatility_scaler, self.features.volatility, "volatility_scaler")
        if (self.dropout is not None) != (self.kind == "transformer"):
            raise ValueError("a transformer has a dropout, and no other kind")
        if self.is_sequence:
            self._complete_sequence()
        elif self.scaler is not None:
            raise ValueError("a patchtst takes its candles unscaled: scaler must be null")
        accuracy = self.metrics.get("direction_accuracy")
        if accuracy is not None and not 0.0 <= accuracy.value <= 1.0:
            raise ValueError(f"metrics.direction_accuracy is a share in [0, 1], got {accuracy.value}")
        return self

    def _complete_sequence(self) -> None:
        kind = f"an {self.kind}" if self.kind == "lstm" else f"a {self.kind}"
        if self.scaler is None or self.thresholds is None:
            raise ValueError(f"{kind} needs {'scaler' if self.scaler is None else 'thresholds'}")
        for name, table in (("directions", self.directions), ("adjustments", self.adjustments)):
            if ANY not in table:
                raise ValueError(f"{name} of {kind} needs {ANY!r}")
        if not self.directions[ANY].never_votes:
            raise ValueError(f"directions.{ANY} must abstain always: what one kind of market proved, another has not")
        if len(self.centres) != CHANCES:
            raise ValueError(f"centres of {kind} needs {CHANCES} numbers, got {len(self.centres)}")
        _one_for_each(self.scaler, self.features.columns, "scaler")


@lru_cache(maxsize=1024)
def _week(usual: tuple[float, ...]) -> Week:
    from serving.features.season import Week

    return Week.of(usual)


def _one_for_each(scaler: Scaler, columns: tuple[str, ...], name: str) -> None:
    if len(scaler.center) != len(columns):
        raise ValueError(f"{name} has {len(scaler.center)} columns, the features have {len(columns)}")
