"""How often the database is asked: every request that leaves for it is written down, tries again included."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fusiontrade.cloud import session

__all__ = ["round_trips"]


@contextmanager
def round_trips(service: str = "dynamodb") -> Iterator[list[str]]:
    """The operations that were sent to ``service`` inside, in order: ``["UpdateItem", "Query"]``.

    Every client is made anew, so that it tells; where they are kept afterwards, they go on as ever.
    """
    sent: list[str] = []

    def note(request: Any, **_: Any) -> None:
        sent.append(request.headers["X-Amz-Target"].decode().rpartition(".")[2])

    session.forget_clients()
    events = session._session()
    events.register(f"before-send.{service}", note)
    try:
        yield sent
    finally:
        session.forget_clients()
