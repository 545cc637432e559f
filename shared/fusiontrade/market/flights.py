"""Single flight: of the callers who want the same thing at the same time, one goes and all get what it brings.

An error is shared with those who waited and remembered for nobody else. Waiting ends with the waiter's own deadline.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Generic, TypeVar

from fusiontrade.deadline import Deadline
from fusiontrade.errors import FusionTradeError, ProviderUnavailable

__all__ = ["Flight", "Flights"]

Load = TypeVar("Load")


class Flight(Generic[Load]):
    """One request under way. The leader must `land` or `fail` it, once."""

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._over = threading.Event()
        self._load: Load | None = None
        self._error: FusionTradeError | None = None
        self.cut_short = False
        """Whether it failed because its leader had no time left, which says nothing about the provider."""

    def land(self, load: Load) -> None:
        """Hand ``load`` to everybody who waits."""
        self._load = load
        self._over.set()

    def fail(self, error: BaseException) -> None:
        """Hand the error to everybody who waits; what is no error of ours becomes one."""
        if isinstance(error, FusionTradeError):
            self._error = error
        else:
            self._error = ProviderUnavailable("the request for these candles broke off")
        self.cut_short = isinstance(error, ProviderUnavailable) and self._deadline.expired
        self._over.set()

    def wait(self, deadline: Deadline) -> Load | None:
        """Return what the leader brought; None where it was cut short and the waiter has time to go itself.

        Raises
        ------
        FusionTradeError
            The leader's error.
        ProviderUnavailable
            If the waiter's own deadline passes first.
        """
        if not self._over.wait(deadline.remaining()):
            raise ProviderUnavailable("the market data provider did not answer in time")
        if self._error is None:
            return self._load
        if self.cut_short and not deadline.expired:
            return None
        raise self._error


class Flights(Generic[Load]):
    """The requests under way, by key; safe to share between threads."""

    def __init__(self) -> None:
        self._under_way: dict[Hashable, Flight[Load]] = {}
        self._lock = threading.Lock()

    def join(self, key: Hashable, deadline: Deadline) -> tuple[Flight[Load], bool]:
        """Return the flight of ``key``, and whether the caller leads it and has to `close` it."""
        with self._lock:
            flight = self._under_way.get(key)
            if flight is not None:
                return flight, False
            flight = self._under_way[key] = Flight(deadline)
            return flight, True

    def close(self, key: Hashable) -> None:
        """Forget the flight of ``key``: who comes now starts a new one."""
        with self._lock:
            del self._under_way[key]
