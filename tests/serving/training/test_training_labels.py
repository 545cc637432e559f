"""Labels: against a walk bar by bar, and which rows never become one."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from training_data import HOUR, candles

from fusiontrade.inference.contract import TOUCH_LEVELS
from fusiontrade.journal.settlement import Bar, Status, levels, settle
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.rollover import in_rollover
from serving.features import atr
from serving.training.labels import Labels, label

BARS = 1500


@pytest.fixture(scope="module")
def coin() -> CandleFrame:
    return candles("BTC-USD", BARS, 5)


def labelled(frame: CandleFrame, *, rollover: bool = False) -> Labels:
    return label(frame, atr(frame), np.arange(len(frame)) >= 658, rollover=rollover)


def bars_after(frame: CandleFrame, row: int) -> list[Bar]:
    prices = np.stack([frame.open, frame.high, frame.low, frame.close], axis=1)
    opens = frame.time.tolist()
    return [Bar(opens[i], opens[i] + HOUR, *map(float, prices[i])) for i in range(row + 1, row + 5)]


def test_every_label_of_random_rows_equals_a_walk_over_the_next_four_bars(coin: CandleFrame) -> None:
    found, unit = labelled(coin), atr(coin)
    for row in np.random.default_rng(3).choice(np.flatnonzero(found.usable), 300, replace=False):
        entry, one, ahead = float(coin.close[row]), float(unit[row]), bars_after(coin, int(row))
        assert found.change[row] == pytest.approx((ahead[0].close - entry) / one, rel=1e-5, abs=1e-6)
        assert found.direction[row] == (ahead[0].close > entry)
        up = [any(bar.high >= entry + k * one for bar in ahead) for k in TOUCH_LEVELS]
        down = [any(bar.low <= entry - k * one for bar in ahead) for k in TOUCH_LEVELS]
        assert found.touch[row].tolist() == [float(touched) for touched in up + down]
        spread = max(bar.high for bar in ahead) - min(bar.low for bar in ahead)
        assert found.log_range[row] == pytest.approx(math.log(spread / one), abs=1e-5)
        move = (ahead[-1].close - entry) / one
        assert found.classes[row] == (1 if abs(move) < 0.25 else 0 if move > 0 else 2)


@pytest.mark.parametrize(("side", "column"), [("BUY", 0), ("SELL", 1)])
def test_win_labels_are_what_settlement_says(coin: CandleFrame, side: str, column: int) -> None:
    found, unit = labelled(coin), atr(coin)
    outcomes = set()
    for row in np.flatnonzero(found.usable):
        entry = float(coin.close[row])
        tp1, sl = levels(side, entry, float(unit[row]))
        ahead = bars_after(coin, int(row))
        settled = settle(side, entry, tp1, sl, ahead, expires_at=ahead[-1].closed_at, closed_by=ahead[-1].closed_at)
        assert found.win[row, column] == (settled.status is Status.WIN)
        outcomes.add(settled.status)
    assert outcomes == {Status.WIN, Status.LOSS, Status.EXPIRED}


def test_rows_without_a_whole_horizon_or_a_warm_window_are_not_used(coin: CandleFrame) -> None:
    usable = labelled(coin).usable
    assert not usable[:658].any()
    assert not usable[-4:].any()
    assert usable[658:-4].all()


def test_a_horizon_across_a_weekend_counts_and_one_across_a_week_does_not(coin: CandleFrame) -> None:
    def with_gap(hours: int) -> np.ndarray:
        time = coin.time.copy()
        time[1000:] += hours * HOUR
        return labelled(replace(coin, time=time)).usable

    assert with_gap(48)[994:1001].all()
    assert with_gap(7 * 24)[996:1000].tolist() == [False] * 4
    assert with_gap(7 * 24)[995]
    assert with_gap(7 * 24)[1000]


def test_the_rollover_rule_holds_for_pairs_and_not_for_coins() -> None:
    pair = candles("EURUSD=X", BARS, 6, volume=False)
    kept, all_rows = labelled(pair, rollover=True), labelled(pair)
    assert not kept.usable[in_rollover(pair.close_time)].any()
    assert all_rows.usable[in_rollover(pair.close_time)].any()
    others = ~in_rollover(pair.close_time)
    assert (kept.usable[others] == all_rows.usable[others]).all()
