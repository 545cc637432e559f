"""The models, one file each: a frozen ``Config``, a torch module, its heads and their losses. Training only.

A new model of intraday bars is a file here, a line in `ARCHITECTURES`, and its name in
`fusiontrade.inference.contract.ModelKind`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from fusiontrade.inference.contract import ModelKind
from serving.models.cnn import CnnConfig, CnnModel
from serving.models.gru import GruConfig, GruModel
from serving.models.lstm import LstmConfig, LstmModel
from serving.models.patchtst import PatchTstConfig, PatchTstForecaster
from serving.models.protocol import Exporter, Forecaster, Tensors
from serving.models.transformer import TransformerConfig, TransformerModel

__all__ = [
    "ARCHITECTURES",
    "CnnConfig",
    "CnnModel",
    "Exporter",
    "Forecaster",
    "GruConfig",
    "GruModel",
    "LstmConfig",
    "LstmModel",
    "PatchTstConfig",
    "PatchTstForecaster",
    "Tensors",
    "TransformerConfig",
    "TransformerModel",
]

ARCHITECTURES: Mapping[ModelKind, Any] = MappingProxyType(
    {
        "lstm": LstmModel,
        "patchtst": PatchTstForecaster,
        "gru": GruModel,
        "cnn": CnnModel,
        "transformer": TransformerModel,
    }
)
"""The class of each kind; all are torch modules and `Forecaster`."""
