"""The models, one file each: a frozen ``Config``, a torch module, its heads and their losses. Training only."""

from serving.models.lstm import LstmConfig, LstmModel
from serving.models.patchtst import PatchTstConfig, PatchTstForecaster
from serving.models.protocol import Exporter, Forecaster, Tensors

__all__ = ["Exporter", "Forecaster", "LstmConfig", "LstmModel", "PatchTstConfig", "PatchTstForecaster", "Tensors"]
