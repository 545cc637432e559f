"""Connections that are closed where a client is too slow, or sends what nobody can hold.

uvicorn waits without limit for a head and for an answer to be read, so a few hundred clients that send one byte a
minute would take every file descriptor of the program; its parser collects heads and trailers without limit; and it
takes requests that are sent ahead of their answers without limit. Bodies have their own limit in
`serving.application`, which answers 408; here they are cut off only where nobody reads them any more. Idle kept-alive
connections are uvicorn's, but where there are too many connections the one that has idled longest makes room.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, MutableMapping, Sized
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

__all__ = ["GONE", "impatient", "unless_gone"]

_T = TypeVar("_T")
GONE = "serving.gone"
"""In a request's scope: a future that is resolved where its client goes away before it is answered."""

_LONGEST_HEAD = 64 * 1024  # bytes; a trailer's, and those between two pieces of a body, too
_GRACE = 5.0  # a body that is late has been answered 408 by then
_OF_BODIES = {b"content-length", b"transfer-encoding"}
_AHEAD = 128  # requests that a client may send before the first of them is answered


class _Flow(FlowControl):
    """Reads on where no request waits for the one before it: else what is sent ahead would grow without end."""

    def __init__(self, transport: asyncio.Transport, ahead: Sized) -> None:
        super().__init__(transport)
        self._ahead = ahead

    def resume_reading(self) -> None:
        if not self._ahead:
            super().resume_reading()


class _Impatient(HttpToolsProtocol):
    seconds: float
    most: int
    idle: dict[_Impatient, None]
    _closing: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _answering: RequestResponseCycle | None = None
    _gone: asyncio.Future[None] | None = None
    _fault = ""
    _is_head = _is_body = False
    _steps = _length = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)
        self._wait(self.seconds)
        self.idle[self] = None
        if len(self.connections) > self.most:
            longest = next(iter(self.idle))
            del self.idle[longest]
            longest.transport.abort()

    def data_received(self, data: bytes) -> None:
        steps = self._steps
        super().data_received(data)
        is_collected = (self._is_head or self._is_body) and self._steps == steps
        self._length = self._length + len(data) if is_collected else 0
        if self._length > _LONGEST_HEAD and not self.transport.is_closing():
            what = "head" if self._is_head else "trailer"
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"a {what} may have {_LONGEST_HEAD} bytes")
        if self._closing is None and (self.cycle is None or self.cycle.response_complete):
            self._wait(self.seconds)

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= _AHEAD:
            self._reject(f"{_AHEAD} requests may be sent ahead: read their answers first")
        super().on_message_begin()
        self._is_head = True
        self._steps += 1
        self._wait(self.seconds)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_head:  # a trailer says nothing that is wanted here
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._is_head, self._is_body = False, True
        self._wait(self.seconds + _GRACE)
        if self.parser.should_upgrade() and any(name in _OF_BODIES and value != b"0" for name, value in self.headers):
            self._reject("a request with a body cannot ask for another protocol: send it without Upgrade")
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        self._steps += 1

    def on_body(self, body: bytes) -> None:
        self._steps += 1
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._is_body = False
        self._stop_waiting()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        waits = bool(self.pipeline)
        super().on_response_complete()
        if not waits and not self.transport.is_closing():
            self.idle[self] = None

    def send_400_response(self, msg: str) -> None:
        self._refuse(HTTPStatus.BAD_REQUEST, self._fault or msg)

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
        self.idle.pop(self, None)
        self._stop_waiting()
        self._has_been_read()
        super().connection_lost(exc)
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.message_event.set()
            if self._gone is not None and not self._gone.done():
                self._gone.set_result(None)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self.idle.pop(self, None)
        self._answering = cycle  # uvicorn tells the newest request of a connection that it is lost, not the one at work
        scope: dict[str, object] = cycle.scope  # type: ignore[assignment]
        scope[GONE] = self._gone = self.loop.create_future()
        super()._start_asgi_task(cycle, app)

    def _reject(self, detail: str) -> NoReturn:
        """End parsing, from within a callback of the parser: uvicorn then asks for an answer of 400."""
        self._fault = detail
        raise ValueError(detail)

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


def impatient(seconds: float, most: int = 8192) -> type[asyncio.Protocol]:
    """Return uvicorn's HTTP/1.1 protocol, for one server.

    Parameters
    ----------
    seconds
        A client has them for each head, for each body, and for reading each answer.
    most
        Connections; one more ends the one that has been idle, or at its head, for longest.
    """
    return type("Impatient", (_Impatient,), {"seconds": seconds, "most": most, "idle": {}})


async def unless_gone(scope: MutableMapping[str, Any], work: Coroutine[Any, Any, _T]) -> _T:
    """Return what ``work`` returns; where the client goes away before, cancel it and raise `ClientDisconnect`."""
    task, gone = asyncio.current_task(), scope[GONE]

    def left(_: asyncio.Future[None]) -> None:
        if task is not None:
            task.cancel()

    gone.add_done_callback(left)
    try:
        return await work
    except asyncio.CancelledError:
        if task is not None and gone.done() and not task.uncancel():
            raise ClientDisconnect from None
        raise
    finally:
        gone.remove_done_callback(left)
