"""Tables by symbol, kind of market and ``any``: what a bundle knows of one market and not of another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

__all__ = ["ANY", "row_of"]

ANY = "any"
_Row = TypeVar("_Row")


def row_of(table: Mapping[str, _Row], symbol: str, market: str | None) -> _Row:
    """Return a symbol's row, or its kind of market's, or that of ``any``."""
    return table[next(key for key in (symbol, market or ANY, ANY) if key in table)]
