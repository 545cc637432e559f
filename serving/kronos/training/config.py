"""Every choice that changes the stand-in, frozen."""

from __future__ import annotations

from dataclasses import dataclass, field

from serving.instants import instant_of
from serving.kronos.network import DecoderConfig, TokenizerConfig

__all__ = ["Recipe"]


def _tokenizer() -> TokenizerConfig:
    return TokenizerConfig(
        d_model=64, n_heads=4, ff_dim=128, n_enc_layers=3, n_dec_layers=3, s1_bits=6, s2_bits=6, group_size=4
    )


def _decoder() -> DecoderConfig:
    return DecoderConfig(
        s1_bits=6,
        s2_bits=6,
        n_layers=2,
        d_model=512,
        n_heads=8,
        ff_dim=256,
        ffn_dropout_p=0.1,
        attn_dropout_p=0.0,
        resid_dropout_p=0.1,
        token_dropout_p=0.05,
    )


@dataclass(frozen=True, slots=True)
class Recipe:
    """One training run.

    Parameters
    ----------
    tokenizer, decoder
        Sizes; embeddings are as wide as the decoder.
    sequence
        Bars of a window.
    timeframes
        Share of the windows that each gives.
    until
        ISO instant with a zone; bars from then on are never seen, so that what is judged later stays untouched.
    validation
        Share of each series' bars before ``until``, the newest, that only judge.
    tokenizer_steps, decoder_steps, batch
        Steps of either, and windows of a step.
    learning_rate
        Adam's largest; reached after a tenth of the steps, then let down by a half cosine.
    gradient_norm
        Gradients are scaled down to this norm.
    judged
        Windows behind each figure of the report.
    seed, threads
        With the same data, library versions and machine type these fix every byte of the bundle's manifest.
    """

    tokenizer: TokenizerConfig = field(default_factory=_tokenizer)
    decoder: DecoderConfig = field(default_factory=_decoder)
    sequence: int = 120
    timeframes: tuple[tuple[str, float], ...] = (("1d", 0.6), ("4h", 0.15), ("1h", 0.25))
    until: str = "2021-01-01T00:00:00Z"
    validation: float = 0.1
    tokenizer_steps: int = 800
    decoder_steps: int = 400
    batch: int = 16
    learning_rate: float = 1e-3
    gradient_norm: float = 1.0
    judged: int = 512
    seed: int = 20240
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("tokenizer_steps", "decoder_steps", "batch", "judged", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.sequence < 2:
            raise ValueError(f"sequence must be at least 2, got {self.sequence}")
        if not 0 < self.validation < 1:
            raise ValueError(f"validation must lie between 0 and 1, got {self.validation}")
        if not self.timeframes or min(share for _, share in self.timeframes) <= 0:
            raise ValueError(f"timeframes must each have a positive share, got {self.timeframes}")
        made, taken = self.tokenizer, self.decoder
        if (made.s1_bits, made.s2_bits) != (taken.s1_bits, taken.s2_bits):
            raise ValueError("tokenizer and decoder must be of the same bits")
        instant_of(self.until, "until")
