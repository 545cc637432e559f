"""Smart-money structure: small stories with known answers, and every column against a second calculation bar by bar."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from serving.features import WINDOW
from serving.features.swing import SMART_MONEY, smart_money
from serving.features.swing.structure import REACH, SWING_BARS, Zones, structure

DAY = 86_400_000


def bars(closes: list[float], reach: float = 0.1) -> CandleFrame:
    """Bars that open at the close before them and reach ``reach`` beyond their body on both sides."""
    close = np.asarray(closes, np.float64)
    opened = np.concatenate((close[:1], close[:-1]))
    high, low = np.maximum(opened, close) + reach, np.minimum(opened, close) - reach
    return CandleFrame("TEST-USD", Timeframe.D1, DAY * np.arange(len(close)), opened, high, low, close).checked()


def listed(zones: Zones) -> list[tuple[int, int, int, int, float, float]]:
    columns = (zones.side, zones.place, zones.born, zones.ends, zones.top.round(6), zones.bottom.round(6))
    return sorted(zip(*(column.tolist() for column in columns), strict=True))


RISE = [10, 11, 12, 13, 14, 15]  # the top is row 5
FALL = [14, 13, 12, 11, 10]  # the bottom is row 10
AGAIN = [11, 12, 13, 14, 16, 17]  # row 15 closes above the top


def test_a_swing_high_is_known_five_bars_later_and_broken_by_a_close() -> None:
    found = structure(bars([*RISE, *FALL, *AGAIN]))
    assert np.flatnonzero(found.swings[0]).tolist() == [5]
    assert (found.breaks.side.tolist(), found.breaks.row.tolist(), found.breaks.swing.tolist()) == ([0], [15], [5])
    assert listed(found.liquidity) == [(0, 5, 10, 15, 15.1, 15.1), (1, 10, 15, 17, 9.9, 9.9)]


def test_a_high_without_five_bars_after_it_is_none_yet() -> None:
    assert not structure(bars([*RISE, *FALL[:4]])).swings.any()
    assert structure(bars([*RISE, *FALL[:5]])).swings[0].any()


def test_of_equal_highs_the_first_is_the_swing() -> None:
    found = structure(bars([*RISE, 15, 15, *FALL, 9]))
    assert np.flatnonzero(found.swings[0]).tolist() == [5]


def test_the_lowest_bar_before_a_break_is_the_order_block_until_price_falls_through_it() -> None:
    found = structure(bars([*RISE, *FALL, *AGAIN, 16, 14, 12, 10, 9]))
    blocks = [block for block in listed(found.blocks) if block[0] == 0]
    assert blocks == [(0, 11, 15, 21, 11.1, 9.9)]  # born by the break, over with the first low below 9.9


def test_a_break_after_a_lower_low_is_a_change_of_character_and_after_a_higher_low_one_of_structure() -> None:
    first_low = [20, 18, 16, 14, 12, 10]
    top = [12, 14, 16, 18, 20, 22]
    higher = [20, 18, 16, 14, 12, 14, 16, 18, 20, 23]
    lower = [18, 14, 10, 8, 6, 10, 14, 18, 20, 23]
    for back, change in ((higher, False), (lower, True)):
        found = structure(bars([*first_low, *top, *back]))
        bullish = found.breaks.side == 0
        assert found.breaks.change[bullish].tolist() == [change]


def test_a_gap_is_known_at_its_third_bar_and_ends_where_its_edge_is_touched() -> None:
    found = structure(bars([10, 10, 12, 12.1, 12.1, 11.9]))
    assert listed(found.gaps) == [(0, 2, 3, 5, 11.9, 10.1)]
    columns = np.zeros(6)
    columns[3:5] = 1
    gaps = found.gaps
    assert [int(((gaps.born <= row) & (row < gaps.ends)).sum()) for row in range(6)] == columns.tolist()


def test_nothing_is_remembered_longer_than_its_reach() -> None:
    quiet = [12 + 0.1 * (place % 2) for place in range(REACH + 20)]
    found = structure(bars([*RISE, *FALL, *quiet]))
    assert found.liquidity.ends[0] == 5 + SWING_BARS + REACH
    late = structure(bars([*RISE, *FALL, *quiet, 20]))
    assert 5 not in late.breaks.swing


@dataclass
class ByHand:
    """The definitions of docs/features.md, one bar after another, without a thought for speed."""

    frame: CandleFrame

    def __post_init__(self) -> None:
        f = self.frame
        self.sides = [
            (f.open, f.high, f.low, f.close),
            (-f.open, -f.low, -f.high, -f.close),
        ]

    def swings(self, side: int, row: int) -> list[int]:
        """Swing points confirmed by ``row``, oldest first."""
        high = self.sides[side][1]
        return [
            i
            for i in range(max(SWING_BARS - 1, row - REACH - 50), row - SWING_BARS + 1)
            if high[i] > max(high[i - SWING_BARS + 1 : i]) and high[i] >= max(high[i + 1 : i + SWING_BARS + 1])
        ]

    def walk(self) -> tuple[list[tuple], list[tuple]]:
        """Return breaks (side, row, change) and zones (kind, side, born, top, bottom)."""
        breaks, zones = [], []
        for side, (opened, high, low, close) in enumerate(self.sides):
            broken: set[int] = set()
            for row in range(len(close)):
                known = self.swings(side, row)
                if known and known[-1] >= row - REACH and known[-1] not in broken and close[row] > high[known[-1]]:
                    swing = known[-1]
                    broken.add(swing)
                    lows = low[swing + 1 : row]
                    place = swing + 1 + int(np.flatnonzero(lows == lows.min())[-1])
                    before = [one for one in self.swings(1 - side, row) if row - REACH <= one < swing]
                    breaks.append((side, row, bool(before) and lows.min() < low[before[-1]]))
                    zones.append(("block", side, row, high[place], low[place]))
                if row >= 2 and low[row] > high[row - 2] and close[row - 1] > opened[row - 1]:
                    zones.append(("gap", side, row, low[row], high[row - 2]))
                if known and known[-1] == row - SWING_BARS:
                    zones.append(("level", side, row, high[known[-1]], high[known[-1]]))
        return breaks, zones

    def counts(self, zone: tuple, row: int) -> bool:
        kind, side, born, top, bottom = zone
        if not born <= row < born + REACH:
            return False
        _, high, low, _ = self.sides[side]
        since = slice(born + 1, row + 1)
        if kind == "level":
            return not (high[since] > top).any()
        return not ((low[since] < bottom).any() if kind == "block" else (low[since] <= top).any())

    def columns(self, rows: list[int]) -> np.ndarray:
        breaks, zones = self.walk()
        return np.asarray([self.row(row, breaks, zones) for row in rows])

    def row(self, row: int, breaks: list[tuple], zones: list[tuple]) -> list[float]:
        close = self.frame.close[row]
        alive = [zone for zone in zones if row - REACH <= zone[2] <= row and self.counts(zone, row)]
        out = [
            min(sum(zone[:2] == (kind, side) for zone in alive) / 10, 3) for kind in ("block", "gap") for side in (0, 1)
        ]
        for kind in ("block", "gap"):
            away = [min(z[3] / close - 1, 0) for z in alive if z[:2] == (kind, 0)]
            away += [max(-z[3] / close - 1, 0) for z in alive if z[:2] == (kind, 1)]
            out.append(np.clip(min(away, key=abs, default=0) / 0.1, -1, 1))
        for side in (0, 1):
            away = [abs(z[3]) / close - 1 for z in alive if z[:2] == ("level", side)]
            out.append(min(min(map(abs, away), default=0.1) / 0.1, 1))
        for change in (False, True):
            for side in (0, 1):
                ages = [row - at for s, at, c in breaks if (s, c) == (side, change) and at <= row]
                out.append(max(1 - min(ages) / 20, 0) if ages else 0)
        return out


@pytest.mark.parametrize("market", [{"seed": 8}, {"seed": 9, "flat": (640, 700)}], ids=["walk", "flat"])
def test_every_column_is_that_of_a_second_calculation(make_frame, market) -> None:
    frame = make_frame(760, timeframe=Timeframe.D1, **market)
    rows = list(range(WINDOW - 1, 760, 4))
    expected, found = ByHand(frame).columns(rows), smart_money(frame)[rows]
    for place, name in enumerate(SMART_MONEY):
        np.testing.assert_allclose(found[:, place], expected[:, place], atol=1e-6, err_msg=name)
    assert (found.std(axis=0) > 0).all()
