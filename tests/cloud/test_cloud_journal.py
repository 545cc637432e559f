"""The journal against the emulated table: once written, once settled, nothing of others."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from decimal import Decimal
from threading import Barrier, Thread

import pytest

from fusiontrade.cloud.tables import ItemRefused, Table, Update
from fusiontrade.deadline import Deadline
from fusiontrade.errors import FusionTradeError, InvalidInput, NotFound, StateUnavailable
from fusiontrade.journal.entries import PLATFORM, SHARDS, Entry, Model, shard_of
from fusiontrade.journal.records import digest_key
from fusiontrade.journal.settlement import Settlement, Status
from fusiontrade.journal.statistics import Record, statistics_of
from fusiontrade.journal.store import Asked, Journal
from tests.support.journal_entries import *  # noqa: F403 - pytest finds fixtures by name in this module
from tests.support.journal_entries import ALICE, BOB, DAY, HOUR, NOON, buy, hold, patient, sell
from tests.support.round_trips import round_trips

WON = Settlement(Status.WIN, 1.104, NOON + 2 * HOUR)
LOST = Settlement(Status.LOSS, 1.097, NOON + HOUR)


def ids(entries: Iterable[Entry]) -> list[str]:
    return [entry.id for entry in entries]


def due_now(journal: Journal, now: int) -> list[Entry]:
    return [entry for shard in range(SHARDS) for entry in journal.due(f"{shard:02d}", now, 100).entries]


def everything_pages(journal: Journal, owner: str, asked: Asked, limit: int) -> list[Entry]:
    found, after = [], None
    while True:
        page = journal.page(owner, asked, limit=limit, after=after)
        assert len(page.entries) <= limit
        found += page.entries
        if (after := page.after) is None:
            return found


def test_an_entry_comes_back_as_it_was_written(journal: Journal) -> None:
    entry = buy(entry_price=Decimal("1.1000000000000001"))
    assert journal.add(entry)
    assert journal.get(ALICE, entry.id).to_json() == entry.to_json()
    assert journal.get(ALICE, entry.id).entry_price == Decimal("1.1000000000000001")


def test_the_same_forecast_is_there_once_for_each_owner(journal: Journal) -> None:
    assert [journal.add(buy()), journal.add(buy()), journal.add(buy(PLATFORM)), journal.add(buy(BOB))] == [
        True, False, True, True,
    ]  # fmt: skip
    assert len(everything_pages(journal, ALICE, Asked(), 10)) == 1


def test_another_bar_symbol_interval_or_bundle_is_another_entry(journal: Journal) -> None:
    different = [
        buy(), buy(opened_at=NOON + HOUR), buy(symbol="GBPUSD=X"), buy(interval="4h"), buy(models=()),
    ]  # fmt: skip
    assert len(journal.add_many(different)) == 5


def test_nobody_reads_what_is_somebody_elses(journal: Journal) -> None:
    entry = buy()
    journal.add(entry)
    for identity in (entry.id, "nonsense", "", f"{entry.id}x"):
        with pytest.raises(NotFound):
            journal.get(BOB, identity or "-")
    assert journal.page(BOB, Asked(), limit=10).entries == []
    assert journal.page(BOB, Asked(symbol="EURUSD=X"), limit=10).entries == []
    assert list(journal.records(BOB, Asked())) == []


def test_pages_run_newest_first_through_everything_once(journal: Journal) -> None:
    entries = [buy(opened_at=NOON - hour * HOUR) for hour in range(23)]
    journal.add_many(entries)
    journal.add_many(buy(BOB, opened_at=NOON - hour * HOUR) for hour in range(5))
    for limit in (1, 7, 23, 50):
        assert ids(everything_pages(journal, ALICE, Asked(), limit)) == ids(entries)


def test_one_entry_that_cannot_be_read_hides_no_other(
    journal: Journal, journal_table_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    entries = [buy(opened_at=NOON - hour * HOUR) for hour in range(7)]
    journal.add_many(entries)
    broken = entries[3]
    Table(journal_table_name).update(Update({"owner": ALICE, "id": broken.id}, assign={"entry_price": "a lot"}))
    rest = [entry.id for entry in entries if entry is not broken]
    assert ids(everything_pages(journal, ALICE, Asked(), 3)) == rest
    assert ids(everything_pages(journal, ALICE, Asked(symbol="EURUSD=X"), 3)) == rest
    assert broken.id in caplog.text


def test_a_list_is_filtered_by_symbol_interval_status_and_time(journal: Journal) -> None:
    kinds = [("EURUSD=X", "1h"), ("EURUSD=X", "4h"), ("GC=F", "1h")]
    entries = [
        buy(symbol=symbol, interval=interval, opened_at=NOON - hour * HOUR)
        for hour in range(8)
        for symbol, interval in kinds
    ]
    journal.add_many(entries)
    journal.settle_many([(entry, WON) for entry in entries if entry.opened_at == NOON])
    wanted = {
        Asked(symbol="GC=F"): lambda e: e.symbol == "GC=F",
        Asked(interval="4h"): lambda e: e.interval == "4h",
        Asked(status=Status.WIN): lambda e: e.opened_at == NOON,
        Asked(status=Status.PENDING, symbol="EURUSD=X"): lambda e: e.opened_at < NOON and e.symbol == "EURUSD=X",
        Asked(since=NOON - 3 * HOUR, until=NOON): lambda e: NOON - 3 * HOUR <= e.opened_at < NOON,
        Asked(symbol="GC=F", since=NOON - HOUR): lambda e: e.symbol == "GC=F" and e.opened_at >= NOON - HOUR,
    }
    for asked, fits in wanted.items():
        expected = sorted(entry.id for entry in entries if fits(entry))
        assert sorted(ids(everything_pages(journal, ALICE, asked, 2))) == expected
        if asked.status is None:
            assert sorted(record.id for record in journal.records(ALICE, asked)) == expected


def test_an_entry_is_settled_once_and_is_no_longer_due(journal: Journal) -> None:
    entry = buy()
    journal.add(entry)
    (due,) = due_now(journal, NOON + 4 * HOUR)
    assert journal.settle(due, WON)
    assert not journal.settle(due, LOST)
    settled = journal.get(ALICE, entry.id)
    assert (settled.status, settled.outcome_price, settled.outcome_at, settled.pips) == (
        Status.WIN, Decimal("1.104"), NOON + 2 * HOUR, Decimal("40.00"),
    )  # fmt: skip
    assert due_now(journal, NOON + 100 * DAY) == []


def test_the_pips_of_a_short_entry_are_gained_downwards(journal: Journal) -> None:
    entry = sell(symbol="USDJPY=X", entry_price=Decimal("150"), tp1=Decimal("149.5"), stop_loss=Decimal("150.4"))
    journal.add(entry)
    journal.settle(entry, Settlement(Status.LOSS, 150.4, NOON + HOUR))
    assert journal.get(ALICE, entry.id).pips == Decimal("-40.00")


def test_what_is_not_due_yet_is_not_read(journal: Journal) -> None:
    journal.add_many([buy(due_at=NOON + HOUR), buy(symbol="GC=F", due_at=NOON + 2 * HOUR)])
    assert due_now(journal, NOON + HOUR - 1) == []
    assert [entry.symbol for entry in due_now(journal, NOON + HOUR)] == ["EURUSD=X"]
    assert {entry.symbol for entry in due_now(journal, NOON + 2 * HOUR)} == {"EURUSD=X", "GC=F"}


def test_a_deferred_entry_is_due_later_and_a_settled_one_is_not_deferred(journal: Journal) -> None:
    entry = buy(due_at=NOON)
    journal.add(entry)
    assert journal.defer(entry, NOON + DAY)
    assert due_now(journal, NOON + DAY - 1) == []
    journal.settle(entry, WON)
    assert not journal.defer(entry, NOON + 2 * DAY)
    assert due_now(journal, NOON + 9 * DAY) == []


def test_a_hold_is_counted_and_never_due(journal: Journal) -> None:
    journal.add(hold())
    assert due_now(journal, NOON + 100 * DAY) == []
    told = statistics_of(journal.records(ALICE, Asked()))
    assert (told["total"], told["holds"], told["pending"], told["expired"]) == (1, 1, 0, 0)


def test_the_digests_tell_what_the_entries_tell(journal: Journal) -> None:
    entries = [
        buy(symbol=symbol, opened_at=NOON - hour * HOUR, probability=Decimal("0.2") if hour % 3 else None)
        for hour in range(60)
        for symbol in ("EURUSD=X", "GC=F")
    ]
    journal.add_many(entries)
    outcomes = [Settlement(Status.WIN, 1.104, NOON + HOUR), Settlement(Status.LOSS, 1.097, NOON + 2 * HOUR)]
    journal.settle_many([(entry, outcomes[index % 2]) for index, entry in enumerate(entries) if index % 4])
    stored = everything_pages(journal, ALICE, Asked(), 50)
    expected = {
        Record(e.id, e.opened_at, e.symbol, e.interval, e.status, e.outcome_at, e.pips, e.outcome_at and e.probability)
        for e in stored
    }
    assert set(journal.records(ALICE, Asked())) == expected


def test_entries_taken_back_leave_nothing(journal: Journal, journal_table_name: str) -> None:
    kept, gone = buy(), buy(opened_at=NOON + HOUR)
    journal.add_many([kept, gone])
    assert journal.remove([gone]) == 1
    assert ids(everything_pages(journal, ALICE, Asked(), 10)) == [kept.id]
    assert [record.id for record in journal.records(ALICE, Asked())] == [kept.id]


def test_pending_entries_of_one_owner_are_found_by_their_digests(journal: Journal) -> None:
    entries = [buy(opened_at=NOON - hour * HOUR) for hour in range(30)]
    journal.add_many(entries)
    journal.add(buy(BOB))
    journal.settle_many([(entry, WON) for entry in entries[5:]])
    assert set(ids(journal.pending(ALICE))) == set(ids(entries[:5]))


def test_pending_entries_are_read_a_hundred_at_a_time(journal: Journal) -> None:
    entries = [buy(opened_at=NOON + n * HOUR) for n in range(101)]
    journal.add_many(entries)
    with round_trips() as asked:
        assert {entry.id for entry in journal.pending(ALICE)} == set(ids(entries))
    assert asked == ["Query", "BatchGetItem", "BatchGetItem"]


def test_a_page_that_takes_too_long_is_short_and_goes_on_where_it_stopped(journal: Journal) -> None:
    """The oldest entry is the only one of its interval; time runs out after the first query, of one entry here."""
    few = [buy(opened_at=NOON - n * HOUR, models=()) for n in range(2)]
    journal.add_many([*few, buy(opened_at=NOON - 9 * HOUR, interval="4h")])
    ticks = iter(range(100))
    slow = Deadline(20.0, lambda: 9.0 * next(ticks))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("fusiontrade.journal.store._LOOKED_AT", 1)
        page = journal.page(ALICE, Asked(interval="4h"), limit=5, deadline=slow)
        assert (page.entries, page.after) == ([], few[0].id)
        rest = journal.page(ALICE, Asked(interval="4h"), limit=5, after=page.after)
    assert [entry.interval for entry in rest.entries] == ["4h"]


def test_statistics_that_cannot_be_told_in_time_are_an_outage_and_never_a_part(journal: Journal) -> None:
    journal.add_many([buy(opened_at=NOON - n * DAY) for n in range(3)])
    ticks = iter(range(100))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("fusiontrade.journal.store._LOOKED_AT", 1)
        with pytest.raises(StateUnavailable):
            list(journal.records(ALICE, Asked(), deadline=Deadline(20.0, lambda: 15.0 * next(ticks))))
        assert len(list(journal.records(ALICE, Asked(), deadline=Deadline.after(60.0)))) == 3


def _fill(table: Table, key: dict[str, str]) -> None:
    """Let the document have next to no room left of its 400 KB."""
    told = table.get(key) or {}
    taken = sum(len(name) + len(str(value)) for name, value in told.items())
    for spare in range(0, 40, 4):
        with suppress(StateUnavailable):
            table.update(Update(key, assign={"filling": "x" * (400 * 1024 - taken - len("filling") - spare)}))
            return
    raise AssertionError("the document could not be filled")


def test_an_owner_whose_day_is_too_large_keeps_nobody_elses_from_being_settled(
    journal: Journal, journal_table_name: str
) -> None:
    own, others = buy(), buy(BOB)
    journal.add_many([own, others])
    _fill(patient(journal_table_name), digest_key(others))
    with pytest.raises(ItemRefused):
        journal.settle_many([(own, WON), (others, WON)])
    refused: dict[str, FusionTradeError] = {}
    settled = journal.settle_many([(others, WON), (own, WON)], refused=refused.__setitem__)
    assert [entry.owner for entry in settled] == [ALICE]
    assert [(owner, type(error)) for owner, error in refused.items()] == [(BOB, ItemRefused)]
    assert journal.get(ALICE, own.id).status is Status.WIN
    assert journal.get(BOB, others.id).is_pending


def test_all_entries_of_a_symbol_are_in_one_shard(journal: Journal) -> None:
    symbols = [f"S{number}.NS" for number in range(64)]
    assert len({shard_of(symbol) for symbol in symbols}) == SHARDS


@pytest.mark.parametrize("callers", [2, 5])
def test_of_parallel_settlers_each_entry_has_one(journal_table_name: str, journal: Journal, callers: int) -> None:
    entries = [buy(opened_at=NOON - minute * 60_000) for minute in range(100)]
    journal.add_many(entries)
    done: list[int] = []
    start = Barrier(callers)

    def settler() -> None:
        own = Journal(patient(journal_table_name), lambda: NOON)
        start.wait()
        done.append(len(own.settle_many([(entry, WON) for entry in entries])))

    threads = [Thread(target=settler) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(done) == 100
    assert statistics_of(journal.records(ALICE, Asked()))["wins"] == 100


def test_a_day_holds_so_many_entries_of_a_symbol_and_interval_and_room_comes_back(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusiontrade.journal.store.MOST_OF_A_DAY", 3)
    first, second, third, fourth = (buy(models=(Model("1h", "lstm-1h", str(version)),)) for version in range(4))
    assert len(journal.add_many([first, second, third])) == 3
    with pytest.raises(InvalidInput, match="a day holds 3 entries"):
        journal.add(fourth)
    assert journal.add_many([first, second]) == []  # they are there: nothing is wrong
    assert journal.add(buy(BOB, models=fourth.models))
    assert journal.add(buy(symbol="USDJPY=X", models=fourth.models))
    assert journal.settle(third, Settlement(Status.WIN, 1.104, NOON + HOUR))
    assert journal.remove([second]) == 1
    assert journal.add(fourth)
    assert len(journal.page(ALICE, Asked(symbol="EURUSD=X"), limit=10).entries) == 3
