"""The hours around 17:00 New York, when FX and metals roll over.

Spreads widen there and candles show the bid alone, so prices seem to dip and recover: a direction learned or measured
in those hours is false skill. Training and evaluation leave such entries out; a forecast made then says so.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fusiontrade.market.candles import Instants
from fusiontrade.market.symbols import AssetClass, Symbol
from fusiontrade.market.zones import NEW_YORK, wall_clock

__all__ = ["in_rollover", "rolls_over"]

_HOUR = 3_600_000
_HOURS = (16, 17, 18)


def rolls_over(symbol: Symbol) -> bool:
    """Tell whether the market of ``symbol`` has rollover hours."""
    return symbol.asset_class in (AssetClass.FX, AssetClass.METAL)


def in_rollover(instants: Instants) -> NDArray[np.bool_]:
    """Tell which instants (n, ms UTC) lie from 16:00 up to 19:00 New York."""
    return np.isin(wall_clock(NEW_YORK, instants) // _HOUR % 24, _HOURS)
