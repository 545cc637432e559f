"""The decoder: from the tokens of a window to a context for each bar, and from that to the next tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from serving.kronos.network.layers import Block, CrossAttention, RmsNorm, check_share, check_size

__all__ = ["DecoderConfig", "KronosDecoder"]

_TABLES = (("minute", 60), ("hour", 24), ("weekday", 7), ("day", 32), ("month", 13))
_DEPENDENCY_HEADS = 4  # whatever n_heads says


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """``config.json`` of a decoder; the defaults are the published small size."""

    s1_bits: int = 10
    s2_bits: int = 10
    n_layers: int = 8
    d_model: int = 512
    n_heads: int = 8
    ff_dim: int = 1024
    ffn_dropout_p: float = 0.25
    attn_dropout_p: float = 0.1
    resid_dropout_p: float = 0.25
    token_dropout_p: float = 0.1
    learn_te: bool = True

    def __post_init__(self) -> None:
        for name in ("s1_bits", "s2_bits", "n_layers", "d_model", "n_heads", "ff_dim"):
            check_size(name, getattr(self, name))
        for name in ("ffn_dropout_p", "attn_dropout_p", "resid_dropout_p", "token_dropout_p"):
            check_share(name, getattr(self, name))
        for heads in (self.n_heads, _DEPENDENCY_HEADS):
            if self.d_model % (2 * heads):
                raise ValueError(f"d_model must be an even multiple of {heads} heads, got {self.d_model}")


class _TokenEmbedding(nn.Module):  # type: ignore[misc]  # torch carries no types here
    """Both tokens of a bar become one vector: fusion_proj(√d · E₁[s1], √d · E₂[s2])."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.scale = math.sqrt(config.d_model)
        self.emb_s1 = nn.Embedding(2**config.s1_bits, config.d_model)
        self.emb_s2 = nn.Embedding(2**config.s2_bits, config.d_model)
        self.fusion_proj = nn.Linear(2 * config.d_model, config.d_model)

    def forward(self, s1: torch.Tensor, s2: torch.Tensor) -> torch.Tensor:
        """Return (n, T, d) of (n, T) tokens."""
        return self.fusion_proj(torch.cat((self.emb_s1(s1) * self.scale, self.emb_s2(s2) * self.scale), dim=-1))


class _FixedTable(nn.Module):  # type: ignore[misc]
    """A table of sines and cosines; stored, and loaded, like any other."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        step = torch.exp(torch.arange(0, width, 2).float() * -(math.log(10_000.0) / width))
        angles = torch.arange(rows).float()[:, None] * step
        self.emb = nn.Embedding(rows, width)
        self.emb.weight = nn.Parameter(
            torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1), requires_grad=False
        )

    def forward(self, places: torch.Tensor) -> torch.Tensor:
        return self.emb(places)


class _TimeEmbedding(nn.Module):  # type: ignore[misc]
    """The sum of five tables, unscaled."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        table = nn.Embedding if config.learn_te else _FixedTable
        for name, rows in _TABLES:
            setattr(self, f"{name}_embed", table(rows, config.d_model))

    def forward(self, stamps: torch.Tensor) -> torch.Tensor:
        """Return (n, T, d) of (n, T, 5) minute, hour, weekday, day, month."""
        found = [getattr(self, f"{name}_embed")(stamps[..., place]) for place, (name, _) in enumerate(_TABLES)]
        return torch.stack(found).sum(dim=0)


class _Dependency(nn.Module):  # type: ignore[misc]
    """The context, told the coarse token that was chosen."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cross_attn = CrossAttention(width, _DEPENDENCY_HEADS, 0.0, 0.0)
        self.norm = RmsNorm(width)

    def forward(self, context: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        return self.norm(context + self.cross_attn(chosen, context))


class KronosDecoder(nn.Module):  # type: ignore[misc]
    """Token embedding, causal blocks, and two heads; parameters are named as in the published checkpoints."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = _TokenEmbedding(config)
        self.time_emb = _TimeEmbedding(config)
        self.token_drop = nn.Dropout(config.token_dropout_p)
        self.transformer = nn.ModuleList(
            Block(
                config.d_model,
                config.n_heads,
                config.ff_dim,
                ffn_dropout=config.ffn_dropout_p,
                attention_dropout=config.attn_dropout_p,
                dropout=config.resid_dropout_p,
            )
            for _ in range(config.n_layers)
        )
        self.norm = RmsNorm(config.d_model)
        self.dep_layer = _Dependency(config.d_model)
        sizes = {"proj_s1": 2**config.s1_bits, "proj_s2": 2**config.s2_bits}
        self.head = nn.ModuleDict({name: nn.Linear(config.d_model, size) for name, size in sizes.items()})

    def initialise(self) -> None:
        """Set fresh weights for training: Glorot's for products, width^-½ for tables, zeros for biases."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding) and module.weight.requires_grad:
                nn.init.normal_(module.weight, std=self.config.d_model**-0.5)

    def context(self, s1: torch.Tensor, s2: torch.Tensor, stamps: torch.Tensor) -> torch.Tensor:
        """Return (n, T, d), the last hidden states after the final norm; row t knows bars 0 … t.

        Parameters
        ----------
        s1, s2
            (n, T) tokens of the bars.
        stamps
            (n, T, 5) minute, hour, weekday, day, month of each.
        """
        hidden = self.token_drop(self.embedding(s1, s2) + self.time_emb(stamps))
        for block in self.transformer:
            hidden = block(hidden)
        return self.norm(hidden)

    def s1_logits(self, context: torch.Tensor) -> torch.Tensor:
        """Return (n, T, 2^s1_bits) logits of the next coarse token."""
        return self.head["proj_s1"](context)

    def s2_logits(self, context: torch.Tensor, s1: torch.Tensor) -> torch.Tensor:
        """Return (n, T, 2^s2_bits) logits of the next fine token, given its coarse one.

        Parameters
        ----------
        s1
            (n, T) coarse token that follows each position, or (n, 1): the one that follows the last.
        """
        return self.head["proj_s2"](self.dep_layer(context, self.embedding.emb_s1(s1)))

    def loss(self, s1: torch.Tensor, s2: torch.Tensor, stamps: torch.Tensor) -> torch.Tensor:
        """Return the mean cross entropy (a scalar) of both next tokens, of (n, T) tokens and (n, T, 5) stamps."""
        context = self.context(s1[:, :-1], s2[:, :-1], stamps[:, :-1])
        coarse = functional.cross_entropy(self.s1_logits(context).flatten(0, 1), s1[:, 1:].flatten())
        fine = functional.cross_entropy(self.s2_logits(context, s1[:, 1:]).flatten(0, 1), s2[:, 1:].flatten())
        return (coarse + fine) / 2
