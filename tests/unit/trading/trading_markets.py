"""Bars with known prices, random markets, and deciders for tests of the event loop."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from hypothesis import strategies as st

from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from fusiontrade.trading.account import Leave, Order
from fusiontrade.trading.costs import Costs
from fusiontrade.trading.simulation import Moment, Simulation, simulate

DAY = 86_400_000
FREE = Costs()


def frame(rows: list[tuple[float, float, float, float]], symbol: str = "A", first: int = 0) -> CandleFrame:
    opened, high, low, close = np.asarray(rows, np.float64).T
    return CandleFrame(symbol, Timeframe.D1, DAY * (first + np.arange(len(rows))), opened, high, low, close).checked()


def hours(symbol: str, bars: int, seed: int) -> CandleFrame:
    """Hourly bars of a random walk from Tuesday, 2024-01-02; weekends are left out for pairs."""
    random = np.random.default_rng(seed)
    time = 1_704_153_600_000 + 3_600_000 * np.arange(2 * bars)
    time = time[(time // DAY + 3) % 7 < 5][:bars] if symbol.endswith("=X") else time[:bars]
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.002, bars)))
    opened = np.concatenate(([100.0], close[:-1]))
    reach = random.uniform(0, 0.002, (2, bars))
    high, low = np.maximum(opened, close) * (1 + reach[0]), np.minimum(opened, close) * (1 - reach[1])
    return CandleFrame(symbol, Timeframe.H1, time, opened, high, low, close).checked()


def flat(price: float) -> tuple[float, float, float, float]:
    return (price, price, price, price)


def at(orders: dict[int, Iterable[Order | Leave]]):
    """Decide by the number of the day that has just closed."""
    return lambda moment: orders.get(moment.at // DAY - 1, ())


def simulated(frames, orders, costs: Costs = FREE, **settings) -> Simulation:
    frames = frames if isinstance(frames, list) else [frames]
    return simulate(frames, at(orders), capital=1_000.0, costs={one.symbol: costs for one in frames}, **settings)


@st.composite
def markets(draw, symbols: str = "AB", days: int = 14) -> list[CandleFrame]:
    """Bars that jump, gap and touch levels; each symbol misses some days."""
    frames = []
    for symbol in symbols:
        seed = draw(st.integers(0, 2**32 - 1))
        random = np.random.default_rng(seed)
        close = 100 * np.exp(np.cumsum(random.normal(0, 0.03, days)))
        opened = close * np.exp(random.normal(0, 0.02, days))
        high = np.maximum(opened, close) * (1 + random.uniform(0, 0.03, days))
        low = np.minimum(opened, close) * (1 - random.uniform(0, 0.03, days))
        there = random.random(days) < 0.85
        there[0] = True
        time = DAY * np.arange(days)
        frames.append(CandleFrame(symbol, Timeframe.D1, time, opened, high, low, close).rows(there).checked())
    return frames


def gambler(seed: int):
    """Decides by the toss of a coin that knows the instant, so that a changed future changes no decision before it."""

    def decide(moment: Moment) -> list[Order | Leave]:
        random = np.random.default_rng([seed, moment.at // DAY])
        orders: list[Order | Leave] = [Leave(one) for one in sorted(moment.held) if random.random() < 0.1]
        for symbol in sorted(moment.symbols):
            side = int(random.integers(-1, 2))
            if side:
                stop, target = 100 * (1 - side * random.uniform(0, 0.2)), 100 * (1 + side * random.uniform(0, 0.2))
                levels = (stop if random.random() < 0.7 else None, target if random.random() < 0.7 else None)
                orders.append(Order(symbol, side, random.uniform(0.05, 0.9), int(random.integers(1, 5)), *levels))
        return orders

    return decide


costs = st.builds(Costs, st.floats(0, 30), st.floats(0, 30), st.floats(0, 30))


def gambled(frames: list[CandleFrame], seed: int, cost: Costs) -> Simulation:
    return simulate(frames, gambler(seed), capital=1_000.0, costs=dict.fromkeys("AB", cost), exposure=1.5)
