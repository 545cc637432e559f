"""Synthetic bars: a seeded random walk with every awkward stretch real markets have."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe

MakeFrame = Callable[..., CandleFrame]

_START = 1_700_000_100_000 // 3_600_000 * 3_600_000


def _make_frame(
    rows: int = 2_000,
    *,
    seed: int = 0,
    price: float = 100.0,
    flat: tuple[int, int] | None = None,
    idle: tuple[int, int] | None = None,
    volume: bool = True,
    timeframe: Timeframe = Timeframe.H1,
) -> CandleFrame:
    """Return a random walk; ``flat`` rows repeat one price without range, ``idle`` rows trade nothing."""
    random = np.random.default_rng(seed)
    steps = 1e-3 * random.standard_t(4, rows)
    if flat is not None:
        steps[slice(*flat)] = 0.0
    close = price * np.exp(np.cumsum(steps))
    open_ = np.concatenate([[price], close[:-1]])
    reach = 5e-4 * np.abs(random.normal(size=(2, rows)))
    if flat is not None:
        reach[:, slice(*flat)] = 0.0
    traded = 1e3 * np.exp(random.normal(size=rows))
    if idle is not None:
        traded[slice(*idle)] = 0.0
    return CandleFrame(
        "TEST-USD",
        timeframe,
        _START + timeframe.milliseconds * np.arange(rows, dtype=np.int64),
        open_,
        np.maximum(open_, close) * (1.0 + reach[0]),
        np.minimum(open_, close) * (1.0 - reach[1]),
        close,
        traded if volume else None,
    ).checked()


@pytest.fixture(scope="session")
def make_frame() -> MakeFrame:
    """Builds a frame; see `_make_frame` for its arguments."""
    return _make_frame


@pytest.fixture(
    scope="session",
    params=[
        {},
        {"flat": (300, 1_000)},
        {"flat": (900, 1_300), "idle": (850, 1_600)},
        {"price": 3e-6, "seed": 3},
        {"price": 4e5, "seed": 4, "idle": (0, 700)},
        {"volume": False, "seed": 5},
    ],
    ids=["walk", "long_flat", "flat_and_idle", "tiny_price", "idle_start", "no_volume"],
)
def frame(request: pytest.FixtureRequest) -> CandleFrame:
    """2,000 bars, in each of the kinds of market that must not matter."""
    return _make_frame(**request.param)
