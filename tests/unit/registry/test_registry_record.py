"""Win rate and profit factor of a version: from the journal's settled entries, and only where there are enough."""

from __future__ import annotations

from decimal import Decimal

from fusiontrade.journal.entries import Model
from fusiontrade.journal.settlement import Status
from fusiontrade.registry.record import FEWEST, Tallies
from tests.unit.registry.test_registry_drift import DAY, NOW, VERSION, entry

OTHER = ("lstm-4h", "bbbbbbbbbbbb")


def told(*entries: object, version: tuple[str, str] = VERSION) -> dict[str, object] | None:
    tallies = Tallies()
    assert list(tallies.passing(entries)) == list(entries)  # type: ignore[arg-type]
    return tallies.told(*version, NOW - DAY, NOW)


def test_what_was_decided_makes_the_rate_and_what_was_settled_the_factor() -> None:
    won = [entry(1 + n, 0.5, won=True) for n in range(20)]
    lost = [entry(30 + n, 0.5, won=False) for n in range(20)]
    over = [
        entry(60, 0.5, None, status=Status.EXPIRED, outcome_price=Decimal(101), outcome_at=NOW, pips=Decimal(1)),
        entry(62, 0.5, None),
    ]
    assert told(*won, *lost, *over) == {
        "source": "journal",
        "wins": 20,
        "losses": 20,
        "expired": 1,
        "win_rate": 0.5,
        "profit_factor": 2.05,  # 20 targets of 2 stops and one gain of 1 stop, over 20 stops
        "from": "2025-06-14T15:06:40Z",
        "to": "2025-06-15T15:06:40Z",
    }


def test_a_sell_gains_where_the_price_falls() -> None:
    prices = {"signal": "SELL", "tp1": Decimal(98), "stop_loss": Decimal(101), "outcome_price": Decimal(98)}
    found = told(*(entry(1 + n, 0.5, won=True, **prices) for n in range(FEWEST)))
    assert found is not None
    assert (found["wins"], found["profit_factor"]) == (FEWEST, 999.0)


def test_too_few_decided_entries_say_nothing() -> None:
    assert told(*(entry(1 + n, 0.5, won=True) for n in range(FEWEST - 1))) is None
    assert told() is None


def test_an_entry_counts_for_the_version_of_its_own_interval_alone() -> None:
    entries = [entry(1 + n, 0.5, won=True) for n in range(FEWEST)]
    assert told(*entries, version=OTHER) is None
    assert told(*(entry(1 + n, 0.5, won=True, models=(Model("4h", *OTHER),)) for n in range(FEWEST))) is None
