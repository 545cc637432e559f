"""Drift: what the journal has to say before a version is called worse, and that chance alone does not say it."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from fusiontrade.journal.entries import PLATFORM, Entry, Model
from fusiontrade.journal.settlement import Status
from fusiontrade.registry import drift
from fusiontrade.registry.drift import brier_change, ordered, signs_of, stability_index
from fusiontrade.registry.turns import Done

NOW = 1_750_000_000_000
DAY = 86_400_000
VERSION = ("lstm-1h", "aaaaaaaaaaaa")


def entry(days_ago: float, chance: float, won: bool | None, **changed: Any) -> Entry:
    opened = NOW - int(days_ago * DAY)
    known: dict[str, Any] = {
        "owner": PLATFORM,
        "source": "daily",
        "symbol": "BTC-USD",
        "interval": "1h",
        "signal": "BUY",
        "opened_at": opened,
        "expires_at": opened + 4 * 3_600_000,
        "data_source": "files",
        "due_at": opened,
        "probability": Decimal(repr(round(chance, 4))),
        "entry_price": Decimal(100),
        "tp1": Decimal(102),
        "stop_loss": Decimal(99),
        "models": (Model("1h", *VERSION), Model("4h", "lstm-4h", "bbbbbbbbbbbb")),
        "status": Status.PENDING if won is None else Status.WIN if won else Status.LOSS,
    }
    if won is not None:
        price = known["tp1"] if won else known["stop_loss"]
        known |= {"outcome_price": price, "outcome_at": opened + 3_600_000, "pips": Decimal(1)}
    return Entry(**{**known, **changed})


def journal(recent_chance: float, *, seed: int = 1, count: int = 800) -> list[Entry]:
    """Entries of 70 days that won as often as they said, which was about 0.45 until 14 days ago."""
    draw = random.Random(seed)
    found = []
    for number in range(count):
        days = 70 * (number + 0.5) / count
        chance = min(0.95, max(0.05, draw.gauss(recent_chance if days < 14 else 0.45, 0.1)))
        found.append(entry(days, chance, draw.random() < chance))
    return found


@pytest.mark.parametrize("seed", range(40))
def test_chance_alone_is_no_drift(seed: int) -> None:
    sign = signs_of(journal(0.45, seed=seed), NOW)[VERSION]
    assert sign.stability is not None
    assert sign.trouble is None


def test_chances_that_are_given_otherwise_than_before_are_named() -> None:
    sign = signs_of(journal(0.7), NOW)[VERSION]
    assert sign.stability is not None
    assert sign.stability > drift.MOST_STABILITY
    assert "stability index" in str(sign.trouble)


def test_chances_that_come_true_less_well_are_named() -> None:
    entries = [entry(0.05 + 0.05 * n, 0.9, won=False) for n in range(250)]
    entries += [entry(15 + 0.1 * n, 0.9, won=n % 10 != 0) for n in range(400)]
    sign = signs_of(entries, NOW)[VERSION]
    assert (sign.brier_recent, sign.brier_before) == (pytest.approx(0.81), pytest.approx(0.09))
    assert "Brier 0.810 after 0.090" in str(sign.trouble)


def test_too_few_entries_say_nothing() -> None:
    sign = signs_of(journal(0.9, count=300), NOW)[VERSION]  # sixty of them recent
    assert (sign.stability, sign.brier_errors, sign.trouble) == (None, None, None)


def test_an_entry_speaks_of_the_model_of_its_own_interval_alone() -> None:
    assert set(signs_of([entry(1, 0.5, won=True)], NOW)) == {VERSION}
    assert signs_of([entry(1, 0.5, won=None, probability=None)], NOW) == {}


def test_the_stability_index_is_small_without_a_change_and_that_of_the_textbook_with_one() -> None:
    draw = random.Random(3)
    before = [draw.random() for _ in range(20_000)]
    assert stability_index(before, [draw.random() for _ in range(20_000)]) == pytest.approx(0, abs=2e-3)
    halved = [draw.random() / 2 for _ in range(200_000)]  # ten bins: 0.2 in five of them, next to nothing in five
    assert stability_index(before, halved) > 5
    mixed = [draw.random() if draw.random() < 0.5 else draw.random() / 2 for _ in range(200_000)]
    # five bins of 0.15 and five of 0.05: 5 (0.05 ln 1.5 - 0.05 ln 0.5)
    assert stability_index(before, mixed) == pytest.approx(0.2747, abs=0.01)


def test_days_and_not_entries_are_counted_as_independent() -> None:
    one_day = [(NOW, 0.5, 1.0)] * 1000
    assert brier_change(one_day, one_day) is None
    early = [(NOW - number * DAY, 0.5 + number % 2 / 10, 1.0) for number in range(10)]
    assert brier_change(early, early) == 0


def test_the_order_of_a_day_is_one() -> None:
    assert ordered(NOW).id == ordered(NOW + 1000).id != ordered(NOW + DAY).id


class Registry:
    """The part that drift writes to."""

    def __init__(self) -> None:
        self.moved: list[str] = []
        self.records: dict[str, dict[str, Any]] = {}

    def active(self) -> dict[str, str]:
        return dict([VERSION])

    def of(self, model_id: str, version: str) -> str:
        return version

    def degrade(self, model_id: str, version: str, reason: str, *, retraining: str | None) -> bool:
        self.moved.append(f"degraded {version}, {retraining} follows")
        return True

    def recorded(self, model_id: str, version: str, record: dict[str, Any]) -> None:
        self.records[version] = record

    def restore(self, model_id: str, version: str) -> bool:
        self.moved.append(f"restored {version}")
        return False


def checked(entries: Iterable[Entry]) -> tuple[list[str], dict[str, Any], list[str]]:
    registry, asked = Registry(), []

    def retrain(version: Any, identity: str) -> str:
        asked.append(identity)
        return identity

    work = drift.Drift(registry, lambda since: entries, retrain, lambda: NOW)  # type: ignore[arg-type]
    done = work.turn(ordered(NOW), {}, cancelled=False)
    assert isinstance(done, Done)
    return registry.moved, done.result["models"]["lstm-1h"], asked


def test_a_version_in_trouble_is_degraded_and_its_retraining_asked_for_under_one_id() -> None:
    entries = journal(0.7)
    moved, told, asked = checked(entries)
    assert (moved, told["degraded"]) == ([f"degraded aaaaaaaaaaaa, {asked[0]} follows"], True)
    assert checked(entries)[2] == asked
    assert len(asked[0]) == 32


def test_the_check_writes_down_what_came_of_the_forecasts() -> None:
    registry = Registry()
    entries = journal(0.45)
    drift.Drift(registry, lambda since: entries, lambda version, identity: "", lambda: NOW).turn(  # type: ignore[arg-type]
        ordered(NOW), {}, cancelled=False
    )
    found = registry.records["aaaaaaaaaaaa"]
    assert found["wins"] == sum(each.status is Status.WIN for each in entries)
    assert (found["source"], found["wins"] + found["losses"]) == ("journal", 800)


def test_what_came_of_invented_prices_speaks_neither_for_a_version_nor_against_it() -> None:
    invented = [replace(each, data_source="simulated") for each in journal(0.7)]
    assert checked(invented) == ([], {"version": "aaaaaaaaaaaa", "checked": False}, [])
    registry = Registry()
    work = drift.Drift(registry, lambda since: invented, lambda version, identity: "", lambda: NOW)  # type: ignore[arg-type]
    work.turn(ordered(NOW), {}, cancelled=False)
    assert registry.records == {}


def test_a_version_that_is_well_is_restored_where_enough_was_settled() -> None:
    moved, told, asked = checked(journal(0.45))
    assert (moved, told["degraded"], asked) == (["restored aaaaaaaaaaaa"], False, [])
    assert checked([])[1] == {"version": "aaaaaaaaaaaa", "checked": False}
