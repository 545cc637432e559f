"""The CNN: dilated temporal convolutions with residual connections over 60 bars (Bai, Kolter and Koltun, 2018).

Each convolution looks back only; with kernels of 3 and dilations of 1, 2, 4, 8 and 16 the newest column sees 63 bars,
the whole window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from serving.models.sequence import SequenceConfig, SummingModel

__all__ = ["CnnConfig", "CnnModel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CnnConfig(SequenceConfig):
    """Sizes of the network; ``kernel`` in bars, ``dilations`` one for each residual block."""

    channels: int = 48
    kernel: int = 3
    dilations: tuple[int, ...] = (1, 2, 4, 8, 16)


class CnnModel(SummingModel):
    """A projection, residual blocks, and the newest bar beside the mean of all as summary."""

    config_type: ClassVar[type[CnnConfig]] = CnnConfig
    slims: ClassVar[bool] = False

    def __init__(self, config: CnnConfig) -> None:
        super().__init__()
        self.config = config
        width = config.channels
        self.project = nn.Linear(config.features + config.calendar, width)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(width, width, config.kernel, dilation=dilation) for dilation in config.dilations
        )
        self.normalise = nn.ModuleList(nn.LayerNorm(width) for _ in config.dilations)
        self.add_heads(2 * width)

    def summary(self, features: torch.Tensor, calendar: torch.Tensor) -> torch.Tensor:
        """Return (N, 2 · channels) the newest column and the mean over the window."""
        config: CnnConfig = self.config
        hidden = self.project(torch.cat((features, calendar), dim=2))
        for dilation, convolution, normalise in zip(config.dilations, self.convolutions, self.normalise, strict=True):
            past = functional.pad(normalise(hidden).transpose(1, 2), ((config.kernel - 1) * dilation, 0))
            hidden = hidden + self.dropout(functional.silu(convolution(past))).transpose(1, 2)
        return torch.cat((hidden[:, -1], hidden.mean(dim=1)), dim=1)
