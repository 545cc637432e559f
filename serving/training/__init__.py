"""Training: from a folder of candles to bundles. `python -m serving.training --help` says how."""

from serving.training.config import TrainingConfig
from serving.training.dataset import pool_of
from serving.training.pipeline import train_bundle
from serving.training.prepared import prepare

__all__ = ["TrainingConfig", "pool_of", "prepare", "train_bundle"]
