"""The LSTM: three recurrent layers over 60 bars of 50 indicators, two dense ones, and a head for each forecast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from serving.models.recurrent import RecurrentConfig, RecurrentModel
from serving.models.sequence import QUANTILES, pinball

__all__ = ["QUANTILES", "LstmConfig", "LstmModel", "pinball"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LstmConfig(RecurrentConfig):
    """Sizes of the network."""


class LstmModel(RecurrentModel):
    """The recurrent model with LSTM cells (Hochreiter and Schmidhuber, 1997)."""

    cell: ClassVar[Any] = nn.LSTM
    config_type: ClassVar[type[LstmConfig]] = LstmConfig
    slims: ClassVar[bool] = True
