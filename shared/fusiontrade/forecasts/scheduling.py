"""What the schedules start: runs over the configured symbols every day, and over subscribed ones every five minutes.

Always true here: a schedule that fires twice for one instant starts one run; a sender that died between two messages is
made up for by the next one with the same instant, which sends every chunk that is not counted yet. A chunk that is sent
twice is counted once (`fusiontrade.forecasts.runs`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fusiontrade.forecasts.runs import MOST_SYMBOLS, Run, Runs

__all__ = ["KINDS", "Kind", "Outlet", "Scheduler"]

_MINUTE = 60_000
_HOUR = 60 * _MINUTE


class Outlet(Protocol):
    """The part of `fusiontrade.cloud.queues.Queue` that is needed here."""

    def send_many(self, bodies: Sequence[Mapping[str, Any]], *, request_id: str | None = None) -> None:
        """Send messages; raises `StateUnavailable` where the queue has not all of them."""
        ...


@dataclass(frozen=True)
class Kind:
    """A schedule: ``period`` and ``offset`` in ms, and how many days its runs are kept."""

    period: int
    offset: int
    days_kept: int

    def slot(self, at: int) -> int:
        """Return the instant of the schedule that ``at`` (ms) belongs to: the last one by then."""
        return (at - self.offset) // self.period * self.period + self.offset


KINDS: Mapping[str, Kind] = {
    "intraday": Kind(24 * _HOUR, 6 * _HOUR, days_kept=90),
    "subscribed": Kind(5 * _MINUTE, 0, days_kept=7),
}


class Scheduler:
    """Starts runs: a record of each, and its chunks on the queue."""

    def __init__(self, runs: Runs, queue: Outlet) -> None:
        self._runs = runs
        self._queue = queue

    def start(self, kind: str, at: int, symbols: Sequence[str], *, request_id: str | None = None) -> list[Run]:
        """Return the runs of ``kind`` for the instant ``at`` (ms): new ones, or those that were started for it before.

        Each symbol is forecast once, in the order given. More than `MOST_SYMBOLS` become several runs.

        Raises
        ------
        StateUnavailable
            If the database or the queue does not answer; the same call again finishes what was begun.
        """
        plan = KINDS[kind]
        wanted = tuple(dict.fromkeys(symbols))
        return [
            self._started(self._runs.open(name, plan.slot(at), part, days_kept=plan.days_kept), request_id)
            for name, part in _parts(kind, wanted)
        ]

    def _started(self, run: Run, request_id: str | None) -> Run:
        if not run.sent:
            self._queue.send_many([chunk.message() for chunk in run.waiting], request_id=request_id)
            self._runs.mark_sent(run.id)
        return run


def _parts(kind: str, symbols: Sequence[str]) -> Iterator[tuple[str, Sequence[str]]]:
    """Give the runs that ``symbols`` make, by kind; without symbols one run over none."""
    for number, start in enumerate(range(0, max(len(symbols), 1), MOST_SYMBOLS), start=1):
        yield kind if number == 1 else f"{kind}-{number}", symbols[start : start + MOST_SYMBOLS]
