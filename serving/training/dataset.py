"""The pool: all series of one timeframe, their inputs and labels, and which rows belong to which slice.

Always true: the slices are cut at instants common to all series, in the order of time; before each cut every series
leaves out `PURGE_BARS` rows, so that no label of a slice looks into the next one; the scaler has seen rows of the
training slice alone. Windows are gathered when a batch asks for them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusiontrade.inference.contract import Market
from fusiontrade.market.candles import CandleFrame, Floats, Instants
from fusiontrade.market.symbols import parse_symbol
from fusiontrade.market.timeframes import Timeframe
from serving.features import (
    BARS_NEEDED,
    INDICATORS,
    VOLATILITY,
    VOLUME_COLUMNS,
    WINDOW,
    CandleWindows,
    LstmWindows,
    activity,
    atr,
    slots,
    usual_activity,
    usual_week,
    volatility_columns,
)
from serving.instants import instant_of
from serving.training.config import PURGE_BARS, TrainingConfig
from serving.training.labels import Labels, label

__all__ = [
    "PROOF_SAMPLES",
    "LstmBatches",
    "PatchTstBatches",
    "Pool",
    "Scaler",
    "Series",
    "Slices",
    "fingerprint",
    "fit_scaler",
    "fit_season",
    "pool_of",
    "robust_scaler",
    "slices_at",
    "split",
    "volatility_of",
]

Rows = NDArray[np.intp]
SCALER_CLIP = 5.0
PROOF_SAMPLES = 2
_QUARTILE_TO_DEVIATION = 1.349  # the interquartile range of a standard normal


@dataclass(frozen=True, eq=False)
class Series:
    """One symbol's bars with what training derives from them; n rows.

    ``rollover`` says whether entries around 17:00 New York were left out.
    """

    frame: CandleFrame
    lstm: LstmWindows
    candles: CandleWindows
    atr: Floats
    labels: Labels
    rollover: bool

    @property
    def symbol(self) -> str:
        """Yahoo's code."""
        return self.frame.symbol

    @property
    def market(self) -> Market:
        """Kind of market."""
        return parse_symbol(self.symbol).asset_class.value

    @classmethod
    def of(cls, frame: CandleFrame, *, rollover: bool) -> Series:
        """Return the series of a checked frame; raises `BadCandles` where it has too few bars for one window."""
        unit = atr(frame)
        warm = np.arange(len(frame)) >= BARS_NEEDED - 1
        return cls(
            frame,
            LstmWindows.of(frame),
            CandleWindows.of(frame),
            unit,
            label(frame, unit, warm, rollover=rollover),
            rollover,
        )


@dataclass(frozen=True, eq=False)
class Pool:
    """Series of one timeframe under one numbering: row r of series s is number ``starts[s] + r``."""

    timeframe: Timeframe
    series: tuple[Series, ...]

    @cached_property
    def starts(self) -> NDArray[np.intp]:
        """(series + 1,) where each series begins; the last is the number of all rows."""
        return np.concatenate(([0], np.cumsum([len(one.frame) for one in self.series]))).astype(np.intp)

    @cached_property
    def entry(self) -> Instants:
        """(rows,) the instant each row's bar closes, ms UTC: the moment of the forecast."""
        return np.concatenate([one.frame.close_time for one in self.series])

    @cached_property
    def usable(self) -> Rows:
        """Numbers of the rows that have inputs and labels, series after series."""
        return np.flatnonzero(np.concatenate([one.labels.usable for one in self.series])).astype(np.intp)

    def series_of(self, rows: Rows) -> NDArray[np.intp]:
        """Return (k,) the place in ``series`` of each row."""
        return np.asarray(np.searchsorted(self.starts, rows, side="right") - 1, np.intp)

    def column(self, get: Callable[[Series], NDArray[Any]]) -> NDArray[Any]:
        """Return (rows, ...) one per-row array of every series, joined."""
        return np.concatenate([get(one) for one in self.series])


@dataclass(frozen=True, eq=False)
class Slices:
    """Row numbers of each slice, series after series; ``cuts`` are the three instants between them, ms UTC."""

    train: Rows
    validation: Rows
    calibration: Rows
    test: Rows
    cuts: tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Scaler:
    """``clip((value - center) / scale)``: (columns,) float64 each."""

    center: Floats
    scale: Floats
    clip: float = SCALER_CLIP

    def apply(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the scaled values, NaN (warm-up) kept."""
        scaled = (values - self.center.astype(np.float32)) / self.scale.astype(np.float32)
        return np.clip(scaled, -self.clip, self.clip).astype(np.float32)


def pool_of(timeframe: Timeframe, frames: Sequence[tuple[CandleFrame, bool]]) -> Pool:
    """Return the pool of ``(frame, leave out rollover hours)`` pairs, ordered by symbol."""
    ordered = sorted(frames, key=lambda pair: pair[0].symbol)
    return Pool(timeframe, tuple(Series.of(frame, rollover=rollover) for frame, rollover in ordered))


def split(pool: Pool, config: TrainingConfig) -> Slices:
    """Return the slices of a pool: the shares of ``config`` counted over the usable rows of all series.

    With ``judged_from`` the last cut is that instant, and the shares are of the rows before it.

    Raises
    ------
    ValueError
        If a slice would be empty.
    """
    instants = np.sort(pool.entry[pool.usable])
    shares = np.cumsum([config.train, config.validation, config.calibration])
    cuts = [int(instants[int(share * len(instants))]) for share in shares]
    if config.judged_from:
        judged = instant_of(config.judged_from, "judged_from")
        before = instants[instants < judged]
        if not len(before) or judged > instants[-1]:
            raise ValueError(f"{pool.timeframe}: judged_from {config.judged_from} leaves no rows on one of its sides")
        cuts = [int(before[int(share / shares[-1] * len(before))]) for share in shares[:-1]] + [judged]
    return slices_at(pool, (cuts[0], cuts[1], cuts[2]))


def slices_at(pool: Pool, cuts: tuple[int, int, int]) -> Slices:
    """Return the slices between three instants (ms UTC), purged before each; raises ValueError where one is empty."""
    edges = [-(2**62), *cuts, 2**62]
    parts: list[list[Rows]] = [[], [], [], []]
    for start, one in zip(pool.starts, pool.series, strict=False):
        entry, usable = one.frame.close_time, one.labels.usable
        for part, (begin, end) in zip(parts, pairwise(edges), strict=True):
            first, last = np.searchsorted(entry, (begin, end))
            last = last if end == edges[-1] else max(first, last - PURGE_BARS)
            part.append(start + first + np.flatnonzero(usable[first:last]).astype(np.intp))
    train, validation, calibration, test = (np.concatenate(part) for part in parts)
    for name, rows in (("training", train), ("validation", validation), ("calibration", calibration), ("test", test)):
        if not len(rows):
            raise ValueError(f"{pool.timeframe}: no rows for the {name} slice; give more history")
    return Slices(train, validation, calibration, test, cuts)


def fit_scaler(pool: Pool, train: Rows) -> Scaler:
    """Return median and normalised interquartile range of each indicator over the rows ``train``.

    Volume columns keep the centre 0, the value of a masked market, and take their scale from markets with volume.
    """
    features = pool.column(lambda one: one.lstm.features)[train].astype(np.float64)
    volume = np.isin(INDICATORS, VOLUME_COLUMNS)
    traded = pool.column(lambda one: np.full(len(one.frame), one.frame.volume is not None))[train]
    scaler = robust_scaler(features)
    center, scale = scaler.center.copy(), scaler.scale.copy()
    if traded.any():
        scale[volume] = robust_scaler(features[traded][:, volume]).scale
    center[volume] = 0.0
    return Scaler(center, scale)


def robust_scaler(columns: NDArray[np.floating]) -> Scaler:
    """Return median and normalised interquartile range of (n, k) columns; a column that never moves keeps its size."""
    low, center, high = np.quantile(columns.astype(np.float64), (0.25, 0.5, 0.75), axis=0)
    scale = (high - low) / _QUARTILE_TO_DEVIATION
    return Scaler(center, np.where(scale > 1e-9, scale, 1.0))


def fit_season(pool: Pool, until: int) -> dict[str, NDArray[np.float64]]:
    """Return the usual activity by symbol and kind of market, learned from the bars that closed before ``until``."""
    found = []
    for one in pool.series:
        busy = activity(one.frame)
        seen = np.isfinite(busy) & (one.frame.close_time < until)
        if seen.any():
            found.append((one.symbol, one.market, slots(one.frame.time[seen], pool.timeframe), busy[seen]))
    return usual_activity(found, pool.timeframe)


def volatility_of(
    pool: Pool, season: Mapping[str, NDArray[np.float64]], rows: Rows | None = None
) -> NDArray[np.float32]:
    """Return (rows, V) season-adjusted volatility of every row, unscaled; NaN in warm-up rows.

    A series without a row of its own in ``season`` learns its times of day from each row's window, as served; that is
    slow, so only its usable rows (of ``rows``, if given) are computed, the others are NaN.
    """
    parts = []
    for start, one in zip(pool.starts, pool.series, strict=False):
        if one.symbol in season:
            parts.append(volatility_columns(one.frame, season[one.symbol]))
            continue
        asked = np.flatnonzero(one.labels.usable)
        if rows is not None:
            asked = np.intersect1d(asked, rows - start)
        found = np.full((len(one.frame), len(VOLATILITY)), np.nan, np.float32)
        for row in asked:
            window = one.frame.rows(slice(row + 1 - WINDOW, row + 1))
            found[row] = volatility_columns(window, usual_week(season, window, one.market))[-1]
        parts.append(found)
    return np.concatenate(parts)


class LstmBatches:
    """Rows of a pool as inputs and targets of the models of 60 bars; ``volatility`` (rows, V) is scaled.

    With ``masked`` columns each row brings `PROOF_SAMPLES` dropout masks, the same for all: what training, which drops
    by itself, does not look at, and what the proof of an export needs.
    """

    def __init__(self, pool: Pool, scaler: Scaler, volatility: NDArray[np.float32], *, masked: int = 0) -> None:
        self._pool, self._volatility = pool, volatility
        self._masks = (np.random.default_rng(masked).random((PROOF_SAMPLES, masked)) > 0.1).astype(np.float32)
        self._features = [scaler.apply(one.lstm.features) for one in pool.series]
        self._labels = {
            name: pool.column(lambda one, name=name: getattr(one.labels, name))  # type: ignore[misc]
            for name in ("direction", "change", "win", "log_range")
        }
        self._labels["touch"] = pool.column(lambda one: one.labels.touched)

    def inputs(self, rows: Rows) -> tuple[NDArray[np.float32], ...]:
        """Return (k, 60, 50) scaled features, (k, 60, C) calendar, (k, V) scaled volatility, and masks if any."""
        windows = [LstmWindows(f, one.lstm.calendar) for f, one in zip(self._features, self._pool.series, strict=True)]
        found = *_gathered(self._pool, rows, [window.gather for window in windows]), self._volatility[rows]
        if not self._masks.shape[1]:
            return found
        return *found, np.repeat(self._masks[None], len(rows), axis=0)

    def targets(self, rows: Rows) -> dict[str, NDArray[Any]]:
        """Return the labels of the rows by name."""
        return {name: values[rows] for name, values in self._labels.items()}


class PatchTstBatches:
    """Rows of a pool as PatchTST's inputs and targets; ``volatility`` (rows, V) is scaled."""

    def __init__(self, pool: Pool, volatility: NDArray[np.float32]) -> None:
        self._pool, self._volatility = pool, volatility
        self._classes = pool.column(lambda one: one.labels.classes)

    def inputs(self, rows: Rows) -> tuple[NDArray[np.float32], ...]:
        """Return (k, 120, 5) candles, (k, C) calendar and (k, V) scaled volatility."""
        return *_gathered(self._pool, rows, [one.candles.gather for one in self._pool.series]), self._volatility[rows]

    def targets(self, rows: Rows) -> dict[str, NDArray[Any]]:
        """Return the class of each row."""
        return {"classes": self._classes[rows]}


def fingerprint(frame: CandleFrame) -> str:
    """Return the sha256 of a frame's columns, little-endian, in the order of their names in the class."""
    digest = hashlib.sha256(f"{frame.symbol}|{frame.timeframe}|{len(frame)}".encode())
    columns = [frame.time.astype("<i8"), *(p.astype("<f8") for p in (frame.open, frame.high, frame.low, frame.close))]
    for column in [*columns, *([] if frame.volume is None else [frame.volume.astype("<f8")])]:
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


def _gathered(
    pool: Pool, rows: Rows, gathers: Sequence[Callable[[Rows], tuple[NDArray[np.float32], ...]]]
) -> tuple[NDArray[np.float32], ...]:
    """Return what each series' gatherer gives for its rows, in the order of ``rows``."""
    place = pool.series_of(rows)
    order = np.argsort(place, kind="stable")
    parts = [gathers[one](rows[order][place[order] == one] - pool.starts[one]) for one in np.unique(place)]
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return tuple(np.concatenate(columns)[back] for columns in zip(*parts, strict=True))
