"""The tokenizer: each bar of a window becomes s1 + s2 bits on a sphere, and bits become a bar again.

Binary spherical quantisation (Zhao, Xiong and Krähenbühl, 2024): the encoder's output is put on the unit sphere, and
its signs are the code. In training signs pass the gradient on, and the loss is reconstruction from all bits and from
the s1 bits alone, commitment, and the entropies that let single codes be sure and all codes be used.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from serving.kronos.network.layers import Block, check_share, check_size

__all__ = ["KronosTokenizer", "TokenizerConfig"]


@dataclass(frozen=True, slots=True)
class TokenizerConfig:
    """``config.json`` of a tokenizer; layers count one more than the blocks that are stored."""

    d_in: int = 6
    d_model: int = 256
    n_heads: int = 4
    ff_dim: int = 512
    n_enc_layers: int = 4
    n_dec_layers: int = 4
    ffn_dropout_p: float = 0.0
    attn_dropout_p: float = 0.0
    resid_dropout_p: float = 0.0
    s1_bits: int = 10
    s2_bits: int = 10
    beta: float = 0.05
    gamma0: float = 1.0
    gamma: float = 1.1
    zeta: float = 0.05
    group_size: int = 4

    def __post_init__(self) -> None:
        for name in ("d_in", "d_model", "n_heads", "ff_dim", "n_enc_layers", "n_dec_layers", "s1_bits", "s2_bits"):
            check_size(name, getattr(self, name))
        for name in ("ffn_dropout_p", "attn_dropout_p", "resid_dropout_p"):
            check_share(name, getattr(self, name))
        if self.d_model % (2 * self.n_heads):
            raise ValueError(f"d_model must be an even multiple of n_heads, got {self.d_model} and {self.n_heads}")
        if self.group_size < 1 or self.bits % self.group_size:
            raise ValueError(f"group_size must divide the {self.bits} bits, got {self.group_size}")

    @property
    def bits(self) -> int:
        """Bits of a bar."""
        return self.s1_bits + self.s2_bits


class _Quantiser(nn.Module):  # type: ignore[misc]  # torch carries no types here
    """The buffers that checkpoints store; inference does not use them."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.register_buffer("basis", 2 ** torch.arange(config.bits - 1, -1, -1))
        self.register_buffer("group_basis", 2 ** torch.arange(config.group_size - 1, -1, -1))


class KronosTokenizer(nn.Module):  # type: ignore[misc]
    """Encoder, quantiser and decoder; parameters are named as in the published checkpoints."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Linear(config.d_in, config.d_model)
        self.head = nn.Linear(config.d_model, config.d_in)
        self.encoder = nn.ModuleList(_block(config) for _ in range(config.n_enc_layers - 1))
        self.decoder = nn.ModuleList(_block(config) for _ in range(config.n_dec_layers - 1))
        self.quant_embed = nn.Linear(config.d_model, config.bits)
        self.post_quant_embed_pre = nn.Linear(config.s1_bits, config.d_model)
        self.post_quant_embed = nn.Linear(config.bits, config.d_model)
        self.tokenizer = nn.ModuleDict({"bsq": _Quantiser(config)})

    def on_sphere(self, bars: torch.Tensor) -> torch.Tensor:
        """Return (n, T, bits) unit vectors of (n, T, 6) normalised bars; their signs are the code."""
        hidden = self.embed(bars)
        for block in self.encoder:
            hidden = block(hidden)
        return functional.normalize(self.quant_embed(hidden), dim=-1)

    def encode(self, bars: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (n, T) coarse and fine token of each of (n, T, 6) normalised bars; bits count from the least."""
        bits = (self.on_sphere(bars) > 0).long()
        return _number(bits[..., : self.config.s1_bits]), _number(bits[..., self.config.s1_bits :])

    def decode(self, s1: torch.Tensor, s2: torch.Tensor) -> torch.Tensor:
        """Return (n, T, 6) normalised bars of (n, T) tokens."""
        bits = torch.cat((_bits(s1, self.config.s1_bits), _bits(s2, self.config.s2_bits)), dim=-1)
        return self.reconstruct(self._scaled(bits))

    def decode_coarse(self, s1: torch.Tensor) -> torch.Tensor:
        """Return (n, T, 6) normalised bars of (n, T) coarse tokens alone."""
        return self.reconstruct(self._scaled(_bits(s1, self.config.s1_bits)))

    def reconstruct(self, code: torch.Tensor) -> torch.Tensor:
        """Return (n, T, 6) bars of (n, T, bits) ± 1/√bits, or of the s1 bits alone."""
        entry = self.post_quant_embed if code.shape[-1] == self.config.bits else self.post_quant_embed_pre
        hidden = entry(code)
        for block in self.decoder:
            hidden = block(hidden)
        return self.head(hidden)

    def loss(self, bars: torch.Tensor) -> torch.Tensor:
        """Return the training loss (a scalar) of (n, T, 6) normalised bars."""
        sphere = self.on_sphere(bars)
        code = self._scaled(sphere + ((sphere > 0).float() - sphere).detach())
        fine = functional.mse_loss(self.reconstruct(code), bars)
        coarse = functional.mse_loss(self.reconstruct(code[..., : self.config.s1_bits]), bars)
        commitment = self.config.beta * ((code.detach() - sphere) ** 2).sum(dim=-1).mean()
        return (fine + coarse + commitment + self.config.zeta * self._entropy(sphere)) / 2

    def _scaled(self, bits: torch.Tensor) -> torch.Tensor:
        """Return ± 1/√(all bits) of bits 0 and 1."""
        return (bits.to(self.embed.weight.dtype) * 2 - 1) / self.config.bits**0.5

    def _entropy(self, sphere: torch.Tensor) -> torch.Tensor:
        """Return how unsure single bits are less how evenly the codes of each group are used.

        Bits are taken as independent, so a group's entropy is the sum of its bits' (the paper's equation 11).
        """
        sure = torch.sigmoid(4 * sphere / self.config.bits**0.5)
        used = sure.flatten(0, -2).mean(dim=0)
        return self.config.gamma0 * _uncertainty(sure).sum(dim=-1).mean() - self.config.gamma * _uncertainty(used).sum()


def _block(config: TokenizerConfig) -> Block:
    return Block(
        config.d_model,
        config.n_heads,
        config.ff_dim,
        ffn_dropout=config.ffn_dropout_p,
        attention_dropout=config.attn_dropout_p,
        dropout=config.resid_dropout_p,
    )


def _number(bits: torch.Tensor) -> torch.Tensor:
    return (bits * 2 ** torch.arange(bits.shape[-1], device=bits.device)).sum(dim=-1)


def _bits(number: torch.Tensor, count: int) -> torch.Tensor:
    return (number[..., None] >> torch.arange(count, device=number.device)) & 1


def _uncertainty(share: torch.Tensor) -> torch.Tensor:
    """Return the entropy of bits that are 1 with probability ``share``."""
    return -(share * (share + 1e-8).log() + (1 - share) * (1 - share + 1e-8).log())
