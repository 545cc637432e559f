"""The windows that the stand-in learns from and is judged by: drawn by a seed, cut by time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from serving.card import DataFingerprint, Series
from serving.instants import instant_of
from serving.kronos.training.config import Recipe
from serving.kronos.windows import columns_of, normalised, stamps_of
from serving.training.candles import read_candles
from serving.training.dataset import fingerprint

__all__ = ["Drawn", "Pool", "Windows", "pool_of", "read_pool"]

Drawn = tuple[torch.Tensor, torch.Tensor]
"""Normalised bars and their stamps."""


@dataclass(frozen=True, eq=False)
class _Run:
    """One series: (n, 6) columns, (n, 5) stamps, and the first row that only judges."""

    columns: NDArray[np.float64]
    stamps: NDArray[np.int64]
    judged_from: int


@dataclass(frozen=True, eq=False)
class Windows:
    """The windows of one side of the cut, of groups that are drawn from by their shares.

    ``ends`` holds (m, 2) series and last row of every window of each group.
    """

    runs: Sequence[_Run]
    ends: Sequence[NDArray[np.int64]]
    shares: NDArray[np.float64]
    sequence: int

    def draw(self, count: int, random: np.random.Generator) -> Drawn:
        """Return (count, T, 6) normalised bars and (count, T, 5) stamps of windows drawn with replacement."""
        groups = random.choice(len(self.ends), count, p=self.shares)
        picked = [self.ends[group][random.integers(len(self.ends[group]))] for group in groups]
        bars, stamps = [], []
        for series, last in picked:
            rows = slice(last - self.sequence + 1, last + 1)
            bars.append(self.runs[series].columns[rows])
            stamps.append(self.runs[series].stamps[rows])
        return torch.from_numpy(normalised(np.stack(bars))), torch.from_numpy(np.stack(stamps))

    def batches(self, count: int, size: int, seed: int) -> Iterator[Drawn]:
        """Yield ``count`` draws of ``size`` windows, the same ones for the same seed."""
        random = np.random.default_rng(seed)
        for _ in range(count):
            yield self.draw(size, random)


@dataclass(frozen=True, eq=False)
class Pool:
    """Windows to learn from and windows to judge by, no bar in both; and the data they are of."""

    train: Windows
    judged: Windows
    data: DataFingerprint


def read_pool(folder: Path, recipe: Recipe) -> Pool:
    """Return the pool of a folder of bars; raises as `read_candles`, and ValueError where there are too few."""
    frames = {
        code: [frame for frame, _ in read_candles(folder, Timeframe.parse(code, field="timeframes"))]
        for code, _ in recipe.timeframes
    }
    return pool_of(frames, recipe)


def pool_of(frames: dict[str, list[CandleFrame]], recipe: Recipe) -> Pool:
    """Return the pool of frames by timeframe; what begins at or after ``recipe.until`` is left out first.

    Raises
    ------
    ValueError
        If a timeframe has no window on one side of the cut.
    """
    until, length = instant_of(recipe.until, "until"), recipe.sequence
    runs: list[_Run] = []
    named: list[Series] = []
    learned: list[NDArray[np.int64]] = []
    judging: list[NDArray[np.int64]] = []
    for code, _ in recipe.timeframes:
        before = len(runs)
        for whole in frames.get(code, []):
            frame = whole.rows(slice(0, int(np.searchsorted(whole.time, until))))
            cut = round(len(frame) * (1 - recipe.validation))
            if cut >= length and len(frame) - cut >= length:
                runs.append(_Run(columns_of(frame), stamps_of(frame.time), cut))
                named.append(_named(frame, code))
        if len(runs) == before:
            raise ValueError(f"no {code} series has two windows of {length} bars before {recipe.until}")
        own = list(enumerate(runs))[before:]
        learned.append(_ends([(place, length - 1, run.judged_from) for place, run in own]))
        judging.append(_ends([(place, run.judged_from + length - 1, len(run.columns)) for place, run in own]))
    shares = np.array([share for _, share in recipe.timeframes], np.float64)
    shares /= shares.sum()
    whole_hash = hashlib.sha256("".join(one.sha256 for one in named).encode()).hexdigest()
    return Pool(
        Windows(runs, learned, shares, length),
        Windows(runs, judging, shares, length),
        DataFingerprint(fingerprint=whole_hash, series=tuple(named)),
    )


def _named(frame: CandleFrame, code: str) -> Series:
    first, last = int(frame.time[0]), int(frame.time[-1])
    return Series(symbol=f"{frame.symbol} {code}", rows=len(frame), first=first, last=last, sha256=fingerprint(frame))


def _ends(spans: list[tuple[int, int, int]]) -> NDArray[np.int64]:
    """Return (m, 2) series and row for every row of each (series, first, after the last)."""
    return np.concatenate(
        [np.stack((np.full(end - start, series), np.arange(start, end)), axis=1) for series, start, end in spans]
    ).astype(np.int64)
