"""From the bars of a window to its embedding in one graph: tokenizer, decoder, and the mean over time."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from fusiontrade.errors import InvalidInput
from serving.kronos.network.decoder import KronosDecoder
from serving.kronos.network.tokenizer import KronosTokenizer
from serving.kronos.windows import CHANNELS, STAMPS
from serving.models.protocol import Exporter

__all__ = ["EmbeddingGraph"]


class EmbeddingGraph(nn.Module):  # type: ignore[misc]  # torch carries no types here
    """What is exported: heads and the tokenizer's decoder are no part of it.

    Parameters
    ----------
    tokenizer, decoder
        Of the same bits.
    sequence
        Bars of a window; the axis of time is fixed in the graph, that of the batch is free.

    Raises
    ------
    InvalidInput
        If the tokens of one are not those of the other, or bars are not what the tokenizer reads.
    """

    inputs: ClassVar[tuple[str, ...]] = ("bars", "stamps")
    outputs: ClassVar[tuple[str, ...]] = ("embedding",)
    exporter: ClassVar[Exporter] = "trace"
    sampled: ClassVar[tuple[str, ...]] = ()

    def __init__(self, tokenizer: KronosTokenizer, decoder: KronosDecoder, sequence: int) -> None:
        super().__init__()
        made, taken = tokenizer.config, decoder.config
        if (made.s1_bits, made.s2_bits) != (taken.s1_bits, taken.s2_bits):
            told = f"{made.s1_bits} + {made.s2_bits} bits, the decoder takes {taken.s1_bits} + {taken.s2_bits}"
            raise InvalidInput("tokenizer", f"the tokenizer makes {told}")
        if made.d_in != len(CHANNELS):
            raise InvalidInput("tokenizer", f"the tokenizer reads {made.d_in} columns, bars have {len(CHANNELS)}")
        self.tokenizer, self.decoder, self.sequence = tokenizer, decoder, sequence

    def forward(self, bars: torch.Tensor, stamps: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return ``(embedding,)``, (n, d): the mean of the context over time.

        Parameters
        ----------
        bars
            (n, T, 6) float32, as `serving.kronos.windows.normalised` makes them.
        stamps
            (n, T, 5) int64, as `serving.kronos.windows.stamps_of` makes them.
        """
        return (self.decoder.context(*self.tokenizer.encode(bars), stamps).mean(dim=1),)

    def example(self, rows: int) -> tuple[torch.Tensor, ...]:
        """Return zero-filled bars, and stamps of the first minute of a Monday, the first of January."""
        stamps = torch.tensor([0, 0, 0, 1, 1]).expand(rows, self.sequence, len(STAMPS)).contiguous()
        return torch.zeros(rows, self.sequence, self.tokenizer.config.d_in), stamps
