"""The pool: no slice sees another, the scaler sees the training slice alone, batches are what serving computes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from training_data import candles, two_series

from fusiontrade.market.timeframes import Timeframe
from serving.features import INDICATORS, VOLUME_COLUMNS, lstm_inputs, patchtst_inputs
from serving.training.config import HORIZON_BARS, PURGE_BARS, TrainingConfig
from serving.training.dataset import LstmBatches, PatchTstBatches, Pool, fingerprint, fit_scaler, pool_of, split

CONFIG = TrainingConfig()


@pytest.fixture(scope="module")
def pool() -> Pool:
    return pool_of(Timeframe.H1, two_series())


def test_slices_follow_each_other_in_time_and_share_no_row(pool: Pool) -> None:
    slices = split(pool, CONFIG)
    parts = [slices.train, slices.validation, slices.calibration, slices.test]
    spans = [(pool.entry[rows].min(), pool.entry[rows].max()) for rows in parts]
    assert all(before[1] < after[0] for before, after in pairwise(spans))
    joined = np.concatenate(parts)
    assert len(np.unique(joined)) == len(joined)
    assert set(joined) <= set(pool.usable)
    assert set(slices.test) == set(pool.usable[pool.entry[pool.usable] >= slices.cuts[2]])


def test_each_series_leaves_out_the_horizon_and_an_embargo_before_every_cut(pool: Pool) -> None:
    slices = split(pool, CONFIG)
    parts = [slices.train, slices.validation, slices.calibration, slices.test]
    for place in range(len(pool.series)):
        for before, after in pairwise(parts):
            ours = before[pool.series_of(before) == place], after[pool.series_of(after) == place]
            assert ours[1].min() - ours[0].max() > PURGE_BARS >= HORIZON_BARS + 60


def test_the_scaler_is_the_median_and_spread_of_the_training_rows(pool: Pool) -> None:
    train = split(pool, CONFIG).train
    scaler = fit_scaler(pool, train)
    seen = np.concatenate([one.lstm.features for one in pool.series])[train].astype(np.float64)
    column = INDICATORS.index("rsi")
    low, middle, high = np.quantile(seen[:, column], (0.25, 0.5, 0.75))
    assert scaler.center[column] == pytest.approx(middle)
    assert scaler.scale[column] == pytest.approx((high - low) / 1.349)


def test_bars_after_the_training_slice_do_not_change_the_scaler() -> None:
    frames = two_series()
    train = split(pool_of(Timeframe.H1, frames), CONFIG).train
    late = pool_of(Timeframe.H1, frames)
    cut = split(late, CONFIG).cuts[0]
    altered = []
    for frame, rollover in frames:
        later = frame.time >= cut
        prices = {
            name: np.where(later, 3 * getattr(frame, name), getattr(frame, name))
            for name in ("open", "high", "low", "close")
        }
        altered.append((replace(frame, **prices), rollover))
    before, after = fit_scaler(late, train), fit_scaler(pool_of(Timeframe.H1, altered), train)
    assert before.center.tolist() == after.center.tolist()
    assert before.scale.tolist() == after.scale.tolist()


def test_masked_volume_stays_zero_through_the_scaler(pool: Pool) -> None:
    scaler = fit_scaler(pool, split(pool, CONFIG).train)
    volume = np.isin(INDICATORS, VOLUME_COLUMNS)
    pair = next(one for one in pool.series if one.symbol == "EURUSD=X")
    assert (scaler.apply(pair.lstm.features[700:])[:, volume] == 0).all()
    assert (scaler.scale > 0).all()


def test_a_batch_row_is_what_serving_computes_of_the_newest_bars(pool: Pool) -> None:
    slices = split(pool, CONFIG)
    scaler = fit_scaler(pool, slices.train)
    rows = slices.test[[3, -5, 40]]
    features, calendar = LstmBatches(pool, scaler).inputs(rows)
    candles_, ahead = PatchTstBatches(pool).inputs(rows)
    for number, row in enumerate(rows):
        place = int(pool.series_of(rows)[number])
        frame = pool.series[place].frame.rows(slice(0, int(row - pool.starts[place]) + 1))
        served, served_calendar = lstm_inputs(frame)
        assert np.abs(features[number] - scaler.apply(served[0])).max() < 1e-5
        assert (calendar[number] == served_calendar[0]).all()
        served_candles, served_ahead = patchtst_inputs(frame)
        assert np.abs(candles_[number] - served_candles[0]).max() < 1e-4
        assert (ahead[number] == served_ahead[0]).all()


def test_targets_belong_to_their_rows(pool: Pool) -> None:
    rows = split(pool, CONFIG).test[[0, -1]]
    scaler = fit_scaler(pool, split(pool, CONFIG).train)
    change = LstmBatches(pool, scaler).targets(rows)["change"]
    for number, row in enumerate(rows):
        place = int(pool.series_of(rows)[number])
        one, own = pool.series[place], int(row - pool.starts[place])
        expected = (one.frame.close[own + 1] - one.frame.close[own]) / one.atr[own]
        assert change[number] == pytest.approx(expected, rel=1e-5)


def test_too_little_history_is_refused_with_the_slice_that_lacks_rows() -> None:
    short = pool_of(Timeframe.H1, [(candles("BTC-USD", 1000, 1), False)])
    with pytest.raises(ValueError, match="no rows for the validation slice; give more history"):
        split(short, CONFIG)


def test_a_fingerprint_changes_with_any_price() -> None:
    frame = candles("BTC-USD", 50, 1)
    close = frame.close.copy()
    close[7] *= 1 + 1e-12
    assert fingerprint(frame) == fingerprint(replace(frame))
    assert fingerprint(frame) != fingerprint(replace(frame, close=close))
    assert fingerprint(frame) != fingerprint(frame.without_volume())
