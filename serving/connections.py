"""Connections that are closed where the head of a request does not arrive in time.

uvicorn waits for a head without limit, so a few hundred clients that send one byte a minute would take every file
descriptor of the program. Bodies have their own limit in `serving.application`; idle kept-alive connections uvicorn's.
"""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["impatient"]


def impatient(seconds: float) -> type[asyncio.Protocol]:
    """Return uvicorn's HTTP/1.1 protocol, giving a client ``seconds`` for each request's head."""

    class Impatient(H11Protocol):
        _closing: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._closing = self.loop.call_later(seconds, transport.close)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.conn.their_state is not h11.IDLE:
                self._stop_waiting()
            elif self._closing is None:
                self._closing = self.loop.call_later(seconds, self.transport.close)

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        def _stop_waiting(self) -> None:
            if self._closing is not None:
                self._closing.cancel()
                self._closing = None

    return Impatient
