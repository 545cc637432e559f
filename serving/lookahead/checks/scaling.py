"""Scalers: centre and scale have to be those of the training slice alone.

What is stored is set beside the statistics of the training slice and beside those of ever more slices, all rows last;
the nearest tells what the scaler has seen. The distance of a column is the larger of the centre's, in training
scales, and the scale's, as a logarithm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusiontrade.market.candles import Floats
from serving.lookahead.checks.findings import Check, Finding, Outcome

__all__ = ["SCALER_KINDS", "Statistics", "check_scaler", "check_scaler_of_rows", "robust", "standard"]

_TOLERANCE = 1e-4  # rounding of what is stored, with nine digits, is far below it
_SHOWN = 5
_EQUALS = "equals the statistics of"
_QUARTILE_TO_DEVIATION = 1.349
_REMEDY = "fit the scaler on the rows of the training slice alone, after the slices were cut and purged"


@dataclass(frozen=True, eq=False)
class Statistics:
    """(columns,) float64 each: what is subtracted, and what is divided by."""

    center: Floats
    scale: Floats


def robust(values: NDArray[np.floating]) -> Statistics:
    """Return median and interquartile range over 1.349 of (n, columns); a column without spread has scale 1."""
    low, center, high = np.nanquantile(np.asarray(values, np.float64), (0.25, 0.5, 0.75), axis=0)
    return Statistics(center, _spread((high - low) / _QUARTILE_TO_DEVIATION))


def standard(values: NDArray[np.floating]) -> Statistics:
    """Return mean and population standard deviation of (n, columns)."""
    known = np.asarray(values, np.float64)
    return Statistics(np.nanmean(known, axis=0), _spread(np.nanstd(known, axis=0)))


def _minmax(values: NDArray[np.floating]) -> Statistics:
    known = np.asarray(values, np.float64)
    low, high = np.nanmin(known, axis=0), np.nanmax(known, axis=0)
    return Statistics(low, _spread(high - low))


SCALER_KINDS = {"robust": robust, "standard": standard, "minmax": _minmax}


def check_scaler(
    name: str, stored: Statistics, seen: Sequence[tuple[str, Statistics]], columns: Sequence[str]
) -> Check:
    """Return the check of one scaler.

    Parameters
    ----------
    name
        How the result calls it.
    stored
        The scaler as it is used.
    seen
        Statistics by what they are fitted on: the training slice first, all rows last.
    columns
        Names of the columns.
    """
    train = seen[0][1]
    distance = _distance(stored, train, train)
    others = [(words, _distance(stored, statistics, train)) for words, statistics in seen[1:]]
    if distance.max() <= _TOLERANCE:
        apart = max((float(_distance(statistics, train, train).max()) for _, statistics in seen[1:]), default=0.0)
        if apart <= _TOLERANCE:
            return Check.skipped(name, f"{seen[0][0]} and {seen[-1][0]} have the same statistics: nothing can be told")
        proved = f"{len(columns)} columns equal the training slice's; those of {seen[-1][0]} are {apart:.2g} away"
        return Check.judged(name, (), proved=proved)
    nearest, near = min(others, key=lambda other: float(np.nanmean(other[1])), default=(seen[0][0], distance))
    if np.nanmean(near) < np.nanmean(distance):
        exact = _EQUALS if near.max() <= _TOLERANCE else f"is nearest ({np.nanmean(near):.2g} away) to those of"
        seems = f"it {exact} {nearest}: it has seen what came after the training slice"
    elif not others:
        seems = f"it does not equal the statistics of {seen[0][0]}"
    else:
        seems = f"it equals neither the statistics of the training slice nor those of {seen[-1][0]}"
    order = np.argsort(-distance)[:_SHOWN]
    findings = [
        Finding(
            columns[place],
            f"{seems}; centre {stored.center[place]:.6g}, scale {stored.scale[place]:.6g}, of the training slice "
            f"{train.center[place]:.6g} and {train.scale[place]:.6g}",
            _REMEDY,
            size=float(distance[place]),
        )
        for place in order
        if distance[place] > _TOLERANCE
    ]
    return Check.judged(name, findings, proved="")


def check_scaler_of_rows(
    name: str,
    stored: Statistics,
    seen: Sequence[tuple[str, NDArray[np.floating]]],
    columns: Sequence[str],
    *,
    kind: str | None = None,
) -> Check:
    """Return the check of a scaler against the rows themselves.

    Parameters
    ----------
    name, stored, columns
        As for `check_scaler`.
    seen
        (n, columns) values by what they are: the training slice first, all rows last. NaN and infinite are left out.
    kind
        One of `SCALER_KINDS`; None: the one that fits best.
    """
    known = np.isfinite(seen[0][1]).any(axis=0)
    if not known.any():
        return Check.skipped(name, "no column has a number in the training slice")
    stored = Statistics(stored.center[known], stored.scale[known])
    named = [column for column, there in zip(columns, known, strict=True) if there]
    checks = [
        check_scaler(
            name, stored, [(words, SCALER_KINDS[one](_finite(values[:, known]))) for words, values in seen], named
        )
        for one in ([kind] if kind else SCALER_KINDS)
    ]
    passed = [check for check in checks if check.outcome is Outcome.PASS]
    exact = [check for check in checks if any(_EQUALS in finding.told for finding in check.findings)]
    return (passed or exact or checks)[0]


def _finite(values: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.where(np.isfinite(values), values, np.nan)


def _distance(one: Statistics, other: Statistics, unit: Statistics) -> Floats:
    """Return (columns,) how far two scalers are apart."""
    center = np.abs(one.center - other.center) / unit.scale
    return np.asarray(np.maximum(center, np.abs(np.log(one.scale / other.scale))), np.float64)


def _spread(scale: Floats) -> Floats:
    return np.where(scale > 1e-9, scale, 1.0)
