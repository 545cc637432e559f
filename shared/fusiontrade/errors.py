"""The product's errors: as many classes as there are different reactions, and no more.

::

    FusionTradeError
    ├── InvalidInput          the caller's value is wrong; names the field and the remedy   (422)
    ├── Unauthenticated       no valid credentials                                          (401)
    ├── Forbidden             valid credentials, too few rights                             (403)
    ├── NotFound              no such thing, or not the caller's                            (404)
    │   └── UnknownSymbol     well-formed, but no source knows it
    ├── Conflict              it is already there, or is being made                         (409)
    ├── TooManyRequests       slow down; says for how long                                  (429)
    ├── Unavailable           something we depend on does not answer now; says when to retry (503)
    │   ├── ProviderUnavailable    market data
    │   ├── InferenceUnavailable   the serving container
    │   └── StateUnavailable       tables, storage, secrets
    ├── BadCandles            bars that break their own rules; lists each fault
    └── BundleRefused         a model bundle that must not serve; says why

An error is never turned into a HOLD, a zero or an empty answer. `fusiontrade.web.problems` is the one table that
maps these to HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "BadCandles",
    "BundleRefused",
    "Conflict",
    "Forbidden",
    "FusionTradeError",
    "InferenceUnavailable",
    "InvalidInput",
    "NotFound",
    "ProviderUnavailable",
    "StateUnavailable",
    "TooManyRequests",
    "Unauthenticated",
    "Unavailable",
    "UnknownSymbol",
]


class FusionTradeError(Exception):
    """Base of every error the product raises on purpose; its message may be shown to the caller."""


class InvalidInput(FusionTradeError):
    """A value that cannot be used. ``field`` is where it came from: ``symbol``, ``query/as_of``, ``body/email``."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class Unauthenticated(FusionTradeError):
    """The caller gave no valid credentials."""


class Forbidden(FusionTradeError):
    """The caller is known and may not do this."""


class NotFound(FusionTradeError):
    """There is no such thing, or it belongs to somebody else."""


class UnknownSymbol(NotFound):
    """A well-formed symbol that no configured source knows."""

    def __init__(self, symbol: str) -> None:
        super().__init__(f"no market data source knows the symbol {symbol!r}; symbols are Yahoo's, e.g. EURUSD=X")
        self.symbol = symbol


class Conflict(FusionTradeError):
    """The thing exists already, or the same request is still running."""


class TooManyRequests(FusionTradeError):
    """The caller has to slow down for ``retry_after`` seconds."""

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(FusionTradeError):
    """Something the answer depends on does not respond; worth a retry after ``retry_after`` seconds."""

    def __init__(self, message: str, *, retry_after: int = 30) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ProviderUnavailable(Unavailable):
    """A market data provider does not answer, or answers nonsense."""


class InferenceUnavailable(Unavailable):
    """The serving container does not answer."""


class StateUnavailable(Unavailable):
    """Tables, storage or secrets do not answer."""


class BadCandles(FusionTradeError):
    """Bars that break the rules of `fusiontrade.market.candles`; ``faults`` names each."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)


class BundleRefused(FusionTradeError):
    """A model bundle that must not serve: wrong checksum, schema, features or answers."""
