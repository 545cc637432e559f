"""Features: whatever looks ahead, or farther back than it says, is named with its column, row and size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from training_data import candles

import serving.features.swing.structure as structure
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from serving.lookahead.checks import Check, FeatureSet, Outcome, Unusable, check_features
from serving.lookahead.checks.altering import altered_futures, copied
from serving.lookahead.ours import our_features

FRAMES = [candles("BTC-USD", 900, 5), candles("EURUSD=X", 900, 6, volume=False)]
WINDOW = 50


def returns(frame: CandleFrame) -> np.ndarray:
    out = np.full(len(frame), np.nan)
    out[1:] = np.log(frame.close[1:] / frame.close[:-1])
    return out


def shifted(values: np.ndarray, bars: int) -> np.ndarray:
    """The values of ``bars`` rows later, NaN at the end: pandas' ``shift(-bars)``."""
    out = np.full(len(values), np.nan)
    out[: len(values) - bars] = values[bars:]
    return out


def checked(*columns: tuple[str, Callable[[CandleFrame], np.ndarray]], window: int = WINDOW) -> list[Check]:
    features = FeatureSet("mine", lambda frame: {name: compute(frame) for name, compute in columns}, window)
    return check_features(features, FRAMES)


def test_honest_features_pass_all_three_checks() -> None:
    checks = checked(("returns", returns), ("bar", lambda frame: (frame.close - frame.open) / frame.close))
    assert [check.outcome for check in checks] == [Outcome.PASS] * 3
    assert "2 columns, 2 series, 8 moments each" in checks[0].told


def test_a_column_shifted_by_one_bar_is_found_and_its_honest_neighbour_is_not() -> None:
    cut, altered, past = checked(("returns", returns), ("returns_next", lambda frame: shifted(returns(frame), 1)))
    assert past.outcome is Outcome.PASS  # what looks ahead is not told again as looking back
    for check in (cut, altered):
        assert check.outcome is Outcome.FOUND
        assert [finding.where for finding in check.findings] == ["BTC-USD returns_next", "EURUSD=X returns_next"]
    assert (
        "appears or disappears when the bars after the row are left out; it looks 1 bar ahead" in cut.findings[0].told
    )
    assert altered.findings[0].size == pytest.approx(np.log(1.5), abs=0.02)
    assert altered.findings[0].row.startswith("row ")
    assert "shift by a positive number" in altered.findings[0].remedy


def test_a_shift_that_wraps_around_is_found_although_no_value_is_missing() -> None:
    cut, altered, _ = checked(("wrapped", lambda frame: np.roll(frame.close / frame.open, -1)))
    assert cut.outcome is altered.outcome is Outcome.FOUND


@pytest.mark.parametrize("bars", [2, 5])
def test_how_many_bars_a_column_looks_ahead_is_told(bars: int) -> None:
    _, altered, _ = checked(("later", lambda frame: shifted(frame.close, bars)))
    assert f"it looks {bars} bars ahead" in altered.findings[0].told


def test_a_centred_average_is_found() -> None:
    _, altered, _ = checked(("smooth", lambda frame: np.convolve(frame.close, np.ones(5) / 5, mode="same")))
    assert "it looks 2 bars ahead" in altered.findings[0].told


def test_a_score_over_all_bars_is_found_as_fitted_on_everything() -> None:
    _, altered, _ = checked(("score", lambda frame: (frame.close - frame.close.mean()) / frame.close.std()))
    assert "something is fitted on all bars" in altered.findings[0].told


def test_the_high_of_a_day_that_is_not_over_is_found() -> None:
    def high_of_day(frame: CandleFrame) -> np.ndarray:
        day = np.unique(frame.time // 86_400_000, return_inverse=True)[1]
        return np.asarray([frame.high[day == one].max() for one in range(day.max() + 1)])[day]

    assert checked(("high_of_day", high_of_day))[1].outcome is Outcome.FOUND


def test_a_sum_from_the_first_bar_on_depends_on_more_than_its_window() -> None:
    cut, altered, past = checked(("since", lambda frame: np.cumsum(np.nan_to_num(returns(frame)))))
    assert cut.outcome is altered.outcome is Outcome.PASS
    assert past.outcome is Outcome.FOUND
    assert "when all but 50 bars are left out" in past.findings[0].told
    assert "--window" in past.findings[0].remedy


def test_a_window_declared_one_bar_too_short_is_found() -> None:
    def oldest(frame: CandleFrame) -> np.ndarray:
        out = np.full(len(frame), np.nan)
        out[WINDOW - 1 :] = frame.close[: len(frame) - WINDOW + 1] / frame.close[WINDOW - 1 :]
        return out

    assert checked(("oldest", oldest))[2].outcome is Outcome.PASS
    assert checked(("oldest", oldest), window=WINDOW - 1)[2].outcome is Outcome.FOUND


def test_a_feature_that_differs_between_two_calls_is_found_as_such() -> None:
    random = np.random.default_rng(1)
    (check,) = checked(("noise", lambda frame: random.normal(size=len(frame))))
    assert check.outcome is Outcome.FOUND
    assert "differs between two calls with the same bars" in check.findings[0].told


def test_rounding_and_what_is_below_a_millionth_pass() -> None:
    checks = checked(("price", lambda frame: frame.close * (1 + 1e-9 * len(frame))))
    assert [check.outcome for check in checks] == [Outcome.PASS] * 3


def test_what_could_not_be_tried_is_skipped_with_the_reason() -> None:
    short = checked(("returns", returns), window=880)
    empty = checked(("nothing", lambda frame: np.full(len(frame), np.nan)))
    assert {check.outcome for check in short + empty} == {Outcome.SKIPPED}
    assert "no series has 920 bars" in short[0].told
    assert "no column has a number" in empty[0].told


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda frame: frame.close[:-1], "answered 899 rows for 900 bars"),
        (lambda frame: "up", "answered something else for 900 bars"),
        (lambda frame: frame.close / frame.nothing, "AttributeError"),
        (lambda frame: np.zeros((len(frame), 2, 2)), "answered something else"),
    ],
)
def test_a_function_that_answers_something_else_is_unusable(answer: Callable, told: str) -> None:
    with pytest.raises(Unusable, match=told):
        check_features(FeatureSet("mine", answer, WINDOW), FRAMES)


def test_one_column_and_a_pandas_frame_are_understood() -> None:
    import pandas as pd

    series = FeatureSet("one", lambda frame: np.roll(frame.close, -1), WINDOW)
    table = FeatureSet("table", lambda frame: pd.DataFrame({"next": np.roll(frame.close, -1)}), WINDOW)
    assert check_features(series, FRAMES)[1].findings[0].where == "BTC-USD column 0"
    assert check_features(table, FRAMES)[1].findings[0].where == "BTC-USD next"


def test_the_products_own_features_are_clean() -> None:
    for features in our_features(Timeframe.H1):
        checks = check_features(features, FRAMES, moments=4)
        assert [check.outcome for check in checks] == [Outcome.PASS] * 3, features.name


def test_the_features_of_daily_bars_are_clean() -> None:
    days = [replace(frame, timeframe=Timeframe.D1, time=frame.time * 24) for frame in FRAMES]
    for features in our_features(Timeframe.D1)[4:]:
        checks = check_features(features, days, moments=3)
        assert [check.outcome for check in checks] == [Outcome.PASS] * 3, features.name


def swing_high_distance(frame: CandleFrame) -> np.ndarray:
    """A leak that libraries of smart-money concepts have: a swing high is marked at its own bar."""
    high, side = frame.high, 5
    padded = np.concatenate((np.full(side, -np.inf), high, np.full(side, -np.inf)))
    swing = high == np.lib.stride_tricks.sliding_window_view(padded, 2 * side + 1).max(axis=1)
    newest = np.maximum.accumulate(np.where(swing, np.arange(len(high)), -1))
    return np.where(newest >= 0, high[newest] / frame.close - 1, np.nan)


def test_a_swing_high_that_is_not_confirmed_is_found() -> None:
    cut, altered, _ = checked(("swing_high", swing_high_distance))
    for check in (cut, altered):
        assert {finding.where for finding in check.findings} == {"BTC-USD swing_high", "EURUSD=X swing_high"}
        assert "bars ahead" in check.findings[0].told


def test_our_own_structure_would_be_found_if_it_did_not_wait_for_its_pivots(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = structure._earlier
    hurried = {structure.SWING_BARS: 0}
    monkeypatch.setattr(structure, "_earlier", lambda columns, bars: waits(columns, hurried.get(bars, bars)))
    features = next(one for one in our_features(Timeframe.H1) if one.name == "smart money")
    cut, altered, _ = check_features(features, FRAMES, moments=24)
    for check in (cut, altered):
        assert {finding.where.split()[1] for finding in check.findings} & {"bullish_break", "bearish_break"}


def test_another_future_is_a_valid_frame_with_the_same_past() -> None:
    frame = FRAMES[0]
    for done, other in altered_futures(frame, 700, np.random.default_rng(3)):
        assert not other.faults(), done
        for name in ("time", "open", "high", "low", "close", "volume"):
            before, after = getattr(frame, name), getattr(other, name)
            assert (before[:701] == after[:701]).all()
            assert not np.shares_memory(before, after)
        assert (frame.close[701:] != other.close[701:]).mean() > 0.9
    assert not np.shares_memory(copied(frame).close, frame.close)


def test_a_column_that_was_fitted_on_all_bars_and_is_then_remembered_is_found() -> None:
    said: dict[tuple[str, int], float] = {}

    def score(frame: CandleFrame) -> np.ndarray:
        fresh = (frame.close - frame.close.mean()) / frame.close.std()
        keys = [(frame.symbol, instant) for instant in frame.time.tolist()]
        return np.array([said.setdefault(key, value) for key, value in zip(keys, fresh.tolist(), strict=True)])

    _, altered, _ = checked(("score", score))
    assert [finding.where for finding in altered.findings] == ["BTC-USD score", "EURUSD=X score"]
    assert "remembers what it said" in altered.findings[0].told
    assert "keep nothing between two calls" in altered.findings[0].remedy


def test_a_table_that_is_remembered_by_symbol_and_cut_to_length_is_found() -> None:
    tables: dict[str, np.ndarray] = {}

    def score(frame: CandleFrame) -> np.ndarray:
        table = tables.setdefault(frame.symbol, (frame.close - frame.close.mean()) / frame.close.std())
        return table[: len(frame)]

    _, altered, _ = checked(("score", score))
    assert "remembers what it said" in altered.findings[0].told


def test_columns_of_the_clock_and_constants_remember_nothing() -> None:
    checks = checked(
        ("hour", lambda frame: (frame.time // 3_600_000 % 24).astype(float)), ("one", lambda frame: np.ones(len(frame)))
    )
    assert [check.outcome for check in checks] == [Outcome.PASS] * 3


def test_a_function_that_ends_the_program_is_unusable() -> None:
    def ends(frame: CandleFrame) -> np.ndarray:
        raise SystemExit(3)

    with pytest.raises(Unusable, match="SystemExit"):
        checked(("mine", ends))
