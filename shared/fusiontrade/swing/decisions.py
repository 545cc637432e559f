"""A prediction, the rules and the size put together: trade or not, why, and how much. Pure: no I/O, no clock."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fusiontrade.swing.rules import Claim, Limits, Refusal, Situation, refusals
from fusiontrade.swing.sizing import Size, position_size

__all__ = ["Decision", "decided"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What is done about a claim: the size is 0 where it is not traded, and then at least one rule says why."""

    direction: int
    size: Size
    refusals: tuple[Refusal, ...]

    @property
    def trade(self) -> bool:
        """Whether an order is sent."""
        return not self.refusals and self.size.fraction > 0.0

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not traded, or what made the position smaller, in words."""
        clamps = (f"{one.reason}: {one.after:.2%} instead of {one.before:.2%}" for one in self.size.clamps)
        return (*(one.told for one in self.refusals), *clamps)


def decided(
    claim: Claim, situation: Situation, limits: Limits | None = None, *, cash_left: float = math.inf
) -> Decision:
    """Return what is done about a claim; ``cash_left`` is a fraction of the equity.

    Parameters and errors otherwise as for `fusiontrade.swing.rules.refusals` and `fusiontrade.swing.sizing`.
    """
    limits = limits or Limits()
    against = refusals(claim, situation, limits)
    if against:
        return Decision(claim.direction, Size(0.0), against)
    left = limits.exposure - situation.exposure
    size = position_size(claim.confidence, claim.expected_return, exposure_left=left, cash_left=cash_left)
    return Decision(claim.direction, size, ())
