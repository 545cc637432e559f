"""Invented daily stocks, and the least of daily models over them: for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from serving.models import stockformer, tft
from serving.models.veto import VetoConfig
from serving.training.config import TrainingConfig
from serving.training.swing import DailySeries, RankerConfig, SwingConfig
from serving.training.swing.networks import NETWORKS

DAY = 86_400_000
BARS, STOCKS = 900, 5
CONFIG = SwingConfig(
    fitting=TrainingConfig(batch=64, epochs=1, averaging=0.9),
    trees=VetoConfig(rounds=5, patience=5, fewest=10, leaves=4),
    judged_from="2023-05-01T00:00:00Z",
    stride=2,
    held_stride=2,
    judged_stride=2,
    fewest=3,
    ranker=RankerConfig(fewest=3),
)
TINY = {
    "stockformer": stockformer.StockformerConfig(
        patch=40, width=8, layers=1, attention_heads=2, feed_forward=8, dense=8
    ),
    "tft": tft.TftConfig(step=40, width=8, attention_heads=2),
}


def stock(symbol: str, seed: int, universe: str = "invented", bars: int = BARS) -> DailySeries:
    """A random walk of daily closes from 2021-01-01 on."""
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.015, bars)))
    opened = np.concatenate(([100.0], close[:-1])) * (1 + random.normal(0, 0.002, bars))
    high, low = np.maximum(opened, close) * 1.004, np.minimum(opened, close) * 0.996
    time = 1_609_459_200_000 + DAY * np.arange(bars, dtype=np.int64)
    frame = CandleFrame(symbol, Timeframe.D1, time, opened, high, low, close, random.lognormal(10, 0.3, bars))
    return DailySeries(universe, frame.checked(), np.ones(bars), np.zeros(bars, np.bool_))


def invented() -> list[DailySeries]:
    """Five stocks of one universe."""
    return [stock(f"S{number}", number) for number in range(STOCKS)]


@contextmanager
def tiny_networks() -> Iterator[None]:
    """Let the preset ``small`` be a network of a few hundred weights."""
    with pytest.MonkeyPatch.context() as patch:
        for name, sizes in TINY.items():
            patch.setitem(NETWORKS, name, (NETWORKS[name][0], {"small": sizes}))
        yield
