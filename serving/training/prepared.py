"""A pool made ready: slices, scalers, season and fingerprint, shared by the models of a timeframe."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.card import DataFingerprint, ModelCard
from serving.card import Scaler as CardScaler
from serving.card import Series as CardSeries
from serving.features import INDICATORS
from serving.training.config import TrainingConfig
from serving.training.dataset import (
    LstmBatches,
    PatchTstBatches,
    Pool,
    Scaler,
    Slices,
    fingerprint,
    fit_scaler,
    fit_season,
    robust_scaler,
    slices_at,
    split,
    volatility_of,
)

__all__ = ["Prepared", "batches_of", "data_of", "lstm_batches_as", "prepare", "prepared_as"]


@dataclass(frozen=True, eq=False)
class Prepared:
    """A pool with its slices, scalers and season, shared by the models of a timeframe.

    ``season`` is the usual activity by symbol and kind of market, ``volatility`` (rows, V) float32 scaled; both, like
    the scalers, know the training slice alone.
    """

    pool: Pool
    slices: Slices
    scaler: Scaler
    season: Mapping[str, NDArray[np.float64]]
    volatility_scaler: Scaler
    volatility: NDArray[np.float32]
    data: DataFingerprint


def prepare(pool: Pool, config: TrainingConfig) -> Prepared:
    """Return the pool with slices, scalers, season and fingerprint; raises ValueError where a slice would be empty."""
    slices = split(pool, config)
    season = fit_season(pool, slices.cuts[0])
    volatility = volatility_of(pool, season)
    scaler = robust_scaler(volatility[slices.train])
    return Prepared(
        pool, slices, fit_scaler(pool, slices.train), season, scaler, scaler.apply(volatility), data_of(pool)
    )


def prepared_as(card: ModelCard, pool: Pool, *, judged_rows_only: bool = False) -> Prepared:
    """Return a pool prepared as the bundle of ``card`` was: its cuts, scalers and season, nothing fitted anew.

    A PatchTST has no scaler of indicators: identity then. With ``judged_rows_only`` the volatility of a series without
    a season of its own, which is slow, is computed for the test slice alone: enough to ask the bundle, not to fit
    baselines. Raises ValueError where a slice of the pool would be empty.
    """
    windows = card.windows
    if windows.validation is None:
        raise ValueError(f"{card.model_id} does not say when its validation slice began")
    slices = slices_at(pool, (windows.validation[0], windows.calibration[0], windows.test[0]))
    season = {name: np.asarray(usual, np.float64) for name, usual in card.season.items()}
    scaler = _scaler(card.volatility_scaler)
    indicators = (
        Scaler(np.zeros(len(INDICATORS)), np.ones(len(INDICATORS))) if card.scaler is None else _scaler(card.scaler)
    )
    volatility = volatility_of(pool, season, slices.test if judged_rows_only else None)
    return Prepared(pool, slices, indicators, season, scaler, scaler.apply(volatility), data_of(pool))


def lstm_batches_as(card: ModelCard, pool: Pool) -> LstmBatches:
    """Return the inputs of an LSTM for any row of a pool, scaled as its bundle does; raises ValueError for others."""
    if card.scaler is None:
        raise ValueError(f"{card.model_id} is no lstm, nor answers as one")
    season = {name: np.asarray(usual, np.float64) for name, usual in card.season.items()}
    volatility = _scaler(card.volatility_scaler).apply(volatility_of(pool, season))
    return LstmBatches(pool, _scaler(card.scaler), volatility)


def batches_of(prepared: Prepared, takes: str, *, masked: int = 0) -> LstmBatches | PatchTstBatches:
    """Return the inputs of a model that ``takes`` indicators or candles, for any row of a prepared pool.

    Parameters
    ----------
    masked
        Columns of its dropout masks; 0: it takes none.
    """
    if takes == "indicators":
        return LstmBatches(prepared.pool, prepared.scaler, prepared.volatility, masked=masked)
    return PatchTstBatches(prepared.pool, prepared.volatility)


def data_of(pool: Pool) -> DataFingerprint:
    """Return the fingerprint of a pool's series."""
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
    return DataFingerprint(fingerprint=whole, series=series)


def _scaler(stored: CardScaler) -> Scaler:
    return Scaler(np.asarray(stored.center), np.asarray(stored.scale), stored.clip)
