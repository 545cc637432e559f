"""Combinatorial purged cross-validation: many histories out of one, none of which was trained on.

The sessions are cut into folds; every choice of some folds is a test set once, the rest, purged around each of them,
trains. The tests are put together to paths: each path covers all sessions once, every session of it predicted by a
model that saw neither it nor its neighbours (López de Prado, 2018, chapter 12). `skfolio` cuts and puts together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

from fusiontrade.market.candles import Floats

__all__ = ["Split", "purged_paths", "purged_splits"]

Places = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Split:
    """One choice of folds: rows to train on, and for each fold to test its rows and the path it belongs to."""

    train: Places
    tests: tuple[Places, ...]
    paths: tuple[int, ...]


def purged_splits(
    sessions: int, *, folds: int = 6, tested: int = 2, purge: int = 10, embargo: int = 10
) -> Iterator[Split]:
    """Yield every split; C(folds, tested) of them make C(folds, tested) · tested / folds paths.

    Parameters
    ----------
    sessions
        How many there are, in the order of time.
    folds, tested
        Stretches, and how many of them are tested at a time.
    purge
        Sessions left out of training on both sides of each test: the horizon of the labels.
    embargo
        Sessions left out after each test, besides.

    Raises
    ------
    ValueError
        If the sessions are too few for the folds.
    """
    from skfolio.model_selection import CombinatorialPurgedCV  # type: ignore[import-untyped]

    if sessions < folds * (purge + embargo + 2):
        raise ValueError(
            f"{folds} folds need {folds * (purge + embargo + 2)} sessions with a purge of {purge} and an embargo of "
            f"{embargo}, got {sessions}: take fewer folds"
        )
    cutter = CombinatorialPurgedCV(n_folds=folds, n_test_folds=tested, purged_size=purge, embargo_size=embargo)
    paths = cutter.get_path_ids()
    for ids, (train, tests) in zip(paths, cutter.split(np.zeros((sessions, 1))), strict=True):
        yield Split(np.asarray(train, np.intp), tuple(np.asarray(one, np.intp) for one in tests), tuple(map(int, ids)))


def purged_paths(
    sessions: int,
    predicted: Callable[[Places, Places], Floats],
    *,
    folds: int = 6,
    tested: int = 2,
    purge: int = 10,
    embargo: int = 10,
) -> Floats:
    """Return (paths, sessions, ...) what models say that are trained anew for every split.

    Parameters
    ----------
    predicted
        Trains on the rows of its first argument and returns what it says of those of its second, (rows, ...); called
        once a split.
    sessions, folds, tested, purge, embargo
        As for `purged_splits`.
    """
    out: Floats | None = None
    for split in purged_splits(sessions, folds=folds, tested=tested, purge=purge, embargo=embargo):
        rows = np.concatenate(split.tests)
        values = np.asarray(predicted(split.train, rows), np.float64)
        if len(values) != len(rows):
            raise ValueError(f"predicted must return a value for each of {len(rows)} rows, returned {len(values)}")
        if out is None:
            out = np.full((comb(folds, tested) * tested // folds, sessions, *values.shape[1:]), np.nan)
        path = np.repeat(split.paths, [len(one) for one in split.tests])
        out[path, rows] = values
    if out is None:
        raise ValueError("there is nothing to test")
    return out
