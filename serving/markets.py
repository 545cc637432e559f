"""Tables by symbol, kind of market and ``any``: what a bundle knows of one market and not of another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

__all__ = ["ANY", "key_of", "row_of"]

ANY = "any"
_Row = TypeVar("_Row")


def key_of(table: Mapping[str, object], symbol: str, market: str | None) -> str:
    """Return the key of a symbol's row, or of its kind of market's, or ``any``."""
    if symbol in table:
        return symbol
    return market if market and market in table else ANY


def row_of(table: Mapping[str, _Row], symbol: str, market: str | None) -> _Row:
    """Return a symbol's row, or its kind of market's, or that of ``any``."""
    return table[key_of(table, symbol, market)]
