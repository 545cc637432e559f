"""PatchTST: `transformers`' patch transformer over 120 candles of 5 channels, with an up / flat / down head.

The classes are weighted so that up and down count alike in training, and the head is centred afterwards: the drift of
a span is no forecast.
A masked volume channel arrives as zeros, in training as in serving. The encoder is the published one
(Nie et al., 2023, "A Time Series is Worth 64 Words"); the windows arrive normalised, so its own scaling is off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional
from transformers import PatchTSTConfig, PatchTSTModel

from serving.models.protocol import Exporter, Takes, Tensors

__all__ = ["CLASSES", "PatchTstConfig", "PatchTstForecaster"]

CLASSES = ("up", "flat", "down")


@dataclass(frozen=True, slots=True)
class PatchTstConfig:
    """Sizes of the network; ``price_unit``, in ATR, is what a price distance is divided by."""

    context: int = 120
    channels: int = 5
    calendar: int = 8
    volatility: int = 28
    patch_length: int = 12
    patch_stride: int = 12
    width: int = 48
    layers: int = 2
    attention_heads: int = 4
    feed_forward: int = 96
    dense: int = 32
    dropout: float = 0.2
    price_unit: float = 4.0


class PatchTstForecaster(nn.Module):  # type: ignore[misc]  # torch carries no types here
    """Each channel's patches are encoded, their mean and last taken; calendar and volatility join at the head."""

    takes: ClassVar[Takes] = "candles"
    config_type: ClassVar[type[PatchTstConfig]] = PatchTstConfig
    slims: ClassVar[bool] = True
    sampled: ClassVar[tuple[str, ...]] = ()
    inputs: ClassVar[tuple[str, ...]] = ("candles", "calendar", "volatility")
    outputs: ClassVar[tuple[str, ...]] = ("classes",)
    unit: torch.Tensor
    class_weights: torch.Tensor
    exporter: ClassVar[Exporter] = "dynamo"

    def __init__(self, config: PatchTstConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = PatchTSTModel(
            PatchTSTConfig(
                num_input_channels=config.channels,
                context_length=config.context,
                patch_length=config.patch_length,
                patch_stride=config.patch_stride,
                d_model=config.width,
                num_hidden_layers=config.layers,
                num_attention_heads=config.attention_heads,
                ffn_dim=config.feed_forward,
                attention_dropout=config.dropout,
                ff_dropout=config.dropout,
                scaling=None,
                do_mask_input=False,
                use_cls_token=False,
            )
        )
        self.dense = nn.Linear(2 * config.channels * config.width + config.calendar + config.volatility, config.dense)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.dense, len(CLASSES))
        unit = torch.tensor([config.price_unit] * (config.channels - 1) + [1.0])
        self.register_buffer("unit", unit, persistent=False)
        self.register_buffer("class_weights", torch.ones(len(CLASSES)))

    def forward(
        self, candles: torch.Tensor, calendar: torch.Tensor, volatility: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Return ``(classes,)``: (N, 3) logits up, flat, down of the close ``horizon_bars`` ahead.

        Parameters
        ----------
        candles
            (N, 120, 5) open, high, low, close, volume, normalised by their own window.
        calendar
            (N, C) columns of the bar that opens at the window's close.
        volatility
            (N, V) scaled season-adjusted volatility of the newest bar.
        """
        encoded = self.encoder(past_values=candles / self.unit).last_hidden_state
        summary = torch.cat((encoded.mean(dim=2), encoded[:, :, -1]), dim=2).flatten(1)
        dense = functional.gelu(self.dense(torch.cat((self.dropout(summary), calendar, volatility), dim=1)))
        return (self.head(self.dropout(dense)),)

    def centre(self, logits: torch.Tensor) -> None:
        """Shift the biases of up and down so that the median lean, up less down, of (n, 3) ``logits`` becomes 0.

        A lean that all rows share is the drift of a span, not a forecast; with it one side would take most votes.
        """
        lean = (logits[:, 0] - logits[:, 2]).median()
        with torch.no_grad():
            self.head.bias += torch.stack((-lean / 2, torch.zeros_like(lean), lean / 2))

    def example(self, rows: int) -> tuple[torch.Tensor, ...]:
        """Return inputs of ``rows`` rows: zeros (the encoder has no operation that zeros would break)."""
        config = self.config
        return (
            torch.zeros(rows, config.context, config.channels),
            torch.zeros(rows, config.calendar),
            torch.zeros(rows, config.volatility),
        )

    def loss(self, outputs: Tensors, targets: Tensors) -> torch.Tensor:
        """Return the mean weighted cross entropy (a scalar); ``targets["classes"]``: (N) int64 0 up, 1 flat, 2 down."""
        return functional.cross_entropy(outputs["classes"], targets["classes"], weight=self.class_weights)
