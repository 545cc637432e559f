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

from serving.models.blocks import EncoderBlock
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
        sizes = (config.width, config.attention_heads, config.feed_forward, config.dropout)
        self.blocks = nn.ModuleList(EncoderBlock(*sizes) for _ in range(config.blocks))
        self.add_heads(config.width)

    def forward(
        self, features: torch.Tensor, calendar: torch.Tensor, volatility: torch.Tensor, masks: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Return the raw outputs of `SummingModel.forward`, then ``samples`` (N, S, 18) logits of `SAMPLED`.

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
