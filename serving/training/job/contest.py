"""The new bundle against the one that serves, on the new one's untouched rows: both face the same market.

The older bundle may have learned from bars that are held out from the new one: that speaks for the older one, never
for the new, as long as the new one did not begin with its weights; a job refuses to begin with such weights. Losses
are those of what is served before outcomes move it: the log loss of touch and win probabilities and the pinball loss
of the quantiles (in ATR), or the log loss of the three classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusiontrade.journal.outcomes import HORIZON_BARS
from serving.bundle import Bundle, load_bundle
from serving.evaluation.answering import run_bundle
from serving.evaluation.significance import compare
from serving.forecasting import chances_of, class_probabilities
from serving.instants import iso_of
from serving.training.dataset import LstmBatches, PatchTstBatches, Pool, Scaler, volatility_of
from serving.training.judging.curves import came_of
from serving.training.prepared import lstm_batches_as

__all__ = ["MARGIN", "answers_of", "contest"]

MARGIN = 0.01
"""Share of the older bundle's loss by which the new one may be worse at most, at the end of its 90 % interval."""

_Z = 1.6449  # standard normal, 95 %
_LEVELS = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
_SMALLEST = 1e-6

Rows = NDArray[np.intp]
Losses = dict[str, NDArray[np.float64]]


def contest(candidate: Path, active: Path, pool: Pool, rows: Rows) -> dict[str, Any]:
    """Return how the bundle in ``candidate`` compares with that in ``active`` on ``rows`` (n,) of the pool.

    Returns
    -------
    dict
        ``against`` (version), ``held_out`` (rows, from, to, symbols, sha256), ``losses`` by name (``candidate``,
        ``active``, ``difference``, ``interval_90``, ``p_better``) and ``not_worse``.

    Raises
    ------
    fusiontrade.errors.BundleRefused
        If one of them must not serve.
    """
    new, old = load_bundle(candidate), load_bundle(active)
    came, instants = came_of(pool, rows), pool.entry[rows]
    mine, theirs = _losses(new, pool, rows, came), _losses(old, pool, rows, came)
    told: dict[str, Any] = {}
    for name, loss in mine.items():
        test = compare(loss, theirs[name], instants, horizon=HORIZON_BARS)
        same = np.array_equal(loss, theirs[name])
        means = _mean_over_instants(loss, instants), _mean_over_instants(theirs[name], instants)
        told[name] = _told(means, test.difference, test.statistic, test.p_better, same=same)
    return {
        "against": old.card.version,
        "margin": MARGIN,
        "held_out": _held_out(pool, rows),
        "losses": told,
        "not_worse": all(one["not_worse"] for one in told.values()),
    }


def _mean_over_instants(loss: NDArray[np.float64], instants: NDArray[np.int64]) -> float:
    """Return the mean of (n,) losses as the test takes it: over the rows of an instant, then over instants."""
    _, place, rows = np.unique(instants, return_inverse=True, return_counts=True)
    return float((np.bincount(place, weights=loss) / rows).mean())


def _told(
    means: tuple[float, float], difference: float, statistic: float, p_better: float, *, same: bool
) -> dict[str, Any]:
    mine, theirs = means
    allowed = MARGIN * theirs
    if np.isfinite(statistic) and statistic:
        reach = _Z * abs(difference / statistic)
        interval = [difference - reach, difference + reach]
    elif same:
        interval = [0.0, 0.0]
    else:
        interval = None
    return {
        "candidate": round(mine, 6),
        "active": round(theirs, 6),
        "difference": round(float(difference), 8),
        "interval_90": None if interval is None else [round(one, 8) for one in interval],
        "p_better": round(p_better, 6) if np.isfinite(p_better) else None,
        "not_worse": interval is not None and interval[1] <= allowed,
    }


def answers_of(bundle: Bundle, pool: Pool, rows: Rows) -> dict[str, NDArray[np.float32]]:
    """Return the raw outputs of a bundle for ``rows`` (n,) of a pool, whose inputs are scaled as its training did."""
    return run_bundle(bundle, _batches(bundle, pool), rows)


def _losses(bundle: Bundle, pool: Pool, rows: Rows, came: Mapping[str, NDArray[Any]]) -> Losses:
    outputs = answers_of(bundle, pool, rows)
    if not bundle.card.is_sequence:
        said = class_probabilities(bundle.card, outputs)[np.arange(len(rows)), came["classes"].astype(np.intp)]
        return {"classes_log_loss": -np.log(np.maximum(said, _SMALLEST))}
    chances = np.clip(chances_of(bundle.card, outputs), _SMALLEST, 1 - _SMALLEST)
    truth = np.concatenate((came["touched"], came["win"]), axis=1).astype(np.float64)
    chances = chances[:, : truth.shape[1]]
    log_loss = -(truth * np.log(chances) + (1 - truth) * np.log(1 - chances)).mean(axis=1)
    miss = came["change"].astype(np.float64)[:, None] - np.sort(outputs["quantiles"].astype(np.float64), axis=1)
    pinball = np.maximum(_LEVELS * miss, (_LEVELS - 1) * miss).mean(axis=1)
    return {"chances_log_loss": log_loss, "quantiles_pinball": pinball}


def _batches(bundle: Bundle, pool: Pool) -> LstmBatches | PatchTstBatches:
    card = bundle.card
    if card.is_sequence:
        return lstm_batches_as(card, pool)
    season = {name: np.asarray(usual, np.float64) for name, usual in card.season.items()}
    stored = card.volatility_scaler
    scaler = Scaler(np.asarray(stored.center), np.asarray(stored.scale), stored.clip)
    return PatchTstBatches(pool, scaler.apply(volatility_of(pool, season)))


def _held_out(pool: Pool, rows: Rows) -> dict[str, Any]:
    entry, place = pool.entry[rows], pool.series_of(rows)
    symbols = sorted({pool.series[number].symbol for number in np.unique(place)})
    return {
        "rows": len(rows),
        "from": iso_of(int(entry.min())),
        "to": iso_of(int(entry.max())),
        "symbols": symbols,
        "sha256": hashlib.sha256(np.ascontiguousarray(entry).tobytes() + ",".join(symbols).encode()).hexdigest(),
    }
