"""Baselines: each against its definition, and none of them sees a bar after the one it speaks at."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score

from serving.evaluation.baselines import (
    Boosting,
    BoostingSettings,
    NextBar,
    climatology,
    ewma_quantiles,
    garch_quantiles,
    logistic,
    rates_by_series,
    rolling_quantiles,
    seasonal_sizes,
    slots_to_come,
)
from serving.evaluation.baselines.season import one_bar_returns
from serving.evaluation.metrics import pinball

HOUR = 3_600_000


def test_rolling_quantiles_use_the_newest_five_hundred_returns_and_nothing_later() -> None:
    close = 100 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.01, 900)))
    rows = np.asarray([500, 731])
    found = rolling_quantiles(close, rows, (0.05, 0.5))
    for number, row in enumerate(rows):
        past = close[row - 499 : row + 1] / close[row - 500 : row] - 1
        assert found[number] == pytest.approx(np.quantile(past, (0.05, 0.5)))
    later = close.copy()
    later[732:] *= 2
    assert (rolling_quantiles(later, rows, (0.05, 0.5)) == found).all()


def test_climatology_learns_the_hour_of_the_week() -> None:
    entry = np.arange(200 * 168) * HOUR
    truth = ((entry // HOUR) % 168 == 40).astype(np.float64)[:, None]
    place = np.zeros(len(entry), np.intp)
    answer = climatology(place, entry, truth, np.zeros(2, np.intp), np.asarray([40 * HOUR, 41 * HOUR]))
    assert answer[:, 0] == pytest.approx([0.91, 0.0], abs=0.01)


def test_a_series_never_seen_gets_the_rates_of_all() -> None:
    place = np.repeat([0, 2], 5000).astype(np.intp)
    truth = np.repeat([0.0, 1.0], 5000)[:, None]
    entry = np.arange(10_000) * HOUR
    assert rates_by_series(place, truth, np.asarray([0, 1, 2]))[:, 0] == pytest.approx([0.0, 0.5, 1.0], abs=0.01)
    unseen = climatology(place, entry, truth, np.asarray([1], np.intp), entry[:1])
    assert unseen[0, 0] == pytest.approx(0.5, abs=0.05)


def test_the_logistic_baseline_finds_a_linear_rule() -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(4000, 5))
    truth = (features[:, 0] + random.logistic(size=4000) > 0).astype(np.int64)
    answer = logistic(features[:3000], truth[:3000], features[3000:])
    assert roc_auc_score(truth[3000:], answer[:, 1]) > 0.7
    assert answer.sum(axis=1) == pytest.approx(np.ones(1000))


WEEK = 7 * 24
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
BARS, SPAN_END, VALIDATION_END = 9000, 6000, 7000
ASKED = np.arange(VALIDATION_END, BARS - 1)


@pytest.fixture(scope="module")
def market() -> dict[str, np.ndarray]:
    """Hourly closes of a GARCH(1,1) with Student's t of 5 degrees, four times as lively from 13 to 16 o'clock."""
    rng = np.random.default_rng(11)
    slot = np.arange(BARS) % WEEK
    season = np.where((slot % 24 >= 13) & (slot % 24 <= 16), 4.0, 1.0)
    shock = rng.standard_t(5, BARS) * np.sqrt(3 / 5)
    variance, steady = np.ones(BARS), np.zeros(BARS)
    for bar in range(1, BARS):
        variance[bar] = 0.05 + 0.10 * steady[bar - 1] ** 2 + 0.85 * variance[bar - 1]
        steady[bar] = np.sqrt(variance[bar]) * shock[bar]
    size = 0.001 * season
    close = 100 * np.cumprod(1 + size * steady)
    atr = close * 0.002
    change = np.append(np.diff(close), 0.0) / atr
    truth = np.append((size * np.sqrt(variance))[1:], 0.0) * close / atr  # deviation of the next change, in ATR
    return {"slot": slot, "close": close, "atr": atr, "change": change, "size": truth, "season": season}


def ewma(market: dict[str, np.ndarray], close: np.ndarray, rows: np.ndarray = ASKED) -> NextBar:
    ends = {"span_end": SPAN_END, "validation_end": VALIDATION_END}
    return ewma_quantiles(close, market["atr"], market["slot"], rows, week=WEEK, levels=LEVELS, **ends)


def garch(market: dict[str, np.ndarray], close: np.ndarray, rows: np.ndarray = ASKED) -> NextBar:
    return garch_quantiles(close, market["atr"], market["slot"], rows, week=WEEK, levels=LEVELS, span_end=SPAN_END)


def test_the_season_is_learned_up_to_its_scale(market: dict[str, np.ndarray]) -> None:
    found = seasonal_sizes(one_bar_returns(market["close"]), market["slot"], WEEK, BARS)
    busy = market["season"][:WEEK] > 1
    assert found[busy].mean() / found[~busy].mean() == pytest.approx(4, rel=0.12)
    assert found[busy].min() > 2 * found[~busy].max()


def test_a_slot_never_seen_is_ordinary() -> None:
    returns = np.random.default_rng(0).normal(size=3000)
    slot = np.arange(3000) % (5 * 24)  # weekends have no bars
    found = seasonal_sizes(returns, slot, WEEK, 3000)
    assert found[5 * 24 :] == pytest.approx(np.ones(48), abs=0.15)


def test_the_next_slot_is_the_one_that_mostly_followed() -> None:
    slot = np.tile(np.arange(5 * 24), 20)
    slot[60] = 62  # one gap
    found = slots_to_come(slot, WEEK, len(slot))
    assert found[5 * 24 - 1] == 0
    assert found[slot == 61].tolist() == [62] * (slot == 61).sum()
    assert found[slot == 59].tolist() == [60] * 20
    late = slots_to_come(np.concatenate((slot, [140])), WEEK, len(slot))
    assert late[-1] == 141


@pytest.mark.parametrize("forecaster", [ewma, garch])
def test_volatility_baselines_know_the_size_of_the_next_change(
    market: dict[str, np.ndarray], forecaster: Callable[..., NextBar]
) -> None:
    told = forecaster(market, market["close"]).quantiles
    change = market["change"][ASKED]
    assert np.corrcoef(np.log(told[:, 4] - told[:, 0]), np.log(market["size"][ASKED]))[0, 1] > 0.93
    assert np.mean((told[:, 0] <= change) & (change <= told[:, 4])) == pytest.approx(0.9, abs=0.015)
    ideal = market["size"][ASKED, None] * student.ppf(LEVELS, 5) * np.sqrt(3 / 5)
    usual = rolling_quantiles(market["close"], ASKED, LEVELS) * (market["close"] / market["atr"])[ASKED, None]
    loss, best, naive = (pinball(one, LEVELS, change).mean() for one in (told, ideal, usual))
    assert loss < best + 0.1 * (naive - best)
    assert (np.diff(told, axis=1) > 0).all()


def test_the_garch_fit_finds_the_parameters_that_made_the_series(market: dict[str, np.ndarray]) -> None:
    found = garch(market, market["close"]).parameters
    assert found["alpha"] == pytest.approx(0.10, abs=0.04)
    assert found["beta"] == pytest.approx(0.85, abs=0.07)
    assert found["nu"] == pytest.approx(5, abs=1.2)


def test_the_garch_filter_is_the_recursion_that_arch_writes_down(market: dict[str, np.ndarray]) -> None:
    """Bar by bar in a plain loop, against the vectorised filter."""
    found = garch(market, market["close"])
    returns = one_bar_returns(market["close"])
    season = seasonal_sizes(returns, market["slot"], WEEK, SPAN_END)
    steady = returns / season[market["slot"]]
    unit = steady[1:SPAN_END].std()
    variance = float(np.mean((steady[1:501] / unit) ** 2))
    sizes = np.empty(BARS)
    for bar in range(BARS):
        fresh = found.parameters["alpha"] * (steady[bar] / unit) ** 2
        variance = found.parameters["omega"] + fresh + found.parameters["beta"] * variance
        sizes[bar] = np.sqrt(variance) * unit * season[(market["slot"][bar] + 1) % WEEK]
    tail = student.ppf(0.95, found.parameters["nu"]) * np.sqrt(1 - 2 / found.parameters["nu"])
    expected = (sizes * market["close"] / market["atr"])[ASKED] * tail
    assert found.quantiles[:, 4] == pytest.approx(expected, rel=1e-6)


def test_the_ewma_is_the_recursion_of_riskmetrics(market: dict[str, np.ndarray]) -> None:
    found = ewma(market, market["close"])
    decay = found.parameters["decay"]
    assert 0.8 <= decay <= 0.995
    returns = one_bar_returns(market["close"])
    season = seasonal_sizes(returns, market["slot"], WEEK, SPAN_END)
    coming = season[(market["slot"] + 1) % WEEK]
    steady, sizes = returns / season[market["slot"]], np.empty(BARS)
    variance = float(np.mean(steady[1:501] ** 2))
    for bar in range(BARS):
        variance = decay * variance + (1 - decay) * steady[bar] ** 2
        sizes[bar] = np.sqrt(variance) * coming[bar]
    residual = returns[501:SPAN_END] / sizes[500 : SPAN_END - 1]
    expected = (sizes * market["close"] / market["atr"])[ASKED, None] * np.quantile(residual, LEVELS)
    assert found.quantiles == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("forecaster", [ewma, garch])
@pytest.mark.parametrize("row", [VALIDATION_END, 8000])
def test_bars_after_a_row_change_no_volatility_forecast_up_to_it(
    market: dict[str, np.ndarray], forecaster: Callable[..., NextBar], row: int
) -> None:
    later = market["close"].copy()
    later[row + 1 :] *= np.linspace(2, 3, BARS - row - 1)
    rows = ASKED[row >= ASKED]
    before, after = forecaster(market, market["close"], rows), forecaster(market, later, rows)
    assert np.array_equal(before.quantiles, after.quantiles)
    assert before.parameters == after.parameters
    cut = {name: values[: row + 1] for name, values in market.items()}
    assert np.array_equal(forecaster(cut, cut["close"], rows).quantiles, before.quantiles)


def test_an_unusual_bar_changes_the_forecasts_that_follow_it(market: dict[str, np.ndarray]) -> None:
    later = market["close"].copy()
    later[8000:] *= 1.05
    for forecaster in (ewma, garch):
        before, after = forecaster(market, market["close"]), forecaster(market, later)
        row = 8000 - VALIDATION_END
        assert after.quantiles[row, 4] > 2 * before.quantiles[row, 4]


def test_what_was_learned_from_is_never_forecast(market: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match=r"rows must lie after the bars that were learned from \(7000\), got 6500"):
        ewma(market, market["close"], np.asarray([6500]))
    with pytest.raises(ValueError, match=r"rows must lie after the bars that were learned from \(6000\), got 5998"):
        garch(market, market["close"], np.asarray([5998]))
    with pytest.raises(ValueError, match="span_end must leave 1000 bars or more to learn from, got 900"):
        garch_quantiles(market["close"], market["atr"], market["slot"], ASKED, week=WEEK, span_end=900, levels=LEVELS)


def test_a_series_without_a_validation_slice_decays_as_riskmetrics_does(market: dict[str, np.ndarray]) -> None:
    ends = {"span_end": SPAN_END, "validation_end": SPAN_END}
    found = ewma_quantiles(market["close"], market["atr"], market["slot"], ASKED, week=WEEK, levels=LEVELS, **ends)
    assert found.parameters == {"decay": 0.94}


@pytest.fixture(scope="module")
def table() -> dict[str, np.ndarray]:
    """(6000, 6) features; column 0 moves the odds of an event, column 1 the spread of a value, column 2 is missing."""
    rng = np.random.default_rng(12)
    features = rng.normal(size=(6000, 6)).astype(np.float32)
    features[:, 2] = np.nan
    odds = 1 / (1 + np.exp(-2 * np.sin(3 * features[:, 0])))
    return {
        "features": features,
        "odds": odds,
        "event": (rng.random(6000) < odds).astype(np.float32),
        "value": rng.normal(size=6000) * np.exp(0.7 * features[:, 1]),
    }


TRAIN, VALIDATION, JUDGED = np.arange(3500), np.arange(3500, 4500), np.arange(4500, 6000)
SMALL = BoostingSettings(rounds=150, fewest=50, learning_rate=0.1)


def test_boosting_finds_what_no_line_can(table: dict[str, np.ndarray]) -> None:
    trees = Boosting(table["features"], TRAIN, VALIDATION, SMALL)
    told, event = trees.probability(table["event"], JUDGED), table["event"][JUDGED]
    straight = logistic(
        np.nan_to_num(table["features"])[TRAIN],
        table["event"][TRAIN].astype(int),
        np.nan_to_num(table["features"])[JUDGED],
    )[:, 1]
    possible = roc_auc_score(event, table["odds"][JUDGED])
    assert roc_auc_score(event, told) > possible - 0.03 > roc_auc_score(event, straight) + 0.05
    assert trees.classes(table["event"].astype(np.int64), JUDGED)[:, 1] == pytest.approx(told, abs=0.2)
    assert trees.mean(table["event"], JUDGED) == pytest.approx(told, abs=0.25)


def test_boosted_quantiles_follow_the_spread_and_never_cross(table: dict[str, np.ndarray]) -> None:
    told = Boosting(table["features"], TRAIN, VALIDATION, SMALL).quantiles(table["value"], (0.05, 0.5, 0.95), JUDGED)
    spread = np.exp(0.7 * table["features"][JUDGED, 1].astype(np.float64))
    assert (np.diff(told, axis=1) >= 0).all()
    assert np.corrcoef(told[:, 2] - told[:, 0], spread)[0, 1] > 0.85
    value = table["value"][JUDGED]
    assert np.mean((told[:, 0] <= value) & (value <= told[:, 2])) == pytest.approx(0.9, abs=0.04)


def test_a_target_fitted_before_leaves_no_trace(table: dict[str, np.ndarray]) -> None:
    fresh = Boosting(table["features"], TRAIN, VALIDATION, SMALL).probability(table["event"], JUDGED)
    used = Boosting(table["features"], TRAIN, VALIDATION, SMALL)
    used.quantiles(table["value"], (0.05,), JUDGED)
    assert np.array_equal(used.probability(table["event"], JUDGED), fresh)


def test_boosting_sees_neither_features_nor_outcomes_of_later_rows(table: dict[str, np.ndarray]) -> None:
    row = 5000
    features, event, value = (table[name].copy() for name in ("features", "event", "value"))
    features[row + 1 :] = 9.0
    event[VALIDATION[-1] + 1 :] = 1 - event[VALIDATION[-1] + 1 :]
    value[VALIDATION[-1] + 1 :] = 1e6
    rows = JUDGED[row >= JUDGED]
    before = Boosting(table["features"], TRAIN, VALIDATION, SMALL)
    after = Boosting(features, TRAIN, VALIDATION, SMALL)
    assert np.array_equal(before.probability(table["event"], rows), after.probability(event, rows))
    assert np.array_equal(
        before.quantiles(table["value"], (0.05, 0.95), rows), after.quantiles(value, (0.05, 0.95), rows)
    )


def test_boosting_without_rows_to_stop_by_is_refused(table: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="boosting needs training and validation rows, got 3500 and 0"):
        Boosting(table["features"], TRAIN, VALIDATION[:0])
    with pytest.raises(ValueError, match="patience must be at least 1, got 0"):
        BoostingSettings(patience=0)


def test_rates_and_climatology_take_nothing_from_the_rows_asked_for() -> None:
    """Their signatures hold no outcome of an asked row; a row of the span itself is counted once, whoever asks."""
    rng = np.random.default_rng(13)
    entry, place = np.arange(4000) * HOUR, np.arange(4000) % 3
    truth = (rng.random((4000, 2)) < 0.4).astype(np.float64)
    asked, later = np.asarray([0, 1, 2]), entry[-1] + HOUR * np.asarray([1, 2, 3])
    alone = climatology(place, entry, truth, asked[:1], later[:1])
    together = climatology(place, entry, truth, asked, later)
    assert np.array_equal(alone[0], together[0])
    assert np.array_equal(rates_by_series(place, truth, asked)[0], rates_by_series(place, truth, asked[:1])[0])
