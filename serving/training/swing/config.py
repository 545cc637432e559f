"""How a swing bundle is trained: every choice that changes the result, frozen, and written into the bundle."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from serving.features.swing.cross_section import FEWEST
from serving.instants import instant_of
from serving.models.veto import VetoConfig
from serving.training.config import TrainingConfig

__all__ = ["EMBARGO_SESSIONS", "LONGEST", "PURGE_SESSIONS", "RankerConfig", "SwingConfig"]

LONGEST = 10
"""Sessions of the farthest horizon."""
EMBARGO_SESSIONS = 10
PURGE_SESSIONS = LONGEST + EMBARGO_SESSIONS
"""Sessions left out before each cut: the longest horizon, then an embargo."""


def _fitting() -> TrainingConfig:
    return TrainingConfig(batch=256, epochs=10, learning_rate=1e-3, patience=3, halve_after=1, averaging=0.99)


@dataclass(frozen=True, slots=True)
class RankerConfig:
    """How ranks are learned from.

    Parameters
    ----------
    penalty
        Of the distance of a universe's weights from those of all universes together, and of those from 0, beside the
        mean squared error of a row; columns have a variance of 1 then.
    share
        Of the ranker in the ensemble, both networks together having the rest, spreads over a day being equal.
    fewest
        Stocks that a session needs.
    """

    penalty: float = 1.0
    share: float = 0.75
    fewest: int = FEWEST

    def __post_init__(self) -> None:
        if self.penalty <= 0 or not 0 <= self.share <= 1 or self.fewest < 3:
            raise ValueError(f"the penalty must be positive, the share within [0, 1], fewest at least 3: {self}")


@dataclass(frozen=True, slots=True)
class SwingConfig:
    """One training run.

    Parameters
    ----------
    preset
        Sizes of both networks.
    fitting
        How they are fitted; seed and threads are those of the whole run.
    trees
        How the veto is grown.
    ranker
        How the third member is fitted.
    train, validation, stack
        Shares of the days before ``judged_from``: to fit, to stop by, to learn what scores are worth and to grow the
        veto; the rest calibrates the veto.
    judged_from
        ISO instant at which the untouched slice begins; empty: two years before the last bar.
    stride, held_stride, judged_stride
        Every k-th session is fitted; stopped by, calibrated and proven on; and judged.
    cost
        What entering and leaving cost together, as a fraction.
    fewest
        Stocks that a session needs to be ranked.
    """

    preset: Literal["full", "small"] = "small"
    fitting: TrainingConfig = field(default_factory=_fitting)
    trees: VetoConfig = field(default_factory=VetoConfig)
    ranker: RankerConfig = field(default_factory=RankerConfig)
    train: float = 0.62
    validation: float = 0.10
    stack: float = 0.16
    judged_from: str = ""
    stride: int = 3
    held_stride: int = 2
    judged_stride: int = 1
    cost: float = 0.001
    fewest: int = 10

    def __post_init__(self) -> None:
        for name in ("stride", "held_stride", "judged_stride", "fewest"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        shares = (self.train, self.validation, self.stack)
        if min(shares) <= 0 or sum(shares) >= 1:
            raise ValueError(
                f"train, validation and stack must be positive and leave a slice to calibrate on: {shares}"
            )
        if self.judged_from:
            instant_of(self.judged_from, "judged_from")
