"""What a folder from elsewhere says and holds, before anything of it is trusted."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from fusiontrade.errors import Conflict, InvalidInput
from serving.bundle import MANIFEST

__all__ = ["PICKLES", "WEIGHTS", "json_object", "place_of", "weights_of"]

WEIGHTS = "model.safetensors"
PICKLES = "take a revision with safetensors, or convert it once as docs/models.md shows"
"""What to do where weights are a pickle."""
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
_LONGEST_HEADER = 100_000_000  # bytes; the format's own limit
_POINTER = b"version https://git-lfs"


def json_object(folder: Path, name: str) -> dict[str, Any]:
    """Return the JSON object in ``folder/name``; raises `InvalidInput` naming the file where there is none."""
    where = f"{folder.name}/{name}"
    if not folder.is_dir():
        raise InvalidInput(where, f"there is no folder {folder}")
    try:
        said = json.loads((folder / name).read_text("utf-8"))
    except OSError as error:
        raise InvalidInput(where, f"{where} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidInput(where, f"{where} is no JSON: {error}") from None
    if not isinstance(said, dict):
        raise InvalidInput(where, f"{where} is no JSON object")
    return said


def weights_of(folder: Path) -> Path:
    """Return where the weights of a checkpoint are; raises `InvalidInput` saying what is there instead."""
    where, place = f"{folder.name}/{WEIGHTS}", folder / WEIGHTS
    if place.is_file():
        _check_whole(place, where)
        return place
    told, remedy = f"there is no {where}", PICKLES
    if (folder / f"{WEIGHTS}.index.json").is_file():
        told += f"; the weights come in several files ({WEIGHTS}.index.json)"
        remedy = f"join them into one {WEIGHTS}, e.g. by save_pretrained(..., max_shard_size='50GB')"
    elif beside := next((path.name for path in sorted(folder.glob("*.bin"))), ""):
        told += f"; {beside} is a pickle, which is never opened here"
    raise InvalidInput(where, f"{told}: {remedy}")


def place_of(out: Path, model_id: str) -> Path:
    """Return where a bundle of this name shall be.

    Raises
    ------
    InvalidInput
        If it is no name of a bundle, which is that of its folder, too.
    Conflict
        If something that is no bundle is there: a checkpoint, most likely the one that is read.
    """
    if not _NAME.fullmatch(model_id):
        told = f"{model_id!r} is no name of a bundle: use lower-case letters, digits, dots and hyphens"
        raise InvalidInput("name", told)
    place = out / model_id
    if place.exists() and not (place / MANIFEST).is_file():
        raise Conflict(f"{place} is there already and no bundle: choose another --out or --name")
    return place


def _check_whole(place: Path, where: str) -> None:
    """Refuse a file that is not as long as its own header says, or has none; raises `InvalidInput`."""
    size = place.stat().st_size
    with place.open("rb") as file:
        head = file.read(8)
        length = int.from_bytes(head, "little")
        header = file.read(length) if length <= min(size, _LONGEST_HEADER) else head + file.read(len(_POINTER) - 8)
    if header.startswith(_POINTER):
        told = "is git-lfs' pointer to the weights and not they: run git lfs pull, or fetch them with models pull"
        raise InvalidInput(where, f"{where} {told}")
    try:
        ends = [entry["data_offsets"][1] for name, entry in json.loads(header).items() if name != "__metadata__"]
        whole = 8 + length + max(map(int, ends), default=0)
    except (ValueError, RecursionError, AttributeError, TypeError, LookupError):
        raise InvalidInput(where, f"{where} is no safetensors file, or only its beginning: download it again") from None
    if size < whole:
        raise InvalidInput(where, f"{where} has {size} of {whole} bytes: it was cut off, download it again")
