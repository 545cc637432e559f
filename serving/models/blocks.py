"""Parts that several networks are made of: an encoder block of a transformer, a gated residual network."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

__all__ = ["EncoderBlock", "GatedResidual"]


class EncoderBlock(nn.Module):  # type: ignore[misc]  # torch carries no types here
    """Attention and feed-forward branches, normalised before each; the caller adds the second branch."""

    def __init__(self, width: int, heads: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention = nn.LayerNorm(width)
        self.before_feed_forward = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.widen = nn.Linear(width, feed_forward)
        self.narrow = nn.Linear(feed_forward, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (N, T, W) twice: the sum after attention, and the feed-forward branch to be added to it."""
        _, tokens, width = hidden.shape
        size = width // self.heads
        parts = self.query_key_value(self.before_attention(hidden)).reshape(-1, tokens, 3, self.heads, size)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        weights = torch.softmax(query @ key.transpose(2, 3) * size**-0.5, dim=3)
        attended = (self.dropout(weights) @ value).transpose(1, 2).reshape(-1, tokens, width)
        hidden = hidden + self.dropout(self.out(attended))
        return hidden, self.narrow(self.dropout(functional.gelu(self.widen(self.before_feed_forward(hidden)))))


class GatedResidual(nn.Module):  # type: ignore[misc]  # torch carries no types here
    """A gated residual network (Lim et al., 2021, equations 2 to 5): the gate may close what is not needed."""

    def __init__(self, inputs: int, hidden: int, outputs: int, dropout: float, *, context: int = 0) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, hidden)
        self.context = nn.Linear(context, hidden, bias=False) if context else None
        self.second = nn.Linear(hidden, hidden)
        self.gate = nn.Linear(hidden, 2 * outputs)
        self.skip = nn.Linear(inputs, outputs) if inputs != outputs else None
        self.normalise = nn.LayerNorm(outputs)
        self.dropout = nn.Dropout(dropout)

    def forward(self, given: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        """Return (..., outputs) from (..., inputs); ``context`` (..., context) joins before the first activation."""
        inner = self.first(given)
        if self.context is not None and context is not None:
            inner = inner + self.context(context)
        inner = self.dropout(self.second(functional.elu(inner)))
        kept = given if self.skip is None else self.skip(given)
        normalised: torch.Tensor = self.normalise(kept + functional.glu(self.gate(inner), dim=-1))
        return normalised
