"""Settlement: each rule by one case, the vectorised walk and an independent brute force by random ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusiontrade.journal.settlement import Bar, Direction, Settlement, Status, levels, settle, settle_many

HOUR = 3_600_000
LATE = 100 * HOUR


def bar(hour: int, open_: float, high: float, low: float, close: float) -> Bar:
    return Bar(hour * HOUR, (hour + 1) * HOUR, open_, high, low, close)


QUIET = bar(0, 100, 101, 99, 100.5)


def buy(*bars: Bar, expires_at: int = 4 * HOUR, closed_by: int = LATE) -> Settlement:
    return settle("BUY", 100, 104, 97, bars, expires_at=expires_at, closed_by=closed_by)


def sell(*bars: Bar, expires_at: int = 4 * HOUR, closed_by: int = LATE) -> Settlement:
    return settle("SELL", 100, 96, 103, bars, expires_at=expires_at, closed_by=closed_by)


def test_a_touch_of_the_target_is_a_win_at_the_target() -> None:
    assert buy(QUIET, bar(1, 101, 104, 100, 103)) == Settlement(Status.WIN, 104, 2 * HOUR)
    assert sell(QUIET, bar(1, 99, 100, 96, 97)) == Settlement(Status.WIN, 96, 2 * HOUR)


def test_a_touch_of_the_stop_is_a_loss_at_the_stop() -> None:
    assert buy(bar(0, 99, 100, 97, 98)) == Settlement(Status.LOSS, 97, HOUR)
    assert sell(bar(0, 101, 103, 100, 102)) == Settlement(Status.LOSS, 103, HOUR)


def test_a_bar_that_touches_both_is_a_loss() -> None:
    assert buy(bar(0, 100, 105, 96, 104)).status is Status.LOSS
    assert sell(bar(0, 100, 104, 95, 96)).status is Status.LOSS


def test_a_gap_beyond_the_stop_fills_at_the_open() -> None:
    assert buy(bar(0, 95, 105, 94, 104)) == Settlement(Status.LOSS, 95, 0)
    assert sell(QUIET, bar(1, 106, 107, 90, 95)) == Settlement(Status.LOSS, 106, HOUR)


def test_a_gap_beyond_the_target_fills_at_the_open_even_if_the_bar_falls_to_the_stop() -> None:
    assert buy(bar(0, 106, 107, 90, 91)) == Settlement(Status.WIN, 106, 0)
    assert sell(bar(0, 94, 110, 93, 109)) == Settlement(Status.WIN, 94, 0)


def test_untouched_past_its_expiry_it_expires_at_the_last_close_by_then() -> None:
    straddling = bar(2, 100, 200, 50, 150)
    assert buy(QUIET, bar(1, 100, 101, 99, 99.5), straddling, expires_at=2 * HOUR + 1) == Settlement(
        Status.EXPIRED, 99.5, 2 * HOUR + 1
    )


def test_without_any_bar_by_its_expiry_it_expires_at_its_entry() -> None:
    assert buy(bar(50, 200, 200, 200, 200)) == Settlement(Status.EXPIRED, 100, 4 * HOUR)


def test_before_its_expiry_it_is_pending() -> None:
    assert buy(QUIET, closed_by=HOUR) == Settlement(Status.PENDING)
    assert buy(closed_by=HOUR) == Settlement(Status.PENDING)


def test_a_bar_not_finished_by_now_is_never_used() -> None:
    assert buy(QUIET, bar(1, 100, 110, 100, 110), closed_by=2 * HOUR - 1) == Settlement(Status.PENDING)


def test_a_hold_cannot_be_settled() -> None:
    with pytest.raises(ValueError, match="HOLD is counted, not settled"):
        settle("HOLD", 100, 104, 97, [], expires_at=1, closed_by=0)


@pytest.mark.parametrize(
    ("direction", "entry", "tp1", "sl"),
    [("BUY", 100, 99, 97), ("BUY", 100, 104, 101), ("SELL", 100, 104, 97), ("BUY", float("nan"), 104, 97)],
)
def test_levels_on_the_wrong_side_are_refused(direction: str, entry: float, tp1: float, sl: float) -> None:
    with pytest.raises(ValueError, match=r"levels must satisfy|finite positive"):
        settle(direction, entry, tp1, sl, [], expires_at=1, closed_by=0)


def test_bars_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="rise in time"):
        buy(bar(1, 100, 101, 99, 100), bar(0, 100, 101, 99, 100))


def test_levels_lie_two_atr_with_and_one_and_a_half_against() -> None:
    assert levels("BUY", 100, 2) == (104, 97)
    assert levels("SELL", 100, 2) == (96, 103)


def brute_force(direction: str, tp1: float, sl: float, bars: np.ndarray) -> int:
    """Walk price by price as a trader would tell it, written apart from the module."""
    for open_, high, low, _close in bars:
        if direction == "BUY":
            stopped, gapped_down = low <= sl, open_ <= sl
            reached, gapped_up = high >= tp1, open_ >= tp1
        else:
            stopped, gapped_down = high >= sl, open_ >= sl
            reached, gapped_up = low <= tp1, open_ <= tp1
        if gapped_down:
            return -1
        if gapped_up:
            return 1
        if stopped:
            return -1
        if reached:
            return 1
    return 0


def random_paths(seed: int, count: int, horizon: int) -> np.ndarray:
    """(count, horizon, 4) open, high, low, close around 100; jumps between bars make gaps."""
    rng = np.random.default_rng(seed)
    step = rng.normal(0, 1.2, (count, horizon)) + rng.normal(0, 3, (count, horizon)) * (rng.random((count, 1)) < 0.3)
    jump = rng.normal(0, 1.5, (count, horizon)) * (rng.random((count, horizon)) < 0.4)
    close = 100 + np.cumsum(step + jump, axis=1)
    opened = close - step
    high = np.maximum(opened, close) + rng.exponential(0.8, (count, horizon))
    low = np.minimum(opened, close) - rng.exponential(0.8, (count, horizon))
    return np.round(np.stack([opened, high, low, close], axis=2) * 4) / 4


@pytest.mark.parametrize("direction", list(Direction))
def test_a_thousand_random_cases_settle_as_the_brute_force_and_the_vectorised_walk_say(direction: Direction) -> None:
    paths = random_paths(seed=7, count=1000, horizon=4)
    tp1, sl = levels(direction, 100.0, 2.0)
    many = settle_many(
        direction, np.full(1000, tp1), np.full(1000, sl), [paths[:, :, 0], paths[:, :, 1], paths[:, :, 2]]
    )
    word = {1: Status.WIN, -1: Status.LOSS, 0: Status.EXPIRED}
    for case, path in enumerate(paths):
        bars = [bar(hour, *map(float, row)) for hour, row in enumerate(path)]
        one = settle(direction, 100.0, tp1, sl, bars, expires_at=4 * HOUR, closed_by=4 * HOUR)
        assert one.status is word[brute_force(direction, tp1, sl, path)]
        assert one.status is word[int(many[case])]
    assert {-1, 0, 1} == set(many.tolist())
    gapped = (paths[:, :, 0] >= max(tp1, sl)) | (paths[:, :, 0] <= min(tp1, sl))
    assert gapped.any(axis=1).sum() > 50


@given(st.integers(0, 10_000))
def test_a_sell_is_the_mirror_image_of_a_buy(seed: int) -> None:
    path = random_paths(seed, 1, 4)[0]
    mirrored = 200 - path[:, [0, 2, 1, 3]]
    bars = [bar(hour, *map(float, row)) for hour, row in enumerate(path)]
    images = [bar(hour, *map(float, row)) for hour, row in enumerate(mirrored)]
    assert (
        settle("BUY", 100, 104, 97, bars, expires_at=4 * HOUR, closed_by=LATE).status
        is settle("SELL", 100, 96, 103, images, expires_at=4 * HOUR, closed_by=LATE).status
    )
