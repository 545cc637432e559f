"""Forecasts of the present in the journal: once, whoever asks and however many at once; never those of the past."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any

import pytest

from fusiontrade.cloud.session import client, forget_clients
from fusiontrade.cloud.tables import Table
from fusiontrade.deadline import Deadline
from fusiontrade.errors import StateUnavailable
from fusiontrade.fusion.calibration_store import TableCalibrationStates
from fusiontrade.fusion.journaling import NOT_WRITTEN, SECONDS_TO_WRITE, STALE, JournalOfForecasts
from fusiontrade.fusion.service import NEVER_JOURNALED, FusionService
from fusiontrade.inference.client import InferenceClient
from fusiontrade.journal.entries import PLATFORM, Entry
from fusiontrade.journal.store import Asked, Journal
from fusiontrade.market.timeframes import INTRADAY, Timeframe
from tests.support.emulator import free_port
from tests.support.forecast_desk import *  # noqa: F403 - pytest finds fixtures by name in this module
from tests.support.forecast_desk import Tables
from tests.support.fusion_fakes import NOON, FakeCandles, FakeEndpoint, answer, bars
from tests.support.round_trips import round_trips

QUARTER = Timeframe.M15.milliseconds
PATIENCE = 60.0


class Process:
    """A function's process: its service, and what it remembers."""

    def __init__(self, tables: Tables, *, votes: tuple[int, int] = (1, 1), journal: str | None = None) -> None:
        self.candles = FakeCandles()
        self.missed = 0
        entries = Journal(Table(journal or tables.journal, read_seconds=PATIENCE, attempts=1), lambda: NOON)
        self.service = FusionService(
            self.candles,
            InferenceClient(FakeEndpoint(dict.fromkeys(INTRADAY, votes))),
            calibration=TableCalibrationStates(Table(tables.models, read_seconds=PATIENCE, attempts=1)),
            journal=JournalOfForecasts(entries, missed=self._miss),
            clock=lambda: NOON,
        )

    def _miss(self) -> None:
        self.missed += 1

    def ask(self, user: str | None = None, symbol: str = "EURUSD=X", **more: Any) -> list[str]:
        """Return the warnings of a forecast."""
        response = self.service.fused(symbol, include_sentiment=False, journal_for=user, **more)
        return response.warnings


@pytest.fixture
def journal(tables: Tables) -> Journal:
    return Journal(Table(tables.journal, read_seconds=PATIENCE), lambda: NOON)


def entries(journal: Journal, owner: str = PLATFORM) -> list[Entry]:
    return journal.page(owner, Asked(), limit=200).entries


def test_a_forecast_is_written_for_the_platform_and_for_nobody_else(tables: Tables, journal: Journal) -> None:
    assert Process(tables).ask() == []
    (entry,) = entries(journal)
    assert (entry.symbol, entry.signal, entry.source, entry.opened_at) == ("EURUSD=X", "BUY", "manual", NOON)
    assert entries(journal, "u1") == []


def test_who_asks_for_it_has_an_entry_too_and_each_user_their_own(tables: Tables, journal: Journal) -> None:
    process = Process(tables)
    assert process.ask("u1") == process.ask("u2") == process.ask("u1") == []
    assert [len(entries(journal, owner)) for owner in (PLATFORM, "u1", "u2")] == [1, 1, 1]


def test_the_next_bar_is_the_next_entry(tables: Tables, journal: Journal) -> None:
    process = Process(tables)
    for now in (NOON, NOON, NOON + QUARTER, NOON + QUARTER + 1):
        process.candles.now = now
        process.ask()
    assert [entry.opened_at for entry in entries(journal)] == [NOON + QUARTER, NOON]


def test_a_hold_is_written_and_settled_as_nothing(tables: Tables, journal: Journal) -> None:
    Process(tables, votes=(0, 0)).ask("u1")
    (platform,), (own,) = entries(journal), entries(journal, "u1")
    assert {(entry.signal, entry.status, entry.due_at) for entry in (platform, own)} == {("HOLD", "EXPIRED", None)}


def test_a_forecast_of_the_past_is_never_written(tables: Tables, journal: Journal) -> None:
    process = Process(tables)
    assert process.ask("u1", as_of="2025-07-31T11:00:00Z") == [NEVER_JOURNALED]
    assert process.ask(as_of="2025-07-31T12:00:00Z") == []
    assert entries(journal) == entries(journal, "u1") == []


def test_a_forecast_from_stale_candles_is_never_written_and_says_so_to_who_asked_for_it(
    tables: Tables, journal: Journal
) -> None:
    process = Process(tables)
    process.candles.replies = {
        timeframe: replace(answer(bars("EURUSD=X", timeframe)), stale=True) for timeframe in INTRADAY
    }
    assert process.ask() == []
    assert process.ask("u1") == [STALE]
    assert entries(journal) == entries(journal, "u1") == []


def test_eight_processes_with_one_forecast_at_once_write_it_once_for_each_owner(
    tables: Tables, journal: Journal
) -> None:
    together = Barrier(8)

    def ask(number: int) -> list[str]:
        process = Process(tables)
        together.wait()
        return process.ask(f"u{number % 2}")

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [[]] * 8
    assert [len(entries(journal, owner)) for owner in (PLATFORM, "u0", "u1")] == [1, 1, 1]


def test_eight_requests_of_one_process_at_once_write_it_once(tables: Tables, journal: Journal) -> None:
    process, together = Process(tables), Barrier(8)

    def ask(_: int) -> list[str]:
        together.wait()
        return process.ask("u1")

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [[]] * 8
    assert (len(entries(journal)), len(entries(journal, "u1"))) == (1, 1)


def test_a_warm_forecast_reads_once_and_another_process_writes_once_more(tables: Tables) -> None:
    first = Process(tables)
    first.ask()
    with round_trips() as sent:
        first.ask()
        assert sent == ["GetItem"]
        sent.clear()
        first.ask("u1")
        assert sent == ["GetItem", "TransactWriteItems"]
        sent.clear()
        first.ask("u1")
        assert sent == ["GetItem"]
        sent.clear()
        Process(tables).ask()
        assert sent == ["GetItem", "TransactWriteItems"]


def test_a_journal_that_is_away_never_fails_the_answer_and_is_counted(tables: Tables) -> None:
    process = Process(tables, journal="no-such-table")
    assert process.ask() == [NOT_WRITTEN]
    assert process.missed == 1


def test_a_journal_that_is_away_is_an_error_to_who_asked_for_an_entry(tables: Tables) -> None:
    with pytest.raises(StateUnavailable):
        Process(tables, journal="no-such-table").ask("u1")


def test_what_could_not_be_written_is_written_by_the_next_request(
    tables: Tables, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Process(tables)
    endpoint = client("dynamodb").meta.endpoint_url
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    forget_clients()
    assert NOT_WRITTEN in process.ask()
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    forget_clients()
    assert NOT_WRITTEN not in process.ask()
    assert len(entries(journal)) == 1


def test_a_request_without_time_to_write_is_answered_and_writes_nothing(tables: Tables, journal: Journal) -> None:
    process = Process(tables)
    assert NOT_WRITTEN in process.ask(deadline=Deadline(at=SECONDS_TO_WRITE - 0.1, clock=lambda: 0.0))
    assert process.missed == 1
    with pytest.raises(StateUnavailable, match="no time is left"):
        process.ask("u1", deadline=Deadline(at=SECONDS_TO_WRITE - 0.1, clock=lambda: 0.0))
    assert entries(journal) == entries(journal, "u1") == []
