"""Whole runs of the verification over the emulated journal: due entries, fetches, outages, several at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from decimal import Decimal
from threading import Barrier, Thread

import numpy as np
import pytest

from fusiontrade.deadline import Deadline
from fusiontrade.errors import ProviderUnavailable
from fusiontrade.journal.entries import Entry
from fusiontrade.journal.horizons import due, expiry
from fusiontrade.journal.settlement import Status
from fusiontrade.journal.statistics import statistics_of
from fusiontrade.journal.store import Asked, Journal
from fusiontrade.journal.verification import Report, Verification
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.retry import RetryPolicy
from fusiontrade.market.source import CandleSource
from fusiontrade.market.symbols import Symbol, listed_symbols, parse_symbol
from fusiontrade.market.timeframes import Timeframe
from infra.load.journal import write
from tests.support.journal_entries import *  # noqa: F403 - pytest finds fixtures by name in this module
from tests.support.journal_entries import ALICE, BOB, DAY, HOUR, NOON, buy, patient
from tests.support.markets import Market

NOW = NOON + 2 * DAY


class Board(Market):
    """A market whose clock stands at `NOW`: each symbol rises by 0.001 an hour from 10 at `NOON`."""

    name = "simulated"

    def __init__(self) -> None:
        super().__init__()
        self.clock = NOW

    def candles(self, symbol: Symbol, timeframe: Timeframe, *, end: int, count: int, timeout: float) -> CandleFrame:
        frame = super().candles(symbol, timeframe, end=end, count=5 * count, timeout=timeout).tail(count)
        opens = 10 + 0.001 * (frame.time - NOON) / HOUR
        closes = opens + 0.001 * timeframe.milliseconds / HOUR
        return CandleFrame(frame.symbol, timeframe, frame.time, opens, closes, opens, closes)


def verification(table_name: str, market: Market) -> Verification:
    def clock() -> int:
        return market.clock

    source = CandleSource(market, clock=clock, retry=RetryPolicy(attempts=1), sleep=lambda _: None)
    return Verification(Journal(patient(table_name), clock), source, now_of=market.now, clock=clock)


def run(table_name: str, market: Market, seconds: float = 300.0) -> Report:
    return verification(table_name, market).run(Deadline.after(seconds))


def entry_at(symbol: str, opened_at: int, interval: str = "1h", **more: object) -> Entry:
    """A long entry at the board's price of that moment, with the target 2.5 hours of rise away."""
    price = 10 + Decimal("0.001") * (opened_at - NOON) / HOUR
    parsed, step = parse_symbol(symbol), Timeframe(interval)
    levels = {"entry_price": price, "tp1": price + Decimal("0.0025"), "stop_loss": price - Decimal("0.002")}
    return buy(
        **{
            "symbol": symbol, "interval": interval, "opened_at": opened_at, **levels, "tp2": None, "tp3": None,
            "expires_at": expiry(parsed, step, opened_at, 4), "due_at": due(parsed, step, opened_at), **more,
        }
    )  # fmt: skip


def test_a_run_settles_what_the_market_has_decided_and_leaves_the_rest(
    journal: Journal, journal_table_name: str
) -> None:
    won, open_ = entry_at("BTC-USD", NOON), entry_at("BTC-USD", NOW - HOUR)
    lost = entry_at("ETH-USD", NOON, signal="SELL", tp1=Decimal("9.9"), stop_loss=Decimal("10.0005"))
    expired = entry_at("SOL-USD", NOON, tp1=Decimal("10.2"))
    journal.add_many([won, open_, lost, expired])
    report = run(journal_table_name, Board())
    assert (report.checked, report.won, report.lost, report.expired, report.pending) == (4, 1, 1, 1, 1)
    found = {entry.id: journal.get(ALICE, entry.id) for entry in (won, open_, lost, expired)}
    assert (found[won.id].status, found[won.id].outcome_at) == (Status.WIN, NOON + 3 * HOUR)
    assert (found[lost.id].status, found[lost.id].outcome_price) == (Status.LOSS, Decimal("10.0005"))
    assert (found[expired.id].status, found[expired.id].outcome_at) == (Status.EXPIRED, NOON + 4 * HOUR)
    assert found[expired.id].outcome_price == pytest.approx(Decimal("10.004"), abs=Decimal("1e-9"))
    assert found[open_.id].is_pending


def test_thousands_of_entries_of_fifty_symbols_settle_in_one_run_of_one_fetch_each(
    journal: Journal, journal_table_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The emulator takes some 3 ms an entry; JOURNAL_ENTRIES=10000 is the size of the acceptance."""
    count = int(os.environ.get("JOURNAL_ENTRIES", "2000"))
    monkeypatch.setattr("fusiontrade.journal.verification._PAGE", count // 10)  # several pages of a shard
    coins = [code for code in listed_symbols() if parse_symbol(code).calendar == "24/7"]
    shares = [code for code in listed_symbols() if parse_symbol(code).calendar == "XNYS"]
    symbols = [*coins, *shares][:50]
    entries = list(_many(symbols, count))
    write(journal_table_name, iter(entries))
    market = Board()
    report = run(journal_table_name, market)
    assert (report.checked, report.settled, report.pending, report.complete) == (count, count, 0, True)
    assert report.fetches == len(market.asked) == 50
    assert len({(code, timeframe) for code, timeframe, *_ in market.asked}) == 50
    told = statistics_of(journal.records(ALICE, Asked()))
    assert (told["total"], told["pending"]) == (count, 0)
    again = run(journal_table_name, market)
    assert (again.checked, again.settled, len(market.asked)) == (0, 0, 50)


def _many(symbols: list[str], count: int) -> Iterator[Entry]:
    """Entries of the last weeks, the same number of each symbol, each on a bar's opening."""
    from fusiontrade.market.calendar import calendar_of

    for code in symbols:
        opens = calendar_of(parse_symbol(code)).bar_opens(Timeframe.H1, NOON - 60 * DAY, NOON)
        for opened_at in opens[-count // len(symbols) :].tolist():
            yield entry_at(code, opened_at)


def test_a_second_run_changes_nothing(journal: Journal, journal_table_name: str) -> None:
    journal.add_many([entry_at("BTC-USD", NOON - hour * HOUR) for hour in range(50)])
    market = Board()
    run(journal_table_name, market)
    before = journal.page(ALICE, Asked(), limit=100).entries
    again = run(journal_table_name, market)
    assert again.settled == again.elsewhere == 0
    assert journal.page(ALICE, Asked(), limit=100).entries == before


def test_while_the_provider_is_down_entries_stay_pending_and_settle_after(
    journal: Journal, journal_table_name: str
) -> None:
    journal.add_many([entry_at("BTC-USD", NOON + hour * HOUR) for hour in range(20)])
    market = Board()
    market.always = _down
    report = run(journal_table_name, market)
    assert (report.settled, report.pending) == (0, 20)
    assert "down" in report.failures["BTC-USD 1h"]
    assert all(entry.is_pending for entry in journal.page(ALICE, Asked(), limit=100).entries)
    market.always = None
    market.clock += DAY  # the circuit is closed again, and what had to wait is due again
    assert run(journal_table_name, market).settled == 20


def _down(_: CandleFrame) -> CandleFrame:
    raise ProviderUnavailable("the market is down", retry_after=1)


def test_one_symbol_without_candles_keeps_no_other_from_being_settled(
    journal: Journal, journal_table_name: str
) -> None:
    journal.add_many([entry_at("BTC-USD", NOON), entry_at("ETH-USD", NOON), entry_at("SOL-USD", NOON)])
    market = Board()

    def but_one(frame: CandleFrame) -> CandleFrame:
        return _down(frame) if frame.symbol == "ETH-USD" else frame

    market.always = but_one
    report = run(journal_table_name, market)
    assert (report.settled, report.pending, list(report.failures)) == (2, 1, ["ETH-USD 1h"])


def test_what_cannot_be_settled_for_long_is_looked_at_less_often(journal: Journal, journal_table_name: str) -> None:
    journal.add(entry_at("BTC-USD", NOON - 10 * DAY))
    market = Board()
    market.always = _down
    assert run(journal_table_name, market).checked == 1
    assert run(journal_table_name, market).checked == 0
    market.clock += 7 * HOUR
    market.always = None
    assert run(journal_table_name, market).settled == 1


def test_prices_of_another_source_settle_nothing(journal: Journal, journal_table_name: str) -> None:
    journal.add_many([entry_at("BTC-USD", NOON, data_source="yahoo"), entry_at("ETH-USD", NOON)])
    report = run(journal_table_name, Board())
    assert (report.settled, report.pending) == (1, 1)


@pytest.mark.parametrize("verifiers", [2, 4])
def test_of_verifiers_at_once_one_settles_each_entry(journal: Journal, journal_table_name: str, verifiers: int) -> None:
    symbols = ["BTC-USD", "ETH-USD", "SOL-USD", "XRP-USD"]
    journal.add_many([entry_at(symbol, NOON - hour * HOUR) for symbol in symbols for hour in range(60)])
    reports = _at_once([lambda: run(journal_table_name, Board()) for _ in range(verifiers)])
    assert sum(report.settled for report in reports) == 240
    told = statistics_of(journal.records(ALICE, Asked()))
    assert (told["pending"], told["wins"] + told["losses"] + told["expired"]) == (0, 240)


def _at_once(calls: list[Callable[[], Report]]) -> list[Report]:
    reports: list[Report] = []
    start = Barrier(len(calls))

    def caller(call: Callable[[], Report]) -> None:
        start.wait()
        reports.append(call())

    threads = [Thread(target=caller, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return reports


def test_a_user_asks_for_their_own_entries_only_and_for_those_not_due_too(
    journal: Journal, journal_table_name: str
) -> None:
    own = entry_at("BTC-USD", NOON, due_at=NOON + 300 * DAY)
    others = entry_at("BTC-USD", NOON, owner=BOB)
    journal.add_many([own, others])
    report = verification(journal_table_name, Board()).run_for(ALICE, Deadline.after(60))
    assert (report.checked, report.settled) == (1, 1)
    assert not journal.get(ALICE, own.id).is_pending
    assert journal.get(BOB, others.id).is_pending


def test_without_time_nothing_is_begun_and_the_report_says_so(journal: Journal, journal_table_name: str) -> None:
    journal.add(entry_at("BTC-USD", NOON))
    market = Board()
    report = run(journal_table_name, market, seconds=1.0)
    assert (report.settled, report.complete, market.asked) == (0, False, [])


def test_a_gap_at_the_end_of_the_candles_keeps_entries_pending(journal: Journal, journal_table_name: str) -> None:
    journal.add(entry_at("BTC-USD", NOON, tp1=Decimal("10.2")))
    market = Board()
    market.always = lambda frame: frame.rows(np.asarray(frame.time < NOON + 2 * HOUR))
    assert run(journal_table_name, market).settled == 0
    market.always = None
    market.clock += 7 * HOUR
    assert run(journal_table_name, market).expired == 1
