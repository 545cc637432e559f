"""What came of a version's forecasts in the platform's journal: the win rate and profit factor that the registry shows.

Counted as the journal counts: a rate over what the market decided, a factor over everything settled. Gains and losses
are in distances of the stop, so that one symbol's weigh as another's. An entry is a version's where the version made
the forecast of the entry's own interval. Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from fusiontrade.clock import iso
from fusiontrade.journal.settlement import Status
from fusiontrade.journal.statistics import Record, statistics_of

if TYPE_CHECKING:
    from fusiontrade.journal.entries import Entry

__all__ = ["FEWEST", "SHOWN", "Tallies"]

FEWEST = 30
"""Decided entries from which on the journal speaks for a version, and not its held-out bars."""
SHOWN = ("wins", "losses", "expired", "win_rate", "profit_factor")
_PLACES = Decimal("0.000001")


class Tallies:
    """Counts entries by the versions (model, version) that made them, while somebody else reads them."""

    def __init__(self) -> None:
        self._settled: dict[tuple[str, str], list[Record]] = defaultdict(list)

    def passing(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Give ``entries`` on, counted."""
        for entry in entries:
            if (record := _record(entry)) is not None:
                for model in entry.models:
                    if model.timeframe == entry.interval:
                        self._settled[model.id, model.version].append(record)
            yield entry

    def told(self, model_id: str, version: str, since: int, until: int) -> dict[str, Any] | None:
        """Return the record of a version over entries of ``since`` to ``until`` (ms); None where too few are decided.

        Returns
        -------
        dict or None
            ``source`` (``journal``), ``wins``, ``losses``, ``expired``, ``win_rate``, ``profit_factor``, ``from`` and
            ``to``.
        """
        told = statistics_of(self._settled.get((model_id, version), ()))
        if told["wins"] + told["losses"] < FEWEST:
            return None
        return {"source": "journal", **{name: told[name] for name in SHOWN}, "from": iso(since), "to": iso(until)}


def _record(entry: Entry) -> Record | None:
    if entry.status is Status.PENDING or entry.entry_price is None or entry.stop_loss is None:
        return None
    if entry.outcome_price is None or entry.outcome_at is None:
        return None
    side = 1 if entry.signal == "BUY" else -1
    gained = side * (entry.outcome_price - entry.entry_price) / abs(entry.entry_price - entry.stop_loss)
    return Record(
        id=entry.id,
        opened_at=entry.opened_at,
        symbol=entry.symbol,
        interval=entry.interval,
        status=entry.status,
        outcome_at=entry.outcome_at,
        pips=gained.quantize(_PLACES),
    )
