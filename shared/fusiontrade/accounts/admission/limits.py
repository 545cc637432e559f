"""How often one caller may ask: a number of requests in a window of time, for each group of routes.

Always true here: a group is known by a name of letters, digits and underscores; what has no limit of its own has the
one of `OTHER`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["LIMITS", "OTHER", "Allowance", "Limit", "limit_of"]


@dataclass(frozen=True)
class Limit:
    """``requests`` in each window of ``seconds``."""

    requests: int
    seconds: int

    def __post_init__(self) -> None:
        if self.requests < 1 or self.seconds < 1:
            raise ValueError(f"a limit is at least one request in one second, not {self}")

    def window_end(self, now: int) -> int:
        """Return when the window of ``now`` (ms) ends, s since 1970-01-01 UTC: windows begin at its multiples."""
        return (now // 1000 // self.seconds + 1) * self.seconds


@dataclass(frozen=True)
class Allowance:
    """What is left of a limit after one more request."""

    group: str
    limit: Limit
    remaining: int
    """Requests that are still allowed in this window, 0 and never less."""
    reset_seconds: int
    """Seconds until the window ends."""


OTHER = Limit(600, 60)
LIMITS: Mapping[str, Limit] = {
    "auth": Limit(120, 60),
    "fusion": Limit(240, 60),
    "journal": Limit(600, 60),
    "ml": Limit(120, 60),
    "heavy": Limit(20, 60),
    "refresh": Limit(60, 60),
    "login": Limit(60, 60),
    "register": Limit(20, 600),
    "mail": Limit(20, 600),
    "codes": Limit(60, 600),
}
"""A function's name is the group of its routes; others are named by the routes themselves."""


def limit_of(group: str, limits: Mapping[str, Limit] = LIMITS) -> Limit:
    """Return the limit of ``group``."""
    return limits.get(group, OTHER)
