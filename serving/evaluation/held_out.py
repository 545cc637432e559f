"""The untouched slice as evaluation sees it: what came true, and what each baseline had said."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["HeldOut", "taken"]

_Columns = TypeVar("_Columns")
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """n rows of the test slice; every array has n rows.

    Parameters
    ----------
    place
        (n,) number of each row's series.
    entry, known_at
        (n,) instants of the forecast and of the end of its horizon, ms UTC.
    close, atr
        (n,) last close and ATR(14), in price.
    unrest
        (n,) log of the ATR over what it usually is.
    direction, change, touch, win, log_range, classes
        What came true; see `serving.training.labels.Labels`.
    last_change
        (n,) change of the bar before, in ATR: what persistence repeats.
    rate_direction, rate_touch, rate_classes
        (n,), (n, 10), (n, 3) rates of the training span.
    climate_touch, climate_either, climate_win, climate_log_range
        (n, 10), (n,), (n, 2), (n,) means of the training span in the same hour of the week.
    rolling
        (n, 5) empirical quantiles of the last 500 changes, in ATR.
    logistic_direction, logistic_either, logistic_classes
        (n,), (n,), (n, 3) probabilities of logistic regressions on the newest indicators and the calendar.
    """

    place: NDArray[np.intp]
    entry: NDArray[np.int64]
    known_at: NDArray[np.int64]
    close: Floats
    atr: Floats
    unrest: Floats
    direction: Floats
    change: Floats
    touch: Floats
    win: Floats
    log_range: Floats
    classes: NDArray[np.int64]
    last_change: Floats
    rate_direction: Floats
    rate_touch: Floats
    rate_classes: Floats
    climate_touch: Floats
    climate_either: Floats
    climate_win: Floats
    climate_log_range: Floats
    rolling: Floats
    logistic_direction: Floats
    logistic_either: Floats
    logistic_classes: Floats

    @property
    def rolling_served(self) -> Floats:
        """(n, 3) of ``rolling``: the 5, 50 and 95 % quantiles, those that are served."""
        return self.rolling[:, [0, 2, 4]]

    @property
    def came(self) -> Floats:
        """(n, CHANCES) 1 where a touch above, below, on either side, a win of a long, of a short came true, else 0."""
        up, down = np.split(self.touch, 2, axis=1)
        return np.concatenate((self.touch, np.maximum(up, down), self.win), axis=1)

    def __len__(self) -> int:
        return len(self.place)

    @property
    def either(self) -> Floats:
        """(n,) 1 where price came to +1 or -1 ATR within the horizon, else 0."""
        return np.maximum(self.touch[:, 0], self.touch[:, self.touch.shape[1] // 2])


def taken(columns: _Columns, rows: NDArray[Any]) -> _Columns:
    """Return a dataclass of per-row arrays with some of its rows."""
    changed = {field.name: getattr(columns, field.name)[rows] for field in fields(columns)}  # type: ignore[arg-type]
    return replace(columns, **changed)  # type: ignore[type-var]
