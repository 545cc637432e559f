"""What can be an entry, and what becomes of its prices."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusiontrade.errors import FusionTradeError, InvalidInput
from fusiontrade.journal.entries import (
    Model,
    bundle_of,
    decimal_of,
    entry_from,
    entry_id,
    first_id,
    item_of,
    pips_of,
)
from fusiontrade.journal.settlement import Settlement, Status
from fusiontrade.market.symbols import parse_symbol
from tests.support.journal_entries import ALICE, HOUR, MODELS, NOON, buy, hold, sell


def test_ids_sort_by_the_bars_time_and_are_equal_for_equal_forecasts() -> None:
    early, late = buy(opened_at=NOON - 1), buy(opened_at=NOON)
    assert early.id < first_id(NOON) < late.id < first_id(NOON + 1)
    assert buy().id == buy(owner="somebody", fusion_score=Decimal(70), models=tuple(reversed(MODELS))).id


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from("AB"), st.sampled_from(["1h", "4h"]), st.sampled_from("xy")))
)
def test_different_forecasts_have_different_ids(keys: list[tuple[int, str, str, str]]) -> None:
    assert len({entry_id(*key) for key in keys}) == len(set(keys))


def test_a_bundle_is_every_model_with_its_version() -> None:
    assert bundle_of(MODELS) == "1h:lstm-1h@7f3a,1h:patchtst-1h@91bc"
    assert bundle_of([Model("1h", "lstm-1h", "other"), MODELS[1]]) != bundle_of(MODELS)


@given(st.floats(min_value=1e-9, max_value=1e9))
def test_a_price_is_the_decimal_that_is_shown_for_it(price: float) -> None:
    assert float(decimal_of(price)) == price
    assert str(decimal_of(0.1)) == "0.1"


@pytest.mark.parametrize("number", [float("nan"), float("inf"), "NaN", "x", Decimal("-Infinity")])
def test_what_is_no_finite_number_is_no_price(number: Any) -> None:
    with pytest.raises(ValueError, match="number"):
        decimal_of(number)


@pytest.mark.parametrize(
    ("symbol", "entry", "outcome", "pips"),
    [
        ("EURUSD=X", "1.1", "1.1012", "12.00"),
        ("USDJPY=X", "150.00", "150.12", "12.00"),
        ("GC=F", "2400", "2401.2", "12.00"),
        ("SI=F", "30", "30.12", "12.00"),
        ("BTC-USD", "60000", "60012", "12.00"),
        ("AAPL", "200", "200.12", "12.00"),
        ("EURUSD=X", "1.1", "1.10000049", "0.00490"),
    ],
)
def test_pips_are_those_of_the_asset_class(symbol: str, entry: str, outcome: str, pips: str) -> None:
    gained = pips_of(parse_symbol(symbol), "BUY", Decimal(entry), Decimal(outcome))
    assert (gained, pips_of(parse_symbol(symbol), "SELL", Decimal(entry), Decimal(outcome))) == (
        Decimal(pips),
        -Decimal(pips),
    )


@pytest.mark.parametrize("entry", [buy(), sell(), hold(), buy().settled(Settlement(Status.WIN, 1.2, NOON + HOUR))])
def test_a_document_gives_the_entry_back(entry: Any) -> None:
    assert entry_from(item_of(entry)) == entry


def test_a_settled_entry_is_in_no_index_of_pending_ones() -> None:
    settled = item_of(buy().settled(Settlement(Status.EXPIRED, 1.1, NOON + 4 * HOUR)))
    assert not {"pending_shard", "due_at"} & set(settled)
    assert not {"pending_shard", "due_at"} & set(item_of(hold()))
    assert {"pending_shard", "due_at"} <= set(item_of(buy()))


def test_a_level_is_filled_to_its_last_digit() -> None:
    target = Decimal("1.10400000000000000001")
    settled = buy(tp1=target).settled(Settlement(Status.WIN, float(target), NOON + HOUR))
    assert settled.outcome_price == target


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"entry_price": None}, "entry_price"),
        ({"entry_price": Decimal(-1)}, "entry_price"),
        ({"entry_price": Decimal("NaN")}, "entry_price"),
        ({"tp1": Decimal("Infinity")}, "tp1"),
        ({"tp1": Decimal("1e-400")}, "tp1"),
        ({"tp1": Decimal("1.1")}, "tp1"),
        ({"stop_loss": Decimal("1.2")}, "tp1"),
        ({"stop_loss": None}, "stop_loss"),
        ({"probability": Decimal("1.01")}, "probability"),
        ({"opened_at": -1}, "opened_at"),
        ({"opened_at": 10**13}, "opened_at"),
        ({"expires_at": NOON}, "expires_at"),
        ({"signal": "MAYBE"}, "signal"),
        ({"interval": "7h"}, "interval"),
        ({"symbol": "eurusd"}, "symbol"),
        ({"symbol": "a#b"}, "symbol"),
        ({"status": Status.WIN}, "outcome_at"),
        ({"outcome_at": NOON}, "outcome_at"),
    ],
)
def test_what_contradicts_itself_is_no_entry(changed: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        buy(**changed)
    assert refused.value.field == field


def test_a_hold_has_neither_levels_nor_an_outcome() -> None:
    assert hold().status is Status.EXPIRED
    for changed in ({"tp1": Decimal(1)}, {"pips": Decimal(1)}, {"due_at": NOON}):
        with pytest.raises(InvalidInput, match="makes no claim"):
            hold(**changed)


def test_only_what_is_pending_is_settled_and_only_by_an_outcome() -> None:
    won = Settlement(Status.WIN, 1.104, NOON + HOUR)
    for entry, settlement in ((buy().settled(won), won), (buy(), Settlement(Status.PENDING)), (hold(), won)):
        with pytest.raises((ValueError, FusionTradeError)):
            entry.settled(settlement)


def test_the_platforms_entries_have_no_user() -> None:
    assert (buy("PLATFORM").to_json()["user_id"], buy().to_json()["user_id"]) == (None, ALICE)


@pytest.mark.parametrize(
    ("symbol", "entry", "outcome", "expected"),
    [
        ("EURUSD=X", "1.1", "1.10400004", "40.00"),
        ("SHIB-USD", "0.00001234", "0.00001259", "0.00250"),
        ("PEPE24478-USD", "0.00000712", "0.00000708", "-0.000400"),
        ("SHIB-USD", "0.00001234", "0.00001234", "0.00"),
    ],
)
def test_a_move_of_less_than_a_pip_keeps_three_digits(symbol: str, entry: str, outcome: str, expected: str) -> None:
    assert pips_of(parse_symbol(symbol), "BUY", Decimal(entry), Decimal(outcome)) == Decimal(expected)
