"""Bodies of ``POST /invocations``: which are taken, how they are read, and how answers are written.

A request is JSON (`JSON`) or binary (`fusiontrade.inference.wire`), either of them plain or gzip; an answer is JSON,
gzip where the client accepts it and it is long enough to gain. Always true here: what a request's headers rule out is
refused before its body is read; no body is held beyond its cap, before or after decompression, and all of them
together not beyond `Memory`; whatever is wrong with a body is a `Refusal`.
"""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from http import HTTPStatus
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from pydantic import ValidationError

from serving.refusals import Refusal, malformed

if TYPE_CHECKING:
    from starlette.datastructures import Headers

    from fusiontrade.inference.contract import ForecastRequest, ForecastResponse
    from fusiontrade.inference.swing import SwingRequest, SwingResponse
    from fusiontrade.inference.texts import TextResponse

__all__ = [
    "JSON",
    "NPY",
    "SWING",
    "TEXTS",
    "Announced",
    "Aside",
    "Memory",
    "Room",
    "announced",
    "decompressed",
    "is_parsed_soon",
    "is_quick",
    "parsed",
    "received",
    "stocks_of",
    "texts_of",
    "written",
]

JSON = "application/json"
NPY = "application/x-npy"  # fusiontrade.inference.wire.NPY, whose imports have to wait until the port answers

TEXTS = "application/vnd.fusiontrade.texts+json"  # fusiontrade.inference.texts.TEXTS, likewise
SWING = "application/vnd.fusiontrade.swing+json"  # fusiontrade.inference.swing.SWING, likewise

_P = ParamSpec("_P")
_T = TypeVar("_T")
_FORMS = {JSON: "json", NPY: "npy", TEXTS: "texts", SWING: "swing"}
_QUICK = dict.fromkeys(_FORMS, 128 * 1024) | {NPY: 256 * 1024}  # bytes that are parsed in less than half a millisecond
_LARGE = 128 * 1024  # JSON is counted before it is parsed from here on
_MOST_STRINGS = _MOST_MARKS = 128 * 512  # of 512 items with every field they may have; an item has less than 70
_LEAST_NUMBER = 4  # bytes a number takes on average at least, its comma included: an open time alone has 13 digits
_WORTH_COMPRESSING = 16 * 1024
_COMPRESSION = 1  # the quickest: a third is left of forecasts, a fourth at three times the time
_TURNS = 8  # of the loop, from a connection that is handed over to the answer of ``/ping``, and a few more
_GZIP = 16 + zlib.MAX_WBITS  # zlib's word for: a gzip stream and no other


@dataclass(frozen=True, slots=True)
class Announced:
    """What a request's headers say of its body and of the answer it wants."""

    content_type: str
    is_gzip: bool
    takes_gzip: bool

    @property
    def form(self) -> str:
        """The body's format in one word."""
        return _FORMS[self.content_type]


class Memory:
    """Bytes of request bodies that are held at the same time; used from the event loop's thread alone."""

    def __init__(self, limit: int) -> None:
        self.limit, self.held = limit, 0

    @contextmanager
    def room(self) -> Iterator[Room]:
        """Yield room for one request, given back when the block ends."""
        room = Room(self)
        try:
            yield room
        finally:
            self.held -= room.taken


class Room:
    """What one request holds of the `Memory`."""

    def __init__(self, memory: Memory) -> None:
        self.taken = 0
        self._memory = memory

    def take(self, size: int) -> None:
        """Take ``size`` bytes more, or refuse at once: waiting here would be an unbounded queue."""
        if self._memory.held + size > self._memory.limit:
            detail = "too many large bodies are being read; try again in a second"
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": "1"})
        self.taken += size
        self._memory.held += size


class Aside:
    """Parses large bodies in threads of ``pool``, one at a time, and lets the event loop go round between any two.

    A parser holds Python's lock to its end: several in turn would leave none of it to whoever asks ``/ping``.
    """

    def __init__(self, pool: Executor) -> None:
        self._pool, self._lock = pool, asyncio.Lock()

    async def __call__(self, parse: Callable[_P, _T], *given: _P.args, **named: _P.kwargs) -> _T:
        """Return what ``parse`` returns."""
        async with self._lock:
            try:
                return await asyncio.get_running_loop().run_in_executor(self._pool, partial(parse, *given, **named))
            finally:
                for _ in range(_TURNS):
                    await asyncio.sleep(0)


def announced(headers: Headers, limit: int) -> Announced:
    """Return what the headers say, refusing by them alone what would be refused by the body."""
    length = headers.get("content-length", "0")
    negotiated = (headers.get(name, "") for name in ("content-type", "content-encoding", "accept", "accept-encoding"))
    said = _negotiated(*negotiated)
    if not length.isdecimal() or int(length[:20]) > limit:
        raise _too_large(limit)
    return said


@lru_cache(maxsize=32)
def _negotiated(content_type: str, content_encoding: str, accept: str, accept_encoding: str) -> Announced:
    """Return what the headers of these values say; clients say the same with every request."""
    content_type = content_type.partition(";")[0].strip().lower()
    if content_type not in _QUICK:
        known = f"{JSON} or {NPY} (bars), {SWING} (daily bars) or {TEXTS}"
        detail = f"the body has to be {known}, not {content_type[:100] or 'untyped'}: set Content-Type"
        raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail, headers={"Accept-Post": ", ".join(_FORMS)})
    encoding = content_encoding.strip().lower() or "identity"
    if encoding not in {"identity", "gzip", "x-gzip"}:
        detail = f"the body may be plain or gzip, not {encoding[:100]}: set Content-Encoding"
        raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail, headers={"Accept-Encoding": "gzip"})
    if _quality(accept.strip() or "*/*", JSON, "application/*", "*/*") == 0:
        detail = f"answers are {JSON}: send an Accept header that takes it, or none"
        raise Refusal(HTTPStatus.NOT_ACCEPTABLE, detail)
    takes_gzip = _quality(accept_encoding, "gzip", "x-gzip") > 0
    return Announced(content_type, encoding != "identity", takes_gzip)


async def received(stream: AsyncIterator[bytes], *, limit: int, seconds: float, room: Room) -> bytes:
    """Return the body, never holding more than ``limit`` bytes nor waiting longer than ``seconds``."""
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in stream:
                if len(body) + len(chunk) > limit:
                    raise _too_large(limit)
                room.take(len(chunk))
                body += chunk
    except TimeoutError:
        detail = f"the body did not arrive within {seconds:g} s"
        raise Refusal(HTTPStatus.REQUEST_TIMEOUT, detail, headers={"Connection": "close"}) from None
    return bytes(body)


def is_quick(body: bytes, said: Announced) -> bool:
    """Whether the plain ``body`` is parsed so fast that a thread of its own would cost more."""
    return len(body) <= _QUICK[said.content_type]


def decompressed(body: bytes, limit: int) -> bytes:
    """Return what one gzip stream holds; at most ``limit`` bytes are ever made of it."""
    stream = zlib.decompressobj(_GZIP)
    try:
        plain = stream.decompress(body, limit + 1)
    except zlib.error:
        detail = "the body is not the gzip stream that Content-Encoding announces"
        raise Refusal(HTTPStatus.BAD_REQUEST, detail) from None
    if len(plain) > limit:
        raise _too_large(limit, " after decompression")
    if not stream.eof:
        raise Refusal(HTTPStatus.BAD_REQUEST, "the gzip stream of the body is cut short")
    if stream.unused_data:
        detail = f"{len(stream.unused_data)} bytes follow the gzip stream of the body: send one stream"
        raise Refusal(HTTPStatus.BAD_REQUEST, detail)
    return plain


def is_parsed_soon(text: bytes) -> bool:
    """Tell whether the JSON of ``text`` has no more strings, braces, brackets and numbers than a request can have.

    A parser holds Python's lock to its end: a million empty objects, or members that nobody knows, take seconds in
    which no other thread answers anything, ``/ping`` neither. Counting takes a hundredth of that. What is no JSON may
    be counted wrongly from its first fault on, where parsers stop.
    """
    if len(text) <= _LARGE:
        return True
    parts = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    if parts.count(b'"') > 2 * _MOST_STRINGS:
        return False
    outside = b"".join(parts.split(b'"')[::2])
    few = all(outside.count(mark) <= _MOST_MARKS for mark in (b"{", b"[", b":"))
    return few and outside.count(b",") <= len(text) // _LEAST_NUMBER


def parsed(body: bytes, said: Announced) -> ForecastRequest:
    """Return the request that the plain ``body`` holds."""
    from fusiontrade.errors import InvalidInput
    from fusiontrade.inference import wire
    from fusiontrade.inference.contract import ForecastRequest

    try:
        if said.content_type == NPY:
            return wire.decode(_counted(body, wire.head_of(body)))
        return ForecastRequest.model_validate_json(_counted(body, body))
    except ValidationError as error:
        raise malformed(error) from None
    except InvalidInput as error:
        detail = f"{error.field or 'the body'}: {error}"
        told = {"pointer": error.field, "message": str(error)}
        raise Refusal(HTTPStatus.BAD_REQUEST, detail, errors=[told]) from None


def texts_of(body: bytes) -> list[str]:
    """Return the texts that the plain ``body`` of a `TextRequest` holds."""
    from fusiontrade.inference.texts import TextRequest

    try:
        return TextRequest.model_validate_json(_counted(body, body)).texts
    except ValidationError as error:
        raise malformed(error) from None


def stocks_of(body: bytes) -> SwingRequest:
    """Return the request for daily stocks that the plain ``body`` holds."""
    from fusiontrade.inference.swing import SwingRequest

    try:
        return SwingRequest.model_validate_json(_counted(body, body))
    except ValidationError as error:
        raise malformed(error) from None


def written(response: ForecastResponse | TextResponse | SwingResponse, said: Announced) -> tuple[bytes, dict[str, str]]:
    """Return the answer as it goes out, gzip where that is wanted and gains, and the headers that say so."""
    answer, headers = response.model_dump_json().encode(), {"Vary": "Accept-Encoding"}
    if not said.takes_gzip or len(answer) < _WORTH_COMPRESSING:
        return answer, headers
    return gzip.compress(answer, _COMPRESSION, mtime=0), {**headers, "Content-Encoding": "gzip"}


def _counted(body: bytes, text: bytes) -> bytes:
    """Return ``body``, whose JSON is ``text``; refuse what no request has and a parser would be seconds at."""
    if is_parsed_soon(text):
        return body
    detail = "the body has more members, lists or values than any request: send what the contract names, and no more"
    raise Refusal(HTTPStatus.BAD_REQUEST, detail)


def _too_large(limit: int, when: str = "") -> Refusal:
    detail = f"a body may have {limit} bytes{when}: send fewer items per request"
    return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, headers={"Connection": "close"})


def _quality(header: str, *names: str) -> float:
    """Return how much a negotiation header wants the first of ``names`` that it speaks of; 0 is not at all."""
    wanted = dict[str, float]()
    for part in header.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        given = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        try:
            wanted[name] = float(given)
        except ValueError:
            wanted[name] = 0.0
    return next((wanted[name] for name in names if name in wanted), 0.0)
