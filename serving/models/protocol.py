"""What training, export and proof need of a model; a new architecture is one file that has these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Protocol

import torch

__all__ = ["Exporter", "Forecaster", "Takes", "Tensors"]

Tensors = Mapping[str, torch.Tensor]
Exporter = Literal["trace", "dynamo"]
Takes = Literal["indicators", "candles", "swing"]


class Forecaster(Protocol):
    """A torch module that turns named inputs into named outputs, and knows its own loss.

    ``inputs`` and ``outputs`` name the arguments of ``forward`` and the tensors it returns, in order: they are the
    names of the exported graph. ``exporter`` is the way to ONNX that suits the model: tracing keeps recurrent layers
    as one LSTM operator each and takes a tenth of a second; dynamo understands shapes that tracing freezes.
    ``takes`` says which windows it is fed, ``config_type`` is the frozen dataclass of its sizes, and ``slims`` tells
    that `serving.training.slimming` knows the exported form. ``sampled`` names the inputs and outputs of a traced graph
    whose second axis, Monte-Carlo samples, is free like the batch's.
    """

    takes: ClassVar[Takes]
    config_type: ClassVar[Any]
    slims: ClassVar[bool]
    sampled: ClassVar[tuple[str, ...]]
    inputs: ClassVar[tuple[str, ...]]
    outputs: ClassVar[tuple[str, ...]]
    exporter: ClassVar[Exporter]

    def example(self, rows: int) -> tuple[torch.Tensor, ...]:
        """Return zero-filled inputs of ``rows`` rows, in the order of ``inputs``."""
        ...

    def loss(self, outputs: Tensors, targets: Tensors) -> torch.Tensor:
        """Return the mean loss (a scalar) of a batch."""
        ...
