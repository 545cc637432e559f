"""A circuit breaker: after enough failures in a row nobody is sent to a provider that is down.

closed → (``threshold`` failures in a row) → open → (after ``open_seconds``) → half-open: one caller may try, everybody
else is still refused → closed when that one succeeds, open again when it fails. Only `ProviderUnavailable` is a
failure: a provider that says "no such symbol" is well. `NothingSent` counts once for a subject, however often it is
asked about: one symbol that has no bars must not close the market to everybody else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from math import ceil

from fusiontrade.errors import ProviderUnavailable
from fusiontrade.market.retry import AskedToWait, NothingSent

__all__ = ["BreakerState", "CircuitBreaker"]


class BreakerState(StrEnum):
    """Where the circuit stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class CircuitBreaker:
    """Guards the calls to one provider; safe to share between threads.

    Parameters
    ----------
    name
        The provider, for the message of a refusal.
    threshold
        Failures in a row that open the circuit, at least 1.
    open_seconds
        How long it stays open before one caller may try again; a provider that asked for a longer pause gets it.
    clock
        A monotonic clock, seconds.
    """

    def __init__(
        self,
        name: str,
        *,
        threshold: int = 5,
        open_seconds: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if threshold < 1 or open_seconds <= 0:
            raise ValueError(f"threshold {threshold} and open_seconds {open_seconds} must be at least 1 and above 0")
        self._name = name
        self._threshold = threshold
        self._open_seconds = open_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._without_bars: set[str] = set()
        self._last_failure = ""
        self._open_until: float | None = None
        self._probing = False

    @property
    def state(self) -> BreakerState:
        """Where the circuit stands now."""
        with self._lock:
            if self._open_until is None:
                return BreakerState.CLOSED
            return BreakerState.OPEN if self._clock() < self._open_until else BreakerState.HALF_OPEN

    @contextmanager
    def call(self, subject: str = "") -> Iterator[None]:
        """Guard one call of the provider, which asks about ``subject``.

        Raises
        ------
        AskedToWait
            If the circuit is open: the provider was not asked, and asking again before the pause is over is no use.
        """
        probes = self._admit()
        try:
            yield
        except ProviderUnavailable as error:
            self._failed(error, subject)
            raise
        except Exception:
            self._succeeded()
            raise
        else:
            self._succeeded()
        finally:
            if probes:
                self._probed()

    def _admit(self) -> bool:
        """Return whether the caller is the one who tries a half-open circuit; raise where it may not pass."""
        with self._lock:
            if self._open_until is None:
                return False
            wait = self._open_until - self._clock()
            if wait > 0 or self._probing:
                seconds = max(1, ceil(wait))
                raise AskedToWait(
                    f"{self._name} failed {self._failures} times in a row and is left alone for {seconds} s; "
                    f"last: {self._last_failure}",
                    retry_after=seconds,
                )
            self._probing = True
            return True

    def _succeeded(self) -> None:
        with self._lock:
            self._failures = 0
            self._without_bars.clear()
            self._open_until = None

    def _failed(self, error: ProviderUnavailable, subject: str) -> None:
        with self._lock:
            if isinstance(error, NothingSent):
                if subject in self._without_bars:
                    return
                self._without_bars.add(subject)
            self._failures += 1
            self._last_failure = str(error)
            if self._failures >= self._threshold:
                self._open_until = self._clock() + max(self._open_seconds, min(error.retry_after, _LONGEST_PAUSE))

    def _probed(self) -> None:
        with self._lock:
            self._probing = False


_LONGEST_PAUSE = 300  # s: however long a provider asks us to stay away, look again after this
