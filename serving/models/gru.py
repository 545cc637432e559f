"""The GRU: the LSTM's network with gated recurrent units, a quarter fewer weights in the recurrent layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from serving.models.recurrent import RecurrentConfig, RecurrentModel

__all__ = ["GruConfig", "GruModel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GruConfig(RecurrentConfig):
    """Sizes of the network."""


class GruModel(RecurrentModel):
    """The recurrent model with GRU cells (Cho et al., 2014)."""

    cell: ClassVar[Any] = nn.GRU
    config_type: ClassVar[type[GruConfig]] = GruConfig
    slims: ClassVar[bool] = False
