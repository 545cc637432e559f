"""The held-out rows of a pool with what each baseline said of them, learned from the training span alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from serving.evaluation import HeldOut
from serving.evaluation.baselines import climatology, logistic, rates_by_series
from serving.evaluation.baselines.pooled import rolling_in_atr
from serving.features import unrest_of
from serving.models.lstm import QUANTILES
from serving.training.judging.directions import base_rates
from serving.training.prepared import Prepared

__all__ = ["calibration_rows", "held_out"]


_FOUND: WeakKeyDictionary[Prepared, HeldOut] = WeakKeyDictionary()


def held_out(prepared: Prepared) -> HeldOut:
    """Return the test slice; the training span is everything before the calibration slice. Reckoned once for a pool."""
    if prepared not in _FOUND:
        _FOUND[prepared] = _reckoned(prepared, prepared.slices.test)
    return _FOUND[prepared]


def calibration_rows(prepared: Prepared) -> HeldOut:
    """Return the calibration slice in the same form, for choices that need baselines; regressions are left NaN."""
    return _reckoned(prepared, prepared.slices.calibration, regressed=False)


def _reckoned(prepared: Prepared, rows: NDArray[np.intp], *, regressed: bool = True) -> HeldOut:
    pool, slices = prepared.pool, prepared.slices
    span = np.sort(np.concatenate((slices.train, slices.validation)))
    place, seen = pool.series_of(rows), pool.series_of(span)
    entry, close = pool.entry, pool.column(lambda one: one.frame.close)
    atr = pool.column(lambda one: one.atr)
    truth = {name: pool.column(lambda one, name=name: getattr(one.labels, name)) for name in _TARGETS}  # type: ignore[misc]
    either = truth["touch"][:, [0, 5]].max(axis=1)
    classes = np.eye(3)[truth["classes"]]
    several = np.concatenate((truth["touch"], either[:, None], truth["win"], truth["log_range"][:, None]), axis=1)
    climate = climatology(seen, entry[span], several[span].astype(np.float64), place, entry[rows])
    change = np.diff(close, prepend=close[:1])  # a row's own bar; the first rows of a series are never usable
    return HeldOut(
        place=place,
        entry=entry[rows],
        known_at=pool.column(lambda one: one.labels.known_at)[rows],
        close=close[rows],
        atr=atr[rows],
        unrest=pool.column(lambda one: unrest_of(one.lstm.features))[rows],
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
        **(_regressions(prepared, span, rows, truth, either) if regressed else _unknown(len(rows))),
    )


def _regressions(
    prepared: Prepared,
    span: NDArray[np.intp],
    rows: NDArray[np.intp],
    truth: Mapping[str, NDArray[Any]],
    either: NDArray[Any],
) -> dict[str, NDArray[np.float64]]:
    """Return what logistic regressions on the newest indicators, fitted to ``span``, say of ``rows``."""
    pool = prepared.pool
    inputs = np.concatenate(
        (
            prepared.scaler.apply(pool.column(lambda one: one.lstm.features)),
            pool.column(lambda one: one.lstm.calendar),
            prepared.volatility,
        ),
        axis=1,
    )
    return {
        "logistic_direction": logistic(inputs[span], truth["direction"][span].astype(np.int64), inputs[rows])[:, 1],
        "logistic_either": logistic(inputs[span], either[span].astype(np.int64), inputs[rows])[:, 1],
        "logistic_classes": logistic(inputs[span], truth["classes"][span], inputs[rows]),
    }


def _unknown(rows: int) -> dict[str, NDArray[np.float64]]:
    none = np.full(rows, np.nan)
    return {"logistic_direction": none, "logistic_either": none, "logistic_classes": np.full((rows, 3), np.nan)}


_TARGETS = ("direction", "change", "touch", "win", "log_range", "classes")
