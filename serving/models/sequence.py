"""What the models of 60 bars share: the inputs, the dense layers, the heads and their losses.

A model of this family sums the bars up in one vector; the dense layers also see the newest bar's indicators, its
season-adjusted volatility and the hour of the week, and the heads of touches, wins, quantiles and range see the latter
two directly: what they forecast is mostly volatility.

Every head answers in units that have no scale (ATR, logits), so one set of weights serves every symbol of a
timeframe. Quantiles are sorted and probabilities calibrated after the graph, never inside it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional

from serving.models.protocol import Exporter, Takes, Tensors

__all__ = ["HEAD_SIZES", "QUANTILES", "SequenceConfig", "SequenceModel", "SummingModel", "pinball"]

QUANTILES = (0.05, 0.25, 0.50, 0.75, 0.95)
_TOUCHES = 15  # five distances up, five down, five on either side
HEAD_SIZES = {"direction": 1, "change": 1, "quantiles": len(QUANTILES), "touch": _TOUCHES, "win": 2, "log_range": 1}
_WEIGHTS = {"direction": 0.5, "change": 0.25, "quantiles": 2.0, "touch": 3.0, "win": 0.5, "log_range": 1.0}
_OF_VOLATILITY = ("quantiles", "touch", "win", "log_range")


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceConfig:
    """Sizes of the inputs and of the dense layers."""

    sequence: int = 60
    features: int = 50
    calendar: int = 8
    volatility: int = 28
    dense: tuple[int, int] = (64, 32)
    dropout: float = 0.1
    day_harmonics: int = 8
    week_harmonics: int = 3


class SequenceModel(nn.Module):  # type: ignore[misc]  # torch carries no types here
    """Dense layers, heads and losses; a subclass makes its layers, calls `add_heads`, and runs them."""

    takes: ClassVar[Takes] = "indicators"
    inputs: ClassVar[tuple[str, ...]] = ("features", "calendar", "volatility")
    outputs: ClassVar[tuple[str, ...]] = tuple(HEAD_SIZES)
    exporter: ClassVar[Exporter] = "trace"
    sampled: ClassVar[tuple[str, ...]] = ()
    config: Any

    def add_heads(self, width: int) -> None:
        """Add dense layers over a summary of ``width`` columns, and a head for each forecast."""
        config: SequenceConfig = self.config
        self.dropout = nn.Dropout(config.dropout)
        first, second = config.dense
        now = config.calendar + 2 * (config.day_harmonics + config.week_harmonics) + config.volatility
        self.dense_1 = nn.Linear(width + config.features + now, first)
        self.dense_2 = nn.Linear(first, second)
        self.heads = nn.ModuleDict({name: nn.Linear(second, size) for name, size in HEAD_SIZES.items()})
        self.direct = nn.ModuleDict({name: nn.Linear(now, HEAD_SIZES[name], bias=False) for name in _OF_VOLATILITY})

    def present(self, calendar: torch.Tensor, volatility: torch.Tensor) -> torch.Tensor:
        """Return (N, P) what is known of the bar ahead: calendar, volatility, harmonics of its time of day and week."""
        config, ahead = self.config, calendar[:, -1]
        now = [ahead, volatility]
        now += harmonics(ahead[:, 0], ahead[:, 1], config.day_harmonics)
        now += harmonics(ahead[:, 2], ahead[:, 3], config.week_harmonics)
        return torch.cat(now, dim=1)

    def answers(self, dense: torch.Tensor, present: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return every head's answer from (N, D) dense and (N, P) present columns."""
        answers = {name: head(dense) for name, head in self.heads.items()}
        for name, direct in self.direct.items():
            answers[name] = answers[name] + direct(present)
        return tuple(
            answer.squeeze(1) if self.heads[name].out_features == 1 else answer for name, answer in answers.items()
        )

    def example(self, rows: int) -> tuple[torch.Tensor, ...]:
        """Return zero-filled inputs of ``rows`` rows."""
        config = self.config
        return (
            torch.zeros(rows, config.sequence, config.features),
            torch.zeros(rows, config.sequence, config.calendar),
            torch.zeros(rows, config.volatility),
        )

    def loss(self, outputs: Tensors, targets: Tensors) -> torch.Tensor:
        """Return the weighted sum of the heads' mean losses (a scalar).

        ``targets``: direction (N) 0/1, change (N) in ATR, touch (N, 15) 0/1, win (N, 2) 0/1, log_range (N).
        """
        change = targets["change"]
        losses = {
            "direction": _cross_entropy(outputs["direction"], targets["direction"]),
            "change": functional.smooth_l1_loss(outputs["change"], change),
            "quantiles": pinball(outputs["quantiles"], change),
            "touch": _cross_entropy(outputs["touch"], targets["touch"]),
            "win": _cross_entropy(outputs["win"], targets["win"]),
            "log_range": functional.smooth_l1_loss(outputs["log_range"], targets["log_range"]),
        }
        return torch.stack([_WEIGHTS[name] * value for name, value in losses.items()]).sum()


class SummingModel(SequenceModel, ABC):
    """A subclass sums the bars up in `summary`; the rest is shared."""

    @abstractmethod
    def summary(self, features: torch.Tensor, calendar: torch.Tensor) -> torch.Tensor:
        """Return (N, width) what the bars come to; inputs as for `forward`."""

    def forward(
        self, features: torch.Tensor, calendar: torch.Tensor, volatility: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Return the raw outputs, in the order of ``outputs``.

        Parameters
        ----------
        features
            (N, 60, 50) scaled indicators, clipped to the scaler's limits.
        calendar
            (N, 60, C) columns of the bar that opens at each row's close.
        volatility
            (N, V) scaled season-adjusted volatility of the newest bar.

        Returns
        -------
        direction (N) logit of the next close above the last; change (N) in ATR; quantiles (N, 5) of the change in
        ATR; touch (N, 15) logits; win (N, 2) logits long, short; log_range (N) log of the range over the horizon
        in ATR.
        """
        hidden = self.summary(features, calendar)
        present = self.present(calendar, volatility)
        dense = functional.silu(self.dense_1(torch.cat((hidden, features[:, -1], present), dim=1)))
        dense = functional.silu(self.dense_2(self.dropout(dense)))
        return self.answers(dense, present)


def harmonics(sine: torch.Tensor, cosine: torch.Tensor, count: int) -> list[torch.Tensor]:
    """Return sine and cosine of 1..count times the angle, (N, 1) each; zeros (no calendar) stay zeros."""
    found, high_sine, high_cosine = [], sine, cosine
    for _ in range(count):
        found += [high_sine[:, None], high_cosine[:, None]]
        high_sine, high_cosine = high_sine * cosine + high_cosine * sine, high_cosine * cosine - high_sine * sine
    return found


def pinball(quantiles: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
    """Return the mean pinball loss of (N, 5) quantiles against (N) changes (Koenker and Bassett, 1978)."""
    levels = torch.tensor(QUANTILES, dtype=quantiles.dtype, device=quantiles.device)
    miss = change[:, None] - quantiles
    return torch.maximum(levels * miss, (levels - 1) * miss).mean()


def _cross_entropy(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    return functional.binary_cross_entropy_with_logits(logits, truth)
