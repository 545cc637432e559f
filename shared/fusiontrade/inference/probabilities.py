"""Online calibration of probabilities: each is moved along the logit scale by what came of earlier ones.

A step for every outcome: ``offset += RATE * (came - probability)``, the gradient of the log loss in an intercept
(online gradient descent; Zinkevich, 2003). Over T outcomes the mean of (came - probability) is
(change of the offset) / (RATE · T), whatever the market does, as long as the offset stays off its ends: probabilities
are right on average by construction, whether they tell apart is up to the model.

Always true: an offset is made of outcomes that were known when the forecast was made; the same outcomes in the same
order give the same offset. Pure: no I/O, no clock.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["FARTHEST", "RATE", "advance", "moved"]

Floats = NDArray[np.float64]

RATE = 0.005
"""Step of an offset per outcome, in logits for each unit of (came - probability)."""
FARTHEST = 2.0
"""Where an offset ends on either side, in logits."""
_SURE = 1e-9  # probabilities of 0 and 1 have no logit


def moved(probability: ArrayLike, offset: ArrayLike) -> Floats:
    """Return the probabilities with ``offset`` added to their logits; any shapes that broadcast, NaN stays NaN.

    An offset of 0 leaves every probability as it is, to the last bit.
    """
    chances, steps = np.broadcast_arrays(np.asarray(probability, np.float64), np.asarray(offset, np.float64))
    inner = np.clip(chances, _SURE, 1.0 - _SURE)
    odds = inner / (1.0 - inner) * np.exp(steps)
    return np.where(steps == 0.0, chances, odds / (1.0 + odds))


def advance(offset: ArrayLike, probability: ArrayLike, came: ArrayLike) -> Floats:
    """Return the offsets after forecasts of ``probability`` met their outcomes, 0 or 1; all of one shape."""
    told = np.asarray(probability, np.float64)
    steps = RATE * (np.asarray(came, np.float64) - told)
    return np.clip(np.asarray(offset, np.float64) + steps, -FARTHEST, FARTHEST)
