"""What to do with a checkpoint that was fetched: the command that imports it, as it can be typed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["importing"]

_CONFIG = "config.json"
_BITS = ("s1_bits", "s2_bits")


def importing(folder: Path, said: Mapping[str, Any], source: str) -> str:
    """Return a sentence with the command.

    Parameters
    ----------
    folder
        Where the checkpoint will be; a Kronos tokenizer or decoder that it needs is looked for beside it.
    said
        Its configuration.
    source
        ``OWNER/NAME@COMMIT``.
    """
    if "model_type" in said:
        return f"a checkpoint, which serves once it is imported: {_command('import-finbert', folder, '--from', source)}"
    if "d_in" in said:
        decoder = _beside(folder, said, tokenizer=False) or folder.parent / "DECODER"
        command = _command("import-kronos", decoder, "--tokenizer", folder)
        return f"the tokenizer of a Kronos decoder, which serves once both are imported: {command}"
    tokenizer = _beside(folder, said, tokenizer=True) or folder.parent / "TOKENIZER"
    command = _command("import-kronos", folder, "--tokenizer", tokenizer, "--from", source)
    return f"a checkpoint, which serves once it is imported with its tokenizer, a repository of its own: {command}"


def _command(name: str, *rest: object) -> str:
    given = " ".join(shlex.quote(str(one)) for one in rest)
    return f"fusiontrade models {name} {given} --out BUNDLES"


def _beside(folder: Path, said: Mapping[str, Any], *, tokenizer: bool) -> Path | None:
    """Return the checkpoint beside ``folder`` that is a tokenizer, or is none, of the same bits."""
    for place in sorted(folder.parent.glob(f"[!.]*/{_CONFIG}")):
        try:
            other = json.loads(place.read_bytes())
        except (OSError, ValueError, RecursionError):
            continue
        is_other = isinstance(other, dict) and ("d_in" in other) == tokenizer and place.parent != folder
        if is_other and all(other.get(name, "") == said.get(name) for name in _BITS):
            return place.parent
    return None
