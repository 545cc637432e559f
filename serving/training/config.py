"""How a bundle is trained: every choice that changes the result, frozen, and written into the bundle."""

from __future__ import annotations

from dataclasses import dataclass

from fusiontrade.journal.outcomes import HORIZON_BARS
from serving.instants import instant_of
from serving.training.precision.settings import SETTINGS, Setting

__all__ = ["PURGE_BARS", "TrainingConfig"]

_EMBARGO_BARS = 60
PURGE_BARS = HORIZON_BARS + _EMBARGO_BARS
"""Bars left out between two slices: the labels' horizon, then an embargo of one input window."""


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """One training run.

    Parameters
    ----------
    batch, epochs, learning_rate, learning_rate_floor
        Adam's batch in rows, the most passes over the data, its first and its smallest step.
    patience, halve_after
        Epochs without a better validation loss before stopping, and before the learning rate is halved.
    rows_per_epoch
        At most so many training rows an epoch, 0 for all: every k-th row, another k-th the next epoch.
    rows_per_evaluation
        At most so many rows of the validation slice in each epoch's loss, 0 for all.
    train, validation, calibration
        Shares of the pooled rows, in the order of time; the rest is the untouched test slice.
    judged_from
        ISO instant with a zone at which the untouched slice begins, whatever the shares; the rows before it are
        shared out as ``train : validation : calibration``. Empty: by the shares alone.
    averaging
        Weights are averaged over the steps with this decay, and the average is judged and kept (Polyak averaging);
        0: the last step's weights are.
    gradient_norm
        Gradients are scaled down to this norm.
    bootstrap
        Resamples behind each published interval.
    precision
        ``auto``: the graph is served in the precision that `serving.training.precision` chooses; ``f32``, ``int8``,
        ``bf16``, ``f16``: in that one if its decisions agree with those of f32, whatever it costs.
    seed, threads
        With the same data, library versions and machine type these fix every byte of the bundle's manifest.
    """

    batch: int = 32
    epochs: int = 100
    learning_rate: float = 1e-3
    learning_rate_floor: float = 1e-7
    patience: int = 10
    halve_after: int = 5
    rows_per_epoch: int = 0
    rows_per_evaluation: int = 0
    train: float = 0.58
    validation: float = 0.06
    calibration: float = 0.18
    judged_from: str = ""
    averaging: float = 0.998
    gradient_norm: float = 1.0
    bootstrap: int = 500
    precision: Setting = "auto"
    seed: int = 20240
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("batch", "epochs", "patience", "halve_after", "threads", "bootstrap"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        shares = (self.train, self.validation, self.calibration)
        if min(shares) <= 0 or sum(shares) >= 1:
            raise ValueError(f"train, validation and calibration must be positive and leave a test slice, got {shares}")
        if self.precision not in SETTINGS:
            raise ValueError(f"precision must be one of {', '.join(SETTINGS)}, got {self.precision!r}")
        if not 0 <= self.averaging < 1:
            raise ValueError(f"averaging must be at least 0 and below 1, got {self.averaging}")
        if self.judged_from:
            instant_of(self.judged_from, "judged_from")
