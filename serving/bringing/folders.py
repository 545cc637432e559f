"""What a folder from elsewhere says of itself, before anything of it is trusted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fusiontrade.errors import InvalidInput

__all__ = ["json_object"]


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
