"""Scalers: those of the training slice pass however they were rounded; those that saw more are named."""

from __future__ import annotations

import numpy as np
import pytest

from serving.features import INDICATORS
from serving.lookahead.checks import Outcome, Statistics, check_scaler, check_scaler_of_rows, robust, standard
from serving.lookahead.pools import check_pool_scalers
from serving.training.config import TrainingConfig
from serving.training.dataset import Pool, Slices, fit_scaler, fit_season
from serving.training.prepared import prepare

RANDOM = np.random.default_rng(4)
ROWS = np.concatenate((RANDOM.normal(0, 1, (600, 3)), RANDOM.normal(0.3, 1.5, (200, 3)), RANDOM.normal(1, 2, (200, 3))))
SEEN = [("the training slice", ROWS[:600]), ("all slices up to calibration", ROWS[:800]), ("all rows", ROWS)]
COLUMNS = ("one", "two", "three")


@pytest.mark.parametrize("fit", [robust, standard])
def test_statistics_of_the_training_slice_pass_although_they_were_rounded(fit) -> None:
    fitted = fit(ROWS[:600])
    stored = Statistics(np.round(fitted.center, 7), np.round(fitted.scale, 7))
    check = check_scaler_of_rows("scaler", stored, SEEN, COLUMNS)
    assert check.outcome is Outcome.PASS
    assert "3 columns equal the training slice's" in check.told


@pytest.mark.parametrize("fit", [robust, standard])
@pytest.mark.parametrize(("rows", "words"), [(800, "all slices up to calibration"), (1000, "all rows")])
def test_a_scaler_that_saw_more_is_found_and_what_it_saw_is_named(fit, rows: int, words: str) -> None:
    check = check_scaler_of_rows("scaler", fit(ROWS[:rows]), SEEN, COLUMNS)
    assert check.outcome is Outcome.FOUND
    assert {finding.where for finding in check.findings} == set(COLUMNS)
    assert f"it equals the statistics of {words}: it has seen what came after" in check.findings[0].told
    assert "training slice alone" in check.findings[0].remedy
    assert check.findings[0].size > 0.05


def test_a_scaler_near_all_rows_is_found_although_it_equals_nothing() -> None:
    fitted = standard(ROWS)
    check = check_scaler_of_rows(
        "scaler", Statistics(fitted.center + 0.01, fitted.scale), SEEN, COLUMNS, kind="standard"
    )
    assert "is nearest (" in check.findings[0].told
    assert "to those of all rows" in check.findings[0].told


def test_a_scaler_of_other_rows_altogether_is_found_as_such() -> None:
    check = check_scaler_of_rows("scaler", Statistics(np.full(3, -9.0), np.ones(3)), SEEN, COLUMNS)
    assert "equals neither the statistics of the training slice nor those of all rows" in check.findings[0].told


def test_one_column_that_saw_more_is_found_alone() -> None:
    train, everything = standard(ROWS[:600]), standard(ROWS)
    center = np.array([train.center[0], everything.center[1], train.center[2]])
    check = check_scaler_of_rows("scaler", Statistics(center, train.scale), SEEN, COLUMNS, kind="standard")
    assert [finding.where for finding in check.findings] == ["two"]


def test_slices_that_look_alike_prove_nothing() -> None:
    same = [(words, ROWS[:600]) for words, _ in SEEN]
    check = check_scaler_of_rows("scaler", standard(ROWS[:600]), same, COLUMNS, kind="standard")
    assert check.outcome is Outcome.SKIPPED
    assert "nothing can be told" in check.told


def test_warm_up_rows_and_empty_columns_are_left_out() -> None:
    values = ROWS.copy()
    values[:50] = np.nan
    values[:, 1] = np.nan
    seen = [("the training slice", values[:600]), ("all rows", values)]
    fitted = standard(values[:600][:, [0, 2]])
    stored = Statistics(*(np.insert(part, 1, 1.0) for part in (fitted.center, fitted.scale)))
    assert check_scaler_of_rows("scaler", stored, seen, COLUMNS).outcome is Outcome.PASS


def test_infinite_values_are_left_out() -> None:
    broken = ROWS.copy()
    broken[3, 0], broken[700, 1], broken[4, 0] = np.inf, -np.inf, -np.inf
    seen = [("the training slice", broken[:600]), ("all rows", broken)]
    without = np.where(np.isfinite(broken), broken, np.nan)
    assert check_scaler_of_rows("scaler", standard(without[:600]), seen, COLUMNS).outcome is Outcome.PASS
    leaky = check_scaler_of_rows("scaler", standard(without), seen, COLUMNS)
    assert [np.isfinite(finding.size) for finding in leaky.findings] == [True] * 3


def test_a_scaler_beside_one_slice_alone_is_set_against_nothing_else() -> None:
    check = check_scaler_of_rows("scaler", standard(ROWS[:700]), SEEN[:1], COLUMNS)
    assert check.findings[0].told.startswith("it does not equal the statistics of the training slice; centre")


def test_the_products_own_scalers_are_clean(pool: Pool, slices: Slices) -> None:
    prepared = prepare(pool, TrainingConfig())
    checks = list(
        check_pool_scalers(
            "dataset",
            pool,
            slices,
            scaler=Statistics(prepared.scaler.center, prepared.scaler.scale),
            season={name: usual.tolist() for name, usual in prepared.season.items()},
            volatility=Statistics(prepared.volatility_scaler.center, prepared.volatility_scaler.scale),
        )
    )
    assert [check.outcome for check in checks] == [Outcome.PASS] * 3


def test_an_indicator_scaler_of_all_usable_rows_is_found(pool: Pool, slices: Slices) -> None:
    everything = np.concatenate([getattr(slices, name) for name in ("train", "validation", "calibration", "test")])
    fitted = fit_scaler(pool, everything)
    (check,) = check_pool_scalers("dataset", pool, slices, scaler=Statistics(fitted.center, fitted.scale))
    assert check.outcome is Outcome.FOUND
    assert "equals the statistics of all rows" in check.findings[0].told
    assert check.findings[0].where in INDICATORS


def test_busy_hours_learned_from_all_bars_are_found(pool: Pool, slices: Slices) -> None:
    season = {name: usual.tolist() for name, usual in fit_season(pool, 2**62).items()}
    (check,) = check_pool_scalers("dataset", pool, slices, scaler=None, season=season)
    assert check.outcome is Outcome.FOUND
    assert "slot" in check.findings[0].where


def test_statistics_of_constant_columns_do_not_divide_by_zero() -> None:
    constant = np.full((10, 1), 3.0)
    assert robust(constant).scale.tolist() == standard(constant).scale.tolist() == [1.0]
    told = [("the training slice", robust(constant)), ("all rows", robust(constant + 1))]
    assert check_scaler("scaler", robust(constant), told, ("one",)).outcome is Outcome.PASS
