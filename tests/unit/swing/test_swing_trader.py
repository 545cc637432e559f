"""The swing line in the event loop: claims become orders, limits hold across symbols, stops are rested after."""

from __future__ import annotations

import numpy as np
import pytest

from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from fusiontrade.swing.rules import Claim, Limits, Rule
from fusiontrade.swing.trader import Proposal, SwingTrader
from fusiontrade.trading.costs import Costs
from fusiontrade.trading.simulation import Simulation, simulate

DAY = 86_400_000


def frame(symbol: str, closes: list[float]) -> CandleFrame:
    close = np.asarray(closes, np.float64)
    return CandleFrame(symbol, Timeframe.D1, DAY * np.arange(len(close)), close, close, close, close).checked()


def claim(confidence: float = 0.8, expected: float = 0.02, direction: int = 1) -> Claim:
    return Claim(direction, confidence, expected, expected, expected)


def traded(frames: list[CandleFrame], trader: SwingTrader) -> Simulation:
    costs = {one.symbol: Costs() for one in frames}
    return simulate(frames, trader, capital=1_000.0, costs=costs, exposure=trader.limits.exposure)


def test_a_claim_is_bought_at_the_next_open_and_sold_three_sessions_later() -> None:
    trader = SwingTrader(lambda at: {"A": Proposal(claim())} if at == DAY else {})
    found = traded([frame("A", [10, 11, 12, 13, 14, 15])], trader)
    (trade,) = found.trades
    assert (trade.opened_at, trade.left_at, trade.entry, trade.exit) == (DAY, 4 * DAY, 11, 14)
    assert trade.quantity * trade.entry == pytest.approx(80)
    assert [(one.symbol, one.at, one.decision.trade) for one in trader.decisions] == [("A", DAY, True)]


def test_the_surest_claims_come_first_where_the_exposure_is_limited() -> None:
    names = "ABCD"
    confidence = dict(zip(names, (0.7, 0.9, 0.8, 0.66), strict=True))
    trader = SwingTrader(
        lambda at: {name: Proposal(claim(confidence[name])) for name in names} if at == DAY else {},
        Limits(exposure=0.2),
    )
    found = traded([frame(name, [10] * 4) for name in names], trader)
    shares = {fill.symbol: fill.quantity * fill.price / 1_000 for fill in found.account.fills}
    assert shares == pytest.approx({"B": 0.09, "C": 0.08, "A": 0.03})
    last = trader.decisions[-1]
    assert (last.symbol, [one.rule for one in last.decision.refusals]) == ("D", [Rule.EXPOSURE])
    assert "exposure limit" in trader.decisions[2].decision.reasons[0]


def test_after_a_stop_a_symbol_rests() -> None:
    trader = SwingTrader(lambda _: {"A": Proposal(claim(), stop=9.5)}, Limits(cool_down=3))
    found = traded([frame("A", [10, 10, 9, 10, 10, 10, 10, 10])], trader)
    refused = [one.at // DAY for one in trader.decisions if not one.decision.trade]
    assert found.trades[0].reason == "stop"
    assert refused == [3, 4, 5]
    assert found.account.fills[2].at == 6 * DAY


def test_a_bad_day_and_a_closed_market_open_nothing() -> None:
    def proposals(at: int) -> dict[str, Proposal]:
        return {"A": Proposal(claim())} if at == DAY else {"B": Proposal(claim())}

    trader = SwingTrader(proposals, Limits(daily_loss=0.001), market_open=lambda symbol, _: symbol == "A")
    traded([frame("A", [10, 10, 8, 8]), frame("B", [10] * 4)], trader)
    told = {one.at // DAY: [refusal.rule for refusal in one.decision.refusals] for one in trader.decisions[1:]}
    assert told[2] == [Rule.MARKET_CLOSED]
    assert told[3] == [Rule.MARKET_CLOSED, Rule.DAILY_LOSS]
