"""A scripted market and the source in front of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fusiontrade.market.source import CandleSource
from tests.support.markets import Market, source_of


@pytest.fixture
def market() -> Market:
    return Market()


@pytest.fixture
def source(market: Market) -> Iterator[CandleSource]:
    made = source_of(market)
    yield made
    made.close()
