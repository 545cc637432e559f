"""Labels against an independent walk over candles: every rule told anew in plain Python, on wild and on real markets.

Nothing of the product takes part in the walk but the candles and the ATR of the entry.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from serving.features import BARS_NEEDED, atr
from serving.training.candles import read_candles
from serving.training.labels import Labels, label

REAL = Path(os.environ.get("FUSIONTRADE_REAL_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))
HOUR = 3_600_000
START = round(datetime(2023, 1, 2, tzinfo=UTC).timestamp() * 1000)
NEW_YORK = ZoneInfo("America/New_York")
CASES = 1000


@dataclass
class Walk:
    """What a trader with a pencil finds for one entry."""

    usable: bool
    up: list[bool]
    down: list[bool]
    won: bool
    lost: bool
    how: str
    next_change: float
    range: float
    move: float
    gap: int


@dataclass
class Candles:
    """Bars as plain lists."""

    time: list[int]
    open: list[float]
    high: list[float]
    low: list[float]
    close: list[float]
    length: int

    @classmethod
    def of(cls, frame: CandleFrame) -> Candles:
        columns = (frame.time, frame.open, frame.high, frame.low, frame.close)
        return cls(*(column.tolist() for column in columns), frame.timeframe.milliseconds)


def walk(bars: Candles, row: int, unit: float, side: str, *, rollover: bool) -> Walk | None:
    """Follow the four bars after an entry at the close of ``row``; None where there are not four."""
    if row + 4 >= len(bars.time):
        return None
    length = bars.length
    entry = bars.close[row]
    sign = 1 if side == "long" else -1
    target, stop = entry + sign * 2.0 * unit, entry - sign * 1.5 * unit
    up, down = [False] * 5, [False] * 5
    highest, lowest, how = -math.inf, math.inf, "nothing"
    for one in range(row + 1, row + 5):
        opened, high, low = bars.open[one], bars.high[one], bars.low[one]
        highest, lowest = max(highest, high), min(lowest, low)
        for place, distance in enumerate((1.0, 1.5, 2.0, 3.0, 4.0)):
            up[place] = up[place] or high >= entry + distance * unit
            down[place] = down[place] or low <= entry - distance * unit
        if how == "nothing":
            how = _outcome(sign * opened, sign * target, sign * stop, high, low, sign)
    took = bars.time[row + 4] - bars.time[row]
    clock = datetime.fromtimestamp((bars.time[row] + length) / 1000, NEW_YORK)
    usable = row >= BARS_NEEDED - 1 and took <= 4 * length + 72 * HOUR
    if rollover and clock.hour in (16, 17, 18):
        usable = False
    return Walk(
        usable=usable,
        up=up,
        down=down,
        won=how in ("gap beyond target", "target"),
        lost=how in ("gap beyond stop", "stop", "both in one bar"),
        how=how,
        next_change=(bars.close[row + 1] - entry) / unit,
        range=(highest - lowest) / unit,
        move=(bars.close[row + 4] - entry) / unit,
        gap=took - 4 * length,
    )


def _outcome(opened: float, target: float, stop: float, high: float, low: float, sign: int) -> str:
    """How one bar ends a trade, if it does; prices of a short are turned round, so that up is good."""
    best, worst = (high, low) if sign > 0 else (-low, -high)
    if opened <= stop:
        return "gap beyond stop"
    if opened >= target:
        return "gap beyond target"
    if worst <= stop:
        return "both in one bar" if best >= target else "stop"
    return "target" if best >= target else "nothing"


def assert_row(found: Labels, touched: np.ndarray, row: int, told: Walk, column: int) -> None:
    assert bool(found.usable[row]) == told.usable
    if not told.usable:
        return
    either = [a or b for a, b in zip(told.up, told.down, strict=True)]
    assert found.touch[row].tolist() == [float(one) for one in told.up + told.down]
    assert touched[row].tolist() == [float(one) for one in told.up + told.down + either]
    assert bool(found.win[row, column]) == told.won
    assert math.isclose(found.change[row], told.next_change, rel_tol=1e-5, abs_tol=1e-6)
    assert bool(found.direction[row]) == (told.next_change > 0)
    assert math.isclose(found.log_range[row], math.log(max(told.range, 0.01)), abs_tol=1e-5)
    assert found.classes[row] == (1 if abs(told.move) < 0.25 else 0 if told.move > 0 else 2)


def wild_market(symbol: str, bars: int, seed: int) -> CandleFrame:
    """Hourly bars full of gaps at the open, bars of enormous reach, weekends, holidays and days without a feed."""
    rng = np.random.default_rng(seed)
    time = START + HOUR * np.arange(2 * bars, dtype=np.int64)
    into_week = (time // HOUR + 3 * 24) % 168
    time = time[(into_week < 118) | (into_week >= 166)]
    away = np.cumsum(rng.choice([0, 26, 72, 73, 200], len(time), p=[0.985, 0.005, 0.004, 0.004, 0.002]))
    time = (time + away * HOUR)[:bars]
    sigma = 0.002
    jump = np.where(rng.random(bars) < 0.2, rng.normal(0, 7 * sigma, bars), rng.normal(0, 0.2 * sigma, bars))
    inside = rng.standard_t(4, bars) * sigma
    close = 100 * np.exp(np.cumsum(jump + inside) - 0.02 * np.arange(bars) * sigma)
    opened = close / np.exp(inside)
    reach = np.abs(rng.normal(0, sigma, (2, bars))) * np.where(rng.random(bars) < 0.06, 9.0, 0.6)
    high, low = np.maximum(opened, close) * (1 + reach[0]), np.minimum(opened, close) * (1 - reach[1])
    return CandleFrame(symbol, Timeframe.H1, time, opened, high, low, close, None).checked()


@pytest.fixture(scope="module")
def market() -> CandleFrame:
    return wild_market("EURUSD=X", 6000, 11)


@pytest.mark.parametrize(("side", "column"), [("long", 0), ("short", 1)])
@pytest.mark.parametrize("rollover", [True, False])
def test_a_thousand_random_rows_are_labelled_as_the_walk_over_their_candles_says(
    market: CandleFrame, side: str, column: int, rollover: bool
) -> None:
    unit = atr(market)
    found = label(market, unit, np.arange(len(market)) >= BARS_NEEDED - 1, rollover=rollover)
    rows = np.random.default_rng(column).choice(np.arange(BARS_NEEDED - 30, len(market)), CASES + 300, replace=False)
    seen: Counter[str] = Counter()
    bars, touched = Candles.of(market), found.touched
    for row in rows.tolist():
        told = walk(bars, row, float(unit[row]), side, rollover=rollover)
        if told is None:
            assert not found.usable[row]
            continue
        assert_row(found, touched, row, told, column)
        seen[told.how if told.usable else "not usable"] += 1
        seen["after three days" if told.gap > 72 * HOUR else "over a rest" if told.gap else "without a rest"] += 1
        seen["just three days"] += told.gap == 72 * HOUR and told.usable
    assert sum(seen[how] for how in ("gap beyond stop", "gap beyond target", "stop", "target", "nothing")) >= CASES / 2
    for how in ("gap beyond stop", "gap beyond target", "both in one bar", "stop", "target", "nothing"):
        assert seen[how] >= 15, (how, seen)
    assert seen["over a rest"] >= 20
    assert seen["after three days"] >= 10
    assert seen["just three days"] >= 3


@pytest.mark.parametrize("hours", [71, 72, 73])
def test_a_horizon_ends_at_a_rest_of_more_than_three_days(market: CandleFrame, hours: int) -> None:
    steady = START + HOUR * np.arange(len(market), dtype=np.int64)
    steady[3000:] += hours * HOUR
    frame = replace(market, time=steady)
    found = label(frame, atr(frame), np.ones(len(frame), np.bool_), rollover=False)
    assert found.usable[2996:3000].tolist() == [hours <= 72] * 4
    assert found.usable[[2995, 3000]].all()


@pytest.mark.parametrize(("side", "column"), [("long", 0), ("short", 1)])
@pytest.mark.parametrize(
    ("opened", "high", "low", "won"),
    [
        (104.5, 104.6, 96.0, True),  # a gap over the target fills there, whatever comes after
        (96.5, 105.0, 96.0, False),  # a gap over the stop
        (100.0, 104.1, 96.9, False),  # both in one bar: the stop counts
        (100.0, 104.0, 98.0, True),  # the target, to the last digit
        (100.0, 105.0, 97.0, False),  # the stop, to the last digit
        (100.0, 103.9, 97.1, False),  # neither
        (104.0, 104.0, 104.0, True),  # an open at the target
        (97.0, 97.0, 97.0, False),  # an open at the stop
    ],
)
def test_one_bar_decides_a_trade_as_written(
    side: str, column: int, opened: float, high: float, low: float, won: bool
) -> None:
    """Entry 100, ATR 2: a long's target is 104 and its stop 97; a short's bar is the mirror image."""
    if side == "short":
        opened, high, low = 200 - opened, 200 - low, 200 - high
    calm = np.full(6, 100.0)
    opens, highs, lows, closes = calm.copy(), calm.copy(), calm.copy(), calm.copy()
    opens[2], highs[2], lows[2], closes[2] = opened, high, low, (high + low) / 2
    time = START + HOUR * np.arange(6, dtype=np.int64)
    frame = CandleFrame("BTC-USD", Timeframe.H1, time, opens, highs, lows, closes, None).checked()
    found = label(frame, np.full(6, 2.0), np.ones(6, np.bool_), rollover=False)
    assert found.usable.tolist() == [True, True, False, False, False, False]
    assert found.win[:2, column].tolist() == [float(won)] * 2


@cache
def real(symbol: str, timeframe: Timeframe) -> tuple[CandleFrame, np.ndarray, Labels, bool]:
    """Candles of a real series, their ATR and labels, and whether rollover hours are left out."""
    ((frame, rollover),) = read_candles(REAL, timeframe, (symbol,))
    frame = frame.rows(slice(0, 40_000))
    unit = atr(frame)
    return frame, unit, label(frame, unit, np.arange(len(frame)) >= BARS_NEEDED - 1, rollover=rollover), rollover


@pytest.mark.real_data
@pytest.mark.skipif(not (REAL / "instruments.toml").exists(), reason=f"no real candles at {REAL}")
@pytest.mark.parametrize(
    ("symbol", "timeframe"),
    [("EURUSD=X", Timeframe.H1), ("GC=F", Timeframe.M15), ("BTC-USD", Timeframe.H1), ("SOL-USD", Timeframe.H4)],
)
@pytest.mark.parametrize(("side", "column"), [("long", 0), ("short", 1)])
def test_random_rows_of_real_candles_are_labelled_as_the_walk_says(
    symbol: str, timeframe: Timeframe, side: str, column: int
) -> None:
    frame, unit, found, rollover = real(symbol, timeframe)
    seen: Counter[str] = Counter()
    bars, touched = Candles.of(frame), found.touched
    for row in np.random.default_rng(column).choice(np.arange(600, len(frame)), CASES, replace=False).tolist():
        told = walk(bars, row, float(unit[row]), side, rollover=rollover)
        if told is None:
            assert not found.usable[row]
            continue
        assert_row(found, touched, row, told, column)
        seen[told.how if told.usable else "not usable"] += 1
    assert min(seen[how] for how in ("stop", "target", "nothing")) > 50, seen
    assert seen["not usable"] > 50 or not rollover, seen
