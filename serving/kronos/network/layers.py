"""The block that tokenizer and decoder share: RMS norm, causal attention with rotary angles, gated feed-forward.

Parameter names are those of the published checkpoints. Rotary tables are computed at each call: a table that is kept
would have to be told apart by length, device and number type.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

__all__ = ["Attention", "Block", "CrossAttention", "FeedForward", "RmsNorm", "check_share", "check_size", "rotated"]

_BASE = 10_000.0
_EPSILON = 1e-5
_MOST = {"s1_bits": 20, "s2_bits": 20, "n_layers": 128, "n_enc_layers": 128, "n_dec_layers": 128}
_WIDEST = 1 << 16


def check_size(name: str, value: int) -> None:
    """Raise ValueError where a size of a configuration is none that a network can be made with."""
    most = _MOST.get(name, _WIDEST)
    if not 1 <= value <= most:
        raise ValueError(f"{name} must lie between 1 and {most}, got {value}")


def check_share(name: str, value: float) -> None:
    """Raise ValueError where what a dropout leaves out is no share."""
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must lie between 0 and 1, got {value}")


class RmsNorm(nn.Module):  # type: ignore[misc]  # torch carries no types here
    """x / √(mean x² + 1e-5) · w over the last axis (Zhang and Sennrich, 2019)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return (..., width) of (..., width)."""
        mean = (values * values).mean(dim=-1, keepdim=True)
        return values * torch.rsqrt(mean + _EPSILON) * self.weight


class _Rotary(nn.Module):  # type: ignore[misc]
    """The inverse frequencies, which checkpoints store."""

    inv_freq: torch.Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("inv_freq", 1.0 / _BASE ** (torch.arange(0, width, 2).float() / width))

    def forward(self, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (length, width) cosines and sines of positions 0 … length − 1."""
        positions = torch.arange(length, device=self.inv_freq.device, dtype=self.inv_freq.dtype)
        angles = torch.outer(positions, self.inv_freq).repeat(1, 2)
        return angles.cos(), angles.sin()


def rotated(values: torch.Tensor, angles: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Return (n, heads, T, width) turned by its angles: (x₁c − x₂s, x₂c + x₁s) of both halves (Su et al., 2021)."""
    cosine, sine = angles
    first, second = values.chunk(2, dim=-1)
    return values * cosine + torch.cat((-second, first), dim=-1) * sine


class _Projections(nn.Module):  # type: ignore[misc]
    """Biased query, key, value and output products, heads split contiguously."""

    def __init__(self, width: int, heads: int, attention_dropout: float, dropout: float) -> None:
        super().__init__()
        self.heads, self.attention_dropout = heads, attention_dropout
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.rotary = _Rotary(width // heads)
        self.resid_dropout = nn.Dropout(dropout)

    def _split(self, values: torch.Tensor) -> torch.Tensor:
        return values.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _attended(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, causal: bool) -> torch.Tensor:
        share = self.attention_dropout if self.training else 0.0
        found = functional.scaled_dot_product_attention(query, key, value, dropout_p=share, is_causal=causal)
        return self.resid_dropout(self.out_proj(found.transpose(1, 2).flatten(2)))


class Attention(_Projections):
    """Causal self-attention."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return (n, T, width): what each position gathers from itself and those before it."""
        angles = self.rotary(values.shape[1])
        query, key = self._split(self.q_proj(values)), self._split(self.k_proj(values))
        value = self._split(self.v_proj(values))
        return self._attended(rotated(query, angles), rotated(key, angles), value, causal=True)


class CrossAttention(_Projections):
    """Attention of one sequence to another: causal in training, where the targets stand behind it, and else not."""

    def forward(self, query: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Return (n, Q, width) of (n, Q, width) queries and (n, T, width) keys and values.

        Angles are those of the queries' positions: Q must be T, or 1, which is angle 0 for the query and all keys.
        """
        angles = self.rotary(query.shape[1])
        asked, key = self._split(self.q_proj(query)), self._split(self.k_proj(context))
        value = self._split(self.v_proj(context))
        return self._attended(rotated(asked, angles), rotated(key, angles), value, causal=self.training)


class FeedForward(nn.Module):  # type: ignore[misc]
    """w2(silu(w1 x) · w3 x), without biases (Shazeer, 2020)."""

    def __init__(self, width: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.w1, self.w3 = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        self.w2 = nn.Linear(inner, width, bias=False)
        self.ffn_dropout = nn.Dropout(dropout)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return (..., width) of (..., width)."""
        return self.ffn_dropout(self.w2(functional.silu(self.w1(values)) * self.w3(values)))


class Block(nn.Module):  # type: ignore[misc]
    """x += attention(norm x); x += feed-forward(norm x)."""

    def __init__(
        self,
        width: int,
        heads: int,
        inner: int,
        *,
        ffn_dropout: float = 0.0,
        attention_dropout: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = RmsNorm(width)
        self.self_attn = Attention(width, heads, attention_dropout, dropout)
        self.norm2 = RmsNorm(width)
        self.ffn = FeedForward(width, inner, ffn_dropout)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return (n, T, width) of (n, T, width)."""
        values = values + self.self_attn(self.norm1(values))
        return values + self.ffn(self.norm2(values))
