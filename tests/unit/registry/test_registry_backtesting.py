"""The backtest of the platform's signals: what is traded, and what counts as a trial."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from fusiontrade.errors import FusionTradeError, InferenceUnavailable, InvalidInput
from fusiontrade.forecasts.jobs import JobOrder
from fusiontrade.journal.entries import HOLD, PLATFORM, Entry
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from fusiontrade.registry.backtesting import MOST_BARS, Backtest
from fusiontrade.registry.turns import Again, Done

HOUR = 3_600_000
START = 1_746_057_600_000  # 2025-05-01T00:00:00Z


def rising(bars: int = 40) -> CandleFrame:
    """A price that gains one in a thousand an hour and never falls."""
    open_ = 100 * 1.001 ** np.arange(bars)
    time = START + HOUR * np.arange(bars, dtype=np.int64)
    return CandleFrame("BTC-USD", Timeframe.parse("1h"), time, open_, open_ * 1.001, open_, open_ * 1.001)


def said(at: int, signal: str = "BUY", interval: str = "1h") -> Entry:
    levels: dict[str, Any] = {}
    if signal != HOLD:
        sign = 1 if signal == "BUY" else -1
        levels = {"tp1": Decimal(100 + sign * 50), "stop_loss": Decimal(100 - sign * 50), "due_at": at}
    return Entry(
        owner=PLATFORM, source="daily", symbol="BTC-USD", interval=interval, signal=signal,  # type: ignore[arg-type]
        opened_at=at, expires_at=at + 4 * HOUR, data_source="files", entry_price=Decimal(100), **levels,
    )  # fmt: skip


class Trials:
    """The counter of backtests."""

    def __init__(self) -> None:
        self.kept: dict[str, set[str]] = {}

    def update(self, change: Any) -> dict[str, Any]:
        jobs = self.kept.setdefault(change.key["sk"], set())
        jobs |= change.add["jobs"]
        return {"jobs": jobs}


class Objects(dict[str, bytes]):
    """Objects in memory."""

    def put(self, key: str, body: bytes) -> None:
        self[key] = body


class Desk:
    def __init__(self, frame: CandleFrame, journaled: Iterable[Entry] = (), *, steps: int = 10_000) -> None:
        self.frame, self.journaled, self.steps = frame, list(journaled), steps
        self.asked: list[int] = []
        self.signal, self.interval = "BUY", "1h"
        self.fails_at = -1
        self.objects, self.trials = Objects(), Trials()

    def forecast(self, symbol: str, at: int) -> Entry:
        if len(self.asked) == self.fails_at:
            self.fails_at = -1
            raise InferenceUnavailable("busy")
        self.asked.append(at)
        if self.signal == "none":
            raise InvalidInput("as_of", "no history")
        return said(at, self.signal, self.interval)

    def run(
        self, identity: str = "job-1", costs: float | None = 0.0, owner: str = "user"
    ) -> tuple[dict[str, Any], int]:
        def turn() -> Any:
            left = iter([True] * self.steps)
            return lambda: next(left, False)

        work = Backtest(
            self.objects,  # type: ignore[arg-type]
            self.trials,  # type: ignore[arg-type]
            bars=lambda symbol, interval, since, until: self.frame,
            forecasts=self.forecast,
            entries=lambda symbol, since, until: self.journaled,
            turn=turn,
        )
        request = {"symbol": "BTC-USD", "interval": "1h", "from": START, "to": START + 40 * HOUR, "costs_bps": costs}
        order = JobOrder(identity, owner, "backtest", request, START)
        for turns in range(1, 100):
            step = work.turn(order, {}, cancelled=False)
            if isinstance(step, Done):
                return dict(step.result), turns
            assert isinstance(step, Again)
        raise AssertionError("it never ends")


def test_a_signal_of_a_close_is_filled_at_the_next_open_and_left_when_its_time_is_over() -> None:
    found, _ = Desk(rising(), [said(START + HOUR)]).run()
    first = found["trades"][0]
    assert (first["side"], first["opened_at"], first["left_at"]) == (
        "BUY", "2025-05-01T01:00:00Z", "2025-05-01T05:00:00Z",
    )  # fmt: skip
    assert first["part"] == pytest.approx(1.001**4 - 1)
    assert first["reason"] == "time"
    assert found["final"] > found["capital"]
    assert found["equity"][-1]["equity"] == found["final"]
    assert found["performance"]["max_drawdown"] == 0


def test_costs_are_paid_on_both_sides_of_a_trade() -> None:
    free, paid = (Desk(rising(6), [said(START + HOUR)]).run(costs=costs)[0] for costs in (0.0, 10.0))
    (without,), (with_costs,) = free["trades"], paid["trades"]
    assert without["part"] - with_costs["part"] == pytest.approx(0.002, rel=0.01)


def test_the_platforms_own_signal_of_a_bar_is_not_made_again() -> None:
    desk = Desk(rising(), [said(START + HOUR * hour, HOLD) for hour in range(1, 31)])
    found, _ = desk.run()
    assert desk.asked == [START + HOUR * hour for hour in range(31, 41)]
    assert found["signals"] == {"journaled": 30, "made_now": 10, "without_forecast": 0, "ordered": 10}
    assert any("10 signals were made now" in warning for warning in found["warnings"])


def test_a_signal_of_another_interval_is_no_trade() -> None:
    desk = Desk(rising())
    desk.interval = "4h"
    found, _ = desk.run()
    of_trades = found["performance"]["of_trades"]
    assert (of_trades["n"], of_trades["win_rate"], of_trades["profit_factor"]) == (0, None, None)
    assert found["deflated_sharpe"]["probability"] is None
    assert found["signals"] == {"journaled": 0, "made_now": 40, "without_forecast": 0, "ordered": 0}
    assert "there was no signal to trade" in found["warnings"][-1]


def test_a_bar_without_a_forecast_is_no_hold() -> None:
    desk = Desk(rising(), [said(START + HOUR)])
    desk.signal = "none"
    found, _ = desk.run()
    assert found["signals"] == {"journaled": 1, "made_now": 0, "without_forecast": 39, "ordered": 1}
    assert found["warnings"][-1] == "39 bars have no forecast, and nothing was traded on them: no history"


def test_a_span_without_any_forecast_comes_to_nothing_and_says_why() -> None:
    desk = Desk(rising())
    desk.signal = "none"
    with pytest.raises(FusionTradeError, match="no forecast of any bar of that span: no history"):
        desk.run()


def test_what_nothing_was_lost_with_has_a_profit_factor_of_999() -> None:
    found, _ = Desk(rising()).run()
    assert (found["performance"]["profit_factor"], found["performance"]["of_trades"]["profit_factor"]) == (999, 999)


def test_one_bar_has_no_figures_of_returns() -> None:
    found, _ = Desk(rising(1)).run()
    shown = found["performance"]
    assert {shown[name] for name in ("mean_a_year", "deviation_a_year", "sharpe", "max_drawdown")} == {None}
    assert found["warnings"][0].startswith("one bar is too few")


def test_costs_that_nobody_gave_are_those_of_the_asset_class() -> None:
    found, _ = Desk(rising()).run(costs=None)
    assert found["costs_bps"] == {"BTC-USD": {"spread": 2.0, "slippage": 2.0, "commission": 7.0}}


def test_what_of_a_long_span_is_not_shown_is_said() -> None:
    found, _ = Desk(rising(1201)).run()
    assert (len(found["equity"]), found["equity"][-1]["equity"]) == (401, found["final"])
    assert found["warnings"][-1] == "of 1201 points of the equity 401 are shown; every figure is of all of them"


def test_a_long_span_is_done_in_turns_and_each_bar_is_asked_once() -> None:
    whole, parts = Desk(rising()), Desk(rising(), steps=7)
    once, _ = whole.run()
    again, turns = parts.run()
    assert turns > 3
    assert (again, parts.asked) == (once, whole.asked)


def test_models_that_are_busy_cost_a_turn_and_no_signal() -> None:
    desk = Desk(rising())
    desk.fails_at = 12
    found, turns = desk.run()
    assert (turns, len(desk.asked), found["signals"]["made_now"]) == (2, 40, 40)


def test_a_span_of_too_many_bars_is_refused_in_words() -> None:
    with pytest.raises(InvalidInput, match="too many"):
        Desk(rising(MOST_BARS + 1)).run()
    with pytest.raises(InvalidInput, match="no 1h bars"):
        Desk(rising(0)).run()


def test_each_backtest_of_an_owner_and_symbol_is_a_trial_and_a_repeated_turn_is_none() -> None:
    desk = Desk(rising())
    trials = [desk.run(job)[0]["deflated_sharpe"]["trials"] for job in ("a", "b", "b", "c")]
    assert trials == [1, 2, 2, 3]
    assert desk.run("d", owner="other")[0]["deflated_sharpe"]["trials"] == 1
