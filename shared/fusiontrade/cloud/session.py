"""One factory of botocore clients, with time-outs short enough that a request can still answer honestly.

Always true here: botocore is imported when the first client is made and not before; a client is made once for each
service and time-out and shared between threads; standard retries, two attempts in all. Where a service lives
(``AWS_ENDPOINT_URL``, ``AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME``, the region, the credentials) is read by botocore itself.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusiontrade.snapshots import after_restore
from fusiontrade.startup import uncollected

if TYPE_CHECKING:
    from botocore.loaders import Loader
    from botocore.session import Session

__all__ = ["client", "forget_clients", "read_ahead"]

_CONNECT_SECONDS = 1.0
_lock = threading.Lock()


@lru_cache(maxsize=1)
def _loader() -> Loader:
    """Return what reads botocore's own files; kept for good, since they never change."""
    from botocore.loaders import Loader

    class FlatLoader(Loader):
        """Takes each folder for a service; botocore looks into all four hundred, twice, before its first client."""

        def list_available_services(self, type_name: str) -> list[str]:  # noqa: ARG002 - botocore passes it
            paths = (Path(path) for path in self.search_paths)
            return [folder.name for path in paths if path.is_dir() for folder in path.iterdir()]

    return FlatLoader()


@lru_cache(maxsize=1)
def _session() -> Session:
    from botocore.session import get_session

    session = get_session()
    session.register_component("data_loader", _loader())
    return session


@lru_cache(maxsize=32)
def _made(service: str, read_seconds: float, attempts: int) -> Any:
    with uncollected():
        from botocore.config import Config

        config = Config(
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=read_seconds,
            retries={"mode": "standard", "total_max_attempts": attempts},
            tcp_keepalive=True,
            max_pool_connections=16,
        )
        return _session().create_client(service, config=config)


def client(service: str, *, read_seconds: float = 3.0, attempts: int = 2) -> Any:
    """Return the shared botocore client of ``service``; a call may take ``read_seconds`` for each attempt."""
    with _lock:  # a botocore session may not make two clients at once
        return _made(service, read_seconds, attempts)


def read_ahead(*services: str) -> None:
    """Import botocore and read its descriptions of ``services``, before a snapshot.

    What is made for that is thrown away: it has neither this process's credentials nor a connection.
    """
    with _lock, uncollected():
        from botocore import UNSIGNED
        from botocore.config import Config

        for service in services:
            made = _session().create_client(service, region_name="us-east-1", config=Config(signature_version=UNSIGNED))
            made.close()
        _session.cache_clear()


@after_restore
def forget_clients() -> None:
    """Drop every client, so that the next one is made from the environment as it is then."""
    with _lock:
        _made.cache_clear()
        _session.cache_clear()
