"""The event loop: stories with known money."""

from __future__ import annotations

import math

import numpy as np
import pytest
from trading_markets import DAY, flat, frame, simulated

from fusiontrade.errors import BadCandles
from fusiontrade.journal.settlement import Bar
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from fusiontrade.trading.account import Account, Leave, Order, Reason
from fusiontrade.trading.costs import Costs
from fusiontrade.trading.simulation import Step, drawdowns, run, simulate


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


def test_an_order_does_not_fill_in_a_bar_that_opened_before_its_decision() -> None:
    """Markets whose grids are apart, as FX and crypto at 4h: the one's bar closes while the other's is under way."""
    four, hour = 4 * 3_600_000, 3_600_000
    one, other = (
        CandleFrame(name, Timeframe.H4, four * np.arange(4) + shift, *[np.arange(10.0, 14.0)] * 4)
        for name, shift in (("A", 0), ("B", hour))
    )
    free = dict.fromkeys("AB", Costs())
    orders = {four: [Order("B", 1, 0.5, hold=9)], 2 * four + hour: [Leave("A")], 2 * four: [Order("A", 1, 0.1, hold=9)]}
    found = simulate([one, other], lambda moment: orders.get(moment.at, ()), capital=1_000.0, costs=free)
    assert [(fill.symbol, fill.at) for fill in found.account.fills] == [
        ("B", four + hour),
        ("A", 2 * four),
        ("A", 3 * four),
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
        lambda: Order("A", 1, 0.1, 1, stop=9, target=8),
        lambda: Order("A", -1, 0.1, 1, stop=8, target=8),
        lambda: Costs(spread=-1),
        lambda: Costs(spread=15_000, slippage=2_500),
        lambda: Account(0, {}),
        lambda: Account(1, {}, exposure=math.nan),
        lambda: simulate([frame([flat(1)])] * 2, lambda _: (), capital=1, costs={}),
        lambda: simulated(frame([flat(1)] * 3), {}, entries={"A": np.ones(2, np.bool_)}),
    ):
        with pytest.raises(ValueError, match="must"):
            wrong()


@pytest.mark.parametrize("names", ["AB", "BA"])
def test_what_leaves_at_an_open_pays_for_what_enters_there(names: str) -> None:
    frames = [frame([flat(10)] * 6, name) for name in names]
    found = simulated(frames, {0: [Order("B", 1, 1.0, hold=2)], 2: [Order("A", 1, 1.0, hold=9)]})
    assert found.invested.tolist() == pytest.approx([0, 1_000, 1_000, 1_000, 1_000, 1_000])
    assert found.refused == ()


@pytest.mark.parametrize("names", ["AB", "BA"])
def test_orders_fill_as_they_were_placed_and_not_as_symbols_are_named(names: str) -> None:
    frames = [frame([flat(10)] * 3, name) for name in names]
    found = simulated(frames, {0: [Order("B", 1, 0.8, hold=9), Order("A", 1, 0.8, hold=9)]})
    assert [(fill.symbol, fill.quantity) for fill in found.account.fills] == [("B", 80), ("A", pytest.approx(20))]


def test_an_order_that_nobody_fills_does_not_stand_in_the_way_of_a_later_one() -> None:
    frames = [frame([flat(10)] * 15), frame([flat(5)] * 4, "B", first=11)]
    orders = {day: [Order("B", 1, 0.5, hold=9)] for day in (0, 7, 10)}
    found = simulated(frames, orders)
    assert [fill.at for fill in found.account.fills] == [11 * DAY]
    told = [(one.at // DAY, one.told) for one in found.refused]
    assert told == [(8, "an order waits already"), (11, "no bar came for a week after the decision")]


def test_an_order_still_waiting_at_the_end_is_told() -> None:
    found = simulated(frame([flat(10)] * 3), {0: [Order("Z", 1, 0.5, hold=9)], 2: [Order("A", 1, 0.5, hold=9)]})
    assert [(one.symbol, one.told) for one in found.refused] == [
        ("Z", "no bar came after the decision"),
        ("A", "no bar came after the decision"),
    ]


def test_a_position_left_on_request_has_lived_as_many_bars_as_one_whose_time_is_over() -> None:
    asked = simulated(frame([flat(10)] * 4), {0: [Order("A", 1, 0.5, hold=9)], 1: [Leave("A")]}).trades[0]
    over = simulated(frame([flat(10)] * 4), {0: [Order("A", 1, 0.5, hold=1)]}).trades[0]
    assert (asked.left_at, asked.bars) == (over.left_at, over.bars) == (2 * DAY, 1)


def test_bars_out_of_order_are_refused_and_not_left_out() -> None:
    bars = frame([flat(10), flat(11), flat(12)])
    with pytest.raises(BadCandles, match="open time out of order"):
        simulated(bars.rows(np.asarray([0, 2, 1])), {})


def test_bars_of_several_lengths_would_tell_the_future_and_are_refused() -> None:
    hours = CandleFrame("H", Timeframe.H1, 3_600_000 * np.arange(30), *[np.full(30, 10.0)] * 4)
    with pytest.raises(ValueError, match="one timeframe, got 1d, 1h"):
        simulated([frame([flat(10)] * 2), hours], {})
    steps = [Step(0, {"A": Bar(0, DAY, 1, 1, 1, 1)}), Step(5, {"B": Bar(5, 9, 1, 1, 1, 1)})]
    with pytest.raises(ValueError, match="one length"):
        list(run(steps, lambda _: (), Account(1.0, {})))
