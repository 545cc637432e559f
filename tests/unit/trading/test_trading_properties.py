"""The event loop: what holds whatever the market and the orders."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trading_markets import DAY, at, costs, gambled, gambler, markets

from fusiontrade.journal.settlement import Bar, Status, settle
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from fusiontrade.trading.account import Account, Leave, Order, Reason, at_open, within
from fusiontrade.trading.costs import STANDARD, Costs
from fusiontrade.trading.outcomes import outcomes
from fusiontrade.trading.simulation import Moment, run, simulate, steps_of


@settings(max_examples=60, deadline=None)
@given(markets(), st.integers(0, 999), costs)
def test_money_is_where_the_fills_say(frames: list[CandleFrame], seed: int, cost: Costs) -> None:
    found = gambled(frames, seed, cost)
    account = found.account
    cash = 1_000.0 - sum(fill.quantity * fill.price + fill.commission for fill in account.fills)
    held = {name: sum(fill.quantity for fill in account.fills if fill.symbol == name) for name in "AB"}
    assert account.cash == pytest.approx(cash)
    for name, quantity in held.items():
        kept = account.positions[name].quantity if name in account.positions else 0.0
        assert kept == pytest.approx(quantity, abs=1e-9)
    worth = sum(quantity * frame.close[-1] for quantity, frame in zip(held.values(), frames, strict=True))
    assert found.equity[-1] == pytest.approx(cash + worth)
    open_profit = sum(
        one.quantity * (account.last[name] - one.price) - one.paid for name, one in account.positions.items()
    )
    assert found.equity[-1] - 1_000 == pytest.approx(sum(trade.profit for trade in found.trades) + open_profit)


@settings(max_examples=60, deadline=None)
@given(markets(), st.integers(0, 999), costs)
def test_a_trade_is_made_at_the_first_open_after_its_decision_and_made_worse_by_the_costs(frames, seed, cost) -> None:
    decided: list[tuple[str, int]] = []
    decide = gambler(seed)

    def remembering(moment: Moment) -> list[Order | Leave]:
        orders = decide(moment)
        decided.extend((order.symbol, moment.at) for order in orders if isinstance(order, Order))
        return orders

    found = simulate(frames, remembering, capital=1_000.0, costs=dict.fromkeys("AB", cost), exposure=1.5)
    times = {one.symbol: one.time for one in frames}
    first = {(name, int(times[name][times[name] >= at][0])) for name, at in decided if times[name][-1] >= at}
    by_symbol = {one.symbol: one for one in frames}
    for trade in found.trades:
        assert (trade.symbol, trade.opened_at) in first
        one = by_symbol[trade.symbol]
        row = int(np.searchsorted(one.time, trade.opened_at))
        assert trade.entry == pytest.approx(cost.price(float(one.open[row]), trade.side))
        assert trade.left_at > trade.opened_at
    opened = len(found.trades) + len(found.account.positions)
    assert opened + len(found.refused) >= len(decided)  # no order disappears without a word
    assert all(fill.commission >= 0 for fill in found.account.fills)


@settings(max_examples=40, deadline=None)
@given(markets(), st.integers(0, 999), costs)
def test_the_order_of_symbols_changes_nothing(frames: list[CandleFrame], seed: int, cost: Costs) -> None:
    here, there = gambled(frames, seed, cost), gambled(frames[::-1], seed, cost)
    assert here.equity.tolist() == pytest.approx(there.equity.tolist())
    ordered = [sorted(found.trades, key=lambda one: (one.opened_at, one.symbol)) for found in (here, there)]
    for one, other in zip(*ordered, strict=True):
        assert (one.symbol, one.opened_at, one.left_at) == (other.symbol, other.opened_at, other.left_at)
        assert (one.reason, one.profit) == (other.reason, pytest.approx(other.profit))


@settings(max_examples=40, deadline=None)
@given(markets(), st.integers(0, 999))
def test_in_a_mirrored_market_mirrored_orders_come_to_the_same(frames: list[CandleFrame], seed: int) -> None:
    """Prices are mirrored at 100, so that what a unit of a long gains here, a unit of a short gains there."""

    def small(sign: int):
        decide = gambler(seed)

        def mirrored(moment: Moment) -> list[Order | Leave]:
            return [one if isinstance(one, Leave) else flipped(one, sign) for one in decide(moment)]

        return mirrored

    def flipped(one: Order, sign: int) -> Order:
        stop, target = (None if level is None else 100 + sign * (level - 100) for level in (one.stop, one.target))
        return Order(one.symbol, sign * one.side, one.fraction / 20, one.hold, stop, target)

    turned = [
        CandleFrame(one.symbol, one.timeframe, one.time, 200 - one.open, 200 - one.low, 200 - one.high, 200 - one.close)
        for one in frames
    ]
    free = dict.fromkeys("AB", Costs())
    here = simulate(frames, small(1), capital=1_000.0, costs=free)
    there = simulate(turned, small(-1), capital=1_000.0, costs=free)
    assert len(here.trades) == len(there.trades)
    for one, other in zip(here.trades, there.trades, strict=True):
        assert (one.side, one.opened_at, one.left_at, one.reason) == (
            -other.side, other.opened_at, other.left_at, other.reason,
        )  # fmt: skip
        assert one.profit / one.quantity == pytest.approx(other.profit / other.quantity)


@settings(max_examples=40, deadline=None)
@given(markets(), st.integers(0, 999), costs, st.floats(0.5, 4.0))
def test_what_is_bought_is_paid_with_cash_that_is_there(frames, seed: int, cost: Costs, exposure: float) -> None:
    decide = gambler(seed)

    def buying(moment: Moment) -> list[Order | Leave]:
        return [one for one in decide(moment) if isinstance(one, Leave) or one.side > 0]

    account = Account(1_000.0, dict.fromkeys("AB", cost), exposure)
    for mark in run(steps_of(frames), buying, account):
        assert mark.cash >= -1e-9
        assert mark.equity == pytest.approx(mark.cash + mark.invested)


@settings(max_examples=40, deadline=None)
@given(markets(), st.integers(0, 999), st.integers(2, 11))
def test_another_future_changes_nothing_of_the_past(frames: list[CandleFrame], seed: int, cut: int) -> None:
    known = [one.rows(one.time < cut * DAY) for one in frames]
    random = np.random.default_rng(seed)
    other = []
    for one in frames:
        factor = np.where(one.time < cut * DAY, 1.0, random.uniform(0.5, 2.0, len(one)))
        other.append(
            CandleFrame(
                one.symbol, one.timeframe, one.time,
                one.open * factor, one.high * factor, one.low * factor, one.close * factor,
            )
        )  # fmt: skip
    whole, changed, short = (gambled(one, seed, STANDARD["equity"]) for one in (frames, other, known))
    steps = len(short.at)
    for one in (whole, changed):
        np.testing.assert_array_equal(one.equity[:steps], short.equity)
        assert [t for t in one.trades if t.left_at <= short.at[-1] and t in short.trades] == list(short.trades)
        assert one.account.fills[: len(short.account.fills)] == short.account.fills


def test_many_trades_at_once_are_what_the_account_makes_of_each() -> None:
    """Tight and missing levels, jumps and every hold, so that each way out is taken often."""
    random, ways = np.random.default_rng(11), Counter()
    for hold in (1, 2, 5):
        n = 150
        close = 100 * np.exp(np.cumsum(random.normal(0, 0.02, (n, hold + 2)), axis=1))
        opened = close * np.exp(random.normal(0, 0.015, close.shape))
        high = np.maximum(opened, close) * (1 + random.uniform(0, 0.02, close.shape))
        low = np.minimum(opened, close) * (1 - random.uniform(0, 0.02, close.shape))
        side = random.choice((-1, 1), n)
        away = np.where(random.random((2, n)) < 0.2, np.nan, random.uniform(0.002, 0.05, (2, n)))
        stop, target = close[:, 0] * (1 - side * away[0]), close[:, 0] * (1 + side * away[1])
        cost = Costs(*random.uniform(0, 30, 3))
        found = outcomes(side, stop, target, [column[:, 1:] for column in (opened, high, low)], cost)
        for row in range(n):
            columns = (column[row] for column in (opened, high, low, close))
            bars = CandleFrame("A", Timeframe.D1, DAY * np.arange(hold + 2), *columns)
            levels = (None if np.isnan(one[row]) else float(one[row]) for one in (stop, target))
            orders = {0: [Order("A", int(side[row]), 0.1, hold, *levels)]}
            alone = simulate([bars], at(orders), capital=1_000.0, costs={"A": cost})
            assert found.filled[row] == (len(alone.account.fills) > 0) == (len(alone.trades) == 1)
            ways["not filled"] += not alone.trades
            for trade in alone.trades:
                assert (found.bars[row], found.exit[row]) == (trade.bars, pytest.approx(trade.exit))
                assert found.part[row] == pytest.approx(trade.part)
                path = slice(1 + trade.bars, 2 + trade.bars)
                both = low[row, path] <= min(stop[row], target[row]) and high[row, path] >= max(stop[row], target[row])
                ways["both touched" if both else str(trade.reason)] += 1
                ways["at an open" if trade.left_at == bars.time[1 + trade.bars] else "within a bar"] += 1
            if not alone.trades:
                assert (found.bars[row], np.isnan(found.part[row])) == (-1, True)
    assert min(ways.values()) > 10, ways
    assert set(ways) >= {"stop", "target", "time", "both touched", "not filled", "at an open", "within a bar"}
    with pytest.raises(ValueError, match="HOLD is no trade"):
        outcomes(np.asarray([1, 0]), np.ones(2), np.ones(2), [np.ones((2, 2))] * 3, Costs())


@given(
    st.sampled_from((-1, 1)),
    st.lists(st.tuples(*[st.floats(90, 110)] * 4), min_size=1, max_size=6),
    st.floats(1, 9),
    st.floats(1, 9),
)
def test_levels_are_settled_as_the_journal_does(side: int, prices, near: float, far: float) -> None:
    bars = [Bar(day * DAY, (day + 1) * DAY, p[0], max(p), min(p), p[3]) for day, p in enumerate(prices)]
    stop, target = 100 - side * near, 100 + side * far
    told = settle("BUY" if side > 0 else "SELL", 100.0, target, stop, bars, expires_at=99 * DAY, closed_by=99 * DAY)
    found = None
    for bar in bars:
        reason = at_open(side, stop, target, bar.open, over=False)
        found = (reason, bar.open) if reason else within(side, stop, target, bar.high, bar.low)
        if found:
            break
    if found is None:
        assert told.status is Status.EXPIRED
    else:
        assert (told.status, told.price) == (Status.WIN if found[0] is Reason.TARGET else Status.LOSS, found[1])
