"""Checkpoint folders of the published layout: ``config.json`` and ``model.safetensors``, read so that all of it fits.

Always true of a network that was read: every tensor of the file is one of the network's, of its shape, finite, and
none of the network's is left as it was made. Anything else is refused by the tensor's name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from fusiontrade.errors import InvalidInput
from serving.bringing.folders import WEIGHTS, json_object, weights_of
from serving.kronos.network.decoder import DecoderConfig, KronosDecoder
from serving.kronos.network.tokenizer import KronosTokenizer, TokenizerConfig

__all__ = ["CONFIG", "WEIGHTS", "read_decoder", "read_tokenizer", "write_checkpoint"]

CONFIG = "config.json"

_Config = TypeVar("_Config", TokenizerConfig, DecoderConfig)
_Network = TypeVar("_Network", KronosTokenizer, KronosDecoder)
_MOST = 1 << 31  # bytes of a file of weights


def read_tokenizer(folder: Path) -> KronosTokenizer:
    """Return the tokenizer of a checkpoint folder, in evaluation mode; raises `InvalidInput` with the reason."""
    config = _config(folder, TokenizerConfig)
    with torch.device("meta"):
        network = KronosTokenizer(config)
    return _filled(network, folder)


def read_decoder(folder: Path) -> KronosDecoder:
    """Return the decoder of a checkpoint folder, in evaluation mode; raises `InvalidInput` with the reason."""
    config = _config(folder, DecoderConfig)
    with torch.device("meta"):
        network = KronosDecoder(config)
    return _filled(network, folder)


def write_checkpoint(network: KronosTokenizer | KronosDecoder, folder: Path) -> None:
    """Write a network into ``folder`` in the published layout."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(network.config), indent=2, sort_keys=True)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, folder / WEIGHTS)


def _config(folder: Path, kind: type[_Config]) -> _Config:
    where = f"{folder.name}/{CONFIG}"
    said = json_object(folder, CONFIG)
    known = {field.name: field for field in fields(kind)}
    if missing := [name for name in known if name not in said]:
        raise InvalidInput(where, f"{where} lacks {', '.join(missing)}")
    for name, field in known.items():
        if not _fits(said[name], field.default):
            raise InvalidInput(where, f"{where} has {name} {said[name]!r}, which is no {_kind(field.default)}")
    try:
        return kind(**{name: said[name] for name in known})
    except ValueError as error:
        raise InvalidInput(where, f"{where}: {error}") from None


def _fits(value: object, default: object) -> bool:
    """Whether a value of a configuration is of its field's type, and finite; a whole number is a number, too."""
    if isinstance(value, bool) or isinstance(default, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, float):
        return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    return isinstance(value, int)


def _kind(default: object) -> str:
    return "finite float" if isinstance(default, float) else type(default).__name__


def _filled(network: _Network, folder: Path) -> _Network:
    """Give a network, which was made without memory, the tensors of ``folder`` as its own, in float32."""
    where, place = f"{folder.name}/{WEIGHTS}", weights_of(folder)
    try:
        if place.stat().st_size > _MOST:
            raise InvalidInput(where, f"{where} is larger than {_MOST} bytes")
        found = load_file(place)
    except OSError as error:
        raise InvalidInput(where, f"{where} cannot be read: {error.strerror}") from None
    except SafetensorError as error:
        raise InvalidInput(where, f"{where} is no safetensors file: {error}") from None
    own = network.state_dict()
    _check(own, found, where)
    network.load_state_dict({name: value.to(own[name].dtype) for name, value in found.items()}, assign=True)
    network.eval()
    return network


def _check(own: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor], where: str) -> None:
    for name, value in own.items():
        if name not in found:
            raise InvalidInput(where, f"{where} lacks the tensor {name} {_shape(value)}")
    for name, value in found.items():
        if name not in own:
            raise InvalidInput(where, f"{where} holds the tensor {name} {_shape(value)}, which this network has not")
        if value.shape != own[name].shape:
            raise InvalidInput(
                where, f"{where}: the tensor {name} is {_shape(value)}, this network needs {_shape(own[name])}"
            )
        if value.is_floating_point() != own[name].is_floating_point():
            raise InvalidInput(
                where, f"{where}: the tensor {name} is {value.dtype}, this network needs {own[name].dtype}"
            )
        if not torch.isfinite(value).all():
            raise InvalidInput(where, f"{where}: the tensor {name} holds a number that is not finite")


def _shape(value: torch.Tensor) -> str:
    return f"({', '.join(str(size) for size in value.shape)})"
