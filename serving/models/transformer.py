"""The Transformer: two encoder blocks over 60 bars, mean pooling, and Monte-Carlo dropout whose masks are an input.

The first six outputs are those of the whole network. The seventh, ``samples``, are the logits of thinned ones: a mask
keeps or drops columns of the last block's feed-forward branch, of the pooled vector and of both dense layers (Gal and
Ghahramani, 2016). One mask holds for all bars of a window, and pooling is a mean over them, so a mask of the last
branch may be applied after pooling: everything before is computed once, whatever the number of samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from serving.models.sequence import SequenceConfig, SequenceModel

__all__ = ["SAMPLED", "TransformerConfig", "TransformerModel"]

SAMPLED = ("direction", "touch", "win")
"""Heads whose logits ``samples`` holds, in this order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerConfig(SequenceConfig):
    """Sizes of the network; ``samples`` masks drawn from ``sampling_seed`` drop a share of ``dropout`` when served."""

    width: int = 48
    attention_heads: int = 4
    feed_forward: int = 128
    blocks: int = 2
    samples: int = 30
    sampling_seed: int = 20240

    @property
    def masked(self) -> int:
        """Columns of a mask: the last branch, the pooled vector, both dense layers."""
        return 2 * self.width + sum(self.dense)


class _Block(nn.Module):  # type: ignore[misc]  # torch carries no types here
    """Attention and feed-forward branches, normalised before each; the caller adds the second branch."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads = config.attention_heads
        self.before_attention = nn.LayerNorm(config.width)
        self.before_feed_forward = nn.LayerNorm(config.width)
        self.query_key_value = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)
        self.widen = nn.Linear(config.width, config.feed_forward)
        self.narrow = nn.Linear(config.feed_forward, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (N, T, W) twice: the sum after attention, and the feed-forward branch to be added to it."""
        _, bars, width = hidden.shape
        size = width // self.heads
        parts = self.query_key_value(self.before_attention(hidden)).reshape(-1, bars, 3, self.heads, size)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        weights = torch.softmax(query @ key.transpose(2, 3) * size**-0.5, dim=3)
        attended = (self.dropout(weights) @ value).transpose(1, 2).reshape(-1, bars, width)
        hidden = hidden + self.dropout(self.out(attended))
        return hidden, self.narrow(self.dropout(functional.gelu(self.widen(self.before_feed_forward(hidden)))))


class TransformerModel(SequenceModel):
    """Learned positions, encoder blocks, mean pooling; the dense layers and heads of its family."""

    inputs: ClassVar[tuple[str, ...]] = ("features", "calendar", "volatility", "masks")
    outputs: ClassVar[tuple[str, ...]] = (*SequenceModel.outputs, "samples")
    config_type: ClassVar[type[TransformerConfig]] = TransformerConfig
    slims: ClassVar[bool] = False
    sampled: ClassVar[tuple[str, ...]] = ("masks", "samples")

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.project = nn.Linear(config.features + config.calendar, config.width)
        self.positions = nn.Parameter(0.02 * torch.randn(config.sequence, config.width))
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.blocks))
        self.add_heads(config.width)

    def forward(  # type: ignore[override]  # no caller knows the base class
        self, features: torch.Tensor, calendar: torch.Tensor, volatility: torch.Tensor, masks: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Return the raw outputs of `SequenceModel.forward`, then ``samples`` (N, S, 18) logits of `SAMPLED`.

        ``masks``: (N, S, ``config.masked``) factors of the masked columns, 0 or 1 / (1 - dropped share).
        """
        hidden = self.project(torch.cat((features, calendar), dim=2)) + self.positions
        branch = torch.zeros_like(hidden)
        for block in self.blocks:
            hidden, branch = block(hidden + self.dropout(branch))
        kept, branch = hidden.mean(dim=1), self.dropout(branch).mean(dim=1)
        present = self.present(calendar, volatility)
        dense = functional.silu(self.dense_1(torch.cat((self.dropout(kept + branch), features[:, -1], present), dim=1)))
        dense = functional.silu(self.dense_2(self.dropout(dense)))
        answers = self.answers(self.dropout(dense), present)
        return *answers, self._samples(kept, branch, features[:, -1], present, masks)

    def _samples(
        self,
        kept: torch.Tensor,
        branch: torch.Tensor,
        newest: torch.Tensor,
        present: torch.Tensor,
        masks: torch.Tensor,
    ) -> torch.Tensor:
        """Return (N, S, 18) logits; what no mask touches is multiplied once for all samples."""
        width, (first, second) = self.config.width, self.config.dense
        of_branch, of_pooled, of_first, of_second = torch.split(masks, (width, width, first, second), dim=2)
        pooled = (kept[:, None] + branch[:, None] * of_branch) * of_pooled
        weights = self.dense_1.weight
        alike = functional.linear(torch.cat((newest, present), dim=1), weights[:, width:], self.dense_1.bias)
        dense = functional.silu(functional.linear(pooled, weights[:, :width]) + alike[:, None])
        dense = functional.silu(self.dense_2(dense * of_first)) * of_second
        parts = [self.heads[name](dense) for name in SAMPLED]
        direct = [self.direct[name](present)[:, None] if name in self.direct else 0.0 for name in SAMPLED]
        return torch.cat([part + own for part, own in zip(parts, direct, strict=True)], dim=2)

    def example(self, rows: int) -> tuple[torch.Tensor, ...]:
        """Return zero-filled inputs of ``rows`` rows, two samples."""
        return *super().example(rows), torch.zeros(rows, 2, self.config.masked)
