"""Embeddings of many windows, kept between runs by encoder, stock and bar: a window costs milliseconds.

Always true: what is kept was made by this very encoder from these very bars, for both are in its name; a file that
cannot be read is made anew.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusiontrade.market.candles import CandleFrame
from serving.features.swing import EMBEDDING_NAMES
from serving.kronos.windows import windows_of
from serving.swing import Encoding
from serving.training.dataset import fingerprint

__all__ = ["embedded"]

Rows = NDArray[np.intp]
Array = NDArray[np.float32]
_CHUNK = 256


def embedded(frame: CandleFrame, rows: Rows, encoder: Encoding | None, kept: Path | None = None) -> Array:
    """Return (k, 512) embeddings of the windows that end at ``rows`` (k,); zeros without an encoder.

    Parameters
    ----------
    kept
        Folder of what earlier runs embedded, read and added to; None: nothing is kept.
    """
    if encoder is None:
        return np.zeros((len(rows), len(EMBEDDING_NAMES)), np.float32)
    if kept is None:
        return _made(frame, rows, encoder)
    name = f"{frame.symbol}-{fingerprint(frame)[:12]}.npz".replace(os.sep, "_")
    path = kept / f"{encoder.card.model_id}-{encoder.card.version}" / name
    known, values = _read(path)
    missing = np.setdiff1d(rows, known).astype(np.intp)
    if len(missing):
        known, values = np.concatenate((known, missing)), np.concatenate((values, _made(frame, missing, encoder)))
        order = np.argsort(known, kind="stable")
        known, values = known[order], values[order]
        _write(path, known, values)
    return values[np.searchsorted(known, rows)]


def _made(frame: CandleFrame, rows: Rows, encoder: Encoding) -> Array:
    length = encoder.card.sequence
    parts = [
        encoder.embed(*windows_of(frame, length, rows[start : start + _CHUNK])) for start in range(0, len(rows), _CHUNK)
    ]
    return np.concatenate(parts) if parts else np.empty((0, len(EMBEDDING_NAMES)), np.float32)


def _read(path: Path) -> tuple[Rows, Array]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return stored["rows"].astype(np.intp), stored["values"].astype(np.float32)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return np.empty(0, np.intp), np.empty((0, len(EMBEDDING_NAMES)), np.float32)


def _write(path: Path, rows: Rows, values: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(f".{os.getpid()}.fresh")
    with fresh.open("wb") as file:
        np.savez(file, rows=rows, values=values)
    fresh.replace(path)
