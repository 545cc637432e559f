"""Cross-sections: rank correlations, deciles, purged paths and the study, against calculations of another kind."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from serving.evaluation.cross_section import (
    RANK_IC_TARGETS,
    Panel,
    deciles,
    markdown,
    mean_test,
    overfitting,
    purged_paths,
    purged_splits,
    rank_correlations,
    study_cross_section,
    with_ensembles,
)
from serving.evaluation.cross_section.portfolios import held_weights, portfolio_returns

DAY = 86_400_000


def panel(sessions: int = 80, symbols: int = 30, seed: int = 1, missing: float = 0.0) -> Panel:
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.02, (sessions, symbols)), axis=0))
    opened = close * np.exp(random.normal(0, 0.005, close.shape))
    gone = random.random(close.shape) < missing
    opened[gone] = close[gone] = np.nan
    names = tuple(f"S{place}" for place in range(symbols))
    return Panel(names, DAY * np.arange(sessions), opened, close, np.zeros(close.shape, np.bool_))


def test_rank_correlations_are_those_of_scipy_over_what_is_known() -> None:
    random = np.random.default_rng(3)
    first, second = random.normal(size=(2, 6, 25))
    first[1, :5], second[1, 3:9] = np.nan, np.nan
    first[2] = np.round(first[2])  # ties
    first[3, 5:] = np.nan  # too few
    first[4] = 1.0
    found = rank_correlations(first, second)
    for row in (0, 1, 2, 5):
        known = np.isfinite(first[row]) & np.isfinite(second[row])
        assert found[row] == pytest.approx(spearmanr(first[row, known], second[row, known]).statistic)
    assert np.isnan(found[3:5]).all()


def test_the_error_of_a_mean_is_that_of_a_regression_with_newey_west_errors() -> None:
    import statsmodels.api as sm

    random = np.random.default_rng(4)
    values = np.convolve(random.normal(0.02, 1, 300), np.ones(5) / 5, mode="valid")
    found = mean_test(np.insert(values, 7, np.nan), horizon=9)
    fitted = sm.OLS(values, np.ones(len(values))).fit(cov_type="HAC", cov_kwds={"maxlags": 9, "use_correction": False})
    assert found.lags == 9
    assert found.error == pytest.approx(fitted.bse[0])
    assert found.statistic == pytest.approx(fitted.tvalues[0])
    assert found.ratio == pytest.approx(values.mean() / values.std(ddof=1))
    assert found.as_dict()["ratio_a_year"] == pytest.approx(fitted.tvalues[0] / math.sqrt(296 / 252), rel=1e-5)


def test_a_mean_of_few_or_equal_values_is_not_tested() -> None:
    nearly = 1 - 2e-16 * (np.arange(50) % 3 == 0)
    for values in (np.ones(50), nearly, np.arange(5.0), np.full(9, np.nan)):
        assert mean_test(values, horizon=3).as_dict()["p_value"] is None
    assert mean_test(np.arange(5.0), horizon=3, lags=0, fewest=3).error == pytest.approx(np.sqrt(2 / 5))


def test_returns_begin_at_the_next_open_and_skip_what_is_no_return() -> None:
    opened, close = np.asarray([[10.0], [20], [30], [40]]), np.asarray([[11.0], [22], [33], [44]])
    one = Panel(("A",), DAY * np.arange(4), opened, close, np.zeros((4, 1), np.bool_))
    np.testing.assert_allclose(one.from_open(2)[:, 0], [33 / 20 - 1, 44 / 30 - 1, np.nan, np.nan])
    np.testing.assert_allclose(one.from_close(1)[:, 0], [1.0, 0.5, 1 / 3, np.nan])
    np.testing.assert_allclose(one.open_to_open()[:, 0], [1.0, 0.5, 1 / 3, 0.0])
    split = Panel(("A",), one.instants, opened, close, np.asarray([[False], [False], [True], [False]]))
    assert np.isnan(split.from_open(2)[:2]).all()
    assert split.open_to_open()[:, 0].tolist() == pytest.approx([1.0, 0.0, 0.0, 0.0])


def test_a_panel_of_frames_has_every_session_and_counts_dividends() -> None:
    def frame(symbol: str, days: list[int]) -> CandleFrame:
        price = 10.0 + np.asarray(days)
        return CandleFrame(symbol, Timeframe.D1, DAY * np.asarray(days), price, price, price, price)

    made = Panel.of([frame("A", [0, 1, 2]), frame("B", [1, 3])], factors={"A": np.asarray([0.5, 1.0, 1.0])})
    assert made.instants.tolist() == [0, DAY, 2 * DAY, 3 * DAY]
    np.testing.assert_array_equal(made.close[:, 0], [5, 11, 12, np.nan])
    np.testing.assert_array_equal(made.close[:, 1], [np.nan, 11, np.nan, 13])
    placed = made.placed(["B", "A"], np.asarray([3 * DAY, 0]), np.asarray([7.0, 8.0]))
    assert (placed[3, 1], placed[0, 0]) == (7.0, 8.0)
    assert np.isnan(placed).sum() == 6
    with pytest.raises(ValueError, match="own sessions"):
        made.placed(["C"], np.asarray([0]), np.asarray([1.0]))


def test_deciles_by_hand_tranche_by_tranche() -> None:
    made, horizon, cost = panel(30, 20, missing=0.05), 3, 10.0
    predictions = np.random.default_rng(8).normal(size=made.open.shape)
    predictions[:5] = predictions[20:] = np.nan
    found = deciles(predictions, made, horizon, cost_bps=cost, groups=5)

    targets = np.zeros(made.open.shape)
    for row in range(5, 20):
        known = [s for s in range(20) if np.isfinite(made.open[row + 1, s])]
        ranked = sorted(known, key=lambda s: predictions[row, s])
        group = {s: int(5 * (place + 0.5) / len(ranked)) for place, s in enumerate(ranked)}
        for side, which in ((0.5, 4), (-0.5, 0)):
            members = [s for s in ranked if group[s] == which]
            targets[row, members] = side / len(members)
    price = made.open.copy()
    for row in range(1, 30):
        price[row] = np.where(np.isnan(price[row]), price[row - 1], price[row])
    held, expected = np.zeros(20), []
    for row in range(6, 24):
        wanted = sum(targets[row - age] for age in (1, 2, 3)) / 3
        traded = np.abs(wanted - held).sum()
        move = np.nan_to_num(price[row + 1] / price[row] - 1)
        gained = float(wanted @ move)
        expected.append(gained - traded * cost * 1e-4)
        held = wanted * (1 + move) / (1 + gained)
    assert held.any() == 0  # everything is sold at the end, and its cost is counted
    np.testing.assert_allclose(found.long_short, expected, atol=1e-12)
    assert found.gross.sum() > found.long_short.sum()


def test_a_prediction_that_knows_the_future_orders_its_deciles() -> None:
    made = panel(60, 40)
    found = deciles(made.from_open(5), made, 5)
    assert (np.diff(found.mean_by_group) > 0).all()
    assert found.long_short.mean() > 0
    assert found.long_only.mean() > 0


def drifting() -> Panel:
    """Symbols that rise the more the later they stand."""
    made = panel(60, 40)
    drift = np.exp(np.arange(60)[:, None] * np.linspace(-0.01, 0.01, 40))
    return replace(made, open=100 * drift, close=100 * drift)


def test_a_prediction_that_says_the_same_of_all_trades_nothing() -> None:
    made = drifting()
    found = deciles(np.zeros((60, 40)), made, 3)
    assert (len(found.long_short), np.isfinite(found.mean_by_group).any()) == (0, False)
    half = deciles(np.tile(np.repeat([0.0, 1.0], 20), (60, 1)), made, 3)
    assert len(half.long_short) == 0  # nobody is told to be in the highest tenth
    names = {"constant": np.zeros((60, 40)), "ensemble": made.from_open(3), "other": -made.from_open(3)}
    told = study_cross_section({name: {3: values} for name, values in names.items()}, made)["horizons"]["3"]
    assert told["models"]["constant"]["rank_ic"]["mean"] is None
    assert told["models"]["constant"]["deciles"]["long_short"]["sharpe"] is None
    assert told["overfitting"]["trials"] == 2


def test_equal_predictions_share_their_decile_whatever_their_places() -> None:
    made = drifting()
    predictions = np.tile(np.repeat(np.arange(10.0), 4), (60, 1))
    found = deciles(predictions, made, 3)
    order = np.random.default_rng(3).permutation(40)
    turned = replace(made, open=made.open[:, order], close=made.close[:, order])
    assert deciles(predictions[:, order], turned, 3).long_short == pytest.approx(found.long_short)
    opposite = deciles(-predictions, made, 3, cost_bps=0.0)
    assert opposite.gross == pytest.approx(-found.gross)


def test_weights_wait_for_the_next_open_and_last_as_long_as_the_horizon() -> None:
    targets = np.zeros((6, 1))
    targets[1] = 1.0
    assert held_weights(targets, 2)[:, 0].tolist() == [0, 0, 0.5, 0.5, 0, 0]
    net, gross, turnover = portfolio_returns(held_weights(targets, 2), np.zeros((6, 1)), 10.0)
    assert turnover.tolist() == [0, 0, 0.5, 0, 0.5, 0]
    np.testing.assert_allclose(net, [0, 0, -0.0005, 0, -0.0005, 0])
    assert not gross.any()


def test_no_purged_split_trains_near_what_it_tests() -> None:
    splits = list(purged_splits(120, folds=5, tested=2, purge=4, embargo=3))
    assert len(splits) == math.comb(5, 2)
    for split in splits:
        for rows in split.tests:
            before = split.train[split.train < rows[0]]
            after = split.train[split.train > rows[-1]]
            assert not len(before) or rows[0] - before[-1] > 4
            assert not len(after) or after[0] - rows[-1] > 4 + 3
            assert not set(rows) & set(split.train)


def test_the_fewest_sessions_that_can_be_purged_are_told_as_they_are() -> None:
    assert len(list(purged_splits(60, folds=6, tested=2, purge=4, embargo=4))) == 15
    with pytest.raises(ValueError, match="6 folds need 60 sessions with a purge of 4 and an embargo of 4, got 59"):
        list(purged_splits(59, folds=6, tested=2, purge=4, embargo=4))


def test_every_path_covers_each_session_once_with_a_model_that_did_not_see_it() -> None:
    asked: list[int] = []

    def predicted(train: np.ndarray, rows: np.ndarray) -> np.ndarray:
        asked.append(len(rows))
        assert not set(train) & set(rows)
        return np.stack((rows, np.full(len(rows), len(asked))), axis=1)

    found = purged_paths(120, predicted, folds=5, tested=2, purge=4, embargo=3)
    assert found.shape == (4, 120, 2)
    assert len(asked) == 10
    np.testing.assert_array_equal(found[:, :, 0], np.broadcast_to(np.arange(120), (4, 120)))
    models = found[:, :, 1]
    for fold in range(5):
        assert len(set(models[:, 24 * fold])) == 4  # another model for each path
    with pytest.raises(ValueError, match="take fewer folds"):
        list(purged_splits(50, folds=5, tested=2, purge=10, embargo=10))


def test_the_ensemble_weighs_as_specified() -> None:
    found = with_ensembles({3: np.asarray([1.0])}, {3: np.asarray([2.0])})
    assert found["ensemble"][3][0] == pytest.approx(0.35 * 1 + 0.30 * 2 + 0.35 * 1.5)
    assert found["equal weights"][3][0] == 1.5


@pytest.fixture(scope="module")
def studied() -> dict:
    made, random = panel(140, 30), np.random.default_rng(5)
    members = []
    for noise in (0.05, 0.2):
        by = {}
        for horizon in (3, 5):
            known = made.from_open(horizon) + random.normal(0, noise, made.open.shape)
            known[:20] = known[120:] = np.nan
            by[horizon] = known
        members.append(by)
    paths = {"ensemble": {3: np.stack([members[0][3], -members[0][3]])}}
    return study_cross_section(
        with_ensembles(*members), made, trials=9, paths=paths, targets={3: (0.035, 0.99), 5: (2.0, 3.0)}
    )


def test_the_study_tells_each_model_and_counts_the_trials(studied: dict) -> None:
    assert json.loads(json.dumps(studied, allow_nan=False)) == studied
    assert studied["judged"]["sessions"] == 100
    assert studied["judged"]["from"].startswith("1970-01-21")
    assert studied["trials"] == 9
    three = studied["horizons"]["3"]
    assert list(three["models"]) == ["stockformer", "tft", "ensemble", "equal weights"]
    better, worse = (three["models"][name]["rank_ic"]["mean"] for name in ("stockformer", "tft"))
    assert better > worse > 0
    assert set(three["contests"]) == {"stockformer", "tft", "equal weights"}
    assert three["contests"]["tft"]["statistic"] > 2
    assert three["models"]["stockformer"]["deciles"]["deflated"]["trials"] == 9
    assert 0 <= three["overfitting"]["probability"] <= 1
    assert [row["met"] for row in studied["acceptance"]] == [True, False]
    assert not studied["acceptance"][0]["aim_met"]
    assert three["models"]["ensemble"]["paths"]["above_zero"] == 0.5


def test_the_tables_say_what_the_json_holds(studied: dict) -> None:
    text = markdown("NIFTY", studied)
    mean = studied["horizons"]["5"]["models"]["tft"]["rank_ic"]["mean"]
    assert f"{mean:+.4f}" in text
    assert "NIFTY: targets, the ensemble" in text
    assert "– met |" in text
    assert "– missed |" in text
    assert "today's members" in text
    assert text.count("| ensemble less ") == 3
    assert "deflated Sharpe over 9 trials" in text


def test_attempts_that_were_not_kept_count_against_the_kept() -> None:
    made, random = panel(70, 24), np.random.default_rng(6)
    noise = {f"try {place}": {3: random.normal(size=made.open.shape)} for place in range(6)}
    found = study_cross_section({"kept": noise["try 0"]}, made, attempts=noise)
    alone = study_cross_section({"kept": noise["try 0"]}, made)
    assert (found["trials"], alone["trials"]) == (7, 1)
    assert list(found["horizons"]["3"]["models"]) == ["kept"]
    assert found["horizons"]["3"]["overfitting"]["trials"] == 7
    assert alone["horizons"]["3"]["overfitting"] is None
    both = [one["horizons"]["3"]["models"]["kept"]["deciles"]["deflated"]["probability"] for one in (found, alone)]
    assert both[0] < both[1]


def test_the_chance_of_a_lucky_best_compares_returns_of_the_same_sessions() -> None:
    made, random = panel(120, 24), np.random.default_rng(7)
    tried = {"early": random.normal(size=made.open.shape), "late": random.normal(size=made.open.shape)}
    tried["early"][70:], tried["late"][:20] = np.nan, np.nan
    found = study_cross_section({name: {3: values} for name, values in tried.items()}, made)
    early, late = (deciles(values, made, 3) for values in tried.values())
    assert (early.first, late.first) == (1, 21)
    both = slice(21, early.first + len(early.long_short))
    aligned = [one.long_short[both.start - one.first :][: both.stop - both.start] for one in (early, late)]
    expected = overfitting(np.stack(aligned, axis=1))
    told = found["horizons"]["3"]["overfitting"]
    assert (told["probability"], told["loss"]) == (expected.probability, expected.loss)


def test_paths_without_a_single_correlation_are_unknown() -> None:
    made = panel(40, 12)
    by = {"ensemble": {3: made.from_open(3)}}
    empty = {"ensemble": {3: np.full((2, *made.open.shape), np.nan)}}
    found = study_cross_section(by, made, paths=empty)
    assert found["horizons"]["3"]["models"]["ensemble"]["paths"] is None
    assert "purged paths" in markdown("NIFTY", found)


def test_what_does_not_fit_the_panel_is_refused() -> None:
    for numbers in ({"horizon": 0}, {"horizon": 3, "groups": 1}, {"horizon": 3, "cost_bps": math.nan}):
        with pytest.raises(ValueError, match="must be 1 or more"):
            deciles(np.zeros((30, 20)), panel(30, 20), **numbers)
    with pytest.raises(ValueError, match="1 or more, got 0"):
        panel(30, 20).from_open(0)
    made = panel(30, 20)
    with pytest.raises(ValueError, match=r"must be \(30, 20\)"):
        study_cross_section({"a": {3: np.zeros((29, 20))}}, made)
    with pytest.raises(ValueError, match="same horizons"):
        study_cross_section({"a": {3: np.zeros((30, 20))}, "b": {5: np.zeros((30, 20))}}, made)
    with pytest.raises(ValueError, match="a number somewhere"):
        study_cross_section({"a": {3: np.full((30, 20), np.nan)}}, made)
    assert set(RANK_IC_TARGETS) == {3, 5, 10}
