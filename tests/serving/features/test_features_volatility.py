"""What holds for every column of season-adjusted volatility: its window, its finiteness, its freedom from scale."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusiontrade.errors import BadCandles
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from serving.features import VOLATILITY, WINDOW, atr, slots, slots_a_week, volatility_columns
from serving.features.season import Week

HOUR = 3_600_000
TOLERANCE = 1e-6


def busy_week(timeframe: Timeframe = Timeframe.H1, seed: int = 0) -> np.ndarray:
    """A week with busy and quiet hours, two of them almost dead, and a weekend without trade."""
    usual = np.random.default_rng(seed).uniform(0.3, 3.0, slots_a_week(timeframe))
    usual[[3, 4]] = 0.001, 0.01
    usual[len(usual) * 5 // 7 : len(usual) * 13 // 14] = 0.0
    return usual


@pytest.fixture(params=["busy", "even", "unknown"])
def usual(request: pytest.FixtureRequest) -> np.ndarray:
    weeks = {"busy": busy_week(), "even": np.ones(168), "unknown": np.zeros(168)}
    return weeks[request.param]


def weekdays_only(frame: CandleFrame) -> CandleFrame:
    """The same bars at the hours of a market that rests from Friday 22:00 to Sunday 22:00 UTC."""
    grid = frame.time[0] + HOUR * np.arange(2 * len(frame), dtype=np.int64)
    into_week = (grid + 3 * 24 * HOUR) % (7 * 24 * HOUR) // HOUR
    return replace(frame, time=grid[(into_week < 118) | (into_week >= 166)][: len(frame)])


def assert_same(part: np.ndarray, whole: np.ndarray) -> None:
    for place, name in enumerate(VOLATILITY):
        np.testing.assert_allclose(part[:, place], whole[:, place], rtol=0, atol=TOLERANCE, err_msg=name)


def test_there_are_twenty_eight_columns_in_the_order_of_the_contract() -> None:
    assert len(VOLATILITY) == len(set(VOLATILITY)) == 28
    assert VOLATILITY[:3] == ("level_1", "level_2", "level_4")
    assert VOLATILITY[10:19] == (
        *("move_4", "move_16", "move_64", "move_256"),
        *("usual_next", "usual_horizon", "usual_peak", "usual_past", "usual_now"),
    )
    assert VOLATILITY[-4:] == ("trend_16", "trend_64", "body", "position")


def test_the_first_599_rows_are_marked_and_every_other_is_finite(frame: CandleFrame, usual: np.ndarray) -> None:
    columns = volatility_columns(frame, usual)
    assert columns.shape == (2_000, 28)
    assert columns.dtype == np.float32
    assert np.isnan(columns[: WINDOW - 1]).all()
    assert np.isfinite(columns[WINDOW - 1 :]).all()
    assert np.abs(columns[WINDOW - 1 :]).max() <= 10


@pytest.mark.parametrize("end", [WINDOW, 997, 1_400])
def test_bars_of_the_future_change_no_column(frame: CandleFrame, usual: np.ndarray, end: int) -> None:
    part = volatility_columns(frame.rows(slice(0, end)), usual)
    assert_same(part[WINDOW - 1 :], volatility_columns(frame, usual)[WINDOW - 1 : end])


@pytest.mark.parametrize("start", [1, 601, 1_350])
def test_bars_older_than_the_window_change_no_column(frame: CandleFrame, usual: np.ndarray, start: int) -> None:
    part = volatility_columns(frame.rows(slice(start, None)), usual)
    assert_same(part[WINDOW - 1 :], volatility_columns(frame, usual)[start + WINDOW - 1 :])


def test_another_past_and_another_future_change_no_column(make_frame, usual: np.ndarray) -> None:
    mine, other = make_frame(seed=1), make_frame(seed=2, price=800.0)
    mixed = {}
    for name in ("open", "high", "low", "close"):
        mixed[name] = getattr(other, name).copy()
        mixed[name][700:1_400] = getattr(mine, name)[700:1_400]
    rows = slice(700 + WINDOW - 1, 1_400)
    assert_same(volatility_columns(replace(mine, **mixed), usual)[rows], volatility_columns(mine, usual)[rows])


def test_the_served_row_is_the_training_row(frame: CandleFrame, usual: np.ndarray) -> None:
    trained = volatility_columns(frame, usual)
    for row in (WINDOW - 1, 901, 1_313, 1_999):
        served = volatility_columns(frame.rows(slice(0, row + 1)).tail(WINDOW), usual)
        assert_same(served[-1:], trained[row : row + 1])


@pytest.mark.parametrize("factor", [7e-7, 0.3, 1.1, 9.7e5])
def test_the_columns_ignore_the_scale_of_prices_and_all_of_volume(
    frame: CandleFrame, usual: np.ndarray, factor: float
) -> None:
    prices = {name: getattr(frame, name) * factor for name in ("open", "high", "low", "close")}
    changed = volatility_columns(replace(frame, **prices, volume=None), usual)
    np.testing.assert_allclose(changed, volatility_columns(frame, usual), rtol=1e-5, atol=1e-5)


def test_gaps_in_time_move_slots_and_keep_every_column_finite_and_causal(make_frame) -> None:
    frame = weekdays_only(make_frame())
    time = frame.time.copy()
    time[1_000:] += 9 * 24 * HOUR  # a feed that was down for nine days
    time[1_500:] += 3 * HOUR
    frame, usual = replace(frame, time=time), busy_week()
    whole = volatility_columns(frame, usual)
    assert np.isfinite(whole[WINDOW - 1 :]).all()
    for end in (1_000, 1_001, 1_502):
        assert_same(volatility_columns(frame.rows(slice(0, end)), usual)[WINDOW - 1 :], whole[WINDOW - 1 : end])
    assert_same(volatility_columns(frame.tail(WINDOW), usual)[-1:], whole[-1:])


@pytest.mark.parametrize("timeframe", [Timeframe.M15, Timeframe.M30, Timeframe.H4, Timeframe.D1])
def test_bars_of_every_length_have_columns(make_frame, timeframe: Timeframe) -> None:
    frame, usual = make_frame(rows=900, timeframe=timeframe), busy_week(timeframe)
    whole = volatility_columns(frame, usual)
    assert np.isfinite(whole[WINDOW - 1 :]).all()
    assert_same(volatility_columns(frame.tail(WINDOW), usual)[-1:], whole[-1:])


def test_every_column_is_what_its_definition_says(make_frame) -> None:
    """A second calculation, bar by bar, in plain Python."""
    frame, usual = weekdays_only(make_frame(seed=8)), busy_week()
    columns, unit = volatility_columns(frame, usual), atr(frame)
    slot = slots(frame.time, frame.timeframe)
    weight = [1.0 if value == 0 else max(value, 0.02) for value in usual.tolist()]
    close, high, low = frame.close.tolist(), frame.high.tolist(), frame.low.tolist()
    now = [weight[place] for place in slot]
    size = [0.0] * len(frame)
    move = [0.0] * len(frame)
    for row in range(1, len(frame)):
        reach = max(high[row], close[row - 1]) - min(low[row], close[row - 1])
        size[row] = max(reach / close[row], 1e-6) / now[row]
        move[row] = math.log(close[row] / close[row - 1])

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    for row in (WINDOW - 1, 1_000, 1_999):
        relative = math.log(unit[row] / close[row])
        expected: dict[str, float] = {}
        for bars in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512):
            expected[f"level_{bars}"] = math.log(mean(size[row - bars + 1 : row + 1])) - relative
        for bars in (4, 16, 64, 256):
            squares = [(move[one] / now[one]) ** 2 for one in range(row - bars + 1, row + 1)]
            expected[f"move_{bars}"] = math.log(math.sqrt(mean(squares))) - relative
        ahead = Week(usual).following(slot[row : row + 1], 4)[0].tolist()
        coming = [weight[place] for place in ahead]
        wilder = [(13 / 14) ** back for back in range(60)]
        expected |= {
            "usual_next": math.log(coming[0]),
            "usual_horizon": math.log(mean(coming)),
            "usual_peak": math.log(max(coming)),
            "usual_past": math.log(sum(w * now[row - back] for back, w in enumerate(wilder)) / sum(wilder)),
            "usual_now": math.log(now[row]),
        }
        level = math.log(mean(size[row - 511 : row + 1]))
        window = range(row - 589, row + 1)
        of_hour = [[math.log(size[one]) for one in window if slot[one] % 24 == place % 24] for place in ahead]
        several = [value for values in of_hour for value in values]
        expected["same_hour_next"] = mean(of_hour[0]) - level if of_hour[0] else 0.0
        expected["same_hour_horizon"] = mean(several) - level if several else 0.0
        residuals = []
        for one in range(row - 399, row + 1):
            usual_size = mean(size[one - 16 : one]) * now[one]
            residuals.append(min(abs(move[one]) / usual_size, 10.0))
        expected["residual_mean"] = math.log(mean(residuals))
        expected["residual_root"] = math.log(math.sqrt(mean([value**2 for value in residuals])))
        for bars in (4, 16, 64):
            expected[f"trend_{bars}"] = (close[row] - close[row - bars]) / unit[row]
        expected["body"] = (close[row] - frame.open[row]) / unit[row]
        expected["position"] = (2 * close[row] - high[row] - low[row]) / unit[row]
        assert list(expected) == list(VOLATILITY)
        np.testing.assert_allclose(columns[row], np.clip(list(expected.values()), -10, 10), rtol=1e-5, atol=1e-5)


def test_a_market_twice_as_busy_as_usual_everywhere_shows_the_same_state(make_frame) -> None:
    """Only ratios between slots count: an even week of 2 is an even week of 1."""
    frame = make_frame()
    even, double = (volatility_columns(frame, np.full(168, level)) for level in (1.0, 2.0))
    shift = {name: -math.log(2) for name in VOLATILITY if name.startswith(("level", "move"))}
    shift |= {name: math.log(2) for name in VOLATILITY if name.startswith("usual")}
    expected = even[WINDOW:] + [shift.get(name, 0.0) for name in VOLATILITY]
    np.testing.assert_allclose(double[WINDOW:], expected, atol=1e-5)


def test_the_season_is_taken_out_of_the_levels(make_frame) -> None:
    """Bars that are exactly as large as usual in their hour look alike at every hour."""
    frame = make_frame(rows=1_200)
    usual = np.tile(np.where(np.arange(24) < 12, 0.5, 2.0), 7)
    reach = usual[slots(frame.time, frame.timeframe)] * 0.01
    flat = np.full(1_200, 100.0)
    frame = replace(frame, open=flat, close=flat, high=flat * (1 + reach / 2), low=flat * (1 - reach / 2))
    columns = volatility_columns(frame, usual)[WINDOW:]
    levels = [place for place, name in enumerate(VOLATILITY) if name.startswith("level")]
    against_unit = columns[:, levels] + np.log(atr(frame)[WINDOW:, None] / 100.0)
    np.testing.assert_allclose(against_unit, np.log(0.01), atol=1e-5)


def test_too_few_bars_are_refused_with_how_many_are_needed(make_frame) -> None:
    with pytest.raises(BadCandles, match="TEST-USD 1h: needs 600 bars, has 599"):
        volatility_columns(make_frame(rows=599), np.ones(168))


_STRETCH = st.tuples(st.integers(0, 700), st.integers(1, 700)).map(lambda pair: (pair[0], sum(pair)))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    price=st.floats(1e-8, 1e8),
    flat=st.none() | _STRETCH,
    jumps=st.lists(st.tuples(st.integers(0, 779), st.sampled_from([1e-3, 0.5, 1.01, 3.0, 1e3])), max_size=3),
    closed=st.integers(0, 168),
)
def test_whatever_the_market_does_the_columns_are_finite_and_ignore_the_future(
    make_frame, seed, price, flat, jumps, closed
) -> None:
    frame, shift, usual = make_frame(rows=780, seed=seed, price=price, flat=flat), np.ones(780), busy_week(seed=seed)
    usual[:closed] = 0.0
    for row, factor in jumps:
        shift[row:] *= factor
    frame = replace(frame, **{name: getattr(frame, name) * shift for name in ("open", "high", "low", "close")})
    whole, part = (volatility_columns(one, usual)[WINDOW - 1 : 690] for one in (frame, frame.rows(slice(0, 690))))
    assert np.isfinite(whole).all()
    np.testing.assert_allclose(part, whole, atol=TOLERANCE)
