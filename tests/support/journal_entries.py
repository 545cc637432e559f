"""Entries for tests of the journal, and a table to keep them in."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import Any

import pytest

from fusiontrade.clock import parse_iso
from fusiontrade.cloud.tables import Table
from fusiontrade.journal.entries import Entry, Model
from fusiontrade.journal.store import Journal
from tests.support import emulator

HOUR = 3_600_000
DAY = 24 * HOUR
NOON = parse_iso("2025-07-31T12:00:00Z")  # a Thursday
ALICE, BOB = "a" * 32, "b" * 32
MODELS = (Model("1h", "lstm-1h", "7f3a"), Model("1h", "patchtst-1h", "91bc"))

__all__ = [
    "ALICE",
    "BOB",
    "DAY",
    "HOUR",
    "MODELS",
    "NOON",
    "buy",
    "hold",
    "journal",
    "journal_table_name",
    "patient",
    "sell",
]


def buy(owner: str = ALICE, **changed: Any) -> Entry:
    """A long entry at 1.1, target 1.104, stop 1.097, for four hours; ``changed`` replaces fields."""
    fields: dict[str, Any] = {
        "owner": owner,
        "source": "manual",
        "symbol": "EURUSD=X",
        "interval": "1h",
        "signal": "BUY",
        "opened_at": NOON,
        "data_source": "simulated",
        "verdict": "MODERATE BUY",
        "lstm_signal": "BUY",
        "patchtst_signal": "BUY",
        "fusion_score": Decimal("68.5"),
        "probability": Decimal("0.43"),
        "entry_price": Decimal("1.1"),
        "tp1": Decimal("1.104"),
        "tp2": Decimal("1.106"),
        "tp3": Decimal("1.108"),
        "stop_loss": Decimal("1.097"),
        "atr": Decimal("0.002"),
        "models": MODELS,
    }
    fields |= changed
    fields.setdefault("expires_at", fields["opened_at"] + 4 * HOUR)
    return Entry(**fields)


def sell(owner: str = ALICE, **changed: Any) -> Entry:
    """The mirror image of `buy`."""
    levels = {"tp1": Decimal("1.096"), "tp2": Decimal("1.094"), "tp3": Decimal("1.092"), "stop_loss": Decimal("1.103")}
    return buy(owner, **{"signal": "SELL", "verdict": "MODERATE SELL", **levels, **changed})


def hold(owner: str = ALICE, **changed: Any) -> Entry:
    """An entry that makes no claim."""
    nothing = dict.fromkeys(("tp1", "tp2", "tp3", "stop_loss", "probability"))
    return buy(owner, **{"signal": "HOLD", "verdict": "DIVERGENT (HOLD)", **nothing, **changed})


def patient(table_name: str) -> Table:
    """The table with time enough for an emulator on a busy machine."""
    return Table(table_name, read_seconds=60.0)


@pytest.fixture
def journal_table_name(aws: None) -> str:
    name = f"Journal-{uuid.uuid4().hex[:8]}"
    emulator.make_table("JournalTable", name)
    return name


@pytest.fixture
def journal(journal_table_name: str) -> Journal:
    return Journal(patient(journal_table_name), lambda: NOON + HOUR)
