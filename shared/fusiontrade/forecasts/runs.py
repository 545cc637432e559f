"""Runs: one forecast of each symbol of a list, in chunks that any worker may take, counted once.

===================  ======  =========================================================================================
pk                   sk      attributes
===================  ======  =========================================================================================
``RUN#<id>``         RUN     kind, slot (ms), symbols, chunks, total, success, failed, ``done`` (the numbers of finished
                             chunks), ``failures_<chunk>``, status, sent, started_at, finished_at (ms), expires_at (s)
===================  ======  =========================================================================================

Always true here: a kind and a slot of the schedule name one run, so a schedule that fires twice finds the run of the
first time. What a chunk came to is added to the counters by one update, which happens only while the chunk is not in
``done``: however often it is delivered, it counts once. Whoever sees all chunks done closes the run; a worker that
dies between the two leaves that to the next delivery. The failures of a chunk stand beside its counters, written by
the same update.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fusiontrade.clock import Clock, iso
from fusiontrade.cloud.tables import Condition, ConditionFailed, Key, Table, Update
from fusiontrade.cloud.values import Item
from fusiontrade.errors import NotFound

__all__ = ["CHUNK_SIZE", "MOST_SYMBOLS", "Chunk", "Failure", "Run", "RunStatus", "Runs", "run_id"]

CHUNK_SIZE = 32
"""Symbols of a chunk at most: four timeframes of each are one invocation of the container."""
MOST_SYMBOLS = 1_000
"""Symbols of a run at most: with a failure of each, its document still fits the table's 400 KB."""
_MOST_REASON = 200

RunStatus = Literal["RUNNING", "SUCCEEDED", "FAILED"]
_IS_NEW = Condition("attribute_not_exists(#pk)")


@dataclass(frozen=True)
class Failure:
    """A symbol without a forecast, and why."""

    symbol: str
    reason: str


@dataclass(frozen=True)
class Chunk:
    """A part of a run: ``number`` counts from 0."""

    run_id: str
    number: int
    symbols: tuple[str, ...]

    def message(self) -> dict[str, Any]:
        """Return the body of the queue's message."""
        return {"type": "chunk", "run_id": self.run_id, "number": self.number, "symbols": list(self.symbols)}

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> Chunk:
        """Return the chunk in a message's body; raises `KeyError`, `TypeError` or `ValueError` where there is none."""
        symbols = tuple(str(symbol) for symbol in message["symbols"])
        if not 1 <= len(symbols) <= CHUNK_SIZE:
            raise ValueError(f"a chunk has 1 to {CHUNK_SIZE} symbols, not {len(symbols)}")
        return cls(str(message["run_id"]), int(message["number"]), symbols)


@dataclass(frozen=True)
class Run:
    """A run as it is stored; instants are ms since 1970-01-01 UTC.

    Parameters
    ----------
    id, kind, slot
        Its name, made of the other two: what is run, and the instant of the schedule that it is for.
    symbols
        What is forecast, in the order of the chunks.
    total, success, failed
        How many symbols; how many have a forecast; how many have none.
    done
        Numbers of the chunks that are counted.
    failures
        The symbols without a forecast.
    status
        ``RUNNING``; then ``SUCCEEDED``, or ``FAILED`` where no symbol has a forecast.
    sent
        Whether every chunk reached the queue.
    started_at, finished_at
        When it was made; when the last chunk was counted, None before.
    """

    id: str
    kind: str
    slot: int
    symbols: tuple[str, ...]
    total: int
    success: int
    failed: int
    done: frozenset[int]
    failures: tuple[Failure, ...]
    status: RunStatus
    sent: bool
    started_at: int
    finished_at: int | None

    @property
    def chunks(self) -> list[Chunk]:
        """All chunks, done or not."""
        return [Chunk(self.id, number, part) for number, part in enumerate(_parts(self.symbols))]

    @property
    def waiting(self) -> list[Chunk]:
        """The chunks that are not counted yet."""
        return [chunk for chunk in self.chunks if chunk.number not in self.done]

    @property
    def is_complete(self) -> bool:
        """Whether every chunk is counted."""
        return not self.waiting


def run_id(kind: str, slot: int) -> str:
    """Return the name of the run of ``kind`` for the schedule's instant ``slot``: ``intraday-20250731T060000Z``."""
    return f"{kind}-{iso(slot - slot % 1000).replace('-', '').replace(':', '')}"


class Runs:
    """The runs in one table."""

    def __init__(self, table: Table, clock: Clock) -> None:
        self._table = table
        self._clock = clock

    def open(self, kind: str, slot: int, symbols: Sequence[str], *, days_kept: int = 30) -> Run:
        """Return the run of ``kind`` for ``slot``: a new one over ``symbols``, or the one that was made for it before.

        Parameters
        ----------
        days_kept
            How long a new run can be read.

        Raises
        ------
        ValueError
            If there are more than `MOST_SYMBOLS`.
        StateUnavailable
            If the database does not answer.
        """
        if len(symbols) > MOST_SYMBOLS:
            raise ValueError(f"a run takes at most {MOST_SYMBOLS} symbols, not {len(symbols)}: make several")
        document = _document(kind, slot, symbols, self._clock(), days_kept)
        try:
            self._table.put(document, condition=_IS_NEW)
        except ConditionFailed as there:
            return _run(there.item or document)
        return _run(document)

    def get(self, identity: str) -> Run:
        """Return a run; raises `NotFound`, `StateUnavailable`."""
        item = self._table.get(_key(identity))
        if item is None:
            raise NotFound(f"there is no run {identity!r}")
        return _run(item)

    def mark_sent(self, identity: str) -> None:
        """Note that every chunk of the run reached the queue."""
        self._table.update(Update(_key(identity), assign={"sent": True}, condition=Condition("attribute_exists(#pk)")))

    def count(self, chunk: Chunk, failures: Sequence[Failure]) -> Run:
        """Add what ``chunk`` came to, once, and close the run if that was the last one; return the run after it.

        Parameters
        ----------
        failures
            The symbols of the chunk without a forecast; all others have one.

        Raises
        ------
        NotFound
            If there is no such run.
        StateUnavailable
            If the database does not answer; the same call again is safe.
        """
        number = str(chunk.number)
        rows = [{"symbol": failure.symbol, "reason": failure.reason[:_MOST_REASON]} for failure in failures]
        change = Update(
            _key(chunk.run_id),
            assign={f"failures_{number}": rows} if rows else {},
            add={"success": len(chunk.symbols) - len(rows), "failed": len(rows), "done": frozenset({number})},
            condition=Condition("attribute_exists(#pk) AND NOT contains(#done, :chunk)", {"chunk": number}),
        )
        try:
            run = _run(self._table.update(change))
        except ConditionFailed as refused:
            if refused.item is None:
                raise NotFound(f"there is no run {chunk.run_id!r}") from None
            run = _run(refused.item)
        return self._closed(run)

    def _closed(self, run: Run) -> Run:
        """Close a run that is complete and not closed; of two that see it, one does."""
        if run.status != "RUNNING" or not run.is_complete:
            return run
        status: RunStatus = "SUCCEEDED" if run.success or not run.total else "FAILED"
        change = Update(
            _key(run.id),
            assign={"status": status, "finished_at": self._clock()},
            condition=Condition("#status = :running", {"running": "RUNNING"}),
        )
        try:
            return _run(self._table.update(change))
        except ConditionFailed as closed:
            return _run(closed.item) if closed.item else run


def _key(identity: str) -> Key:
    return {"pk": f"RUN#{identity}", "sk": "RUN"}


def _document(kind: str, slot: int, symbols: Sequence[str], now: int, days_kept: int) -> Item:
    finished = {} if symbols else {"status": "SUCCEEDED", "finished_at": now, "sent": True}
    return {
        **_key(run_id(kind, slot)),
        "kind": kind,
        "slot": slot,
        "symbols": list(symbols),
        "total": len(symbols),
        "success": 0,
        "failed": 0,
        "status": "RUNNING",
        "sent": False,
        "started_at": now,
        "finished_at": None,
        "expires_at": now // 1000 + days_kept * 86_400,
        **finished,
    }


def _parts(symbols: Sequence[str]) -> list[tuple[str, ...]]:
    return [tuple(symbols[start : start + CHUNK_SIZE]) for start in range(0, len(symbols), CHUNK_SIZE)]


def _run(item: Item) -> Run:
    done = frozenset(int(number) for number in item.get("done", ()))
    rows = [row for number in sorted(done) for row in item.get(f"failures_{number}", ())]
    return Run(
        id=item["pk"].partition("#")[2],
        kind=item["kind"],
        slot=item["slot"],
        symbols=tuple(item["symbols"]),
        total=item["total"],
        success=item["success"],
        failed=item["failed"],
        done=done,
        failures=tuple(Failure(row["symbol"], row["reason"]) for row in rows),
        status=item["status"],
        sent=item["sent"],
        started_at=item["started_at"],
        finished_at=item["finished_at"],
    )
