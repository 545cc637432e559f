"""The configured market: which provider answers, and the source in front of it.

Providers are imported when they are chosen: a function that reads Yahoo never loads the simulated market.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from fusiontrade.errors import InvalidInput
from fusiontrade.market.archive import CandleStore
from fusiontrade.market.providers.base import Provider
from fusiontrade.market.retry import RetryPolicy
from fusiontrade.market.source import CandleSource

__all__ = ["MarketSettings", "candle_source", "provider_from"]


class MarketSettings(Protocol):
    """What is read of `fusiontrade.settings.Settings`."""

    @property
    def market_data(self) -> str: ...

    @property
    def market_data_dir(self) -> Path | None: ...

    @property
    def market_data_as_of(self) -> int | None: ...


def provider_from(settings: MarketSettings) -> Provider:
    """Return the provider that ``settings`` name: ``yahoo``, ``files`` or ``simulated``.

    Raises
    ------
    InvalidInput
        If there is no provider of that name, or the folder that ``files`` needs is missing or wrong.
    """
    if settings.market_data == "yahoo":
        from fusiontrade.market.providers.yahoo import YahooProvider

        return YahooProvider()
    if settings.market_data == "simulated":
        from fusiontrade.market.providers.simulated import SimulatedProvider

        return SimulatedProvider()
    if settings.market_data == "files":
        return _files(settings)
    raise InvalidInput("MARKET_DATA", f"{settings.market_data!r} is no provider: use yahoo, files or simulated")


def candle_source(settings: MarketSettings, storage: CandleStore | None = None) -> CandleSource:
    """Return the source of the configured provider.

    Parameters
    ----------
    storage
        Objects for the archive of finished bars. Used for a provider behind a network only: local ones are quicker
        than any archive, and trying a local one again changes nothing.
    """
    provider = provider_from(settings)
    if settings.market_data == "yahoo":
        return CandleSource(provider, storage=storage)
    return CandleSource(provider, retry=RetryPolicy(attempts=1))


def _files(settings: MarketSettings) -> Provider:
    if settings.market_data_dir is None:
        raise InvalidInput("MARKET_DATA_DIR", "MARKET_DATA=files needs MARKET_DATA_DIR, a folder with instruments.toml")
    from fusiontrade.market.providers.files import FilesProvider

    return FilesProvider(settings.market_data_dir, as_of=settings.market_data_as_of)
