"""The product's walk over forecasts and outcomes beside the same walk told by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusiontrade.fusion.calibration_states import Tracked, issued, sendable, settled
from fusiontrade.inference.contract import CHANCES, CandleColumns, ForecastItem
from fusiontrade.journal.settlement import Bar, settle
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from tests.support.fusion_fakes import BASE_CHANCES, NOON, OWN_STATE, forecast

HOUR = Timeframe.H1.milliseconds
DAY = 24 * HOUR
LOGITS = [math.log(each / (1.0 - each)) for each in BASE_CHANCES]
LEANS = [logit + 1.0 for logit in LOGITS]
CURVES = [lean**2 - 1.0 if abs(lean) < 2.0 else 3.0 for lean in LEANS]


class ByHand:
    """What is known of one symbol and timeframe, and what was forecast, learned bar by bar in plain words."""

    def __init__(self) -> None:
        self.lower, self.upper = 0.0, 0.0
        self.offsets, self.slopes, self.bends = [0.0] * CHANCES, [0.0] * CHANCES, [0.0] * CHANCES
        self.revision, self.as_of = 0, OWN_STATE.as_of
        self.made: list[tuple[int, float, list[float]]] = []  # when, the price then, the probabilities
        self.closed: set[int] = set()
        self.over: set[int] = set()

    def learn(self, bars: list[Bar]) -> None:
        for made_at, price, chances in self.made:
            ahead = [bar for bar in bars if bar.opened_at >= made_at][:4]
            if ahead == bars[:4] and ahead[0].opened_at > made_at:
                self.closed.add(made_at)
                self.over.add(made_at)
            if ahead and made_at not in self.closed:
                self.closed.add(made_at)
                self.as_of = max(self.as_of, ahead[0].closed_at)
                self.close(price, ahead[0].close)
            if len(ahead) == 4 and made_at not in self.over:
                self.over.add(made_at)
                if ahead[3].closed_at - made_at <= 4 * HOUR + 3 * DAY:
                    self.as_of = max(self.as_of, ahead[3].closed_at)
                    self.horizon(price, chances, ahead)

    def close(self, price: float, outcome: float) -> None:
        low, high = price * 0.985, price * 1.015
        width = high - low
        below, above = outcome < low - self.lower * width, outcome > high + self.upper * width
        self.lower = min(max(self.lower + (0.00475 if below else -0.00025), -0.4), 2.0)
        self.upper = min(max(self.upper + (0.00475 if above else -0.00025), -0.4), 2.0)
        self.revision += 1

    def horizon(self, price: float, chances: list[float], ahead: list[Bar]) -> None:
        atr = price / 100
        distances = [atr * level for level in (1.0, 1.5, 2.0, 3.0, 4.0)]
        up = [any(bar.high - price >= distance for bar in ahead) for distance in distances]
        down = [any(price - bar.low >= distance for bar in ahead) for distance in distances]
        end = ahead[3].closed_at
        won = [
            settle(side, price, price + sign * 2 * atr, price - sign * 1.5 * atr, ahead, expires_at=end, closed_by=end)
            for side, sign in (("BUY", 1), ("SELL", -1))
        ]
        happened = [
            *up,
            *down,
            *(a or b for a, b in zip(up, down, strict=True)),
            *(each.status == "WIN" for each in won),
        ]
        for place, chance in enumerate(chances):
            step = 0.005 * (happened[place] - chance)
            self.offsets[place] = min(max(self.offsets[place] + step, -2.0), 2.0)
            self.slopes[place] = min(max(self.slopes[place] + step * LEANS[place], -0.5), 0.5)
            self.bends[place] = min(max(self.bends[place] + step / 2 * CURVES[place], -0.1), 0.1)

    def forecast(self, now: int, price: float) -> None:
        if not self.made or self.made[-1][0] < now:
            rows = zip(LOGITS, LEANS, CURVES, self.offsets, self.slopes, self.bends, strict=True)
            moved = [logit + a + b * lean + c * curve for logit, lean, curve, a, b, c in rows]
            self.made.append((now, price, [1.0 / (1.0 + math.exp(-each)) for each in moved]))


@st.composite
def markets(draw: st.DrawFn) -> list[Bar]:
    """Hourly bars whose prices jump, some hours, nights and holidays left out."""
    count = draw(st.integers(1, 40))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    gaps = draw(st.lists(st.sampled_from([0, 0, 0, 0, 1, 2, 30, 90]), min_size=count, max_size=count))
    hour, price, bars = 0, 100.0, []
    for gap in gaps:
        opened = price * math.exp(0.01 * float(generator.standard_normal()))
        price = opened * math.exp(0.01 * float(generator.standard_normal()))
        reach = 0.01 * np.abs(generator.standard_normal(2))
        edges = max(opened, price) * (1.0 + float(reach[0])), min(opened, price) * (1.0 - float(reach[1]))
        begin = NOON + (hour := hour + 1 + gap) * HOUR
        bars.append(Bar(begin, begin + HOUR, opened, *edges, price))
    return bars


def columns(bars: list[Bar]) -> CandleFrame:
    opened_at, _, opened, high, low, close = (np.array(column) for column in zip(*bars, strict=True))
    return CandleFrame("EURUSD=X", Timeframe.H1, opened_at, opened, high, low, close)


@given(markets(), st.integers(1, 12), st.data())
def test_requests_at_some_bars_through_gaps_learn_what_the_same_walk_by_hand_learns(
    bars: list[Bar], seen: int, data: st.DataObject
) -> None:
    """Bars without a request, two at one bar, weekends, horizons that took too long, bars that were not fetched."""
    hand, states = ByHand(), dict[Timeframe, Tracked]()
    asked = data.draw(st.lists(st.sampled_from([0, 1, 1, 1, 2]), min_size=len(bars), max_size=len(bars)))
    for row in (row for row, times in enumerate(asked) for _ in range(times)):
        fetched = bars[max(0, row + 1 - seen) : row + 1]
        frames = {Timeframe.H1: columns(fetched)}
        states = settled(states, frames)
        candles = CandleColumns.of(frames[Timeframe.H1])
        sent = sendable(states, frames).get(Timeframe.H1)
        item = ForecastItem(symbol="EURUSD=X", timeframe=Timeframe.H1, candles=candles, state=sent)
        states = issued(states, {Timeframe.H1: forecast(item, 1, 1)})
        hand.learn(fetched)
        hand.forecast(bars[row].closed_at, bars[row].close)
        mine = states[Timeframe.H1]
        assert (mine.revision, mine.as_of) == (hand.revision, hand.as_of)
        assert (mine.lower, mine.upper) == pytest.approx((hand.lower, hand.upper), abs=1e-12)
        assert mine.offsets == pytest.approx(hand.offsets, abs=1e-12)
        assert mine.slopes == pytest.approx(hand.slopes, abs=1e-12)
        assert mine.bends == pytest.approx(hand.bends, abs=1e-12)
        assert [each.bar_close for each in mine.waiting] == [made for made, *_ in hand.made if made not in hand.over]
        assert mine.waiting[-1].chances == pytest.approx(hand.made[-1][2], abs=1e-12)
        assert mine.waiting[-1].leans == pytest.approx(LEANS, abs=1e-12)
