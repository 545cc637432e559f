"""A scripted market and the source in front of it; a Yahoo on this machine and our client of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fusiontrade.market.providers.yahoo import YahooProvider
from fusiontrade.market.source import CandleSource
from tests.support.markets import Market, source_of
from tests.support.yahoo_server import NOW, YahooServer


@pytest.fixture
def market() -> Market:
    return Market()


@pytest.fixture
def source(market: Market) -> Iterator[CandleSource]:
    made = source_of(market)
    yield made
    made.close()


@pytest.fixture
def yahoo() -> Iterator[YahooServer]:
    with YahooServer(NOW // 1000) as server:
        yield server


@pytest.fixture
def provider(yahoo: YahooServer) -> Iterator[YahooProvider]:
    made = YahooProvider(base_url=yahoo.url, clock=lambda: NOW)
    yield made
    made.close()
