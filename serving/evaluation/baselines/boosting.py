"""LightGBM on the features of a bar's newest row: what a gradient-boosted tree finds without a sequence model.

Always true: trees are grown on rows of the training span, how many is chosen on rows of the validation slice, and the
rows asked for take part in neither. With the same data, settings and library versions the answers are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import lightgbm

__all__ = ["Boosting", "BoostingSettings"]

Floats = NDArray[np.floating]
Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class BoostingSettings:
    """How trees are grown.

    Parameters
    ----------
    rows, validation_rows
        At most so many rows of each slice are used, spread evenly over it.
    rounds, patience
        At most so many trees, and how many without a better validation loss end the growth.
    leaves, fewest, learning_rate
        Of a tree: its leaves, the rows each holds at least, and its weight.
    threads, seed
        Fixed, so that a run can be repeated. More threads than idle cores cost tens of times the time: they wait for
        each other at every split.
    """

    rows: int = 80_000
    validation_rows: int = 40_000
    rounds: int = 400
    patience: int = 25
    leaves: int = 15
    fewest: int = 200
    learning_rate: float = 0.05
    threads: int = 1
    seed: int = 20240

    def __post_init__(self) -> None:
        for name in ("rows", "validation_rows", "rounds", "patience", "fewest", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def parameters(self) -> dict[str, Any]:
        """Return LightGBM's own names for the settings."""
        return {
            "learning_rate": self.learning_rate,
            "num_leaves": self.leaves,
            "min_data_in_leaf": self.fewest,
            "feature_fraction": 0.5,
            "bagging_fraction": 0.7,
            "bagging_freq": 1,
            "lambda_l2": 5.0,
            "max_bin": 63,
            "num_threads": self.threads,
            "seed": self.seed,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
        }


class Boosting:
    """Trees over one table of features; each method fits one target and answers for the rows asked for.

    Parameters
    ----------
    features
        (n, columns) float32 of all rows; NaN where unknown.
    train, validation
        Numbers of the rows of the training span and of the validation slice; neither may be empty.
    settings
        How trees are grown.
    """

    def __init__(
        self,
        features: NDArray[np.float32],
        train: Rows,
        validation: Rows,
        settings: BoostingSettings | None = None,
    ) -> None:
        import lightgbm

        if not len(train) or not len(validation):
            raise ValueError(f"boosting needs training and validation rows, got {len(train)} and {len(validation)}")
        self._settings = settings or BoostingSettings()
        self._features = features
        self._train = _spread(train, self._settings.rows)
        self._validation = _spread(validation, self._settings.validation_rows)
        given = self._settings.parameters()
        self._table = lightgbm.Dataset(features[self._train], np.zeros(len(self._train)), params=given).construct()
        self._held = self._table.create_valid(
            features[self._validation], np.zeros(len(self._validation)), params=given
        ).construct()

    def probability(self, truth: NDArray[Any], asked: Rows) -> NDArray[np.float64]:
        """Return (m,) the probability that ``truth`` (n,), 0 or 1, is 1 for the rows ``asked``."""
        return self._answered(truth, asked, {"objective": "binary"})

    def classes(self, truth: NDArray[Any], asked: Rows) -> NDArray[np.float64]:
        """Return (m, classes) the probability of each class of ``truth`` (n,), numbered from 0."""
        return self._answered(truth, asked, {"objective": "multiclass", "num_class": int(truth.max()) + 1})

    def mean(self, value: NDArray[Any], asked: Rows) -> NDArray[np.float64]:
        """Return (m,) the expected ``value`` (n,)."""
        return self._answered(value, asked, {"objective": "regression"})

    def quantiles(self, value: NDArray[Any], levels: tuple[float, ...], asked: Rows) -> NDArray[np.float64]:
        """Return (m, levels) quantiles of ``value`` (n,), one model a level, sorted so that they never cross."""
        told = [self._answered(value, asked, {"objective": "quantile", "alpha": level}) for level in levels]
        return np.sort(np.stack(told, axis=1), axis=1)

    def _answered(self, target: NDArray[Any], asked: Rows, objective: Mapping[str, Any]) -> NDArray[np.float64]:
        import lightgbm

        self._table.set_label(target[self._train].astype(np.float64))
        self._held.set_label(target[self._validation].astype(np.float64))
        model: lightgbm.Booster = lightgbm.train(
            self._settings.parameters() | dict(objective),
            self._table,
            self._settings.rounds,
            valid_sets=[self._held],
            callbacks=[lightgbm.early_stopping(self._settings.patience, verbose=False)],
        )
        told = model.predict(self._features[asked], num_iteration=model.best_iteration)
        return np.asarray(told, np.float64)


def _spread(rows: Rows, most: int) -> Rows:
    """Return at most ``most`` of the rows, evenly spread over them."""
    step = max(1, -(-len(rows) // most))
    return rows[::step]
