"""A backtest of real symbols as JSON: what it tells is what the simulation did, at their costs and in their hours."""

from __future__ import annotations

import json

import numpy as np
import pytest
from trading_markets import hours

from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from fusiontrade.trading.account import Order
from fusiontrade.trading.costs import STANDARD, Costs
from fusiontrade.trading.markets import backtest, costs_of, entries_of
from fusiontrade.trading.reports import planned
from fusiontrade.trading.simulation import Moment

FRAMES = [hours("BTC-USD", 400, 5), hours("EURUSD=X", 400, 6)]


def every_tenth(moment: Moment) -> list[Order]:
    if moment.at // 3_600_000 % 10:
        return []
    return [Order(symbol, 1, 0.2, hold=4) for symbol in moment.symbols if symbol not in moment.held]


@pytest.fixture(scope="module")
def found() -> dict:
    return backtest(FRAMES, every_tenth, capital=10_000.0, trials=12)


def test_the_result_is_json_and_adds_up(found: dict) -> None:
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    profit = sum(trade["profit"] for trade in found["trades"])
    opened = sum(
        one["quantity"] * (FRAMES[place].close[-1] - one["price"]) - one["paid"]
        for one in found["open"]
        for place in [["BTC-USD", "EURUSD=X"].index(one["symbol"])]
    )
    assert found["final"] == pytest.approx(10_000 + profit + opened)
    assert found["equity"][-1]["equity"] == found["final"]
    equity = [one["equity"] for one in found["equity"]]
    assert found["equity"][-1]["drawdown"] == pytest.approx(1 - equity[-1] / max(equity))
    of_trades = found["performance"]["of_trades"]
    assert of_trades["n"] == len(found["trades"]) > 20
    assert of_trades["wins"] == sum(trade["profit"] > 0 for trade in found["trades"])
    assert of_trades["reasons"] == {"time": of_trades["n"]}


def test_the_trials_are_counted_and_a_short_span_is_said(found: dict) -> None:
    assert found["deflated_sharpe"]["trials"] == 12
    alone = backtest(FRAMES, every_tenth, capital=10_000.0)
    assert alone["deflated_sharpe"]["probability"] > found["deflated_sharpe"]["probability"]
    assert "too few for a Sharpe ratio" in found["warnings"][0]


def test_costs_are_those_of_the_asset_class_unless_given(found: dict) -> None:
    assert costs_of(FRAMES) == {"BTC-USD": STANDARD["crypto"], "EURUSD=X": STANDARD["fx"]}
    assert found["costs_bps"]["EURUSD=X"] == {"spread": 1.5, "slippage": 0.5, "commission": 0.25}
    free = backtest(FRAMES, every_tenth, capital=10_000.0, costs={one.symbol: Costs() for one in FRAMES})
    assert free["final"] > found["final"]


def test_nobody_enters_fx_around_the_rollover(found: dict) -> None:
    (allowed,) = entries_of(FRAMES).values()
    shut = {int(one) for one in FRAMES[1].time[~allowed]}
    hours = {np.datetime64(one, "ms").item().hour for one in shut}
    assert hours == {21, 22, 23}  # 16 to 18 New York in winter
    opened = [trade["opened_at"] for trade in found["trades"] if trade["symbol"] == "EURUSD=X"]
    assert opened
    assert not {one[11:13] for one in opened} & {"21", "22", "23"}
    assert found["not_filled"]["n"] > 0


def test_a_backtest_without_trades_or_bars_says_so() -> None:
    idle = backtest(FRAMES[:1], lambda _: ())
    assert idle["trades"] == []
    assert idle["performance"]["of_trades"]["win_rate"] is None
    assert idle["performance"]["sharpe"] is None
    with pytest.raises(ValueError, match="needs bars"):
        backtest([FRAMES[0].tail(0)], lambda _: ())


def test_orders_that_were_made_before_are_traded_as_if_they_were_decided_now(found: dict) -> None:
    made: dict[int, list[Order]] = {}

    def remembering(moment: Moment) -> list[Order]:
        made[moment.at] = every_tenth(moment)
        return made[moment.at]

    backtest(FRAMES, remembering, capital=10_000.0)
    assert backtest(FRAMES, planned(made), capital=10_000.0, trials=12) == found


def days(opens: list[float], symbol: str = "BTC-USD") -> CandleFrame:
    price = np.asarray(opens, np.float64)
    return CandleFrame(symbol, Timeframe.D1, 86_400_000 * np.arange(len(price)), price, price, price, price)


def test_a_year_has_as_many_returns_as_bars_follow_each_other_in_it() -> None:
    frame = days(100 * 1.001 ** np.arange(366) + np.arange(366) % 2)
    found = backtest([frame], lambda moment: [Order("BTC-USD", 1, 1.0, 999)] if moment.at == 86_400_000 else [])
    equity = np.asarray([one["equity"] for one in found["equity"]])
    returns = equity[1:] / equity[:-1] - 1
    told = found["performance"]
    assert told["n"] == 365
    assert told["mean_a_year"] == pytest.approx(returns.mean() * 365.25)
    assert told["sharpe"] == pytest.approx(returns.mean() / returns.std(ddof=1) * np.sqrt(365.25))
    assert found["deflated_sharpe"]["sharpe"] == pytest.approx(told["sharpe"])


def test_a_short_that_loses_everything_ends_the_returns_and_is_told() -> None:
    found = backtest(
        [days([10, 10, 35, 40, 30, 30])],
        planned({86_400_000: [Order("BTC-USD", -1, 1.0, 3)], 4 * 86_400_000: [Order("BTC-USD", 1, 1.0, 1)]}),
        costs={"BTC-USD": Costs()},
    )
    told = found["performance"]
    assert [one["equity"] for one in found["equity"]][2:] == [-150_000, -200_000, -100_000, -100_000]
    assert (told["of_trades"]["largest_loss_of_a_bar"], told["max_drawdown"], told["profit_factor"]) == (-1, 1, 0)
    assert found["warnings"][-1] == "a short lost all there was by 1970-01-04T00:00:00Z: returns after that count as 0"
    assert found["not_filled"]["newest"][0]["told"] == "there is no equity left"
