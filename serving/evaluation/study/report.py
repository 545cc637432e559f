"""The two files of a study: ``evaluation.json``, and the page made from it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serving.evaluation.page import rendered

__all__ = ["JSON", "PAGE", "finite", "write"]

JSON, PAGE = "evaluation.json", "evaluation.html"


def write(study: Mapping[str, Any], out: Path) -> tuple[Path, Path]:
    """Write both files into ``out``, made if absent, and return their paths; what is no finite number becomes null."""
    content = finite(study)
    text, page = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", rendered(content)
    out.mkdir(parents=True, exist_ok=True)
    for name, written in ((JSON, text), (PAGE, page)):
        (out / name).write_text(written, encoding="utf-8")
    return out / JSON, out / PAGE


def finite(value: Any) -> Any:
    """Return a value as JSON can hold it: NaN and infinities are None, tuples are lists, keys are text."""
    if isinstance(value, Mapping):
        return {str(key): finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
