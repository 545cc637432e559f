"""Kept states as documents: what comes back, how much room they take, and what no writer of ours has written."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusiontrade.cloud.tables import Condition, ConditionFailed
from fusiontrade.cloud.values import Item, decode_item, encode_item
from fusiontrade.fusion.calibration_states import MOST_WAITING, Kept, Tracked, Waiting, issued, sendable, settled
from fusiontrade.fusion.calibration_store import TableCalibrationStates
from fusiontrade.inference.contract import CHANCES, CandleColumns, ForecastItem
from fusiontrade.inference.probabilities import advance
from fusiontrade.market.symbols import parse_symbol
from fusiontrade.market.timeframes import INTRADAY, Timeframe
from tests.support.fusion_fakes import BASE_CHANCES, BASE_LEANS, NOON, bars, forecast

EURUSD = parse_symbol("EURUSD=X")
QUARTER = Timeframe.M15.milliseconds
THIRD = 1.0 / 3.0


class MemoryTable:
    """The part of `fusiontrade.cloud.tables.Table` that the store uses, with values encoded as the table keeps them."""

    def __init__(self) -> None:
        self.attributes: dict[str, Any] | None = None

    def get(self, key: Mapping[str, str]) -> Item | None:
        assert key == {"pk": "CALIBRATION#EURUSD=X", "sk": "STATE"}
        return None if self.attributes is None else decode_item(self.attributes)

    def put(self, item: Item, *, condition: Condition) -> None:
        held = self.get({"pk": item["pk"], "sk": item["sk"]})
        if condition.values == {"number": "N", "first": 1}:  # what this means to a table: tests/cloud
            assert condition.text == "NOT attribute_type(#revision, :number) OR #revision < :first"
            number = (held or {}).get("revision")
            unchanged = not isinstance(number, int | Decimal) or number < 1
        else:
            assert condition.text == "#revision = :revision"
            unchanged = held is not None and held["revision"] == condition.values["revision"]
        if not unchanged:
            raise ConditionFailed(held)
        self.attributes = encode_item(item)


@pytest.fixture
def table() -> MemoryTable:
    return MemoryTable()


@pytest.fixture
def store(table: MemoryTable) -> TableCalibrationStates:
    return TableCalibrationStates(table)  # type: ignore[arg-type]


def state(
    *waiting: Waiting, offset: float = 0.012345678, slope: float = -0.001234567, bend: float = 0.000123456
) -> Tracked:
    steps = ((step,) * CHANCES for step in (offset, slope, bend))
    return Tracked("aaaaaaaaaaaa", THIRD, -0.1 - 0.2, *steps, 412, NOON, waiting)


def waits(bar_close: int, chance: float = 0.123456, lean: float = -12.3456) -> Waiting:
    chances, leans = (chance,) * CHANCES, (lean,) * CHANCES
    return Waiting(bar_close, 1.1 + THIRD, THIRD / 100, 1.0 + THIRD, 1.2 + THIRD, chances, leans)


def row(count: int) -> tuple[Waiting, ...]:
    return tuple(waits(NOON + number * QUARTER) for number in range(count))


# --- what comes back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 4, MOST_WAITING])
def test_states_come_back_as_they_were_under_the_next_revision(store: TableCalibrationStates, count: int) -> None:
    states = {each: state(*row(count)) for each in INTRADAY}
    store.write(EURUSD, Kept("yahoo", states))
    assert store.read(EURUSD) == Kept("yahoo", states, 1)


def test_probabilities_are_kept_to_six_digits_leans_to_four_and_steps_to_nine(store: TableCalibrationStates) -> None:
    written = state(waits(NOON, THIRD, -20.0 / 3.0), offset=-2.0 / 3.0, slope=THIRD, bend=-0.2 / 3.0)
    store.write(EURUSD, Kept("yahoo", {Timeframe.H1: written}))
    kept = store.read(EURUSD).states[Timeframe.H1]
    assert kept == state(waits(NOON, 0.333333, -6.6667), offset=-0.666666667, slope=0.333333333, bend=-0.066666667)


@given(
    st.floats(0.0, 1.0),
    st.floats(-25.0, 25.0),
    st.tuples(st.floats(-2.0, 2.0), st.floats(-0.5, 0.5), st.floats(-0.1, 0.1)),
    st.booleans(),
)
def test_any_probability_lean_and_step_comes_back_and_teaches_what_it_would_have_but_for_the_stated_rounding(
    chance: float, lean: float, steps: tuple[float, float, float], came: bool
) -> None:
    """Among them numbers too small for a table, and the negative zero."""
    store = TableCalibrationStates(MemoryTable())  # type: ignore[arg-type]
    written = state(waits(NOON, chance, lean), offset=steps[0], slope=steps[1], bend=steps[2])
    store.write(EURUSD, Kept("yahoo", {Timeframe.H1: written}))
    kept = store.read(EURUSD).states[Timeframe.H1]
    (offsets, slopes, bends), (exact, exact_slopes, exact_bends) = (
        advance(
            *(each.offsets, each.slopes, each.bends),
            lean=each.waiting[0].leans,
            probability=each.waiting[0].chances,
            came=[float(came)] * CHANCES,
        )
        for each in (kept, written)
    )
    assert offsets == pytest.approx(exact, abs=3.1e-9)  # half a billionth, and 0.005 of half a millionth
    assert slopes == pytest.approx(exact_slopes, abs=2.6e-7 + 2.6e-9 * abs(lean))
    assert bends == pytest.approx(exact_bends, abs=5.1e-7)


def test_what_a_request_learned_and_issued_can_be_stored(store: TableCalibrationStates) -> None:
    """Numbers of numpy are no numbers of a table."""
    states: dict[Timeframe, Tracked] = {}
    for number in range(6):
        frames = {each: bars("EURUSD=X", each, end=NOON + number * each.milliseconds, count=9) for each in INTRADAY}
        states = settled(states, frames)
        items = {
            each: ForecastItem(symbol="EURUSD=X", timeframe=each, candles=CandleColumns.of(frame))
            for each, frame in frames.items()
        }
        states = issued(states, {each: forecast(item, 1, 1) for each, item in items.items()})
        store.write(EURUSD, Kept("yahoo", states, number))
    kept = store.read(EURUSD)
    assert kept.revision == 6
    for each, tracked in kept.states.items():
        assert (tracked.revision, len(tracked.waiting)) == (5, 4)
        steps = [-0.01 * chance for chance in BASE_CHANCES]  # two horizons
        assert tracked.offsets == pytest.approx(steps, abs=1e-9)
        assert tracked.slopes == pytest.approx(
            [step * lean for step, lean in zip(steps, BASE_LEANS, strict=True)], abs=1e-9
        )
        curves = [min(lean**2, 4.0) - 1.0 for lean in BASE_LEANS]
        assert tracked.bends == pytest.approx(
            [step / 2.0 * curve for step, curve in zip(steps, curves, strict=True)], abs=1e-9
        )
        leans = tuple(round(lean, 4) for lean in BASE_LEANS)
        assert tracked.waiting == tuple(replace(one, leans=leans) for one in states[each].waiting)


def test_the_writer_who_comes_second_leaves_the_first_ones_standing(
    store: TableCalibrationStates, caplog: pytest.LogCaptureFixture
) -> None:
    store.write(EURUSD, Kept("yahoo", {Timeframe.M15: state()}))
    with caplog.at_level(logging.INFO):
        store.write(EURUSD, Kept("yahoo", {}))
    assert "EURUSD=X were written by another request first" in caplog.text
    assert store.read(EURUSD) == Kept("yahoo", {Timeframe.M15: state()}, 1)


# --- room -------------------------------------------------------------------------------------------------------------


def size(value: Any) -> int:
    """Bytes of one value as DynamoDB counts them: a number is a byte and one for each two digits that matter."""
    if isinstance(value, dict):
        return 3 + sum(len(name) + size(inner) + 1 for name, inner in value.items())
    if isinstance(value, list):
        return 3 + sum(size(inner) + 1 for inner in value)
    if isinstance(value, str):
        return len(value.encode())
    digits = Decimal(value).normalize().as_tuple()
    return 1 + (len(digits.digits) + 1) // 2 + digits.sign


@pytest.mark.parametrize(("waiting", "most"), [(4, 8 * 1024), (MOST_WAITING, 12 * 1024)])
def test_an_item_takes_the_room_that_is_said_and_far_less_than_a_table_gives(
    store: TableCalibrationStates, table: MemoryTable, waiting: int, most: int
) -> None:
    longest = state(*row(waiting), offset=-0.123456789, slope=-0.123456789, bend=-0.012345678)
    worst = dict.fromkeys(INTRADAY, longest)
    store.write(EURUSD, Kept("simulated", worst))
    assert size(table.get({"pk": "CALIBRATION#EURUSD=X", "sk": "STATE"})) < most


# --- what nobody of ours wrote ----------------------------------------------------------------------------------------


def damaged(**changed: Any) -> Item:
    """A stored item whose one state has these fields changed."""
    fields = {
        "version": "a", "lower": 0.1, "upper": 0.1, "offsets": [0] * CHANCES, "slopes": [0] * CHANCES,
        "bends": [0] * CHANCES, "revision": 1, "as_of": NOON, "waiting": [waiting()],
    }  # fmt: skip
    return {"states": {"15m": fields | changed}}


def waiting(**changed: Any) -> dict[str, Any]:
    told = {
        "bar_close": NOON, "entry": 1.1, "atr": 0.01, "raw_low": 1.1, "raw_high": 1.2, "chances": [0.5] * CHANCES,
        "leans": [0.5] * CHANCES,
    }  # fmt: skip
    return told | changed


def without(name: str, fields: Mapping[str, Any]) -> Item:
    return {field: value for field, value in fields.items() if field != name}


def old_layout() -> Item:
    pending = {"bar_close": NOON, "raw_low": 1.1, "raw_high": 1.2}
    state = {"version": "a", "lower": 0.1, "upper": 0.1, "revision": 1, "as_of": NOON, "pending": pending}
    return {"states": {"15m": state}}


def layout_without_slopes() -> Item:
    state = damaged(waiting=[without("leans", waiting())])["states"]["15m"]
    return {"states": {"15m": without("bends", without("slopes", state))}}


def layout_without_bends() -> Item:
    return {"states": {"15m": without("bends", damaged()["states"]["15m"])}}


def changed(store: TableCalibrationStates, table: MemoryTable, item: Mapping[str, Any]) -> Kept:
    """Return what is read of an item of revision 1 with these attributes."""
    held = {"pk": "CALIBRATION#EURUSD=X", "sk": "STATE", "source": "yahoo", "revision": 1, "states": {}}
    table.attributes = encode_item(held | dict(item))
    return store.read(EURUSD)


def test_the_item_that_the_damaged_ones_are_made_of_can_be_read(
    store: TableCalibrationStates, table: MemoryTable
) -> None:
    assert set(changed(store, table, damaged()).states) == {Timeframe.M15}


@pytest.mark.parametrize(
    "item",
    [
        old_layout(),
        layout_without_slopes(),
        layout_without_bends(),
        {"states": {"15m": {"version": "a"}}},
        {"states": 7},
        {"states": ["15m"]},
        {"states": {"9h": {}}},
        damaged(lower="nan"),
        damaged(lower=-0.5),
        damaged(upper=10**30),
        damaged(revision=-1),
        damaged(offsets=[0] * (CHANCES - 1)),
        damaged(offsets=[0] * (CHANCES + 1)),
        damaged(offsets=[0] * (CHANCES - 1) + [2.1]),
        damaged(offsets=["nan"] * CHANCES),
        damaged(offsets=None),
        damaged(slopes=[0] * (CHANCES - 1)),
        damaged(slopes=[0] * (CHANCES + 1)),
        damaged(slopes=[0] * (CHANCES - 1) + [0.501]),
        damaged(slopes=[-0.501] + [0] * (CHANCES - 1)),
        damaged(slopes=["nan"] * CHANCES),
        damaged(slopes=None),
        damaged(bends=[0] * (CHANCES - 1)),
        damaged(bends=[0] * (CHANCES + 1)),
        damaged(bends=[0] * (CHANCES - 1) + [0.101]),
        damaged(bends=[-0.101] + [0] * (CHANCES - 1)),
        damaged(bends=["nan"] * CHANCES),
        damaged(bends=None),
        {"states": {"15m": without("slopes", damaged()["states"]["15m"])}},
        damaged(waiting=None),
        damaged(waiting=[None]),
        damaged(waiting=[waiting(bar_close=None)]),
        damaged(waiting=[waiting(raw_low="nan")]),
        damaged(waiting=[waiting(raw_high="inf")]),
        damaged(waiting=[waiting(entry=0)]),
        damaged(waiting=[waiting(atr=-1)]),
        damaged(waiting=[waiting(atr="inf")]),
        damaged(waiting=[waiting(atr="nan")]),
        damaged(waiting=[waiting(chances=[0.5] * 5)]),
        damaged(waiting=[waiting(chances=[0.5] * (CHANCES - 1) + [1.1])]),
        damaged(waiting=[waiting(chances=[-0.1] * CHANCES)]),
        damaged(waiting=[waiting(chances=["nan"] * CHANCES)]),
        damaged(waiting=[waiting(leans=[0] * (CHANCES - 1))]),
        damaged(waiting=[waiting(leans=[0] * (CHANCES + 1))]),
        damaged(waiting=[waiting(leans=["nan"] * CHANCES)]),
        damaged(waiting=[waiting(leans=[0] * (CHANCES - 1) + ["-inf"])]),
        damaged(waiting=[waiting(leans=[0] * (CHANCES - 1) + ["1e400"])]),
        damaged(waiting=[waiting(leans=[0] * (CHANCES - 1) + [None])]),
        damaged(waiting=[waiting(leans=None)]),
        damaged(waiting=[without("leans", waiting())]),
        damaged(waiting=[waiting(), waiting()]),
        damaged(waiting=[waiting(), waiting(bar_close=NOON - 1)]),
        damaged(waiting=[waiting(bar_close=NOON + number) for number in range(MOST_WAITING + 1)]),
    ],
)
def test_an_item_that_cannot_be_read_is_said_and_learned_anew(
    store: TableCalibrationStates, table: MemoryTable, item: Item, caplog: pytest.LogCaptureFixture
) -> None:
    assert changed(store, table, item) == Kept(revision=1)
    assert "EURUSD=X cannot be read and are learned anew" in caplog.text
    store.write(EURUSD, Kept("yahoo", {Timeframe.M15: state()}, 1))
    assert store.read(EURUSD) == Kept("yahoo", {Timeframe.M15: state()}, 2)


@pytest.mark.parametrize("revision", ["seven", None, "7", "1.5"])
def test_an_item_without_a_revision_is_written_over(
    store: TableCalibrationStates, table: MemoryTable, revision: Any
) -> None:
    assert changed(store, table, {"revision": revision}) == Kept("yahoo")
    store.write(EURUSD, Kept("yahoo", {Timeframe.M15: state()}))
    assert store.read(EURUSD) == Kept("yahoo", {Timeframe.M15: state()}, 1)


NUMBERS = st.one_of(st.integers(-(10**37), 10**37), st.floats(-10, 10), st.sampled_from([0, 1, NOON, NOON + QUARTER]))
ANYTHING = st.one_of(
    NUMBERS, st.sampled_from([None, True, "", "nan", "-1e400", [], {}]), st.lists(NUMBERS, max_size=2), st.just([[0]])
)
FORECASTS = st.builds(
    lambda changes, leans: waiting(**changes, leans=leans),
    st.dictionaries(st.sampled_from(["bar_close", "entry", "atr", "raw_low", "raw_high"]), NUMBERS, max_size=2),
    st.lists(NUMBERS, min_size=CHANCES, max_size=CHANCES),
)
DAMAGES = st.dictionaries(
    st.sampled_from(["version", "lower", "upper", "offsets", "slopes", "bends", "revision", "as_of", "waiting"]),
    st.one_of(ANYTHING, st.lists(FORECASTS, max_size=3)),
    max_size=2,
)


@given(DAMAGES)
def test_whatever_is_read_can_be_learned_from_sent_and_stored_again(damages: dict[str, Any]) -> None:
    table = MemoryTable()
    store = TableCalibrationStates(table)  # type: ignore[arg-type]
    kept = changed(store, table, damaged(**damages))
    frames = {Timeframe.M15: bars("EURUSD=X", Timeframe.M15, end=NOON + 5 * QUARTER, count=9)}
    with np.errstate(all="raise"):
        states = settled(kept.states, frames)
    candles = CandleColumns.of(frames[Timeframe.M15])
    sent = sendable(states, frames).get(Timeframe.M15)
    item = ForecastItem(symbol="EURUSD=X", timeframe=Timeframe.M15, candles=candles, state=sent)
    assert ForecastItem.model_validate_json(item.model_dump_json()) == item
    store.write(EURUSD, Kept("yahoo", issued(states, {Timeframe.M15: forecast(item, 1, 1)}), kept.revision))
    assert store.read(EURUSD).revision == kept.revision + 1
