"""Settles what the market has decided by now: the schedule's work, and what a user asks for.

Always true here: candles are fetched once for a symbol and the length of bars its entries are walked by, however many
entries there are; a bar that is not finished is never used, and no instant counts as known before every bar that
should be finished by then has arrived; entries of which the first bars are missing, or every bar, or whose prices came
from another source, are left as they are; what cannot be fetched is left PENDING and looked at again. Settling is
`journal.settlement`'s, and an entry is settled once, whoever else is at it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fusiontrade.clock import Clock, system_clock
from fusiontrade.deadline import Deadline
from fusiontrade.errors import FusionTradeError, InvalidInput
from fusiontrade.journal.entries import IMPORTED, SHARDS, Entry
from fusiontrade.journal.horizons import walked
from fusiontrade.journal.settlement import Bar, Settlement, Status, settle
from fusiontrade.journal.store import Journal
from fusiontrade.market.calendar import MarketCalendar, calendar_of
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.freshness import is_current
from fusiontrade.market.source import CandleAnswer
from fusiontrade.market.symbols import Symbol, parse_symbol
from fusiontrade.market.timeframes import Timeframe
from fusiontrade.snapshots import after_restore

if TYPE_CHECKING:
    from fusiontrade.settings import Settings

__all__ = [
    "ALL_SHARDS",
    "Candles",
    "Group",
    "Report",
    "Verification",
    "groups_of",
    "outcomes_of",
    "verification_of",
    "verify_owner",
]

ALL_SHARDS: tuple[str, ...] = tuple(f"{number:02d}" for number in range(SHARDS))

_DAY = Timeframe.D1.milliseconds
_PAGE = 1000
_MOST_AT_ONCE = 5000  # entries of a shard that are held at the same time: a symbol's are fetched for together
_SHARDS_AT_ONCE = 4  # with the above: at most 20,000 entries (60 MB) are held, whatever is due
_MOST_OF_A_USER = 20_000
_SPAN_BARS = 3000  # of one fetch: a month of quarters of an hour
_MARGIN_BARS = 16
_AFTER_EXPIRY = 4 * _DAY  # looked at beyond an expiry in the past: a bar there shows that none is missing before it
_PATIENCE = _DAY  # after its expiry an entry that cannot be settled is looked at less often
_REST = 6 * 3_600_000
_TO_SPARE = 2.0  # s that are left when no more is begun
_FETCH_SECONDS = 20.0

logger = logging.getLogger(__name__)


class Candles(Protocol):
    """What is asked of `fusiontrade.market.source.CandleSource`."""

    def candles(
        self, symbol: Symbol, timeframe: Timeframe, *, count: int, as_of: int | None = None, deadline: Deadline
    ) -> CandleAnswer: ...


@dataclass(frozen=True)
class Group:
    """Pending entries that one fetch of candles decides: of one symbol, walked by bars of one length, oldest first."""

    symbol: Symbol
    step: Timeframe
    entries: Sequence[Entry]

    @property
    def begins(self) -> int:
        """When the first of them was opened, ms."""
        return self.entries[0].opened_at

    @property
    def ends(self) -> int:
        """When the last of them expires, ms."""
        return max(entry.expires_at for entry in self.entries)


@dataclass
class Report:
    """What a run did.

    Parameters
    ----------
    checked, won, lost, expired
        Entries that were looked at, and that this run settled so.
    pending
        Entries that the market had not decided, or that could not be decided for want of candles.
    elsewhere
        Entries that another run settled meanwhile.
    fetches
        Requests for candles.
    failures
        Why candles of a symbol were not to be had, by symbol and length of bars.
    complete
        False where time ran out before everything that was due was looked at.
    """

    checked: int = 0
    won: int = 0
    lost: int = 0
    expired: int = 0
    pending: int = 0
    elsewhere: int = 0
    fetches: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    complete: bool = True

    @property
    def settled(self) -> int:
        """Entries that this run settled."""
        return self.won + self.lost + self.expired

    def add(self, other: Report) -> None:
        """Count another report in."""
        for name in ("checked", "won", "lost", "expired", "pending", "elsewhere", "fetches"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.failures |= other.failures
        self.complete = self.complete and other.complete

    def to_json(self) -> dict[str, Any]:
        """Return the report as the result of a job."""
        return {
            "checked": self.checked,
            "settled": self.settled,
            "wins": self.won,
            "losses": self.lost,
            "expired": self.expired,
            "pending": self.pending,
            "complete": self.complete,
            "failures": [{"candles": name, "reason": reason} for name, reason in sorted(self.failures.items())],
        }


class Verification:
    """Settles entries by the candles of one source.

    Parameters
    ----------
    journal, candles
        Where the entries are, and the market.
    now_of
        The present of the source for a symbol, ms: recorded prices have one of their own.
    clock
        The present, ms.
    workers
        Groups that are worked on at the same time.
    """

    def __init__(
        self,
        journal: Journal,
        candles: Candles,
        *,
        now_of: Callable[[Symbol], int],
        clock: Clock,
        workers: int = 8,
    ) -> None:
        self._journal = journal
        self._candles = candles
        self._now_of = now_of
        self._clock = clock
        self._workers = workers

    def run(self, deadline: Deadline, shards: Sequence[str] = ALL_SHARDS) -> Report:
        """Settle what is due in ``shards``; raises `StateUnavailable` where the journal cannot be read."""
        report = Report()
        starts: dict[str, dict[str, Any] | None] = dict.fromkeys(shards)
        with ThreadPoolExecutor(self._workers, thread_name_prefix="verify") as pool:
            while starts and deadline.remaining() > _TO_SPARE:
                now = {shard: starts.pop(shard) for shard in list(starts)[:_SHARDS_AT_ONCE]}
                entries, following = self._read(pool, now)
                starts |= following
                self._settle_all(pool, entries, deadline, report)
        report.complete = report.complete and not starts
        return report

    def run_for(self, owner: str, deadline: Deadline) -> Report:
        """Look at every pending entry of ``owner``, due or not; raises as `run`.

        Entries are read for half of the time at most, and so many at most: those beyond are left to the schedule.
        """
        report = Report()
        settling = deadline.remaining() / 2
        entries: list[Entry] = []
        for entry in self._journal.pending(owner):
            if deadline.remaining() <= max(settling, _TO_SPARE) or len(entries) == _MOST_OF_A_USER:
                report.complete = False
                break
            entries.append(entry)
        with ThreadPoolExecutor(self._workers, thread_name_prefix="verify") as pool:
            self._settle_all(pool, entries, deadline, report)
        return report

    def _read(
        self, pool: ThreadPoolExecutor, starts: Mapping[str, dict[str, Any] | None]
    ) -> tuple[list[Entry], dict[str, dict[str, Any] | None]]:
        """Return what is due next in every shard, and where to go on in those that have more."""
        now = self._clock()
        parts = list(pool.map(lambda one: self._read_shard(one[0], now, one[1]), starts.items()))
        following: dict[str, dict[str, Any] | None] = {}
        following |= {shard: key for shard, (_, key) in zip(starts, parts, strict=True) if key is not None}
        return [entry for entries, _ in parts for entry in entries], following

    def _read_shard(
        self, shard: str, now: int, start: dict[str, Any] | None
    ) -> tuple[list[Entry], dict[str, Any] | None]:
        entries: list[Entry] = []
        while len(entries) < _MOST_AT_ONCE:
            page = self._journal.due(shard, now, _PAGE, start)
            entries += page.entries
            start = page.next_key
            if start is None:
                break
        return entries, start

    def _settle_all(
        self, pool: ThreadPoolExecutor, entries: Iterable[Entry], deadline: Deadline, report: Report
    ) -> None:
        for done in pool.map(lambda group: self._settle_group(group, deadline), list(groups_of(entries))):
            report.add(done)

    def _settle_group(self, group: Group, deadline: Deadline) -> Report:
        count = len(group.entries)
        if deadline.remaining() <= _TO_SPARE:
            return Report(pending=count, complete=False)
        report = Report(checked=count, fetches=1)
        name, left = f"{group.symbol.code} {group.step}", group.entries
        refused: set[str] = set()

        def refuse(owner: str, error: FusionTradeError) -> None:
            logger.error("%s of %s cannot be settled: %s", name, owner, error)
            report.failures[name] = str(error)
            refused.add(owner)

        try:
            settled = list(outcomes_of(group, self._fetched(group, deadline)))
            written = self._journal.settle_many(settled, refused=refuse)
            settled = [each for each in settled if each[0].owner not in refused]
            _count(report, settled, written)
            left = _without(left, settled)
        except FusionTradeError as error:
            logger.warning("%s could not be settled now: %s", name, error)
            report.failures[name] = str(error)
        except Exception:
            logger.exception("%s could not be settled", name)
            report.failures[name] = "unexpected error"
        report.pending = count - report.settled - report.elsewhere
        self._rest(group.symbol, left, deadline)
        return report

    def _fetched(self, group: Group, deadline: Deadline) -> CandleAnswer:
        now = self._now_of(group.symbol)
        end = min(now, group.ends + _AFTER_EXPIRY)
        bars = len(calendar_of(group.symbol).bar_opens(group.step, group.begins, max(end, group.begins + 1)))
        return self._candles.candles(
            group.symbol,
            group.step,
            count=bars + bars // 8 + _MARGIN_BARS,
            as_of=None if end == now else end,
            deadline=deadline.within(_FETCH_SECONDS),
        )

    def _rest(self, symbol: Symbol, left: Iterable[Entry], deadline: Deadline) -> None:
        """Let entries that should long be settled, and cannot be, wait: they would be first in every run."""
        present, until = self._now_of(symbol), self._clock() + _REST
        try:
            for entry in left:
                if present > entry.expires_at + _PATIENCE and deadline.remaining() > _TO_SPARE:
                    self._journal.defer(entry, until)
        except FusionTradeError as error:
            logger.warning("entries that cannot be settled stay due: %s", error)


def _identity(entry: Entry) -> tuple[str, str]:
    return entry.owner, entry.id


def _without(entries: Sequence[Entry], settled: Sequence[tuple[Entry, Settlement]]) -> list[Entry]:
    gone = {_identity(entry) for entry, _ in settled}
    return [entry for entry in entries if _identity(entry) not in gone]


def _count(report: Report, settled: Sequence[tuple[Entry, Settlement]], written: Iterable[Entry]) -> None:
    """Count what was written as this run's; the rest of what was settled is somebody else's doing."""
    statuses = [entry.status for entry in written]
    report.won += statuses.count(Status.WIN)
    report.lost += statuses.count(Status.LOSS)
    report.expired += statuses.count(Status.EXPIRED)
    report.elsewhere += len(settled) - len(statuses)


def groups_of(entries: Iterable[Entry]) -> Iterator[Group]:
    """Return the entries by what they are fetched and walked by; no group spans more bars than one fetch takes."""
    found: dict[tuple[str, Timeframe], list[Entry]] = {}
    for entry in entries:
        symbol = parse_symbol(entry.symbol)
        step = walked(symbol, Timeframe(entry.interval), entry.opened_at)
        found.setdefault((symbol.code, step), []).append(entry)
    for (code, step), members in found.items():
        members.sort(key=lambda entry: entry.opened_at)
        span = _SPAN_BARS * step.milliseconds
        first = 0
        for index in range(1, len(members) + 1):
            if index == len(members) or members[index].opened_at - members[first].opened_at > span:
                yield Group(parse_symbol(code), step, members[first:index])
                first = index


def outcomes_of(group: Group, answer: CandleAnswer) -> Iterator[tuple[Entry, Settlement]]:
    """Return those of a group that ``answer`` decides, each with what became of it. Pure."""
    frame, calendar = answer.frame, calendar_of(group.symbol)
    known_to = answer.as_of if is_current(frame, group.symbol, answer.as_of) else int(frame.close_time[-1])
    bars = _bars_of(frame)
    closes, length = frame.close_time, group.step.milliseconds
    for entry in group.entries:
        if entry.data_source not in (answer.source, IMPORTED):
            continue
        if _has_bars(calendar, group.step, entry.opened_at, int(frame.time[0])):
            continue  # the first ones are missing
        first = int(np.searchsorted(frame.time, entry.opened_at))
        last = int(np.searchsorted(closes, entry.expires_at, side="right"))
        if first >= last and _has_bars(calendar, group.step, entry.opened_at, entry.expires_at - length + 1):
            continue  # all are missing: nobody knows what became of it
        settlement = _settled(entry, bars[first:last], known_to)
        if settlement.status is not Status.PENDING:
            yield entry, settlement


def _settled(entry: Entry, bars: Sequence[Bar], known_to: int) -> Settlement:
    price, target, stop = (float(level) for level in entry.levels)
    return settle(entry.signal, price, target, stop, bars, expires_at=entry.expires_at, closed_by=known_to)


def _bars_of(frame: CandleFrame) -> list[Bar]:
    columns = (frame.time, frame.close_time, frame.open, frame.high, frame.low, frame.close)
    return [Bar(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def _has_bars(calendar: MarketCalendar, step: Timeframe, start: int, end: int) -> bool:
    """Whether bars should open in ``[start, end)``; where the market's hours are not known, they should."""
    try:
        return start < end and len(calendar.bar_opens(step, start, end)) > 0
    except InvalidInput:
        return True


@cache
def verification_of(settings: Settings) -> Verification:
    """Return the process's one verification; imports what is heavy only now."""
    from fusiontrade.cloud.storage import Storage
    from fusiontrade.cloud.tables import Table
    from fusiontrade.market.factory import candle_source

    source = candle_source(settings, Storage(settings.artifacts_bucket) if settings.artifacts_bucket else None)
    journal = Journal(Table(settings.need("journal_table"), read_seconds=10.0, attempts=3), system_clock)
    return Verification(journal, source, now_of=source.provider.now, clock=system_clock)


after_restore(verification_of.cache_clear)


def verify_owner(settings: Settings, user_id: str, seconds_left: float) -> dict[str, Any]:
    """Look at every pending entry of a user and return what came of it, as the result of a job.

    Parameters
    ----------
    seconds_left
        What the caller's function has left.

    Raises
    ------
    StateUnavailable
        If the journal cannot be read.
    """
    return verification_of(settings).run_for(user_id, Deadline.after(seconds_left)).to_json()
