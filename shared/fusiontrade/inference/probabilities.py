"""Online calibration of probabilities: each is moved along the logit scale by what came of earlier ones.

A probability of logit z becomes one of logit ``z + offset + slope * lean``, where the lean is z less what is usual for
its head: the offset mends probabilities that are too high or too low, the slope such that promise too much at both
ends, or too little. A step for every outcome, the gradient of the log loss (online gradient descent; Zinkevich, 2003,
over the parameters of Platt, 1999): ``offset += RATE * (came - probability)``, ``slope += RATE * (came - probability)
* lean``. Over T outcomes the mean of (came - probability) is (change of the offset) / (RATE · T), and that of
(came - probability) · lean likewise, whatever the market does, as long as neither is at an end: probabilities are
right on average, and right on average on both sides of usual, by construction.

Always true: an offset and a slope are made of outcomes that were known when the forecast was made; the same outcomes
in the same order give the same ones. Pure: no I/O, no clock.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["FARTHEST", "RATE", "STEEPEST", "advance", "logits", "moved"]

Floats = NDArray[np.float64]

RATE = 0.0025
"""Step per outcome, in logits for each unit of (came - probability)."""
FARTHEST = 2.0
"""Where an offset ends on either side, in logits."""
STEEPEST = 0.5
"""Where a slope ends on either side."""
_SURE = 1e-9  # probabilities of 0 and 1 have no logit


def logits(probability: ArrayLike) -> Floats:
    """Return the logits of probabilities of any shape, finite at 0 and 1 too; NaN stays NaN."""
    inner = np.clip(np.asarray(probability, np.float64), _SURE, 1.0 - _SURE)
    return np.asarray(np.log(inner / (1.0 - inner)), np.float64)


def moved(probability: ArrayLike, lean: ArrayLike, offset: ArrayLike, slope: ArrayLike) -> Floats:
    """Return the probabilities with ``offset + slope * lean`` added to their logits; any shapes that broadcast.

    Where that is 0 a probability stays as it is, to the last bit; NaN stays NaN.
    """
    step = np.asarray(offset, np.float64) + np.asarray(slope, np.float64) * np.asarray(lean, np.float64)
    chances, steps = np.broadcast_arrays(np.asarray(probability, np.float64), step)
    inner = np.clip(chances, _SURE, 1.0 - _SURE)
    odds = inner / (1.0 - inner) * np.exp(steps)
    return np.where(steps == 0.0, chances, odds / (1.0 + odds))


def advance(
    offset: ArrayLike, slope: ArrayLike, lean: ArrayLike, probability: ArrayLike, came: ArrayLike
) -> tuple[Floats, Floats]:
    """Return offsets and slopes after forecasts of ``probability`` met their outcomes, 0 or 1; all of one shape."""
    steps = RATE * (np.asarray(came, np.float64) - np.asarray(probability, np.float64))
    offsets = np.clip(np.asarray(offset, np.float64) + steps, -FARTHEST, FARTHEST)
    leaning = np.asarray(slope, np.float64) + steps * np.asarray(lean, np.float64)
    return offsets, np.clip(leaning, -STEEPEST, STEEPEST)
