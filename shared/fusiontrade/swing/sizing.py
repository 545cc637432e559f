"""How much of the portfolio a trade gets: risk only ever shrinks it, and each time it does is recorded.

``10 % × confidence × min(|expected return| / 2 %, 1)``, never more than 10 %; then what the exposure limit and the cash
leave. Pure: no I/O, no clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["FULL_RETURN", "LARGEST", "Clamp", "Size", "position_size"]

LARGEST = 0.10
"""Most of the portfolio that one position may be."""
FULL_RETURN = 0.02
"""Size of the expected return from which on a larger one adds nothing."""


@dataclass(frozen=True, slots=True)
class Clamp:
    """What made a position smaller: the reason, and the fractions of the equity before and after."""

    reason: str
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Size:
    """A position as a fraction of the equity, 0 to 10 %, and what shrank it, in the order in which it did."""

    fraction: float
    clamps: tuple[Clamp, ...] = ()


def position_size(
    confidence: float,
    expected_return: float,
    *,
    exposure_left: float = math.inf,
    cash_left: float = math.inf,
    largest: float = LARGEST,
) -> Size:
    """Return the size of a position.

    Parameters
    ----------
    confidence
        0 to 1.
    expected_return
        Over 3 sessions, a fraction of either sign.
    exposure_left, cash_left
        What the exposure limit and the cash still allow, as fractions of the equity; below 0 counts as 0.
    largest
        A tighter limit for one position than 10 %, if there is one.

    Raises
    ------
    ValueError
        If a value is no number, or the confidence lies outside 0 to 1.
    """
    if not 0.0 <= confidence <= 1.0:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    if not math.isfinite(expected_return):
        raise ValueError(f"expected_return must be a finite number, got {expected_return}")
    fraction = LARGEST * confidence * min(abs(expected_return) / FULL_RETURN, 1.0)
    clamps = []
    for reason, limit in (("position limit", largest), ("exposure limit", exposure_left), ("cash", cash_left)):
        if math.isnan(limit):
            raise ValueError(f"the {reason} is no number: what is not known allows nothing")
        allowed = max(limit, 0.0)
        if fraction > allowed:
            clamps.append(Clamp(reason, fraction, allowed))
            fraction = allowed
    return Size(fraction, tuple(clamps))
