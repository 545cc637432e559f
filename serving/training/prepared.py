"""A pool made ready: slices, scaler and fingerprint, shared by the models of a timeframe."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from serving.card import DataFingerprint
from serving.card import Series as CardSeries
from serving.training.config import TrainingConfig
from serving.training.dataset import Pool, Scaler, Slices, fingerprint, fit_scaler, split

__all__ = ["Prepared", "prepare"]


@dataclass(frozen=True, eq=False)
class Prepared:
    """A pool with its slices and scaler, shared by the models of a timeframe."""

    pool: Pool
    slices: Slices
    scaler: Scaler
    data: DataFingerprint


def prepare(pool: Pool, config: TrainingConfig) -> Prepared:
    """Return the pool with slices, scaler and fingerprint; raises ValueError where a slice would be empty."""
    slices = split(pool, config)
    series = tuple(
        CardSeries(
            symbol=one.symbol,
            rows=len(one.frame),
            first=int(one.frame.time[0]),
            last=int(one.frame.time[-1]),
            sha256=fingerprint(one.frame),
        )
        for one in pool.series
    )
    whole = hashlib.sha256("".join(one.sha256 for one in series).encode()).hexdigest()
    return Prepared(pool, slices, fit_scaler(pool, slices.train), DataFingerprint(fingerprint=whole, series=series))
