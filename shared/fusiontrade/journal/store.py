"""The journal in its table: entries of every owner, written once, settled once.

=================  =========================  ==============================================================
owner              id                         further keys
=================  =========================  ==============================================================
user id, PLATFORM  ``<bar time ms>-<hash>``   ``owner_symbol``; while PENDING ``pending_shard`` and ``due_at``
``DIGEST#<owner>`` see `fusiontrade.journal.records`
=================  =========================  ==============================================================

Always true here: an entry and what its digest tells of it change in one transaction; an entry is added under an id that
its forecast determines, so adding it again changes nothing; it is settled only from PENDING, so of two that settle it
one does; nothing reads what belongs to another owner, and what is wrong with one owner's keeps no other's from being
settled.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from fusiontrade.clock import Clock
from fusiontrade.cloud.tables import Condition, ConditionFailed, Delete, ItemRefused, Page, Put, Table, Update, Write
from fusiontrade.cloud.values import Item
from fusiontrade.deadline import Deadline
from fusiontrade.errors import Conflict, FusionTradeError, InvalidInput, NotFound, StateUnavailable
from fusiontrade.journal.asking import Asked, DuePage, EntryPage
from fusiontrade.journal.entries import Entry, entry_from, first_id, item_of
from fusiontrade.journal.records import (
    COUNT,
    MOST_OF_A_DAY,
    day_of,
    digest_key,
    digest_owner,
    mark_name,
    mark_of,
    records_in,
)
from fusiontrade.journal.settlement import Settlement, Status
from fusiontrade.journal.statistics import Record

__all__ = ["Asked", "DuePage", "EntryPage", "Journal"]

_MOST_AT_ONCE = 40
"""Entries of one transaction: their digests fit beside them, and an expression is 4 KB at most."""
_WAITS = (0.2, 0.4, 0.8)  # s, between tries, each of which has waited a little itself
_LOOKED_AT = 1000  # items of one query whose answer is filtered
_READ_AT_ONCE = 100  # entries that are read by their ids in one round trip
_MOST_QUERIES = 10
_LAST = "~"  # sorts after everything that follows the day in a digest's id

logger = logging.getLogger(__name__)

Refused = Callable[[str, FusionTradeError], object]
"""Is told of an owner whose entries cannot be settled, and why."""

_IS_NEW = Condition("attribute_not_exists(#id)")
_IS_PENDING = Condition("#status = :pending", {"pending": Status.PENDING.value})


class _Change(NamedTuple):
    """What happens to one entry: the write, and the entry as it is then."""

    write: Put | Update | Delete
    entry: Entry


class _Crowded(StateUnavailable):
    """Others keep writing the same digests."""


class Journal:
    """The entries in one table.

    Parameters
    ----------
    table
        ``Journal`` of the template.
    clock
        The present, ms.
    sleep
        Waits for seconds between tries of a transaction that another one was in the way of.
    """

    def __init__(self, table: Table, clock: Clock, *, sleep: Callable[[float], object] = time.sleep) -> None:
        self._table = table
        self._clock = clock
        self._sleep = sleep

    def add(self, entry: Entry) -> bool:
        """Write an entry; False where it was there already. One round trip.

        Raises
        ------
        InvalidInput
            If its owner's day is full: `MOST_OF_A_DAY` of one symbol and interval.
        StateUnavailable
            If the database does not answer, or others keep writing the same day's digest.
        """
        return len(self.add_many([entry])) == 1

    def add_many(self, entries: Iterable[Entry]) -> list[Entry]:
        """Write entries and return those that were not there yet; raises as `add`, what is written by then stays."""
        different = {(entry.owner, entry.id): entry for entry in entries}
        return self._commit([_addition(entry) for entry in different.values()])

    def remove(self, entries: Iterable[Entry]) -> int:
        """Take back entries that were just added; those settled since stay. Return how many went."""
        changes = [_Change(Delete(_key(each), _as_written(each)), each) for each in entries]
        return len(self._commit(changes))

    def get(self, owner: str, identity: str) -> Entry:
        """Return one entry of ``owner``.

        Raises
        ------
        NotFound
            If there is none, or it is somebody else's.
        StateUnavailable
            If the database does not answer.
        """
        item = self._table.get({"owner": owner, "id": identity})
        if item is None or "status" not in item:
            raise NotFound("you have no such journal entry")
        return entry_from(item)

    def page(
        self, owner: str, asked: Asked, *, limit: int, after: str | None = None, deadline: Deadline | None = None
    ) -> EntryPage:
        """Return up to ``limit`` entries that are ``asked`` for, newest first, those older than the id ``after``.

        Where few of many fit, or half of the time to ``deadline`` is over, a page may hold fewer although more follow.

        Raises
        ------
        StateUnavailable
            If the database does not answer, or not by ``deadline``.
        """
        found: list[Entry] = []
        enough = 0.0 if deadline is None else deadline.remaining() / 2
        for number in range(_MOST_QUERIES):
            if number and deadline is not None and deadline.remaining() < enough:
                break
            read = self._query(owner, asked, after, limit + 1, deadline)
            found += filter(None, map(_readable, read.items))
            if len(found) > limit:
                return EntryPage(found[:limit], found[limit - 1].id)
            if read.next_key is None:
                return EntryPage(found, None)
            after = str(read.next_key["id"])
        return EntryPage(found, after)

    def _query(self, owner: str, asked: Asked, after: str | None, count: int, deadline: Deadline | None) -> Page:
        first = None if asked.since is None else first_id(asked.since)
        last = None if asked.until is None else first_id(asked.until)
        start: dict[str, Any] | None = None if after is None else {"owner": owner, "id": after}
        index, name, value = None, "owner", owner
        if asked.symbol is not None:
            index, name, value = "by_symbol", "owner_symbol", f"{owner}#{asked.symbol}"
            start = None if start is None else {**start, "owner_symbol": value}
        condition = _between(name, value, first, last)
        narrower = asked.filter()
        looked_at = count if narrower is None else _LOOKED_AT
        return self._reading(deadline).query(
            condition, index=index, limit=looked_at, newest_first=True, start=start, filter=narrower
        )

    def _reading(self, deadline: Deadline | None) -> Table:
        return self._table if deadline is None else self._table.until(deadline)

    def due(self, shard: str, now: int, limit: int, start: dict[str, Any] | None = None) -> DuePage:
        """Return pending entries of a shard that are due at ``now`` (ms), those due longest first, a page at a time."""
        condition = Condition("#pending_shard = :shard AND #due_at <= :now", {"shard": shard, "now": now})
        page = self._table.query(condition, index="pending", limit=limit, start=start)
        return DuePage([entry for item in page.items if (entry := _readable(item))], page.next_key)

    def settle(self, entry: Entry, settlement: Settlement) -> bool:
        """Write what became of a pending entry; False where it was settled by then. Raises `StateUnavailable`."""
        return len(self.settle_many([(entry, settlement)])) == 1

    def settle_many(
        self, settled: Iterable[tuple[Entry, Settlement]], *, refused: Refused | None = None
    ) -> list[Entry]:
        """Write what became of pending entries; return those that this call settled, as they are then.

        Entries of several owners share transactions. Where one of those cannot be done, each owner gets one of their
        own: ``refused`` is told of those for whom that cannot be done either, and the others are settled.

        Raises
        ------
        ItemRefused, StateUnavailable
            If that happens and ``refused`` is None; `StateUnavailable` too where the database does not answer.
        """
        changes = [_settling(entry, settlement) for entry, settlement in settled]
        done: list[Entry] = []
        for part in _parts(changes):
            try:
                done += self._together(part)
            except (ItemRefused, _Crowded) as error:
                if refused is None:
                    raise
                done += self._owner_by_owner(part, refused, error)
        return done

    def _owner_by_owner(self, changes: list[_Change], refused: Refused, error: FusionTradeError) -> list[Entry]:
        owners: dict[str, list[_Change]] = {}
        for change in changes:
            owners.setdefault(change.entry.owner, []).append(change)
        done: list[Entry] = []
        for owner, own in owners.items():
            try:
                if len(owners) == 1:
                    raise error
                done += self._together(own)
            except (ItemRefused, _Crowded) as reason:
                refused(owner, reason)
        return done

    def defer(self, entry: Entry, until: int) -> bool:
        """Let a pending entry be due at ``until`` (ms); False where it was settled by then."""
        try:
            self._table.update(Update(_key(entry), assign={"due_at": until}, condition=_IS_PENDING))
        except ConditionFailed:
            return False
        return True

    def records(self, owner: str, asked: Asked, *, deadline: Deadline | None = None) -> Iterator[Record]:
        """Return the short form of the entries ``asked`` for, in no order; a status is not asked of them.

        What it costs grows with the days, symbols and entries of this owner that are asked for, with nothing else.
        Raises `StateUnavailable` where the database has not told all by ``deadline``.
        """
        for digest in self._digests(owner, asked, deadline):
            yield from (record for record in records_in(digest) if asked.tells_of(record))

    def _digests(self, owner: str, asked: Asked, deadline: Deadline | None) -> Iterator[dict[str, Any]]:
        index, name, value = None, "owner", digest_owner(owner)
        if asked.symbol is not None:
            index, name, value = "by_symbol", "owner_symbol", f"{value}#{asked.symbol}"
        first = None if asked.since is None else day_of(asked.since)
        last = None if asked.until is None else day_of(asked.until) + _LAST
        condition = _between(name, value, first, last)
        start = None
        while True:
            page = self._reading(deadline).query(condition, index=index, limit=_LOOKED_AT, start=start)
            yield from page.items
            start = page.next_key
            if start is None:
                return

    def pending(self, owner: str) -> Iterator[Entry]:
        """Return every entry of ``owner`` that the market has still to decide."""
        wanted = (record.id for record in self.records(owner, Asked()) if record.status is Status.PENDING)
        while some := list(islice(wanted, _READ_AT_ONCE)):
            items = self._table.get_many([{"owner": owner, "id": identity} for identity in some])
            yield from (entry for item in items if (entry := _readable(item)) and entry.is_pending)

    def _commit(self, changes: Sequence[_Change]) -> list[Entry]:
        """Do the changes, as many at once as a transaction takes, and return the entries whose change was done."""
        return [entry for part in _parts(changes) for entry in self._together(part)]

    def _together(self, changes: list[_Change]) -> list[Entry]:
        """Do those of a few changes whose condition holds, in one transaction; raises `InvalidInput` for a full day."""
        waits = iter(_WAITS)
        while changes:
            try:
                self._table.transact(*_writes(changes))
            except ConditionFailed as failed:
                if all(index >= len(changes) for index in failed.indexes):  # a digest's: each change is as it must be
                    told = f"a day holds {MOST_OF_A_DAY} entries of a symbol and interval"
                    raise InvalidInput("symbol", told) from None
                changes = [change for index, change in enumerate(changes) if index not in failed.indexes]
            except Conflict:
                wait = next(waits, None)
                if wait is None:
                    raise _Crowded("the journal is written by too many at once", retry_after=5) from None
                self._sleep(wait * random.uniform(0.5, 1.5))  # noqa: S311 - spreads tries, keeps no secret
            else:
                return [change.entry for change in changes]
        return []


def _parts(changes: Sequence[_Change]) -> Iterator[list[_Change]]:
    """Return the changes, as many at once as a transaction takes."""
    for start in range(0, len(changes), _MOST_AT_ONCE):
        yield list(changes[start : start + _MOST_AT_ONCE])


def _readable(item: Item) -> Entry | None:
    """Return the entry of a document; one that is none must not hide the others."""
    try:
        return entry_from(item)
    except (FusionTradeError, ArithmeticError, KeyError, TypeError, ValueError):
        logger.exception("the journal entry %s cannot be read", item.get("id"))
        return None


def _key(entry: Entry) -> dict[str, str]:
    return {"owner": entry.owner, "id": entry.id}


def _between(name: str, key: str, first: str | None, last: str | None) -> Condition:
    """Return the condition on a key whose ids are asked for from ``first`` to ``last``; None leaves an end open."""
    text, values = f"#{name} = :key", {"key": key}
    if first is not None and last is not None:
        return Condition(f"{text} AND #id BETWEEN :first AND :last", {**values, "first": first, "last": last})
    if first is not None:
        return Condition(f"{text} AND #id >= :first", {**values, "first": first})
    return Condition(text, values) if last is None else Condition(f"{text} AND #id <= :last", {**values, "last": last})


def _addition(entry: Entry) -> _Change:
    return _Change(Put(item_of(entry), _IS_NEW), entry)


def _as_written(entry: Entry) -> Condition:
    return Condition("#status = :status", {"status": entry.status.value})


def _settling(entry: Entry, settlement: Settlement) -> _Change:
    after = entry.settled(settlement)
    outcome = {
        "status": after.status.value,
        "outcome_price": after.outcome_price,
        "outcome_at": after.outcome_at,
        "pips": after.pips,
    }
    write = Update(_key(entry), assign=outcome, remove=["pending_shard", "due_at"], condition=_IS_PENDING)
    return _Change(write, after)


def _writes(changes: Sequence[_Change]) -> list[Write]:
    """Return the changes' writes, in their order, and after them those of the digests that tell of them."""
    digests: dict[tuple[str, str], list[_Change]] = {}
    for change in changes:
        key = digest_key(change.entry)
        digests.setdefault((key["owner"], key["id"]), []).append(change)
    return [*(change.write for change in changes), *(_digest_update(told) for told in digests.values())]


def _digest_update(told: Sequence[_Change]) -> Update:
    """Return the write of the digest of these entries; new ones need room in it, `MOST_OF_A_DAY` in all."""
    entry = told[0].entry
    marks = {mark_name(change.entry): mark_of(change.entry) for change in told if not isinstance(change.write, Delete)}
    gone = [mark_name(change.entry) for change in told if isinstance(change.write, Delete)]
    new = sum(isinstance(change.write, Put) for change in told)
    named = {"owner_symbol": f"{digest_owner(entry.owner)}#{entry.symbol}"}
    counted = {COUNT: new - len(gone)} if new != len(gone) else {}
    room = Condition(f"attribute_not_exists(#{COUNT}) OR #{COUNT} <= :room", {"room": MOST_OF_A_DAY - new})
    return Update(digest_key(entry), assign=named | marks, add=counted, remove=gone, condition=room if new else None)
