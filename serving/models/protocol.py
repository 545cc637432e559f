"""What training, export and proof need of a model; a new architecture is one file that has these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Protocol

import torch

__all__ = ["Exporter", "Forecaster", "Tensors"]

Tensors = Mapping[str, torch.Tensor]
Exporter = Literal["trace", "dynamo"]


class Forecaster(Protocol):
    """A torch module that turns named inputs into named outputs, and knows its own loss.

    ``inputs`` and ``outputs`` name the arguments of ``forward`` and the tensors it returns, in order: they are the
    names of the exported graph. ``exporter`` is the way to ONNX that suits the model: tracing keeps recurrent layers
    as one LSTM operator each and takes a tenth of a second; dynamo understands shapes that tracing freezes.
    """

    inputs: ClassVar[tuple[str, ...]]
    outputs: ClassVar[tuple[str, ...]]
    exporter: ClassVar[Exporter]

    def example(self, rows: int) -> tuple[torch.Tensor, ...]:
        """Return zero-filled inputs of ``rows`` rows, in the order of ``inputs``."""
        ...

    def loss(self, outputs: Tensors, targets: Tensors) -> torch.Tensor:
        """Return the mean loss (a scalar) of a batch."""
        ...
