"""Recurrent layers over 60 bars with layer normalisation and dropout: what LSTM and GRU share but for their cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from serving.models.sequence import SequenceConfig, SummingModel

__all__ = ["RecurrentConfig", "RecurrentModel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecurrentConfig(SequenceConfig):
    """Sizes of the network."""

    hidden: tuple[int, int, int] = (64, 32, 16)


class RecurrentModel(SummingModel):
    """The calendar joins at the input and again at the head; ``cell`` is torch's recurrent layer."""

    cell: ClassVar[Any]

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        self.config = config
        widths = (config.features + config.calendar, *config.hidden)
        self.recurrent = nn.ModuleList(
            self.cell(before, after, batch_first=True) for before, after in zip(widths, config.hidden, strict=False)
        )
        self.normalise = nn.ModuleList(nn.LayerNorm(width) for width in config.hidden)
        self.add_heads(config.hidden[-1])

    def summary(self, features: torch.Tensor, calendar: torch.Tensor) -> torch.Tensor:
        """Return (N, 16) the last layer's newest state."""
        hidden = torch.cat((features, calendar), dim=2)
        for layer, normalise in zip(self.recurrent, self.normalise, strict=True):
            hidden = self.dropout(normalise(layer(hidden)[0]))
        return hidden[:, -1]
