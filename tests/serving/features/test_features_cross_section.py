"""What a stock is among the others: no later bar, no order, no scale, and nothing where stocks are too few."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from serving.features.swing import CROSS_SECTION_NAMES, Market, cross_section
from serving.features.swing.cross_section import _VOLUME, FEWEST, SESSIONS

DAY = 86_400_000
BARS, STOCKS = 720, 28
AT = 700


def frames(stocks: int = STOCKS, bars: int = BARS, seed: int = 5) -> list[CandleFrame]:
    """Stocks that a market and two sectors move, and themselves."""
    random = np.random.default_rng(seed)
    market, sectors = random.normal(0, 0.01, bars), random.normal(0, 0.008, (2, bars))
    found = []
    for number in range(stocks):
        moves = market * (0.7 + 0.02 * number) + sectors[number % 2] + random.normal(0, 0.01, bars)
        close = 100 * np.exp(np.cumsum(moves))
        opened = np.concatenate(([100.0], close[:-1])) * np.exp(random.normal(0, 0.003, bars))
        high, low = np.maximum(opened, close) * 1.004, np.minimum(opened, close) * 0.996
        time = 1_500_000_000_000 + DAY * np.arange(bars, dtype=np.int64)
        volume = random.lognormal(10, 0.4, bars)
        found.append(CandleFrame(f"S{number:02}", Timeframe.D1, time, opened, high, low, close, volume).checked())
    return found


def column(found: np.ndarray, name: str) -> np.ndarray:
    return found[:, CROSS_SECTION_NAMES.index(name)]


@pytest.fixture(scope="module")
def stocks() -> list[CandleFrame]:
    return frames()


@pytest.fixture(scope="module")
def told(stocks: list[CandleFrame]) -> np.ndarray:
    places, columns = cross_section(Market.of(stocks), AT)
    assert places.tolist() == list(range(STOCKS))
    return columns


def test_columns_are_ranks_of_the_session(stocks: list[CandleFrame], told: np.ndarray) -> None:
    assert told.shape == (STOCKS, len(CROSS_SECTION_NAMES)) == (STOCKS, 47)
    assert len(set(CROSS_SECTION_NAMES)) == 47
    assert np.abs(told).max() < 0.5
    assert np.abs(told.mean(axis=0)).max() < 1e-6
    wanted = (np.arange(STOCKS) + 0.5) / STOCKS - 0.5
    for name, values in {
        "move_5": [one.close[AT] / one.close[AT - 5] for one in stocks],
        "move_252_21": [one.close[AT - 21] / one.close[AT - 252] for one in stocks],
        "night_1": [one.open[AT] / one.close[AT - 1] for one in stocks],
        "day_1": [one.close[AT] / one.open[AT] for one in stocks],
        "below_high_252": [one.close[AT] / one.high[AT - 251 : AT + 1].max() for one in stocks],
        "above_low_21": [one.close[AT] / one.low[AT - 20 : AT + 1].min() for one in stocks],
        "volume_1": [np.log(one.volume[AT]) - np.log(one.volume[AT - 62 : AT + 1]).mean() for one in stocks],
        "volatility_21": [np.diff(np.log(one.close[AT - 21 : AT + 1])).std() for one in stocks],
    }.items():
        assert column(told, name)[np.argsort(values)] == pytest.approx(wanted, abs=1e-6), name


def test_a_session_knows_no_later_bar_and_only_the_newest_600(stocks: list[CandleFrame], told: np.ndarray) -> None:
    later = Market.of([one.rows(slice(0, AT + 1)) for one in stocks])
    assert np.array_equal(cross_section(later, AT)[1], told)
    newest = Market.of([one.rows(slice(AT - 599, AT + 1)) for one in stocks])
    assert np.array_equal(cross_section(newest, 599)[1], told)
    spoiled = [replace(one, close=np.where(np.arange(BARS) > AT, one.close * 3, one.close)) for one in stocks]
    assert np.array_equal(cross_section(Market.of(spoiled), AT)[1], told)


def test_the_order_of_the_stocks_changes_nothing(stocks: list[CandleFrame], told: np.ndarray) -> None:
    order = np.random.default_rng(1).permutation(STOCKS)
    _, found = cross_section(Market.of([stocks[place] for place in order]), AT)
    assert found == pytest.approx(told[order], abs=1e-6)


def test_the_unit_of_a_stock_and_a_split_that_nobody_adjusted_change_nothing(
    stocks: list[CandleFrame], told: np.ndarray
) -> None:
    one = stocks[3]
    prices = {name: getattr(one, name) * 40 for name in ("open", "high", "low", "close")}
    others = [*stocks[:3], replace(one, **prices, volume=one.volume / 7), *stocks[4:]]
    assert cross_section(Market.of(others), AT)[1] == pytest.approx(told, abs=1e-6)
    halved = np.where(np.arange(BARS) > AT - 300, 0.5, 1.0)
    split = {name: getattr(one, name) * halved for name in ("open", "high", "low", "close")}
    _, found = cross_section(Market.of([*stocks[:3], replace(one, **split), *stocks[4:]]), AT)
    for name in ("move_5", "move_252_21", "volatility_252", "residual_week"):
        assert column(found, name)[3] == pytest.approx(column(told, name)[3], abs=0.15), name


def test_a_move_of_its_own_is_told_from_one_of_its_sector(stocks: list[CandleFrame]) -> None:
    def moved(*numbers: int) -> np.ndarray:
        last = np.where(np.arange(BARS) == AT, 1.05, 1.0)
        changed = [
            replace(one, close=one.close * last, high=one.high * 1.06) if number in numbers else one
            for number, one in enumerate(stocks)
        ]
        return cross_section(Market.of(changed), AT)[1]

    alone, sector = moved(4), moved(*range(0, STOCKS, 2))
    for name in ("residual_1", "neighbour_gap_1"):
        assert column(alone, name)[4] > 0.4, name
        assert column(sector, name)[::2].mean() < 0.1, name
    assert column(sector, "move_1")[::2].mean() > 0.2


def test_a_stock_without_a_bar_or_without_history_is_left_out(stocks: list[CandleFrame], told: np.ndarray) -> None:
    idle = stocks[2].rows(np.arange(BARS) != AT)
    young = stocks[7].rows(slice(AT - 598, None))
    sparse = stocks[9].rows(np.arange(BARS) % 8 != 1)
    places, found = cross_section(
        Market.of([*stocks[:2], idle, *stocks[3:7], young, stocks[8], sparse, *stocks[10:]]), AT
    )
    kept = [number for number in range(STOCKS) if number not in {2, 7, 9}]
    assert places.tolist() == kept
    assert column(found, "move_5")[np.argsort(column(told, "move_5")[kept])] == pytest.approx(
        (np.arange(len(kept)) + 0.5) / len(kept) - 0.5, abs=1e-6
    )


def test_a_session_that_one_stock_missed_moves_it_over_both(stocks: list[CandleFrame], told: np.ndarray) -> None:
    missed = stocks[0].rows(np.arange(BARS) != AT - 2)
    places, found = cross_section(Market.of([missed, *stocks[1:]]), AT)
    assert places.tolist() == list(range(STOCKS))
    assert column(found, "move_5") == pytest.approx(column(told, "move_5"), abs=1e-6)


def test_a_session_of_few_is_none(stocks: list[CandleFrame], told: np.ndarray) -> None:
    extra = stocks[0].time[AT] - DAY // 2
    one = stocks[0]
    columns = {name: np.insert(getattr(one, name), AT, getattr(one, name)[AT - 1]) for name in ("close", "volume")}
    flat = {name: np.insert(getattr(one, name), AT, one.close[AT - 1]) for name in ("open", "high", "low")}
    busy = replace(one, time=np.insert(one.time, AT, extra), **columns, **flat)
    _, found = cross_section(Market.of([busy, *stocks[1:]]), AT + 1)
    assert column(found, "move_21") == pytest.approx(column(told, "move_21"), abs=1e-6)


@pytest.mark.parametrize(("idle", "known"), [(2, True), (3, False), (5, False)])
def test_a_week_without_volume_is_unknown_and_takes_no_place_among_the_others(
    stocks: list[CandleFrame], told: np.ndarray, idle: int, known: bool
) -> None:
    sessions = np.arange(BARS)
    quiet = np.where((sessions > AT - idle) & (sessions <= AT), 0.0, stocks[6].volume)
    _, found = cross_section(Market.of([*stocks[:6], replace(stocks[6], volume=quiet), *stocks[7:]]), AT)
    ranked = np.flatnonzero(known | (np.arange(STOCKS) != 6))
    places = (np.arange(len(ranked)) + 0.5) / len(ranked) - 0.5
    for name in ("volume_5", "volume_move_5"):
        assert np.sort(column(found, name)[ranked]) == pytest.approx(places, abs=1e-6), name
        assert known or column(found, name)[6] == 0, name
    assert column(found, "volume_1")[6] == 0 != column(told, "volume_1")[6]


def test_too_few_stocks_or_sessions_are_not_ranked(stocks: list[CandleFrame]) -> None:
    few = Market.of(stocks[: FEWEST - 1])
    assert [len(part) for part in cross_section(few, AT)] == [0, 0]
    assert len(cross_section(few, AT, fewest=3)[0]) == FEWEST - 1
    assert len(cross_section(Market.of(stocks), 590)[0]) == 0
    gone = Market.of([one.rows(np.arange(2000) % 3 == number % 3) for number, one in enumerate(frames(bars=2000))])
    assert len(gone.closes) > SESSIONS
    assert len(cross_section(gone, len(gone.closes) - 1)[0]) == 0


def test_bars_that_leap_over_every_bound_and_no_volume_spoil_no_other(
    stocks: list[CandleFrame], told: np.ndarray
) -> None:
    wild = np.where(np.arange(BARS) % 50 == 0, 1e300, 1e-300)
    flat = np.full(BARS, 3.0)
    others = [
        *stocks[:-2],
        replace(stocks[-2], open=wild, high=wild, low=wild, close=wild, volume=wild),
        replace(stocks[-1], open=flat, high=flat, low=flat, close=flat, volume=None),
    ]
    places, found = cross_section(Market.of(others), AT)
    assert len(places) == STOCKS
    assert np.isfinite(found).all()
    of_volume = [place for place, name in enumerate(CROSS_SECTION_NAMES) if name in _VOLUME]
    assert (found[-1, of_volume] == 0).all()
    same = [CROSS_SECTION_NAMES.index(name) for name in ("residual_week", "move_21", "volume_5")]
    assert np.corrcoef(found[:-2, same].ravel(), told[:-2, same].ravel())[0, 1] > 0.95
