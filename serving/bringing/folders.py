"""What a folder from elsewhere says and holds, before anything of it is trusted."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from fusiontrade.errors import InvalidInput

__all__ = ["WEIGHTS", "bundle_name", "json_object", "weights_of"]

WEIGHTS = "model.safetensors"
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")


def json_object(folder: Path, name: str) -> dict[str, Any]:
    """Return the JSON object in ``folder/name``; raises `InvalidInput` naming the file where there is none."""
    where = f"{folder.name}/{name}"
    try:
        said = json.loads((folder / name).read_text("utf-8"))
    except OSError as error:
        raise InvalidInput(where, f"{where} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InvalidInput(where, f"{where} is no JSON: {error}") from None
    if not isinstance(said, dict):
        raise InvalidInput(where, f"{where} is no JSON object")
    return said


def weights_of(folder: Path) -> Path:
    """Return where the weights of a checkpoint are; raises `InvalidInput` saying what is there instead."""
    where, place = f"{folder.name}/{WEIGHTS}", folder / WEIGHTS
    if place.is_file():
        return place
    told = f"there is no {where}"
    remedy = "take a revision with safetensors, or convert it with transformers' save_pretrained"
    if (folder / f"{WEIGHTS}.index.json").is_file():
        told += f"; the weights come in several files ({WEIGHTS}.index.json)"
        remedy = f"join them into one {WEIGHTS}, e.g. by save_pretrained(..., max_shard_size='50GB')"
    elif beside := next((path.name for path in sorted(folder.glob("*.bin"))), ""):
        told += f"; {beside} is a pickle, which is never opened here"
    raise InvalidInput(where, f"{told}: {remedy}")


def bundle_name(text: str) -> str:
    """Return the name that a bundle shall have, which is that of its folder, too; raises `InvalidInput`."""
    if not _NAME.fullmatch(text):
        raise InvalidInput("name", f"{text!r} is no name of a bundle: use lower-case letters, digits, dots and hyphens")
    return text
