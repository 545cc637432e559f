"""Retries with full jitter, bounded by a deadline.

Only `ProviderUnavailable` is worth another try. A wait is never longer than what is left of the deadline: a provider
that asks for a longer pause is taken at its word and its error goes to the caller at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from fusiontrade.deadline import Deadline
from fusiontrade.errors import ProviderUnavailable

__all__ = ["AskedToWait", "NothingSent", "RetryPolicy", "with_retries"]

Answer = TypeVar("Answer")


class AskedToWait(ProviderUnavailable):
    """How long to stay away was said, by the provider (429) or its circuit: nobody tries again before that."""


class NothingSent(ProviderUnavailable):
    """The provider answered and sent no bars, which may be the symbol's doing as well as its own."""


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how patiently to try again.

    Parameters
    ----------
    attempts
        Tries in all, at least 1.
    base, cap
        Seconds: the wait before try n + 1 is uniform between 0 and ``min(cap, base * 2 ** n)``
        ("full jitter": https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    reserve
        Seconds that must be left of the deadline for another try to make sense.
    """

    attempts: int = 3
    base: float = 0.3
    cap: float = 3.0
    reserve: float = 0.5

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts is {self.attempts}: at least one try is needed")


def with_retries(
    call: Callable[[], Answer],
    *,
    policy: RetryPolicy,
    deadline: Deadline,
    random: Callable[[], float],
    sleep: Callable[[float], None],
) -> Answer:
    """Return what ``call`` returns, trying again while the provider is unavailable and time is left.

    Parameters
    ----------
    random
        Uniform numbers in [0, 1).
    sleep
        Waits for a number of seconds.

    Raises
    ------
    ProviderUnavailable
        The last try's error.
    """
    for attempt in range(policy.attempts - 1):
        try:
            return call()
        except ProviderUnavailable as error:
            asked = error.retry_after if isinstance(error, AskedToWait) else 0
            pause = asked + random() * min(policy.cap, policy.base * 2**attempt)
            if pause + policy.reserve > deadline.remaining():
                raise
            sleep(pause)
    return call()
