"""The verify function under real faults: processes at once, a killed one, a Yahoo that stumbles, a dead database."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from fusiontrade.deadline import Deadline
from fusiontrade.errors import StateUnavailable
from fusiontrade.journal.entries import SHARDS, Entry, decimal_of
from fusiontrade.journal.horizons import due, expiry
from fusiontrade.journal.settlement import Status
from fusiontrade.journal.statistics import statistics_of
from fusiontrade.journal.store import Asked, Journal
from fusiontrade.journal.verification import Report, Verification
from fusiontrade.market.providers.simulated import SimulatedProvider
from fusiontrade.market.providers.yahoo import YahooProvider
from fusiontrade.market.retry import RetryPolicy
from fusiontrade.market.source import CandleSource
from fusiontrade.market.symbols import parse_symbol
from fusiontrade.market.timeframes import Timeframe
from tests.support import emulator
from tests.support.journal_entries import *  # noqa: F403 - pytest finds fixtures by name in this module
from tests.support.journal_entries import ALICE, HOUR, NOON, buy, patient
from tests.support.yahoo_server import Act, YahooServer, price

ROOT = Path(__file__).resolve().parents[2]
SYMBOLS = ("BTC-USD", "ETH-USD", "EURUSD=X", "GC=F")
RUN = """
import json, sys
from functions.verify.app import handler
from tests.support.http_api import Context
print("ready", flush=True)
sys.stdin.readline()
print(json.dumps(handler({"task": "verify"}, Context(milliseconds=290_000))), flush=True)
"""


class Verifier:
    """The verify function in a process of its own; it begins when it is told to."""

    def __init__(self, table_name: str) -> None:
        environment = {
            **os.environ, "STAGE": "local", "JOURNAL_TABLE": table_name, "MARKET_DATA": "simulated",
            "LOG_LEVEL": "WARNING", "PYTHONPATH": f"{ROOT}:{ROOT / 'shared'}",
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN], cwd=ROOT, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def begin(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def report(self) -> dict[str, int]:
        printed, _ = self.process.communicate(timeout=120)
        assert self.process.returncode == 0
        told: dict[str, int] = json.loads([line for line in printed.splitlines() if '"checked"' in line][-1])
        return told


@pytest.fixture
def verifier(journal_table_name: str) -> Iterator[Callable[[], Verifier]]:
    started: list[Verifier] = []

    def start() -> Verifier:
        started.append(Verifier(journal_table_name))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.communicate()


def simulated_entries(count: int) -> list[Entry]:
    """Entries at the closes of the simulated market's last month, with levels of an hour's range."""
    entries: list[Entry] = []
    for code in SYMBOLS:
        symbol = parse_symbol(code)
        frame = SimulatedProvider(lambda: NOON).candles(symbol, Timeframe.H1, end=NOON, count=600, timeout=9.0)
        unit = float((frame.high - frame.low).mean())
        for row in range(len(frame) - count // len(SYMBOLS), len(frame)):
            opened_at, close = int(frame.close_time[row]), float(frame.close[row])
            entries.append(
                buy(
                    symbol=code, opened_at=opened_at, entry_price=decimal_of(close), tp1=decimal_of(close + 2 * unit),
                    stop_loss=decimal_of(close - 1.5 * unit), tp2=None, tp3=None,
                    expires_at=expiry(symbol, Timeframe.H1, opened_at, 4),
                    due_at=due(symbol, Timeframe.H1, opened_at),
                )
            )  # fmt: skip
    return entries


def told_of(journal: Journal) -> dict[str, int]:
    told = statistics_of(journal.records(ALICE, Asked()))
    return {name: told[name] for name in ("total", "pending", "wins", "losses", "expired")}


def test_two_processes_at_once_settle_each_entry_once(journal: Journal, verifier: Callable[[], Verifier]) -> None:
    journal.add_many(simulated_entries(400))
    processes = [verifier() for _ in range(2)]
    for process in processes:
        process.begin()
    reports = [process.report() for process in processes]
    assert sum(report["settled"] for report in reports) == 400
    told = told_of(journal)
    assert (told["total"], told["pending"]) == (400, 0)
    assert sum(report["wins"] for report in reports) == told["wins"] > 0
    assert sum(report["losses"] for report in reports) == told["losses"] > 0


def test_after_a_killed_run_the_next_one_finishes_and_no_count_is_off(
    journal: Journal, verifier: Callable[[], Verifier]
) -> None:
    journal.add_many(simulated_entries(800))
    dying, after = verifier(), verifier()
    dying.begin()
    deadline = time.monotonic() + 60
    while told_of(journal)["pending"] == 800:
        assert time.monotonic() < deadline, "nothing was settled"
    dying.process.send_signal(signal.SIGKILL)
    dying.process.wait(30)
    left = told_of(journal)["pending"]
    assert 0 < left < 800
    after.begin()
    assert after.report()["settled"] <= left  # what was under way when the process died may have been written
    told = told_of(journal)
    assert (told["total"], told["pending"]) == (800, 0)
    entries = [entry for page in _pages(journal) for entry in page]
    for name, status in (("wins", Status.WIN), ("losses", Status.LOSS), ("expired", Status.EXPIRED)):
        assert sum(entry.status is status for entry in entries) == told[name]


def _pages(journal: Journal) -> Iterator[list[Entry]]:
    after = None
    while True:
        page = journal.page(ALICE, Asked(), limit=200, after=after)
        yield page.entries
        if (after := page.after) is None:
            return


YAHOO_NOW = NOON + 6 * HOUR


@pytest.fixture
def yahoo() -> Iterator[YahooServer]:
    with YahooServer(YAHOO_NOW // 1000) as server:
        yield server


def verify_by(yahoo: YahooServer, journal_table_name: str) -> Report:
    def clock() -> int:
        return YAHOO_NOW

    provider = YahooProvider(base_url=yahoo.url, clock=clock)
    source = CandleSource(provider, clock=clock, retry=RetryPolicy(attempts=1), attempt_seconds=1.0)
    journal = Journal(patient(journal_table_name), clock)
    return Verification(journal, source, now_of=provider.now, clock=clock).run(Deadline.after(60))


def yahoo_entry() -> Entry:
    """A long entry at noon whose target lies far off: it expires."""
    close = Decimal(repr(round(price("BTC-USD", NOON / 1000), 4)))
    levels = {"entry_price": close, "tp1": close * 2, "stop_loss": close / 2, "tp2": None, "tp3": None}
    return buy(symbol="BTC-USD", data_source="yahoo", due_at=NOON + HOUR, **levels)


@pytest.mark.parametrize(
    "act",
    [
        Act(429, b"", {"Retry-After": "120"}),
        Act(500, b"oops"),
        Act.html(),
        Act(hang=True),
        Act.refusal(404, "Not Found", "No data found, symbol may be delisted"),
        Act(body=b'{"chart":{"result":[{"meta":{},"indicators":{"quote":[{}]}}],"error":null}}'),
    ],
    ids=["limited", "broken", "page", "silent", "delisted", "empty"],
)
def test_a_yahoo_that_stumbles_leaves_entries_pending_until_it_answers(
    yahoo: YahooServer, journal: Journal, journal_table_name: str, act: Act
) -> None:
    entry = yahoo_entry()
    journal.add(entry)
    yahoo.always = act
    report = verify_by(yahoo, journal_table_name)
    assert (report.settled, report.pending, list(report.failures)) == (0, 1, ["BTC-USD 1h"])
    assert journal.get(ALICE, entry.id).is_pending
    yahoo.always = None
    assert verify_by(yahoo, journal_table_name).expired == 1
    settled = journal.get(ALICE, entry.id)
    assert (settled.status, settled.outcome_at) == (Status.EXPIRED, NOON + 4 * HOUR)


def test_the_running_bar_of_yahoo_decides_nothing(
    yahoo: YahooServer, journal: Journal, journal_table_name: str
) -> None:
    """Yahoo sends the bar that is not over yet; its high lies beyond the target."""
    yahoo.now = (NOON + HOUR + 30 * 60_000) // 1000

    def leap(result: dict[str, object]) -> None:
        quote = result["indicators"]["quote"][0]  # type: ignore[index]
        quote["high"][-1] = quote["high"][-1] * 9

    yahoo.always = Act(edit=leap)
    entry = yahoo_entry()
    journal.add(entry)

    def clock() -> int:
        return yahoo.now * 1000

    provider = YahooProvider(base_url=yahoo.url, clock=clock)
    source = CandleSource(provider, clock=clock, retry=RetryPolicy(attempts=1))
    verification = Verification(Journal(patient(journal_table_name), clock), source, now_of=provider.now, clock=clock)
    report = verification.run(Deadline.after(60))
    assert (report.checked, report.settled, report.failures) == (1, 0, {})


def test_a_database_that_is_gone_is_an_error_and_nothing_is_lost(
    journal: Journal, journal_table_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fusiontrade.cloud.session import forget_clients
    from fusiontrade.cloud.tables import Table

    journal.add_many(simulated_entries(40))
    source = CandleSource(SimulatedProvider(lambda: NOON + 9 * HOUR))
    clock = lambda: NOON + 9 * HOUR  # noqa: E731

    def run() -> Report:
        hasty = Journal(Table(journal_table_name, read_seconds=30.0, attempts=1), clock)
        return Verification(hasty, source, now_of=lambda _: clock(), clock=clock).run(Deadline.after(60))

    answering = os.environ["AWS_ENDPOINT_URL"]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{emulator.free_port()}")
    forget_clients()
    with pytest.raises(StateUnavailable):
        run()
    monkeypatch.setenv("AWS_ENDPOINT_URL", answering)
    forget_clients()
    assert told_of(journal)["pending"] == 40
    assert run().settled > 0


def test_shards_that_are_named_are_the_only_ones_read(journal: Journal, journal_table_name: str) -> None:
    from fusiontrade.journal.entries import shard_of

    journal.add_many(simulated_entries(40))
    source = CandleSource(SimulatedProvider(lambda: NOON + 99 * HOUR))
    clock = lambda: NOON + 99 * HOUR  # noqa: E731
    verification = Verification(
        Journal(patient(journal_table_name), clock), source, now_of=lambda _: clock(), clock=clock
    )
    shard = shard_of("BTC-USD")
    others = [f"{number:02d}" for number in range(SHARDS) if f"{number:02d}" != shard]
    assert verification.run(Deadline.after(60), [shard]).settled == 10 * sum(shard_of(s) == shard for s in SYMBOLS)
    assert verification.run(Deadline.after(60), others).settled == 10 * sum(shard_of(s) != shard for s in SYMBOLS)
