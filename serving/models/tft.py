"""TFT (TFT-XL): variable selection, an LSTM, interpretable attention and gates (Lim et al., 2021) over daily windows.

Time steps are stretches of five bars, each channel a variable of its own; the Kronos vector and the context are what is
known of the stock besides, and steer every part. The newest step asks, so one row of attention weights tells which
stretches of the window were looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from serving.models.blocks import GatedResidual
from serving.models.protocol import Tensors
from serving.models.swing import HORIZONS, LEVELS, SwingModel, pinball

__all__ = ["PRESETS", "TftConfig", "TftModel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TftConfig:
    """Sizes of the network; ``step`` in bars."""

    bars: int = 120
    channels: int = 5
    embedding: int = 512
    context: int = 29
    step: int = 5
    width: int = 32
    attention_heads: int = 4
    dropout: float = 0.2


PRESETS = {"full": TftConfig(width=352, attention_heads=8), "small": TftConfig(step=10)}
"""``full`` has about 6 M parameters, ``small``, the starter, fewer than 1 M."""


class TftModel(SwingModel):
    """Variable selection, recurrent layer, enrichment, attention and heads."""

    outputs: ClassVar[tuple[str, ...]] = ("returns", "quantiles", "attention")
    config_type: ClassVar[type[TftConfig]] = TftConfig

    def __init__(self, config: TftConfig) -> None:
        super().__init__()
        if config.bars % config.step:
            raise ValueError(f"step must divide bars, got {config.step} and {config.bars}")
        self.config = config
        width, dropout = config.width, config.dropout
        self.of_embedding = nn.Sequential(nn.LayerNorm(config.embedding), nn.Linear(config.embedding, width))
        self.static = GatedResidual(width + config.context, width, width, dropout)
        self.variables = nn.ModuleList(
            GatedResidual(config.step, width, width, dropout) for _ in range(config.channels)
        )
        inputs = config.step * config.channels
        self.selection = GatedResidual(inputs, width, config.channels, dropout, context=width)
        self.start = nn.Linear(width, 2 * width)
        self.recurrent = nn.LSTM(width, width, batch_first=True)
        self.after_recurrent = nn.Linear(width, 2 * width)
        self.recurrent_norm = nn.LayerNorm(width)
        self.enrichment = GatedResidual(width, width, width, dropout, context=width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width // config.attention_heads)
        self.out = nn.Linear(width // config.attention_heads, width)
        self.after_attention = nn.Linear(width, 2 * width)
        self.attention_norm = nn.LayerNorm(width)
        self.feed_forward = GatedResidual(width, width, width, dropout)
        self.dropout = nn.Dropout(dropout)
        self.scores = nn.Linear(width + config.context, len(HORIZONS))
        self.spread = nn.Linear(width + config.context, len(HORIZONS) * len(LEVELS))

    def forward(self, prices: torch.Tensor, embedding: torch.Tensor, context: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the raw outputs.

        Parameters
        ----------
        prices, embedding, context
            As for `serving.models.stockformer.StockformerModel.forward`.

        Returns
        -------
        returns (N, 3) scores of the 3, 5 and 10 days ahead; quantiles (N, 3, 3) of them at 10, 50 and 90 %, rising;
        attention (N, 24) weights of the steps, oldest first, which sum to 1.
        """
        config: TftConfig = self.config
        steps = config.bars // config.step
        stretches = prices.reshape(-1, steps, config.step, config.channels)
        static = self.static(torch.cat((self.of_embedding(embedding), context), dim=1))
        seen = torch.stack([one(stretches[..., place]) for place, one in enumerate(self.variables)], dim=3)
        shares = torch.softmax(self.selection(stretches.flatten(2), static[:, None]), dim=2)
        chosen = (seen * shares[:, :, None]).sum(dim=3)
        first, cell = self.start(static)[None].split(config.width, dim=2)
        ran, _ = self.recurrent(chosen, (first.contiguous(), cell.contiguous()))
        hidden = self.recurrent_norm(chosen + functional.glu(self.after_recurrent(self.dropout(ran)), dim=2))
        enriched = self.enrichment(hidden, static[:, None])
        attended, weights = self._attended(enriched)
        newest = self.attention_norm(enriched[:, -1] + functional.glu(self.after_attention(attended), dim=1))
        told = torch.cat((self.feed_forward(newest), context), dim=1)
        middle, low, high = self.spread(told).reshape(-1, len(HORIZONS), len(LEVELS)).unbind(2)
        quantiles = torch.stack((middle - functional.softplus(low), middle, middle + functional.softplus(high)), dim=2)
        return self.scores(told), quantiles, weights

    def _attended(self, enriched: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (N, W) what the newest step takes of all, and (N, T) the mean of the heads' weights.

        All heads share one value, so their mean weights are the weights of what was taken.
        """
        heads, (_, steps, width) = self.config.attention_heads, enriched.shape
        size = width // heads
        query = self.query(enriched[:, -1]).reshape(-1, heads, 1, size)
        key = self.key(enriched).reshape(-1, steps, heads, size).permute(0, 2, 3, 1)
        weights = torch.softmax((query @ key).squeeze(2) * size**-0.5, dim=2).mean(dim=1)
        taken = (self.dropout(weights)[:, None] @ self.value(enriched)).squeeze(1)
        return self.out(taken), weights

    def loss(self, outputs: Tensors, targets: Tensors) -> torch.Tensor:
        """Return the squared loss of the scores and the pinball loss of the quantiles (a scalar).

        ``targets["score"]``: (N, 3) normal scores.
        """
        score = targets["score"]
        return functional.mse_loss(outputs["returns"], score) + pinball(outputs["quantiles"], score)
