"""A deadline: the one budget of time that runs through a request.

It is made once at the edge and handed down; every wait below asks it how long it may take. It raises nothing itself:
what a missed deadline means is known only where it is missed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["Deadline"]


@dataclass(frozen=True)
class Deadline:
    """An instant of a monotonic clock by which the answer has to be there.

    Parameters
    ----------
    at
        The instant, in seconds of ``clock``.
    clock
        A monotonic clock, seconds.
    """

    at: float
    clock: Callable[[], float] = field(default=time.monotonic, repr=False, compare=False)

    @classmethod
    def after(cls, seconds: float, clock: Callable[[], float] = time.monotonic) -> Deadline:
        """Return the deadline ``seconds`` from now."""
        return cls(clock() + seconds, clock)

    def remaining(self) -> float:
        """Return the seconds left, never negative."""
        return max(0.0, self.at - self.clock())

    @property
    def expired(self) -> bool:
        """Whether no time is left."""
        return self.remaining() <= 0.0

    def within(self, seconds: float) -> Deadline:
        """Return the sooner of this deadline and ``seconds`` from now: the share of one step."""
        return Deadline(min(self.at, self.clock() + seconds), self.clock)
