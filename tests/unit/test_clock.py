"""Instants as text and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusiontrade.clock import iso, parse_iso


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2025-07-31T12:00:00Z", 1_753_963_200_000),
        ("2025-07-31T14:00:00+02:00", 1_753_963_200_000),
        ("2025-07-31T12:00:00.001Z", 1_753_963_200_001),
        ("1969-12-31T23:59:59.999Z", -1),
    ],
)
def test_text_names_an_instant(text: str, instant: int) -> None:
    assert parse_iso(text) == instant


@pytest.mark.parametrize("text", ["2025-07-31T11:59:59.9996Z", "2025-07-31T11:59:59.999999Z"])
def test_an_instant_before_noon_is_never_read_as_noon(text: str) -> None:
    assert iso(parse_iso(text)) == "2025-07-31T11:59:59.999Z"


@pytest.mark.parametrize("text", ["2025-07-31T12:00:00", "2025-07-31", "noon", ""])
def test_text_without_a_zone_or_a_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - datetime's own words, or ours about the zone
        parse_iso(text)


@given(st.integers(-2_000_000_000_000, 4_102_444_800_000))
def test_an_instant_survives_its_text(instant: int) -> None:
    assert parse_iso(iso(instant)) == instant
