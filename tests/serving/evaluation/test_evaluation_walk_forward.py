"""Walk-forward: folds in the order of time that share nothing, and references that know only their past."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from training_data import candles, two_series

from fusiontrade.journal.outcomes import HORIZON_BARS
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from serving.evaluation.baselines import BoostingSettings, ewma_quantiles, garch_quantiles, rolling_quantiles
from serving.evaluation.baselines.pooled import newest_features, rolling_in_atr, volatility_quantiles
from serving.evaluation.walk_forward import Fold, even_cuts, expanding_folds, walk_forward
from serving.features import slots, slots_a_week
from serving.training.config import PURGE_BARS
from serving.training.dataset import Pool, fit_season, pool_of, volatility_of

LEVELS = (0.05, 0.5, 0.95)
TREES = BoostingSettings(rows=3000, validation_rows=500, rounds=20, fewest=20)


@pytest.fixture(scope="module")
def pool() -> Pool:
    return pool_of(Timeframe.H1, two_series())


@pytest.fixture(scope="module")
def cuts(pool: Pool) -> tuple[int, ...]:
    last = int(pool.entry.max())
    return even_cuts(last - 60 * 86_400_000, last - 5 * 86_400_000, 3)


@pytest.fixture(scope="module")
def folds(pool: Pool, cuts: tuple[int, ...]) -> list[Fold]:
    return expanding_folds(pool, cuts)


def test_folds_follow_one_another_and_judge_no_row_twice(pool: Pool, folds: list[Fold], cuts: tuple[int, ...]) -> None:
    judged = np.concatenate([fold.judged for fold in folds])
    assert len(np.unique(judged)) == len(judged)
    for fold, begin, until in zip(folds, cuts[:-1], cuts[1:], strict=True):
        assert fold.cuts[1:] == (begin, until)
        assert pool.entry[fold.train].max() < fold.cuts[0] <= pool.entry[fold.validation].min()
        assert pool.entry[fold.validation].max() < begin <= pool.entry[fold.judged].min()
        assert pool.entry[fold.judged].max() < until
        assert np.isin(np.concatenate((fold.train, fold.validation, fold.judged)), pool.usable).all()
    sizes = [len(fold.train) for fold in folds]
    assert sizes == sorted(sizes)
    assert set(folds[0].train) < set(folds[-1].train)


def test_no_label_of_a_fold_looks_past_the_purge(pool: Pool, folds: list[Fold]) -> None:
    for fold in folds:
        for rows, cut, purge in (
            (fold.train, fold.cuts[0], PURGE_BARS),
            (fold.validation, fold.cuts[1], PURGE_BARS),
            (fold.judged, fold.cuts[2], HORIZON_BARS),
        ):
            for number, one in enumerate(pool.series):
                own = rows[pool.series_of(rows) == number] - pool.starts[number]
                if len(own):
                    assert one.frame.close_time[own.max() + purge] < cut


def test_the_newest_share_before_a_fold_is_its_validation(pool: Pool, folds: list[Fold]) -> None:
    before = pool.entry[pool.usable]
    before = before[before < folds[0].cuts[1]]
    assert np.mean(before >= folds[0].cuts[0]) == pytest.approx(0.12, abs=0.01)


def test_cuts_that_leave_nothing_are_refused(pool: Pool, cuts: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="cuts must be two or more rising instants"):
        expanding_folds(pool, (cuts[1], cuts[0]))
    with pytest.raises(ValueError, match="no rows before the fold that begins at 1"):
        expanding_folds(pool, (1, cuts[0]))
    with pytest.raises(ValueError, match="no judged rows in the fold"):
        expanding_folds(pool, (cuts[0], cuts[0] + 3_600_000))
    with pytest.raises(ValueError, match="folds must be at least 1"):
        even_cuts(0, 10, 0)
    assert even_cuts(0, 10, 2) == (0, 5, 10)


@pytest.fixture(scope="module")
def walked(pool: Pool, folds: list[Fold]) -> list[dict]:
    return walk_forward(pool, folds, settings=TREES, resamples=40, seed=1)


def test_every_fold_is_scored_by_each_reference(walked: list[dict], folds: list[Fold]) -> None:
    """The invented market is lively at some hours and at others not, so every reference that knows hours gains."""
    for found, fold in zip(walked, folds, strict=True):
        figures = found["figures"]
        assert (found["from"], found["to"]) == fold.cuts[1:]
        assert found["rows"] == len(fold.judged) == figures["baseline_lightgbm_direction_auc"]["n"]
        assert found["trained_on"] == len(fold.train) + len(fold.validation)
        for name in ("ewma", "garch", "lightgbm"):
            assert 0.5 < figures[f"baseline_{name}_pinball_ratio"]["value"] < 1
            assert figures[f"baseline_{name}_coverage_90"]["value"] == pytest.approx(0.9, abs=0.06)
        assert figures["baseline_climatology_either_touch_auc"]["value"] > 0.5
        assert figures["baseline_lightgbm_either_touch_auc"]["low"] < 1
        assert "baseline_lightgbm_direction_log_loss_skill" in figures
        assert "baseline_lightgbm_either_touch_skill_over_climatology" in figures
    assert json.loads(json.dumps(walked)) == walked


def test_bars_after_a_fold_change_none_of_its_figures(pool: Pool, cuts: tuple[int, ...], walked: list[dict]) -> None:
    def ended(frame: CandleFrame) -> CandleFrame:
        kept = frame.close_time < cuts[2]
        columns = {
            field.name: getattr(frame, field.name)[kept]
            for field in dataclasses.fields(frame)
            if isinstance(getattr(frame, field.name), np.ndarray)
        }
        return dataclasses.replace(frame, **columns)

    short = pool_of(Timeframe.H1, [(ended(frame), rollover) for frame, rollover in two_series()])
    again = walk_forward(short, expanding_folds(short, cuts[:3]), settings=TREES, resamples=40, seed=1)
    assert again == walked[:2]


def test_progress_counts_folds(pool: Pool, folds: list[Fold]) -> None:
    told: list[int] = []
    walk_forward(pool, folds[:2], settings=TREES, resamples=5, seed=1, progress=told.append)
    assert told == [1, 2]


def test_pooled_answers_are_those_of_each_series_alone(pool: Pool, folds: list[Fold]) -> None:
    fold = folds[-1]
    rows = np.random.default_rng(0).permutation(fold.judged)[:200]
    told = volatility_quantiles(pool, rows, fold.cuts[:2], LEVELS)
    rolling = rolling_in_atr(pool, rows, LEVELS)
    for number, one in enumerate(pool.series):
        own = pool.series_of(rows) == number
        asked = rows[own] - pool.starts[number]
        first, second = (int((one.frame.close_time < cut).sum()) for cut in fold.cuts[:2])
        slot, week = slots(one.frame.time, Timeframe.H1), slots_a_week(Timeframe.H1)
        bars = (one.frame.close, one.atr, slot, asked)
        ewma = ewma_quantiles(*bars, week=week, span_end=first, validation_end=second, levels=LEVELS)
        garch = garch_quantiles(*bars, week=week, span_end=second, levels=LEVELS)
        unit = (one.frame.close / one.atr)[asked, None]
        assert np.array_equal(told["ewma"][own], ewma.quantiles)
        assert np.array_equal(told["garch"][own], garch.quantiles)
        assert np.array_equal(rolling[own], rolling_quantiles(one.frame.close, asked, LEVELS) * unit)


def test_a_series_too_short_to_learn_from_is_left_unanswered() -> None:
    """It begins in the weeks before the cut."""
    long = candles("BTC-USD", 3300, 2)
    begin = int(long.time[2300])
    pool = pool_of(Timeframe.H1, [(long, False), (candles("SOL-USD", 1000, 3, start=begin), False)])
    cuts = (int(long.time[2700]), int(long.time[2900]))
    rows = pool.usable[(pool.entry[pool.usable] >= cuts[1]) & (pool.entry[pool.usable] < long.time[-1])]
    told = volatility_quantiles(pool, rows, cuts, LEVELS)
    short = pool.series_of(rows) == 1
    assert short.any()
    assert np.isnan(told["ewma"][short]).all()
    assert np.isnan(told["garch"][short]).all()
    assert np.isfinite(told["garch"][~short]).all()


def test_newest_features_stand_side_by_side(pool: Pool) -> None:
    volatility = volatility_of(pool, fit_season(pool, int(pool.entry.max())))
    table = newest_features(pool, volatility)
    assert table.shape == (len(pool.entry), 50 + 8 + volatility.shape[1])
    row = int(pool.starts[1]) + 800
    assert np.array_equal(table[row, :50], pool.series[1].lstm.features[800])
    assert np.array_equal(table[row, 58:], volatility[row])
