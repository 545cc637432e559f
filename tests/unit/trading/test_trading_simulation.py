"""The event loop: stories with known money, and what holds whatever the market and the orders."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusiontrade.journal.settlement import Bar, Status, settle
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from fusiontrade.trading.account import Account, Leave, Order, Reason, at_open, within
from fusiontrade.trading.costs import STANDARD, Costs
from fusiontrade.trading.outcomes import outcomes
from fusiontrade.trading.simulation import Moment, Simulation, Step, drawdowns, run, simulate

DAY = 86_400_000
FREE = Costs()


def frame(rows: list[tuple[float, float, float, float]], symbol: str = "A", first: int = 0) -> CandleFrame:
    opened, high, low, close = np.asarray(rows, np.float64).T
    return CandleFrame(symbol, Timeframe.D1, DAY * (first + np.arange(len(rows))), opened, high, low, close).checked()


def flat(price: float) -> tuple[float, float, float, float]:
    return (price, price, price, price)


def at(orders: dict[int, Iterable[Order | Leave]]):
    """Decide by the number of the day that has just closed."""
    return lambda moment: orders.get(moment.at // DAY - 1, ())


def simulated(frames, orders, costs: Costs = FREE, **settings) -> Simulation:
    frames = frames if isinstance(frames, list) else [frames]
    return simulate(frames, at(orders), capital=1_000.0, costs={one.symbol: costs for one in frames}, **settings)


def test_an_order_fills_at_the_next_open_and_leaves_at_the_open_when_its_time_is_over() -> None:
    bars = frame([flat(10), (20, 25, 19, 24), (25, 31, 24, 30), (40, 41, 39, 40), flat(1)])
    found = simulated(bars, {0: [Order("A", 1, 0.5, hold=2)]})
    (trade,) = found.trades
    assert (trade.entry, trade.exit, trade.reason, trade.bars) == (20, 40, Reason.TIME, 2)
    assert (trade.opened_at, trade.left_at) == (1 * DAY, 3 * DAY)
    assert trade.profit == pytest.approx(500)
    assert trade.part == pytest.approx(1.0)
    assert found.equity.tolist() == pytest.approx([1_000, 1_100, 1_250, 1_500, 1_500])
    assert found.invested.tolist() == pytest.approx([0, 600, 750, 0, 0])


def test_spread_slippage_and_commission_are_paid_at_both_fills() -> None:
    costs = Costs(spread=20, slippage=10, commission=50)  # 20 bps in each price, 50 of each value
    found = simulated(frame([flat(10), flat(10), flat(10)]), {0: [Order("A", 1, 0.1, hold=1)]}, costs)
    buy, sell = found.account.fills
    assert buy.price == pytest.approx(10.02)
    assert sell.price == pytest.approx(9.98)
    assert buy.quantity * buy.price == pytest.approx(100)
    assert buy.commission == pytest.approx(0.5)
    lost = 100 * (1 - 9.98 / 10.02) + 0.5 + 0.005 * 100 * 9.98 / 10.02
    assert found.equity[-1] == pytest.approx(1_000 - lost)
    assert found.trades[0].profit == pytest.approx(-lost)


def test_a_short_gains_when_prices_fall() -> None:
    found = simulated(frame([flat(10), flat(10), flat(8)]), {0: [Order("A", -1, 0.5, hold=1)]})
    assert found.equity.tolist() == pytest.approx([1_000, 1_000, 1_100])
    assert found.account.fills[0].quantity == pytest.approx(-50)


@pytest.mark.parametrize(
    ("bar", "reason", "price"),
    [
        ((10, 12.5, 8.5, 10), Reason.STOP, 9.0),  # both touched: the careful reading
        ((10, 12.5, 9.5, 10), Reason.TARGET, 12.0),
        ((8, 12.5, 7, 10), Reason.STOP, 8.0),  # opened beyond: no fill at the level was to be had
        ((13, 14, 8, 10), Reason.TARGET, 13.0),
    ],
)
def test_levels_are_left_as_the_journal_settles_them(bar, reason, price) -> None:
    bars = frame([flat(10), flat(10), bar, flat(10)])
    found = simulated(bars, {0: [Order("A", 1, 0.5, hold=9, stop=9, target=12)]})
    assert [(one.reason, one.exit) for one in found.trades] == [(reason, price)]


def test_the_entry_bar_itself_may_touch_a_level_after_its_open() -> None:
    bars = frame([flat(10), (10, 10, 8, 8), flat(8)])
    (trade,) = simulated(bars, {0: [Order("A", 1, 0.5, hold=9, stop=9)]}).trades
    assert (trade.reason, trade.exit, trade.bars, trade.left_at) == (Reason.STOP, 9.0, 0, 2 * DAY)


def test_an_order_whose_bar_opens_beyond_a_level_is_not_filled() -> None:
    found = simulated(frame([flat(10), flat(8), flat(10)]), {0: [Order("A", 1, 0.5, hold=9, stop=9)]})
    assert not found.account.fills
    assert found.refused[0].told == "opened at 8.0, beyond its stop 9"


def test_limits_make_a_fill_smaller_and_are_recorded() -> None:
    frames = [frame([flat(10)] * 4, name) for name in "ABC"]
    orders = {0: [Order(name, 1, 0.5, hold=9) for name in "ABC"]}
    found = simulated(frames, orders, exposure=0.8)
    assert found.invested.tolist() == pytest.approx([0, 800, 800, 800])
    assert [one.symbol for one in found.refused] == ["B", "C"]
    assert "30.0000% of the equity instead of 50.0000%" in found.refused[0].told


def test_nothing_is_bought_without_cash_even_where_exposure_would_allow_it() -> None:
    frames = [frame([flat(10)] * 3, name) for name in "AB"]
    orders = {0: [Order(name, 1, 0.8, hold=9) for name in "AB"]}
    found = simulated(frames, orders, Costs(commission=100), exposure=3.0)
    assert found.account.cash >= -1e-9


def test_an_order_waits_for_the_next_bar_of_its_own_symbol() -> None:
    frames = [frame([flat(10)] * 6), frame([flat(5), flat(7)], "B", first=3)]
    found = simulated(frames, {0: [Order("B", 1, 0.5, hold=1)]})
    assert [(fill.symbol, fill.at, fill.price) for fill in found.account.fills] == [
        ("B", 3 * DAY, 5),
        ("B", 4 * DAY, 7),
    ]


def test_an_order_is_dropped_where_no_bar_comes_for_a_week() -> None:
    for wait, filled in ((8, True), (9, False)):  # decided at the close of day 0, so a week ends on day 8
        frames = [frame([flat(10)] * 12), frame([flat(5)] * 2, "B", first=wait)]
        found = simulated(frames, {0: [Order("B", 1, 0.5, hold=1)]})
        assert bool(found.account.fills) == filled
        assert [one.told for one in found.refused] == ([] if filled else ["no bar came for a week after the decision"])


def test_bars_that_let_nobody_in_drop_the_order_but_not_the_exit() -> None:
    bars = frame([flat(10)] * 4)
    allowed = {"A": np.asarray([True, False, True, False])}
    assert simulated(bars, {0: [Order("A", 1, 0.5, hold=1)]}, entries=allowed).refused[0].told.startswith("nothing")
    found = simulated(bars, {1: [Order("A", 1, 0.5, hold=1)]}, entries=allowed)
    assert found.trades[0].left_at == 3 * DAY


def test_a_position_is_left_at_the_next_open_where_that_is_asked_for() -> None:
    found = simulated(
        frame([flat(10), flat(10), flat(11), flat(12)]), {0: [Order("A", 1, 0.5, hold=9)], 1: [Leave("A")]}
    )
    assert [(one.reason, one.exit) for one in found.trades] == [(Reason.ASKED, 11)]
    again = simulated(frame([flat(10)] * 3), {0: [Leave("A")], 1: [Order("A", 1, 0.5, hold=9)]})
    assert len(again.account.positions) == 1  # what asked for nothing's leaving is not remembered


def test_a_second_order_in_a_symbol_is_refused() -> None:
    found = simulated(frame([flat(10)] * 4), {0: [Order("A", 1, 0.1, hold=9)] * 2, 1: [Order("A", 1, 0.1, hold=9)]})
    assert [one.told for one in found.refused] == ["an order waits already", "there is a position already"]


def test_drawdown_is_measured_from_the_highest_so_far() -> None:
    assert drawdowns(np.asarray([100, 120, 90, 130, 65.0])).tolist() == pytest.approx([0, 0, 0.25, 0, 0.5])


def test_what_cannot_be_is_refused() -> None:
    bar = Bar(0, DAY, 1, 1, 1, 1)
    account = Account(1.0, {})
    for steps in ([Step(5, {"A": bar})], [Step(0, {}), Step(0, {})]):
        with pytest.raises(ValueError, match="opens at"):
            list(run(steps, lambda _: (), account))
    for wrong in (
        lambda: Order("A", 0, 0.1, 1),
        lambda: Order("A", 1, 0.0, 1),
        lambda: Order("A", 1, 0.1, 0),
        lambda: Order("A", 1, 0.1, 1, stop=-1),
        lambda: Costs(spread=-1),
        lambda: Account(0, {}),
        lambda: simulate([frame([flat(1)])] * 2, lambda _: (), capital=1, costs={}),
    ):
        with pytest.raises(ValueError, match="must"):
            wrong()


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
        for symbol in moment.symbols:
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
def test_fills_are_at_prices_of_a_later_bar_made_worse_by_the_costs(frames, seed: int, cost: Costs) -> None:
    decided: dict[tuple[str, int], int] = {}
    decide = gambler(seed)

    def remembering(moment: Moment) -> list[Order | Leave]:
        orders = decide(moment)
        for order in orders:
            decided.setdefault((order.symbol, len(decided)), moment.at)
        return orders

    found = simulate(frames, remembering, capital=1_000.0, costs=dict.fromkeys("AB", cost), exposure=1.5)
    bars = {(one.symbol, int(t)): row for one in frames for row, t in enumerate(one.time)}
    by_symbol = {one.symbol: one for one in frames}
    for trade in found.trades:
        assert any(name == trade.symbol and instant <= trade.opened_at for (name, _), instant in decided.items())
        one, row = by_symbol[trade.symbol], bars[(trade.symbol, trade.opened_at)]
        assert trade.entry == pytest.approx(cost.price(float(one.open[row]), trade.side))
        assert trade.left_at > trade.opened_at
    for first, second in zip(found.trades, found.trades[1:], strict=False):
        assert first.left_at <= second.left_at or first.symbol != second.symbol
    assert all(fill.commission >= 0 for fill in found.account.fills)


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


@settings(max_examples=60, deadline=None)
@given(markets("A", 8), st.sampled_from((-1, 1)), st.floats(0.8, 0.99), st.floats(1.01, 1.2), costs)
def test_many_trades_at_once_are_what_the_account_makes_of_each(frames, side, below, above, cost) -> None:
    (bars,) = frames
    hold = 3
    starts = np.arange(1, len(bars) - hold)
    if not len(starts):
        return
    stop, target = (bars.close[starts - 1] * (one if side > 0 else 2 - one) for one in (below, above))
    paths = [np.stack([column[one : one + hold + 1] for one in starts]) for column in (bars.open, bars.high, bars.low)]
    found = outcomes(np.full(len(starts), side), stop, target, paths, cost)
    for place, start in enumerate(starts.tolist()):
        order = Order("A", side, 0.1, hold, float(stop[place]), float(target[place]))
        when = int(bars.time[start - 1]) // DAY
        alone = simulate([bars], at({when: [order]}), capital=1_000.0, costs={"A": cost})
        assert found.filled[place] == (len(alone.account.fills) > 0)
        if alone.trades:
            (trade,) = alone.trades
            assert (found.bars[place], found.exit[place]) == (trade.bars, pytest.approx(trade.exit))
            assert found.part[place] == pytest.approx(trade.part)


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
