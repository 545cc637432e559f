"""Calibration states in the table of models: two writers, what is stored, and how often the table is asked."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from fusiontrade.cloud.session import client, forget_clients
from fusiontrade.cloud.tables import Table
from fusiontrade.errors import StateUnavailable
from fusiontrade.fusion.calibration_keeping import NOT_READ
from fusiontrade.fusion.calibration_states import MOST_WAITING, Kept, Tracked, Waiting
from fusiontrade.fusion.calibration_store import TableCalibrationStates
from fusiontrade.fusion.service import FusionService
from fusiontrade.inference.client import InferenceClient
from fusiontrade.inference.contract import CHANCES
from fusiontrade.market.symbols import parse_symbol
from fusiontrade.market.timeframes import Timeframe
from tests.support.emulator import free_port
from tests.support.fusion_fakes import NOON, FakeCandles, FakeEndpoint

EURUSD = parse_symbol("EURUSD=X")
KEY = {"pk": "CALIBRATION#EURUSD=X", "sk": "STATE"}
PATIENCE = 60.0  # the emulator on a busy machine; the product waits a second
QUARTER = Timeframe.M15.milliseconds
CHANCE = tuple(round(number / 17, 6) for number in range(CHANCES))  # 0 and 16/17 among them
OFFSETS = tuple(round(number / 17 - 0.5, 9) for number in range(CHANCES))
SLOPES = tuple(round(0.5 - number / 17, 9) for number in range(CHANCES))
BENDS = tuple(round(0.1 - number / 85, 9) for number in range(CHANCES))
LEANS = tuple(round(number / 3 - 2.0, 4) for number in range(CHANCES))
WAITING = tuple(
    Waiting(NOON + number * QUARTER, 1.1 / 3, 0.01 / 3, 1.1 / 3, 1.2, CHANCE, LEANS) for number in range(MOST_WAITING)
)
STATES = {
    Timeframe.M15: Tracked("aaaaaaaaaaaa", 0.0195, -0.1 - 0.2, OFFSETS, SLOPES, BENDS, 412, NOON, WAITING),
    Timeframe.H4: Tracked("aaaaaaaaaaaa", 0.0, 2.0, *((end,) * CHANCES for end in (-2.0, 0.5, -0.1)), 0, NOON - 7),
}


@pytest.fixture
def table(models_table_name: str) -> Table:
    return Table(models_table_name, read_seconds=PATIENCE, attempts=1)


@pytest.fixture
def store(table: Table) -> TableCalibrationStates:
    return TableCalibrationStates(table)


@pytest.fixture
def asked(store: TableCalibrationStates) -> list[str]:
    """The operations that the table was asked for, one a round trip."""
    operations: list[str] = []

    def note(model: Any, **_: Any) -> None:
        operations.append(model.name)

    client("dynamodb", read_seconds=PATIENCE, attempts=1).meta.events.register("before-call.dynamodb", note)
    return operations


def service(store: TableCalibrationStates, candles: FakeCandles) -> Callable[[], list[str]]:
    """Ask for a forecast at the present of ``candles`` and return its warnings."""
    made = FusionService(candles, InferenceClient(FakeEndpoint()), calibration=store, clock=lambda: candles.now)
    return lambda: made.fused("EURUSD=X", include_sentiment=False).warnings


def test_nothing_is_kept_of_a_new_symbol(store: TableCalibrationStates) -> None:
    assert store.read(EURUSD) == Kept()


def test_states_come_back_to_the_last_digit_under_the_next_revision(
    store: TableCalibrationStates, table: Table
) -> None:
    store.write(EURUSD, Kept("yahoo", STATES))
    assert store.read(EURUSD) == Kept("yahoo", STATES, 1)
    assert set(table.get(KEY) or {}) == {"pk", "sk", "source", "revision", "states"}
    store.write(EURUSD, Kept("yahoo", {}, 1))
    assert store.read(EURUSD) == Kept("yahoo", {}, 2)


def test_the_writer_who_comes_second_leaves_the_first_ones_standing(store: TableCalibrationStates) -> None:
    theirs = {Timeframe.M15: STATES[Timeframe.M15]}
    store.write(EURUSD, Kept("yahoo", theirs))
    store.write(EURUSD, Kept("yahoo", STATES))  # read before there was anything
    assert store.read(EURUSD) == Kept("yahoo", theirs, 1)
    store.write(EURUSD, Kept("yahoo", STATES, 1))
    store.write(EURUSD, Kept("yahoo", theirs, 1))
    assert store.read(EURUSD) == Kept("yahoo", STATES, 2)


def test_eight_requests_at_once_learn_an_outcome_once(store: TableCalibrationStates) -> None:
    candles = FakeCandles()
    service(store, candles)()
    candles.now = NOON + QUARTER
    together = Barrier(8)

    def one(_: int) -> list[str]:
        ask = service(store, candles)
        together.wait()
        return ask()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(8))) == [[]] * 8
    kept = store.read(EURUSD)
    assert kept.states[Timeframe.M15].revision == 1
    assert kept.revision == 2


def test_a_forecast_takes_one_read_and_one_write_and_the_same_again_one_read(
    store: TableCalibrationStates, asked: list[str]
) -> None:
    candles = FakeCandles()
    ask = service(store, candles)
    for moment, operations in (
        (NOON, ["GetItem", "PutItem"]),
        (NOON, ["GetItem"]),
        (NOON + QUARTER, ["GetItem", "PutItem"]),
    ):
        candles.now = moment
        asked.clear()
        assert ask() == []
        assert asked == operations


def stored(**changed: Any) -> dict[str, Any]:
    """The states of an item whose one state has these fields changed."""
    state = {
        "version": "a", "lower": 0.1, "upper": 0.1, "offsets": OFFSETS, "slopes": SLOPES, "bends": BENDS,
        "revision": 1, "as_of": NOON, "waiting": [waiting()],
    }  # fmt: skip
    return {"states": {"15m": state | changed}}


def waiting(**changed: Any) -> dict[str, Any]:
    told = {
        "bar_close": NOON, "entry": 1.1, "atr": 0.1, "raw_low": 1.1, "raw_high": 1.2, "chances": CHANCE, "leans": LEANS,
    }  # fmt: skip
    return told | changed


def test_the_item_that_the_damaged_ones_are_made_of_can_be_read(store: TableCalibrationStates, table: Table) -> None:
    table.put({**KEY, "source": "yahoo", "revision": 1, **stored()})
    kept = store.read(EURUSD).states[Timeframe.M15]
    assert (kept.offsets, kept.slopes, kept.bends) == (OFFSETS, SLOPES, BENDS)
    assert kept.waiting == (Waiting(NOON, 1.1, 0.1, 1.1, 1.2, CHANCE, LEANS),)


@pytest.mark.parametrize(
    "damage",
    [
        {"states": {"15m": {"version": "a"}}},
        {"states": 7},
        {"source": None, "states": {"9h": {}}},
        stored(lower="nan"),
        stored(lower=-0.5),
        stored(upper=10**30),
        stored(revision=-1),
        stored(waiting=[waiting(raw_low="nan")]),
        stored(waiting=[waiting(atr=0)]),
        stored(waiting=[waiting(chances=[0.5] * 16)]),
        stored(waiting=[waiting(leans=[0] * 16)]),
        stored(waiting=[waiting(leans=["nan"] * CHANCES)]),
        stored(offsets=[2.1] * CHANCES),
        stored(slopes=[0.51] * CHANCES),
        stored(slopes=[0] * 16),
        stored(bends=[0.11] * CHANCES),
        stored(bends=None),
        stored(waiting=None),
        {"states": {"15m": {"version": "a", "lower": 0, "upper": 0, "revision": 1, "as_of": NOON, "pending": None}}},
    ],
)
def test_an_item_that_cannot_be_read_is_learned_anew(
    store: TableCalibrationStates, table: Table, damage: dict[str, Any]
) -> None:
    store.write(EURUSD, Kept("yahoo", STATES))
    table.put({**(table.get(KEY) or {}), **damage})
    assert store.read(EURUSD) == Kept(revision=1)
    store.write(EURUSD, Kept("yahoo", STATES, 1))
    assert store.read(EURUSD) == Kept("yahoo", STATES, 2)


@pytest.mark.parametrize("counted", [{}, {"revision": "seven"}, {"revision": None}, {"revision": 0}])
def test_an_item_that_does_not_count_its_writes_is_learned_anew(
    store: TableCalibrationStates, table: Table, counted: dict[str, Any]
) -> None:
    table.put({**KEY, "source": "yahoo", "states": {}, **counted})
    assert store.read(EURUSD).revision == 0
    store.write(EURUSD, Kept("yahoo", STATES))
    store.write(EURUSD, Kept("yahoo", {}))
    assert store.read(EURUSD) == Kept("yahoo", STATES, 1)


def test_a_table_that_is_down_costs_a_warning_and_one_try(
    store: TableCalibrationStates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    forget_clients()
    with pytest.raises(StateUnavailable):
        store.read(EURUSD)
    ask = service(store, FakeCandles())
    assert [ask(), ask()] == [[NOT_READ], [NOT_READ]]
    forget_clients()


def test_a_table_that_is_not_there_costs_a_warning(aws: None) -> None:
    assert service(TableCalibrationStates(Table("no-such-table")), FakeCandles())() == [NOT_READ]
