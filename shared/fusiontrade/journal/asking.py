"""Which entries of a journal are meant, and the pages that they come in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fusiontrade.cloud.tables import Condition
from fusiontrade.journal.entries import Entry
from fusiontrade.journal.settlement import Status
from fusiontrade.journal.statistics import Record

__all__ = ["Asked", "DuePage", "EntryPage"]


@dataclass(frozen=True)
class Asked:
    """Which entries of an owner are meant; what is None is not asked about.

    Parameters
    ----------
    symbol, interval, status
        As they stand in an entry.
    since, until
        Instants (ms): opened at ``since`` or later, and before ``until``.
    """

    symbol: str | None = None
    interval: str | None = None
    status: Status | None = None
    since: int | None = None
    until: int | None = None

    def __post_init__(self) -> None:
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise ValueError(f"until is {self.until}: nothing is opened before it and from {self.since} on")

    def filter(self) -> Condition | None:
        """Return what is asked of entries beyond their key, which holds symbol and time."""
        wanted = {"status": self.status and self.status.value, "interval": self.interval}
        values = {name: value for name, value in wanted.items() if value is not None}
        return Condition(" AND ".join(f"#{name} = :{name}" for name in values), values) if values else None

    def tells_of(self, record: Record) -> bool:
        """Whether a record of the right days and symbol is meant; a status is not asked of records."""
        late_enough = self.since is None or record.opened_at >= self.since
        early_enough = self.until is None or record.opened_at < self.until
        return late_enough and early_enough and self.interval in (None, record.interval)


@dataclass(frozen=True)
class EntryPage:
    """Some entries, newest first; ``after`` is the id to go on after, None at the end."""

    entries: list[Entry]
    after: str | None


@dataclass(frozen=True)
class DuePage:
    """Some due entries; ``next_key`` is where to go on, None at the end."""

    entries: list[Entry]
    next_key: dict[str, Any] | None
