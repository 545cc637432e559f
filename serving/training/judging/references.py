"""The held-out rows of a pool with what each baseline said of them, learned from the training span alone."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np

from serving.evaluation import HeldOut
from serving.evaluation.baselines import climatology, logistic, rates_by_series
from serving.evaluation.baselines.pooled import rolling_in_atr
from serving.models.lstm import QUANTILES
from serving.training.judging.directions import base_rates
from serving.training.prepared import Prepared

__all__ = ["held_out"]


_FOUND: WeakKeyDictionary[Prepared, HeldOut] = WeakKeyDictionary()


def held_out(prepared: Prepared) -> HeldOut:
    """Return the test slice; the training span is everything before the calibration slice. Reckoned once for a pool."""
    if prepared not in _FOUND:
        _FOUND[prepared] = _reckoned(prepared)
    return _FOUND[prepared]


def _reckoned(prepared: Prepared) -> HeldOut:
    pool, slices, scaler = prepared.pool, prepared.slices, prepared.scaler
    span = np.sort(np.concatenate((slices.train, slices.validation)))
    rows = slices.test
    place, seen = pool.series_of(rows), pool.series_of(span)
    entry, close = pool.entry, pool.column(lambda one: one.frame.close)
    atr = pool.column(lambda one: one.atr)
    truth = {name: pool.column(lambda one, name=name: getattr(one.labels, name)) for name in _TARGETS}  # type: ignore[misc]
    either = truth["touch"][:, [0, 5]].max(axis=1)
    classes = np.eye(3)[truth["classes"]]
    several = np.concatenate((truth["touch"], either[:, None], truth["win"], truth["log_range"][:, None]), axis=1)
    climate = climatology(seen, entry[span], several[span].astype(np.float64), place, entry[rows])
    inputs = np.concatenate(
        (
            scaler.apply(pool.column(lambda one: one.lstm.features)),
            pool.column(lambda one: one.lstm.calendar),
            prepared.volatility,
        ),
        axis=1,
    )
    change = np.diff(close, prepend=close[:1])  # a row's own bar; the first rows of a series are never usable
    return HeldOut(
        place=place,
        entry=entry[rows],
        known_at=pool.column(lambda one: one.labels.known_at)[rows],
        close=close[rows],
        atr=atr[rows],
        **{name: values[rows].astype(np.float64) for name, values in truth.items() if name != "classes"},
        classes=truth["classes"][rows],
        last_change=change[rows] / atr[rows],
        rate_direction=base_rates(
            rates_by_series(seen, truth["direction"][span][:, None].astype(np.float64), place)[:, 0]
        ),
        rate_touch=rates_by_series(seen, truth["touch"][span].astype(np.float64), place),
        rate_classes=rates_by_series(seen, classes[span], place),
        climate_touch=climate[:, :10],
        climate_either=climate[:, 10],
        climate_win=climate[:, 11:13],
        climate_log_range=climate[:, 13],
        rolling=rolling_in_atr(pool, rows, QUANTILES),
        logistic_direction=logistic(inputs[span], truth["direction"][span].astype(np.int64), inputs[rows])[:, 1],
        logistic_either=logistic(inputs[span], either[span].astype(np.int64), inputs[rows])[:, 1],
        logistic_classes=logistic(inputs[span], truth["classes"][span], inputs[rows]),
    )


_TARGETS = ("direction", "change", "touch", "win", "log_range", "classes")
