"""Calibration maps: from a head's raw output to a probability that means what it says.

Always true here: every map takes the raw logits of the graph, works on whole arrays, never decreases in its logit,
and answers in [0, 1], whatever finite numbers come in. Fitting happens in training; these are the frozen results.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

__all__ = ["CalibrationMap", "Identity", "Isotonic", "Maps", "Platt", "Temperature", "sigmoid", "softmax"]

Floats = NDArray[np.float64]


def sigmoid(logits: ArrayLike) -> Floats:
    """Return 1 / (1 + exp(-logits)) in float64, without overflow; same shape."""
    values = np.asarray(logits, np.float64)
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1.0, small) / (1.0 + small)


def softmax(logits: ArrayLike) -> Floats:
    """Return probabilities over the last axis, float64, same shape; they sum to 1."""
    values = np.asarray(logits, np.float64)
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), np.float64)


class _Map(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Identity(_Map):
    """The head is calibrated as it is: its logit's sigmoid."""

    kind: Literal["identity"] = "identity"

    def apply(self, logits: ArrayLike) -> Floats:
        """Return the probabilities of ``logits``, same shape."""
        return sigmoid(logits)


class Platt(_Map):
    """sigmoid(a · logit + b) (Platt, 1999); ``a`` = 0 answers the base rate alone."""

    kind: Literal["platt"] = "platt"
    a: Annotated[float, Field(ge=0.0)]
    b: FiniteFloat

    def apply(self, logits: ArrayLike) -> Floats:
        """Return the probabilities of ``logits``, same shape."""
        return sigmoid(self.a * np.asarray(logits, np.float64) + self.b)


class Isotonic(_Map):
    """Piecewise-linear and non-decreasing through the knots (x, y); outside them the outermost y.

    ``x`` are LOGITS, strictly rising; ``y`` probabilities.
    """

    kind: Literal["isotonic"] = "isotonic"
    x: Annotated[tuple[FiniteFloat, ...], Field(min_length=1)]
    y: Annotated[tuple[Annotated[float, Field(ge=0.0, le=1.0)], ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if len(self.x) != len(self.y):
            raise ValueError(f"x and y must have one length, got {len(self.x)} and {len(self.y)}")
        if (np.diff(self.x) <= 0).any():
            raise ValueError("x must rise strictly")
        if (np.diff(self.y) < 0).any():
            raise ValueError("y must not fall")
        return self

    def apply(self, logits: ArrayLike) -> Floats:
        """Return the probabilities of ``logits``, same shape."""
        return np.asarray(np.interp(np.asarray(logits, np.float64), self.x, self.y), np.float64)


class Temperature(_Map):
    """softmax(logits / t) over the last axis (Guo et al., 2017): for heads that choose one of several classes."""

    kind: Literal["temperature"] = "temperature"
    t: Annotated[float, Field(gt=0.0)]

    def apply(self, logits: ArrayLike) -> Floats:
        """Return class probabilities, same shape as ``logits`` (..., classes)."""
        return softmax(np.asarray(logits, np.float64) / self.t)


CalibrationMap = Annotated[Identity | Platt | Isotonic | Temperature, Field(discriminator="kind")]
"""One head's map; `Temperature` is for class heads, the others for heads of one logit."""


@dataclass(frozen=True, eq=False)
class Maps:
    """The maps of k heads of one logit each, applied together: a call of numpy for all costs what one head's does.

    Parameters
    ----------
    slope, shift
        (k,) of the sigmoids.
    isotonic
        The heads that have no sigmoid, by place.
    """

    slope: Floats
    shift: Floats
    isotonic: tuple[tuple[int, Isotonic], ...]

    @classmethod
    def of(cls, maps: Iterable[CalibrationMap]) -> Maps:
        """Return ``maps`` as one; each `Identity`, `Platt` or `Isotonic`."""
        found = list(maps)
        sigmoids = [(one.a, one.b) if isinstance(one, Platt) else (1.0, 0.0) for one in found]
        slope, shift = np.array(sigmoids, np.float64).reshape(-1, 2).T
        isotonic = ((place, one) for place, one in enumerate(found) if isinstance(one, Isotonic))
        return cls(slope, shift, tuple(isotonic))

    def apply(self, logits: Floats) -> Floats:
        """Return the probabilities of (n, k) ``logits``, each column through the map of its head."""
        found = sigmoid(logits * self.slope + self.shift)
        for place, one in self.isotonic:
            found[:, place] = one.apply(logits[:, place])
        return found

    def apply_each(self, logits: Floats, places: NDArray[np.intp]) -> Floats:
        """Return the probabilities of (n,) ``logits``, each through the map at its own of ``places``."""
        found = sigmoid(logits * self.slope[places] + self.shift[places])
        for place, one in self.isotonic:
            if (rows := places == place).any():
                found[rows] = one.apply(logits[rows])
        return found
