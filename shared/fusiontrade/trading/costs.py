"""What trading costs, in hundredths of a percent (bps), by asset class.

Every fill pays half the spread and the slippage in its price, and the commission in money. The standard figures are
careful guesses for liquid names and small accounts, not quotes; a caller who knows better gives their own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["STANDARD", "Costs"]

_BPS = 1e-4


@dataclass(frozen=True, slots=True)
class Costs:
    """Costs of one market, in bps of the price; none of them may be negative.

    Parameters
    ----------
    spread
        Between bid and ask; a fill pays half of it.
    slippage
        How far the price moves away while an order is filled.
    commission
        Of the value traded, paid at each fill.
    """

    spread: float = 0.0
    slippage: float = 0.0
    commission: float = 0.0

    def __post_init__(self) -> None:
        for name in ("spread", "slippage", "commission"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0.0):
                raise ValueError(f"{name} must be in bps, 0 or more, got {value}")
        if not (moved := self.spread / 2.0 + self.slippage) * _BPS < 1.0:
            raise ValueError(f"spread / 2 + slippage must be below 10,000 bps, the whole price, got {moved}")

    def price(self, level: float, side: int) -> float:
        """Return the price a fill gets where the market shows ``level``: higher for a buy (+1), lower for a sell."""
        return level * (1.0 + side * (self.spread / 2.0 + self.slippage) * _BPS)

    def fee(self, value: float) -> float:
        """Return the commission on a value traded, in money."""
        return abs(value) * self.commission * _BPS


STANDARD: dict[str, Costs] = {
    "fx": Costs(spread=1.5, slippage=0.5, commission=0.25),
    "metal": Costs(spread=3.0, slippage=1.0, commission=0.5),
    "crypto": Costs(spread=2.0, slippage=2.0, commission=7.0),
    "equity": Costs(spread=5.0, slippage=2.5, commission=5.0),
}
"""By asset class: 1.5, 3, 10 and 10 bps a fill."""
