"""The kept states as documents of a table: one item a symbol, ``CALIBRATION#{symbol}``, ``STATE``.

Always true here: a write happens only if nobody wrote since the item was read; an item that cannot be read, be it of
an older layout or damaged, counts as empty and is learned anew; what is read can be sent and learned from.

Prices and sides are stored to the last digit. Issued probabilities are stored to 6 digits, leans to 4, offsets,
slopes and bends to 9: all rounding together moves an offset by less than 4e-9 an outcome, a slope or a bend by less
than 6e-7, while a chance of one in a thousand moves an offset by 5e-6 when it does not come. An item with four
timeframes and four forecasts waiting on each, the most that bars one after the other leave, takes under 8 KB (DynamoDB:
two units to read, eight to write), with as many as ever wait under 12 KB.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from fusiontrade.fusion.calibration_states import MOST_WAITING, Kept, Tracked, Waiting
from fusiontrade.inference.contract import CHANCES, CalibrationState
from fusiontrade.market.timeframes import Timeframe

if TYPE_CHECKING:
    from fusiontrade.cloud.tables import Table
    from fusiontrade.market.symbols import Symbol

__all__ = ["TableCalibrationStates"]

_CHANCE_DIGITS = 6
_LEAN_DIGITS = 4
_STEP_DIGITS = 9

logger = logging.getLogger(__name__)


class TableCalibrationStates:
    """Keeps the states in a table of documents.

    Parameters
    ----------
    table
        One that answers or fails within `fusiontrade.fusion.calibration_keeping.STORE_SECONDS`.
    """

    def __init__(self, table: Table) -> None:
        self._table = table

    def read(self, symbol: Symbol) -> Kept:
        """Return what is kept of ``symbol``; raises `StateUnavailable`."""
        item = self._table.get(_key(symbol))
        return Kept() if item is None else _kept(symbol, item)

    def write(self, symbol: Symbol, kept: Kept) -> None:
        """Keep ``kept`` if nobody wrote since its revision was read; raises `StateUnavailable`."""
        from fusiontrade.cloud.tables import Condition, ConditionFailed

        item = {
            **_key(symbol),
            "source": kept.source,
            "revision": kept.revision + 1,
            "states": {timeframe.value: _document(tracked) for timeframe, tracked in kept.states.items()},
        }
        unchanged = Condition("#revision = :revision", {"revision": kept.revision})
        uncounted = Condition(
            "NOT attribute_type(#revision, :number) OR #revision < :first", {"number": "N", "first": 1}
        )  # nothing there, or an item that no write of ours made
        try:
            self._table.put(item, condition=unchanged if kept.revision else uncounted)
        except ConditionFailed:
            logger.info("the calibration states of %s were written by another request first", symbol.code)


def _key(symbol: Symbol) -> dict[str, str]:
    return {"pk": f"CALIBRATION#{symbol.code}", "sk": "STATE"}


def _document(tracked: Tracked) -> dict[str, Any]:
    return {
        "version": tracked.version,
        "lower": tracked.lower,
        "upper": tracked.upper,
        "offsets": [round(offset, _STEP_DIGITS) for offset in tracked.offsets],
        "slopes": [round(slope, _STEP_DIGITS) for slope in tracked.slopes],
        "bends": [round(bend, _STEP_DIGITS) for bend in tracked.bends],
        "revision": tracked.revision,
        "as_of": tracked.as_of,
        "waiting": [
            {
                "bar_close": forecast.bar_close,
                "entry": forecast.entry,
                "atr": forecast.atr,
                "raw_low": forecast.raw_low,
                "raw_high": forecast.raw_high,
                "chances": [round(chance, _CHANCE_DIGITS) for chance in forecast.chances],
                "leans": [round(lean, _LEAN_DIGITS) for lean in forecast.leans],
            }
            for forecast in tracked.waiting
        ],
    }


def _kept(symbol: Symbol, item: Mapping[str, Any]) -> Kept:
    """Return what an item says; one that cannot be read counts as empty and is written over."""
    found = item.get("revision")
    revision = found if isinstance(found, int) else 0
    try:
        states = {Timeframe(name): _tracked(document) for name, document in item["states"].items()}
        return Kept(str(item["source"]), states, revision)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        logger.warning("the calibration states of %s cannot be read and are learned anew", symbol.code)
        return Kept(revision=revision)


def _tracked(document: Mapping[str, Any]) -> Tracked:
    """Return a state that may be sent: what the contract refuses raises `ValueError` here."""
    state = CalibrationState(
        version=str(document["version"]),
        lower=float(document["lower"]),
        upper=float(document["upper"]),
        offsets=tuple(float(offset) for offset in document["offsets"]),
        slopes=tuple(float(slope) for slope in document["slopes"]),
        bends=tuple(float(bend) for bend in document["bends"]),
        revision=int(document["revision"]),
        as_of=int(document["as_of"]),
    )
    waiting = tuple(_waiting(each) for each in document["waiting"])
    in_order = all(one.bar_close < next_.bar_close for one, next_ in pairwise(waiting))
    if not in_order or len(waiting) > MOST_WAITING:
        raise ValueError(f"at most {MOST_WAITING} forecasts wait, oldest first, got {waiting}")
    return replace(Tracked.of(state), waiting=waiting)


def _waiting(document: Mapping[str, Any]) -> Waiting:
    """Return a forecast that can be learned from; raises `ValueError` for one that no model made."""
    entry, atr, low, high = (float(document[name]) for name in ("entry", "atr", "raw_low", "raw_high"))
    chances, leans = (tuple(float(number) for number in document[name]) for name in ("chances", "leans"))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"a raw interval must be finite, got {low} … {high}")
    if not (0.0 < entry < math.inf and 0.0 < atr < math.inf):
        raise ValueError(f"a price and an ATR must be positive and finite, got {entry} and {atr}")
    if len(chances) != CHANCES or not all(0.0 <= chance <= 1.0 for chance in chances):
        raise ValueError(f"{CHANCES} probabilities must lie in [0, 1], got {chances}")
    if len(leans) != CHANCES or not all(map(math.isfinite, leans)):
        raise ValueError(f"{CHANCES} leans must be finite, got {leans}")
    return Waiting(int(document["bar_close"]), entry, atr, low, high, chances, leans)
