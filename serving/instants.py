"""Instants as people write them. `serving` may not import `fusiontrade.clock`, so its two forms stand here, once."""

from __future__ import annotations

from datetime import datetime

import numpy as np

__all__ = ["instant_of", "iso_of"]


def instant_of(text: str, field: str) -> int:
    """Return the instant that an ISO-8601 text with a zone names, ms since 1970-01-01 UTC.

    Raises
    ------
    ValueError
        If it names none; the message says which ``field`` it stood in.
    """
    try:
        instant = datetime.fromisoformat(text)
        if instant.tzinfo is None:
            raise ValueError(text)
    except ValueError:
        raise ValueError(f"{field} is no instant with a zone, e.g. 2024-11-01T00:00:00Z: {text!r}") from None
    return round(instant.timestamp() * 1000)


def iso_of(instant: int) -> str:
    """Return an instant (ms UTC) to the second."""
    return f"{np.datetime64(instant, 'ms').astype('datetime64[s]')}Z"
