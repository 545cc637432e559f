"""Fitting: first the tokenizer by reconstruction, then the decoder by the next tokens; and what either is worth."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

import torch
from torch.nn import functional

from serving.kronos.network import KronosDecoder, KronosTokenizer
from serving.kronos.training.config import Recipe
from serving.kronos.training.resuming import Keeper
from serving.kronos.training.windows import Drawn, Windows

__all__ = ["Told", "fit_decoder", "fit_tokenizer", "judged", "rounded"]

Told = Callable[[str, int, int, float], None]
"""Given what is fitted, the step, the steps in all and the mean loss of late."""

_EVERY = 50
_LEVELS = 127  # of a weight kept in a byte, on either side of 0
_SALT = 10_007


def fit_tokenizer(windows: Windows, recipe: Recipe, told: Told, keeper: Keeper | None = None) -> KronosTokenizer:
    """Return a tokenizer that learned to say each bar in s1 + s2 bits; it goes on from what ``keeper`` has."""
    torch.manual_seed(recipe.seed)
    tokenizer = KronosTokenizer(recipe.tokenizer)
    tokenizer.train()
    draws = windows.batches(recipe.tokenizer_steps, recipe.batch, recipe.seed)
    course = _Course(recipe.tokenizer_steps, recipe, partial(told, "tokenizer"), keeper)
    course.descend(tokenizer, draws, lambda drawn: tokenizer.loss(drawn[0]))
    tokenizer.eval()
    return tokenizer


def fit_decoder(
    tokenizer: KronosTokenizer, windows: Windows, recipe: Recipe, told: Told, keeper: Keeper | None = None
) -> KronosDecoder:
    """Return a decoder that learned to foretell the tokens of the next bar; it goes on from what ``keeper`` has."""
    torch.manual_seed(recipe.seed + 1)
    decoder = KronosDecoder(recipe.decoder)
    decoder.initialise()
    decoder.train()
    draws = windows.batches(recipe.decoder_steps, recipe.batch, recipe.seed * _SALT + 1)
    course = _Course(recipe.decoder_steps, recipe, partial(told, "decoder"), keeper)
    course.descend(decoder, draws, lambda drawn: decoder.loss(*_tokens(tokenizer, drawn)))
    decoder.eval()
    return decoder


def judged(tokenizer: KronosTokenizer, decoder: KronosDecoder, pool: Windows, recipe: Recipe) -> dict[str, float]:
    """Return the figures of held-out windows.

    ``reconstruction`` and ``reconstruction_coarse`` are mean squares in units of a column's variance (1 is what zeros
    would give); ``s1`` and ``s2`` the cross entropies of the next tokens in nats, ``s1_usual`` and ``s2_usual`` those
    of answering with how often each token occurs there.
    """
    steps = max(1, recipe.judged // recipe.batch)
    fine = coarse = s1_loss = s2_loss = 0.0
    counts = [torch.zeros(2**bits) for bits in (recipe.decoder.s1_bits, recipe.decoder.s2_bits)]
    draws = list(pool.batches(steps, recipe.batch, recipe.seed * _SALT + 2))
    with torch.no_grad():
        for bars, stamps in draws:
            s1, s2, _ = _tokens(tokenizer, (bars, stamps))
            fine += float(functional.mse_loss(tokenizer.decode(s1, s2), bars)) / steps
            coarse += float(functional.mse_loss(tokenizer.decode_coarse(s1), bars)) / steps
            context = decoder.context(s1[:, :-1], s2[:, :-1], stamps[:, :-1])
            s1_loss += _cross_entropy(decoder.s1_logits(context), s1[:, 1:]) / steps
            s2_loss += _cross_entropy(_causal_s2(decoder, context, s1[:, 1:]), s2[:, 1:]) / steps
            for place, tokens in enumerate((s1, s2)):
                counts[place] += torch.bincount(tokens[:, 1:].flatten(), minlength=len(counts[place]))
    usual = [_entropy(count) for count in counts]
    used = [float((count > 0).float().mean()) for count in counts]
    return {
        "reconstruction": fine,
        "reconstruction_coarse": coarse,
        "s1": s1_loss,
        "s1_usual": usual[0],
        "s1_used": used[0],
        "s2": s2_loss,
        "s2_usual": usual[1],
        "s2_used": used[1],
    }


def rounded(network: torch.nn.Module) -> None:
    """Round every matrix of ``network`` to whole multiples, −127 to 127, of one step for each of its rows."""
    with torch.no_grad():
        for value in network.parameters():
            if value.ndim == 2:
                step = value.abs().amax(dim=1, keepdim=True) / _LEVELS
                step[step == 0] = 1.0
                value.copy_(torch.round(value / step) * step)


@dataclass(frozen=True)
class _Course:
    """The steps of one fit."""

    steps: int
    recipe: Recipe
    told: Callable[[int, int, float], None]
    keeper: Keeper | None

    def descend(
        self, network: torch.nn.Module, draws: Iterator[Drawn], loss_of: Callable[[Drawn], torch.Tensor]
    ) -> None:
        """Fit ``network`` in place, a step for each draw; those of steps that were kept are passed over."""
        optimiser = torch.optim.AdamW(network.parameters(), lr=self.recipe.learning_rate, weight_decay=0.01)
        done, late = self.keeper.resume(network, optimiser) if self.keeper else (0, 0.0)
        for step, drawn in enumerate(islice(draws, done, None), start=done + 1):
            for group in optimiser.param_groups:
                group["lr"] = self.recipe.learning_rate * _share(step - 1, self.steps)
            optimiser.zero_grad()
            loss = loss_of(drawn)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), self.recipe.gradient_norm)
            optimiser.step()
            late += (float(loss.detach()) - late) / min(step, _EVERY)
            if step % _EVERY == 0 or step == self.steps:
                self.told(step, self.steps, late)
            if self.keeper and (step % self.keeper.every == 0 or step == self.steps):
                self.keeper.keep(step, late, network, optimiser)


def _share(step: int, steps: int) -> float:
    """Return the share of the largest learning rate: up in a tenth of the steps, then down by a half cosine."""
    rising = max(1, steps // 10)
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def _tokens(tokenizer: KronosTokenizer, drawn: Drawn) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (n, T) coarse and fine tokens of a draw, and its stamps."""
    bars, stamps = drawn
    with torch.no_grad():
        s1, s2 = tokenizer.encode(bars)
    return s1, s2, stamps


def _causal_s2(decoder: KronosDecoder, context: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
    """Return (n, T, K) logits of the fine tokens with nothing later known: causal, as in training."""
    decoder.dep_layer.train()
    try:
        return decoder.s2_logits(context, following)
    finally:
        decoder.dep_layer.eval()


def _cross_entropy(logits: torch.Tensor, truth: torch.Tensor) -> float:
    return float(functional.cross_entropy(logits.flatten(0, 1), truth.flatten()))


def _entropy(counts: torch.Tensor) -> float:
    shares = counts / counts.sum()
    return float(-(shares * (shares + 1e-12).log()).sum())
