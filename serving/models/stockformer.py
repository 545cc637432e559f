"""StockFormer (TimeFormer-XL): patches of the price window, the Kronos vector and the context as tokens of one encoder.

A token of its own gathers what the others say; the heads read it. Returns are scores, the uncertainty is the deviation
of what came from the score, in the same unit, learned with it by the Gaussian likelihood (Nix and Weigend, 1994).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from serving.models.blocks import EncoderBlock
from serving.models.protocol import Tensors
from serving.models.swing import HORIZONS, SwingModel

__all__ = ["PRESETS", "StockformerConfig", "StockformerModel"]

_LEAST = 0.05  # deviation below which the likelihood is not followed: scores have a deviation of 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StockformerConfig:
    """Sizes of the network; ``patch`` in bars."""

    bars: int = 120
    channels: int = 5
    embedding: int = 512
    context: int = 29
    patch: int = 10
    width: int = 64
    layers: int = 2
    attention_heads: int = 4
    feed_forward: int = 128
    dense: int = 64
    dropout: float = 0.2


PRESETS = {
    "full": StockformerConfig(width=256, layers=10, attention_heads=8, feed_forward=1024, dense=256),
    "small": StockformerConfig(),
}
"""``full`` has about 8 M parameters, ``small``, the starter, fewer than 1 M."""


class StockformerModel(SwingModel):
    """Tokens are one that gathers, the embedding's, the context's, and those of the patches, oldest first."""

    outputs: ClassVar[tuple[str, ...]] = ("returns", "uncertainty")
    config_type: ClassVar[type[StockformerConfig]] = StockformerConfig

    def __init__(self, config: StockformerConfig) -> None:
        super().__init__()
        if config.bars % config.patch:
            raise ValueError(f"patch must divide bars, got {config.patch} and {config.bars}")
        self.config = config
        width, patches = config.width, config.bars // config.patch
        self.of_patch = nn.Linear(config.patch * config.channels, width)
        self.of_embedding = nn.Sequential(nn.LayerNorm(config.embedding), nn.Linear(config.embedding, width))
        self.of_context = nn.Linear(config.context, width)
        self.gathering = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.positions = nn.Parameter(0.02 * torch.randn(patches + 3, width))
        sizes = (width, config.attention_heads, config.feed_forward, config.dropout)
        self.blocks = nn.ModuleList(EncoderBlock(*sizes) for _ in range(config.layers))
        self.normalise = nn.LayerNorm(width)
        self.dense = nn.Linear(width + config.context, config.dense)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.dense, 2 * len(HORIZONS))

    def forward(self, prices: torch.Tensor, embedding: torch.Tensor, context: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the raw outputs.

        Parameters
        ----------
        prices
            (N, 120, 5) open, high, low, close, volume of the window, each column scaled by itself.
        embedding
            (N, 512) of the same window; zeros where there is no encoder.
        context
            (N, 29) alignment, smart money and technical columns of the newest bar.

        Returns
        -------
        returns (N, 3) scores of the 3, 5 and 10 days ahead; uncertainty (N, 3) their deviations, positive.
        """
        config: StockformerConfig = self.config
        patches = self.of_patch(prices.reshape(-1, config.bars // config.patch, config.patch * config.channels))
        gathering = torch.zeros_like(patches[:, :1]) + self.gathering
        told = (self.of_embedding(embedding)[:, None], self.of_context(context)[:, None])
        hidden = torch.cat((gathering, *told, patches), dim=1) + self.positions
        for block in self.blocks:
            hidden, branch = block(hidden)
            hidden = hidden + self.dropout(branch)
        gathered = torch.cat((self.normalise(hidden[:, 0]), context), dim=1)
        answers = self.head(self.dropout(functional.gelu(self.dense(gathered))))
        scores, widths = answers.split(len(HORIZONS), dim=1)
        return scores, functional.softplus(widths + 0.5) + _LEAST

    def loss(self, outputs: Tensors, targets: Tensors) -> torch.Tensor:
        """Return the mean negative log-likelihood (a scalar); ``targets["score"]``: (N, 3) normal scores."""
        deviation = outputs["uncertainty"]
        miss = (targets["score"] - outputs["returns"]) / deviation
        likelihood = (0.5 * miss.square() + deviation.log()).mean()
        return likelihood + functional.mse_loss(outputs["returns"], targets["score"])
