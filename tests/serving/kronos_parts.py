"""Small Kronos networks with random weights, and the same arithmetic once more in numpy.

The numpy side shares no code with the torch side: it takes a plain dictionary of weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from serving.kronos.network import DecoderConfig, KronosDecoder, KronosTokenizer, TokenizerConfig

TOKENIZER = TokenizerConfig(
    d_model=16, n_heads=2, ff_dim=24, n_enc_layers=3, n_dec_layers=2, s1_bits=3, s2_bits=4, group_size=7
)
DECODER = DecoderConfig(
    s1_bits=3, s2_bits=4, n_layers=2, d_model=24, n_heads=3, ff_dim=20, ffn_dropout_p=0.0, attn_dropout_p=0.0,
    resid_dropout_p=0.0, token_dropout_p=0.0,
)  # fmt: skip
Floats = NDArray[np.float64]
Weights = dict[str, Floats]


def networks(
    tokenizer: TokenizerConfig = TOKENIZER, decoder: DecoderConfig = DECODER, *, seed: int = 7
) -> tuple[KronosTokenizer, KronosDecoder]:
    """Return networks in evaluation mode whose weights are large enough for every part to matter."""
    random = torch.Generator().manual_seed(seed)
    made = KronosTokenizer(tokenizer).eval(), KronosDecoder(decoder).eval()
    with torch.no_grad():
        for network in made:
            for name, value in network.named_parameters():
                noise = torch.randn(value.shape, generator=random)
                value.copy_(1.0 + 0.2 * noise if "norm" in name else noise / value.shape[-1] ** 0.5)
    return made


def bars(windows: int, length: int, *, seed: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (n, T, 6) values within the clip, and (n, T, 5) stamps."""
    random = np.random.default_rng(seed)
    values = np.clip(random.standard_normal((windows, length, 6)), -5, 5).astype(np.float32)
    stamps = random.integers(0, (60, 24, 7, 28, 12), (windows, length, 5)) + np.array((0, 0, 0, 1, 1))
    return torch.from_numpy(values), torch.from_numpy(stamps)


def weights_of(network: torch.nn.Module) -> Weights:
    return {name: value.double().numpy() for name, value in network.state_dict().items()}


def linear(weights: Weights, name: str, values: Floats) -> Floats:
    return values @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", np.zeros(1))


def rms_norm(values: Floats, weight: Floats) -> Floats:
    return values / np.sqrt(np.mean(values**2, axis=-1, keepdims=True) + 1e-5) * weight


def turned(values: Floats, angles: Floats) -> Floats:
    """Rotate each pair (i, i + width/2) of (T, width) by its angle: a complex number times e^(iθ)."""
    half = values.shape[1] // 2
    rotated = (values[:, :half] + 1j * values[:, half:]) * np.exp(1j * angles)
    return np.concatenate((rotated.real, rotated.imag), axis=1)


def attention(weights: Weights, name: str, query: Floats, context: Floats, heads: int, *, causal: bool) -> Floats:
    """Return what (Q, d) queries gather from a (T, d) context, one head and one position at a time."""
    width = query.shape[1] // heads
    asked, key = linear(weights, f"{name}.q_proj", query), linear(weights, f"{name}.k_proj", context)
    value = linear(weights, f"{name}.v_proj", context)
    frequencies = 10_000.0 ** (-2 * np.arange(width // 2) / width)
    gathered = np.zeros_like(asked)
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        turns_q = np.arange(len(query))[:, None] * frequencies
        turns_k = np.arange(len(context))[:, None] * frequencies * (len(query) > 1)
        q, k = turned(asked[:, own], turns_q), turned(key[:, own], turns_k)
        for place in range(len(query)):
            seen = place + 1 if causal else len(context)
            scores = k[:seen] @ q[place] / np.sqrt(width)
            shares = np.exp(scores - scores.max())
            gathered[place, own] = shares / shares.sum() @ value[:seen, own]
    return linear(weights, f"{name}.out_proj", gathered)


def block(weights: Weights, name: str, values: Floats, heads: int) -> Floats:
    normed = rms_norm(values, weights[f"{name}.norm1.weight"])
    values = values + attention(weights, f"{name}.self_attn", normed, normed, heads, causal=True)
    normed = rms_norm(values, weights[f"{name}.norm2.weight"])
    gate, up = linear(weights, f"{name}.ffn.w1", normed), linear(weights, f"{name}.ffn.w3", normed)
    return values + linear(weights, f"{name}.ffn.w2", gate / (1 + np.exp(-gate)) * up)


def tokens(weights: Weights, config: Any, window: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return coarse and fine tokens of a (T, 6) window."""
    hidden = linear(weights, "embed", window)
    for layer in range(config.n_enc_layers - 1):
        hidden = block(weights, f"encoder.{layer}", hidden, config.n_heads)
    bits = linear(weights, "quant_embed", hidden) > 0
    powers = 2 ** np.arange(bits.shape[1])
    return bits[:, : config.s1_bits] @ powers[: config.s1_bits], bits[:, config.s1_bits :] @ powers[: config.s2_bits]


def decoded(weights: Weights, config: Any, s1: NDArray[np.int64], s2: NDArray[np.int64] | None) -> Floats:
    """Return the (T, 6) reconstruction from both tokens, or from the coarse one alone."""
    signs = [[1.0 if number >> place & 1 else -1.0 for place in range(config.s1_bits)] for number in s1.tolist()]
    entry = "post_quant_embed_pre"
    if s2 is not None:
        entry = "post_quant_embed"
        fine = [[1.0 if number >> place & 1 else -1.0 for place in range(config.s2_bits)] for number in s2.tolist()]
        signs = [one + other for one, other in zip(signs, fine, strict=True)]
    hidden = linear(weights, entry, np.array(signs) / np.sqrt(config.s1_bits + config.s2_bits))
    for layer in range(config.n_dec_layers - 1):
        hidden = block(weights, f"decoder.{layer}", hidden, config.n_heads)
    return linear(weights, "head", hidden)


def context(
    weights: Weights, config: Any, s1: NDArray[np.int64], s2: NDArray[np.int64], stamps: NDArray[np.int64]
) -> Floats:
    """Return the (T, d) context of a window's tokens and stamps."""
    scale = np.sqrt(config.d_model)
    both = np.concatenate(
        (weights["embedding.emb_s1.weight"][s1] * scale, weights["embedding.emb_s2.weight"][s2] * scale), axis=1
    )
    hidden = linear(weights, "embedding.fusion_proj", both)
    for place, name in enumerate(("minute", "hour", "weekday", "day", "month")):
        suffix = "weight" if config.learn_te else "emb.weight"
        hidden = hidden + weights[f"time_emb.{name}_embed.{suffix}"][stamps[:, place]]
    for layer in range(config.n_layers):
        hidden = block(weights, f"transformer.{layer}", hidden, config.n_heads)
    return rms_norm(hidden, weights["norm.weight"])


def s2_logits(weights: Weights, context: Floats, s1: NDArray[np.int64]) -> Floats:
    """Return (T, K) logits of the fine token, given coarse ones at all positions or at one."""
    asked = attention(weights, "dep_layer.cross_attn", weights["embedding.emb_s1.weight"][s1], context, 4, causal=False)
    return linear(weights, "head.proj_s2", rms_norm(context + asked, weights["dep_layer.norm.weight"]))
