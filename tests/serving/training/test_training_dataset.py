"""The pool: no slice sees another, the scaler sees the training slice alone, batches are what serving computes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from tiny_bundles import card_content
from training_data import HOUR, candles, two_series

from fusiontrade.clock import iso
from fusiontrade.journal.outcomes import HORIZON_BARS
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from serving.card import ModelCard
from serving.features import (
    INDICATORS,
    VOLATILITY,
    VOLUME_COLUMNS,
    WINDOW,
    activity,
    lstm_inputs,
    patchtst_inputs,
    slots,
    usual_week,
    volatility_columns,
)
from serving.training.config import PURGE_BARS, TrainingConfig
from serving.training.dataset import (
    LstmBatches,
    PatchTstBatches,
    Pool,
    Slices,
    fingerprint,
    fit_scaler,
    fit_season,
    pool_of,
    robust_scaler,
    slices_at,
    split,
    volatility_of,
)
from serving.training.judging.references import held_out
from serving.training.prepared import prepare, prepared_as

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


def assert_purged(pool: Pool, slices: Slices) -> None:
    parts = [slices.train, slices.validation, slices.calibration, slices.test]
    for place in range(len(pool.series)):
        for before, after in pairwise(parts):
            ours = before[pool.series_of(before) == place], after[pool.series_of(after) == place]
            assert ours[1].min() - ours[0].max() > PURGE_BARS >= HORIZON_BARS + 60


def test_each_series_leaves_out_the_horizon_and_an_embargo_before_every_cut(pool: Pool) -> None:
    assert_purged(pool, split(pool, CONFIG))


def test_no_label_of_a_slice_is_made_of_bars_at_or_after_the_next_cut(pool: Pool) -> None:
    slices = split(pool, CONFIG)
    for rows, cut in zip((slices.train, slices.validation, slices.calibration), slices.cuts, strict=True):
        place = pool.series_of(rows)
        for one in range(len(pool.series)):
            own = rows[place == one] - pool.starts[one]
            assert pool.series[one].frame.close_time[own + HORIZON_BARS].max() < cut


def test_the_scaler_is_the_median_and_spread_of_the_training_rows(pool: Pool) -> None:
    train = split(pool, CONFIG).train
    scaler = fit_scaler(pool, train)
    seen = np.concatenate([one.lstm.features for one in pool.series])[train].astype(np.float64)
    column = INDICATORS.index("rsi")
    low, middle, high = np.quantile(seen[:, column], (0.25, 0.5, 0.75))
    assert scaler.center[column] == pytest.approx(middle)
    assert scaler.scale[column] == pytest.approx((high - low) / 1.349)


def later_bars_times_three(frames: list[tuple[CandleFrame, bool]], since: int) -> list[tuple[CandleFrame, bool]]:
    """The same series with every bar that opens at or after an instant at three times its price, and wilder."""
    found = []
    for frame, rollover in frames:
        late = frame.time >= since
        factor = np.where(late, 3 + np.sin(np.arange(len(frame))), 1.0)
        prices = {name: factor * getattr(frame, name) for name in ("open", "high", "low", "close")}
        found.append((replace(frame, **prices), rollover))
    return found


def test_bars_after_the_training_slice_change_neither_scalers_nor_season() -> None:
    frames = two_series()
    before = prepare(pool_of(Timeframe.H1, frames), CONFIG)
    after = prepare(pool_of(Timeframe.H1, later_bars_times_three(frames, before.slices.cuts[0])), CONFIG)
    assert before.slices.train.tolist() == after.slices.train.tolist()
    for name in ("scaler", "volatility_scaler"):
        one, other = getattr(before, name), getattr(after, name)
        assert one.center.tolist() == other.center.tolist()
        assert one.scale.tolist() == other.scale.tolist()
    assert {name: usual.tolist() for name, usual in before.season.items()} == {
        name: usual.tolist() for name, usual in after.season.items()
    }
    train = before.slices.train
    np.testing.assert_array_equal(before.volatility[train], after.volatility[train])
    assert (before.volatility[before.slices.test] != after.volatility[after.slices.test]).any()


def test_bars_of_the_training_slice_do_change_them() -> None:
    frames = two_series()
    before = prepare(pool_of(Timeframe.H1, frames), CONFIG)
    altered = later_bars_times_three(frames, before.slices.cuts[0] - 10 * 24 * HOUR)
    after = prepare(pool_of(Timeframe.H1, altered), CONFIG)
    assert before.scaler.scale.tolist() != after.scaler.scale.tolist()
    assert before.volatility_scaler.scale.tolist() != after.volatility_scaler.scale.tolist()
    assert before.season["any"].tolist() != after.season["any"].tolist()


def test_the_season_is_the_usual_activity_of_the_bars_before_the_cut(pool: Pool) -> None:
    cut = split(pool, CONFIG).cuts[0]
    season = fit_season(pool, cut)
    assert set(season) == {"EURUSD=X", "BTC-USD", "fx", "crypto", "any"}
    coin = next(one for one in pool.series if one.symbol == "BTC-USD").frame
    busy, slot = activity(coin), slots(coin.time, coin.timeframe)
    of_slot = [busy[row] for row in range(len(coin)) if coin.close_time[row] < cut and slot[row] == 30]
    known = [value for value in of_slot if np.isfinite(value)]
    expected = (sum(known) + 60 * season["crypto"][30]) / (len(known) + 60)
    assert season["BTC-USD"][30] == pytest.approx(expected, abs=1e-4)
    weekend = slice(5 * 24, 6 * 24 + 12)
    assert (season["EURUSD=X"][weekend] == 0).all()
    assert (season["BTC-USD"][weekend] > 0).all()


def test_a_series_too_young_for_a_season_of_its_own_takes_its_kinds_with_its_own_times_of_day() -> None:
    frames = [*two_series(), (candles("ETH-USD", 900, 4, start=int(two_series()[1][0].time[-900])), False)]
    pool = pool_of(Timeframe.H1, frames)
    season = fit_season(pool, int(frames[2][0].time[100]))
    assert "ETH-USD" not in season
    place = next(number for number, one in enumerate(pool.series) if one.symbol == "ETH-USD")
    own = slice(int(pool.starts[place]), int(pool.starts[place + 1]))
    found, usable = volatility_of(pool, season)[own], pool.series[place].labels.usable
    np.testing.assert_array_equal(np.isfinite(found).all(axis=1), usable)
    newest = np.flatnonzero(usable)[-1]
    window = frames[2][0].rows(slice(newest - 599, newest + 1))
    expected = volatility_columns(window, usual_week(season, window, "crypto"))[-1]
    np.testing.assert_array_equal(found[newest], expected)
    assert (expected != volatility_columns(window, season["crypto"])[-1]).any()


def test_a_bundle_is_judged_beside_baselines_on_a_series_that_began_after_its_season_was_learned() -> None:
    """The baselines learn from rows before the judged slice, so their volatility has to be known as well."""
    frames = [*two_series(), (candles("ETH-USD", 1400, 4, start=int(two_series()[1][0].time[-1400])), False)]
    prepared = prepare(pool_of(Timeframe.H1, frames), CONFIG)
    cuts = prepared.slices.cuts
    content = card_content("lstm", "1h") | {
        "season": {name: week.tolist() for name, week in prepared.season.items() if name != "ETH-USD"},
        "windows": {
            "train": (0, cuts[0]),
            "validation": (cuts[0], cuts[1]),
            "calibration": (cuts[1], cuts[2]),
            "test": (cuts[2], 2**62),
        },
    }
    again = prepared_as(ModelCard.model_validate(content), prepared.pool)
    assert np.isfinite(again.volatility[prepared.pool.usable]).all()
    assert np.isfinite(held_out(again).logistic_either).all()


def test_the_untouched_slice_begins_at_the_instant_that_was_chosen(pool: Pool) -> None:
    instants = np.sort(pool.entry[pool.usable])
    judged = int(instants[int(0.7 * len(instants))])
    slices = split(pool, replace(CONFIG, judged_from=iso(judged)))
    assert slices.cuts[2] == judged
    assert pool.entry[slices.test].min() >= judged
    assert pool.entry[slices.calibration].max() < judged
    assert set(slices.test) == set(pool.usable[pool.entry[pool.usable] >= judged])
    before = instants[instants < judged]
    shares = [(before < cut).mean() for cut in slices.cuts[:2]]
    parts = np.array([CONFIG.train, CONFIG.validation, CONFIG.calibration])
    assert shares == pytest.approx((parts.cumsum() / parts.sum())[:2], abs=0.002)
    assert_purged(pool, slices)


def test_another_future_does_not_move_the_slices_before_it(pool: Pool) -> None:
    judged = iso(int(np.quantile(pool.entry[pool.usable], 0.7)) // HOUR * HOUR)
    config = replace(CONFIG, judged_from=judged)
    whole = split(pool, config)
    shorter = pool_of(Timeframe.H1, [(one.frame.rows(slice(0, -60)), one.rollover) for one in pool.series])
    part = split(shorter, config)
    assert part.cuts == whole.cuts
    for name in ("train", "validation", "calibration"):
        np.testing.assert_array_equal(pool.entry[getattr(whole, name)], shorter.entry[getattr(part, name)])


@pytest.mark.parametrize("instant", ["2019-01-01T00:00:00Z", "2031-01-01T00:00:00+02:00"])
def test_an_instant_that_leaves_one_side_empty_is_refused_by_name(pool: Pool, instant: str) -> None:
    with pytest.raises(ValueError, match=r"1h: judged_from .* leaves no rows on one of its sides"):
        split(pool, replace(CONFIG, judged_from=instant))


@pytest.mark.parametrize("text", ["2024-11-01", "2024-11-01T00:00:00", "soon", "1730419200000"])
def test_an_instant_without_a_zone_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=r"judged_from is no instant with a zone, e\.g\. 2024-11-01T00:00:00Z"):
        TrainingConfig(judged_from=text)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_that_never_forgets_is_refused_by_name(decay: float) -> None:
    with pytest.raises(ValueError, match=f"averaging must be at least 0 and below 1, got {decay}"):
        TrainingConfig(averaging=decay)


def test_the_cuts_of_a_split_give_the_same_slices_again(pool: Pool) -> None:
    slices = split(pool, CONFIG)
    again = slices_at(pool, slices.cuts)
    for name in ("train", "validation", "calibration", "test"):
        np.testing.assert_array_equal(getattr(again, name), getattr(slices, name))
    first, second, third = slices.cuts
    with pytest.raises(ValueError, match="no rows for the calibration slice"):
        slices_at(pool, (first, third, third))
    with pytest.raises(ValueError, match="no rows for the training slice"):
        slices_at(pool, (0, second, third))


def test_masked_volume_stays_zero_through_the_scaler(pool: Pool) -> None:
    scaler = fit_scaler(pool, split(pool, CONFIG).train)
    volume = np.isin(INDICATORS, VOLUME_COLUMNS)
    pair = next(one for one in pool.series if one.symbol == "EURUSD=X")
    assert (scaler.apply(pair.lstm.features[700:])[:, volume] == 0).all()
    assert (scaler.scale > 0).all()


def test_a_batch_row_is_what_serving_computes_of_the_newest_bars(pool: Pool) -> None:
    slices = split(pool, CONFIG)
    scaler = fit_scaler(pool, slices.train)
    season = fit_season(pool, slices.cuts[0])
    raw = volatility_of(pool, season)
    of_volatility = robust_scaler(raw[slices.train])
    volatility = of_volatility.apply(raw)
    rows = slices.test[[3, -5, 40]]
    features, calendar, state = LstmBatches(pool, scaler, volatility).inputs(rows)
    candles_, ahead, same_state = PatchTstBatches(pool, volatility).inputs(rows)
    assert (state == same_state).all()
    assert state.shape == (3, len(VOLATILITY))
    for number, row in enumerate(rows):
        place = int(pool.series_of(rows)[number])
        frame = pool.series[place].frame.rows(slice(0, int(row - pool.starts[place]) + 1))
        served, served_calendar = lstm_inputs(frame)
        assert np.abs(features[number] - scaler.apply(served[0])).max() < 1e-5
        assert (calendar[number] == served_calendar[0]).all()
        served_candles, served_ahead = patchtst_inputs(frame)
        assert np.abs(candles_[number] - served_candles[0]).max() < 1e-4
        assert (ahead[number] == served_ahead[0]).all()
        usual = season[pool.series[place].symbol]
        assert (
            np.abs(state[number] - of_volatility.apply(volatility_columns(frame.tail(WINDOW), usual)[-1])).max() < 1e-5
        )


def test_targets_belong_to_their_rows(pool: Pool) -> None:
    rows = split(pool, CONFIG).test[[0, -1]]
    scaler = fit_scaler(pool, split(pool, CONFIG).train)
    targets = LstmBatches(pool, scaler, np.zeros((len(pool.entry), len(VOLATILITY)), np.float32)).targets(rows)
    change, touch = targets["change"], targets["touch"]
    assert (touch[:, 10:] == np.maximum(touch[:, :5], touch[:, 5:10])).all()
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


def test_an_unseen_series_volatility_is_what_serving_would_compute_row_by_row() -> None:
    pool = pool_of(Timeframe.H1, two_series())
    season = {"any": np.linspace(0.5, 1.5, 168), "BTC-USD": np.ones(168)}
    one = next(one for one in pool.series if one.symbol != "BTC-USD")
    start = pool.starts[[each.symbol for each in pool.series].index(one.symbol)]
    rows = (np.flatnonzero(one.labels.usable)[[0, 7, -1]] + start).astype(np.intp)
    found = volatility_of(pool, season, rows)
    for row in rows:
        window = one.frame.rows(slice(0, row - start + 1)).tail(659)
        served = volatility_columns(window.tail(600), usual_week(season, window, one.market))[-1]
        np.testing.assert_array_equal(found[row], served)
    others = np.setdiff1d(np.arange(start, start + len(one.frame)), rows)
    assert np.isnan(found[others]).all()
    seen = next(each for each in pool.series if each.symbol == "BTC-USD")
    begin = pool.starts[[each.symbol for each in pool.series].index("BTC-USD")]
    whole = volatility_columns(seen.frame, season["BTC-USD"])
    np.testing.assert_array_equal(found[begin : begin + len(whole)], whole)
