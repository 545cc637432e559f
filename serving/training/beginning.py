"""Training that goes on from a bundle: its weights are where a network of the same sizes starts."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load

from fusiontrade.inference.contract import ModelKind
from serving.bundle import CARD, verified_files
from serving.card import ModelCard
from serving.training.bundle import WEIGHTS

__all__ = ["begun_with"]


def begun_with(model: torch.nn.Module, kind: ModelKind, folder: Path) -> str:
    """Give ``model`` the weights of the bundle in ``folder`` and return that bundle's name and version.

    Raises
    ------
    ValueError
        If it is of another kind, its weights have other names or shapes, or it has none.
    fusiontrade.errors.BundleRefused
        If a file is not the one its manifest names.
    """
    files = verified_files(folder)
    card = ModelCard.model_validate_json(files[CARD])
    if card.kind != kind:
        raise ValueError(f"{card.model_id} is a {card.kind}, a {kind} cannot begin with it")
    if WEIGHTS not in files:
        raise ValueError(f"{card.model_id} in {folder.name} has no {WEIGHTS} to begin with")
    weights = load(files[WEIGHTS])
    own = model.state_dict()
    if other := sorted(name for name in own.keys() | weights.keys() if _shape(own, name) != _shape(weights, name)):
        name = other[0]
        raise ValueError(
            f"{card.model_id} has other sizes: {name} is {_shape(weights, name)} there and {_shape(own, name)} here"
        )
    model.load_state_dict(weights, strict=True)
    return f"{card.model_id}@{card.version}"


def _shape(weights: dict[str, torch.Tensor], name: str) -> tuple[int, ...] | None:
    return tuple(weights[name].shape) if name in weights else None
