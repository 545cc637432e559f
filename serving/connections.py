"""Connections that are closed where a client is too slow: with a head, with a body, or with reading its answer.

uvicorn waits without limit for a head and for an answer to be read, so a few hundred clients that send one byte a
minute would take every file descriptor of the program; and its parser collects a head without limit. Bodies have
their own limit in `serving.application`, which answers 408; here they are cut off only where nobody reads them any
more. Idle kept-alive connections are uvicorn's.
"""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

__all__ = ["GONE", "impatient"]

GONE = "serving.gone"
"""In a request's scope: a future that is resolved where its client goes away before it is answered."""

_LONGEST_HEAD = 64 * 1024
_GRACE = 5.0  # a body that is late has been answered 408 by then


class _Impatient(HttpToolsProtocol):
    seconds: float
    _closing: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _answering: RequestResponseCycle | None = None
    _gone: asyncio.Future[None] | None = None
    _is_head = False
    _heads = _length = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait(self.seconds)

    def data_received(self, data: bytes) -> None:
        heads = self._heads
        super().data_received(data)
        self._length = self._length + len(data) if self._is_head and self._heads == heads else 0
        if self._length > _LONGEST_HEAD and not self.transport.is_closing():
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"a head may have {_LONGEST_HEAD} bytes")
        if self._closing is None and (self.cycle is None or self.cycle.response_complete):
            self._wait(self.seconds)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_head = True
        self._heads += 1
        self._wait(self.seconds)

    def on_headers_complete(self) -> None:
        self._is_head = False
        self._wait(self.seconds + _GRACE)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._stop_waiting()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(HTTPStatus.BAD_REQUEST, msg)

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: an upgrade may be passed over, and uvicorn's advice is not for this program."""

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(self.seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._has_been_read()

    def timeout_keep_alive_handler(self) -> None:
        self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._has_been_read()
        super().connection_lost(exc)
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.message_event.set()
            if self._gone is not None and not self._gone.done():
                self._gone.set_result(None)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle  # uvicorn tells the newest request of a connection that it is lost, not the one at work
        scope: dict[str, object] = cycle.scope  # type: ignore[assignment]
        scope[GONE] = self._gone = self.loop.create_future()
        super()._start_asgi_task(cycle, app)

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Answer what is no request, so that no application can."""
        kind = "/problems/" + status.phrase.lower().replace(" ", "-")
        problem = {"type": kind, "title": status.phrase, "status": int(status), "detail": detail}
        content = json.dumps(problem, separators=(",", ":"))
        head = f"HTTP/1.1 {int(status)} {status.phrase}\r\nconnection: close\r\n"
        head += f"content-type: application/problem+json\r\ncontent-length: {len(content)}\r\n\r\n"
        self.transport.write((head + content).encode())
        self._close()

    def _wait(self, limit: float) -> None:
        self._stop_waiting()
        self._closing = self.loop.call_later(limit, self._close)

    def _stop_waiting(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None

    def _close(self) -> None:
        self.transport.close()  # lets what was written leave, for which there is a limit too
        if self._unread is None:
            self._unread = self.loop.call_later(self.seconds, self.transport.abort)

    def _has_been_read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None


def impatient(seconds: float) -> type[asyncio.Protocol]:
    """Return uvicorn's HTTP/1.1 protocol, giving a client ``seconds`` for each head, body, and answer to be read."""
    return type("Impatient", (_Impatient,), {"seconds": seconds})
