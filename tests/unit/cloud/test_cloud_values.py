"""Python values and DynamoDB's, both ways."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusiontrade.cloud.values import decode, decode_item, encode, encode_item

NUMBERS = st.one_of(
    st.integers(-(10**30), 10**30),
    st.decimals(allow_nan=False, allow_infinity=False, places=8, min_value=-(10**15), max_value=10**15),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.text(), st.binary(), NUMBERS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
    max_leaves=12,
)


@given(VALUES)
def test_every_value_comes_back_equal(value: Any) -> None:
    assert decode(encode(value)) == value


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e100, max_value=1e100))
def test_a_float_comes_back_as_the_decimal_of_its_shortest_text(value: float) -> None:
    assert Decimal(decode(encode(value))) == Decimal(repr(value))
    assert float(decode(encode(value))) == value


@pytest.mark.parametrize(("value", "text"), [(0.1, "0.1"), (1e22, "10000000000000000000000"), (7, "7"), (-0.5, "-0.5")])
def test_numbers_are_stored_as_decimal_text(value: float, text: str) -> None:
    assert encode(value) == {"N": text}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), Decimal("NaN")])
def test_a_number_that_is_not_finite_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="not a finite number"):
        encode(value)


def test_a_number_of_more_digits_than_the_table_keeps_is_refused() -> None:
    with pytest.raises(ValueError, match="38 digits"):
        encode(10**40 + 1)


def test_what_has_no_counterpart_is_refused() -> None:
    with pytest.raises(TypeError, match="a set cannot be stored"):
        encode({1, 2})


def test_true_is_a_boolean_and_not_a_one() -> None:
    assert encode_item({"yes": True, "one": 1}) == {"yes": {"BOOL": True}, "one": {"N": "1"}}
    assert decode_item({"tags": {"SS": ["a"]}}) == {"tags": frozenset({"a"})}
