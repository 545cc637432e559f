"""The hours around 17:00 New York: which instants and which markets."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from fusiontrade.market.rollover import in_rollover, rolls_over
from fusiontrade.market.symbols import parse_symbol

QUARTER = 900_000


@pytest.mark.parametrize("day", [datetime(2024, 1, 10, tzinfo=UTC), datetime(2024, 7, 10, tzinfo=UTC)])
def test_rollover_is_16_to_19_new_york_in_winter_and_summer(day: datetime) -> None:
    instants = round(day.timestamp() * 1000) + QUARTER * np.arange(96)
    local = [datetime.fromtimestamp(int(t) / 1000, ZoneInfo("America/New_York")).hour for t in instants]
    assert in_rollover(instants.astype(np.int64)).tolist() == [hour in (16, 17, 18) for hour in local]


@pytest.mark.parametrize(
    ("code", "expected"), [("EURUSD=X", True), ("GC=F", True), ("BTC-USD", False), ("AAPL", False)]
)
def test_pairs_and_metals_roll_over_and_others_do_not(code: str, expected: bool) -> None:
    assert rolls_over(parse_symbol(code)) is expected
