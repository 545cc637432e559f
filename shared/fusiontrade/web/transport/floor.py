"""What holds for every request, whatever the route: one pure ASGI middleware around the whole application.

Always true here: every answer carries the request's id and the security headers; every log line of a request carries
its id; a body over the limit or of a type nobody reads is refused before it is parsed; a path with a trailing slash
is the same path; an exception that nothing else handled becomes a 500 problem, and its stack goes to the log only.
Cross-origin answers are given to the configured origins and to no other; an origin is never echoed unseen.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fusiontrade.web import problems
from fusiontrade.web.asking import rate_limits
from fusiontrade.web.transport import bodies
from fusiontrade.web.transport.metrics import UNKNOWN_ROUTE, RequestMetrics

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger

__all__ = ["AHEAD", "REQUEST_ID_HEADER", "Floor", "Limits", "valid_request_id"]

REQUEST_ID_HEADER = "X-Request-Id"
AHEAD = "fusiontrade.ahead"
"""Key of a scope that is sent through the application before a snapshot is taken, to have been everywhere once."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,128}")
_LENGTH = re.compile(r"[0-9]{1,18}")
_WITH_BODY = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Strict-Transport-Security": "max-age=63072000; includeSubDomains",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_ALLOWED_METHODS = "GET, POST, PUT, DELETE, OPTIONS"
_ALLOWED_HEADERS = "Authorization, Content-Type, Idempotency-Key, If-None-Match, Prefer, X-API-Token, X-Request-Id"
_EXPOSED_HEADERS = (
    "Content-Disposition, ETag, Idempotent-Replayed, Link, Location, Preference-Applied, RateLimit, RateLimit-Policy, "
    "Retry-After, X-Request-Id"
)


def valid_request_id(text: str | None) -> bool:
    """Return whether a client's request id may be used: 8 to 128 letters, digits, dots, dashes, underscores."""
    return text is not None and _REQUEST_ID.fullmatch(text) is not None


@dataclass(frozen=True)
class Limits:
    """What a body may be; ``max_body_bytes`` counts the bytes received, whatever Content-Length says."""

    max_body_bytes: int
    media_types: Sequence[str] = ("application/json",)
    origins: frozenset[str] = field(default_factory=frozenset)


class Floor:
    """The middleware; ``logger`` gets one line a request and keeps the request id for the lines in between.

    ``metrics`` None counts nothing. A request whose scope says `AHEAD` is one of our own and leaves no trace.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: Limits,
        logger: Logger,
        clock: Callable[[], float],
        metrics: RequestMetrics | None = None,
    ) -> None:
        self._metrics = metrics
        self._app = app
        self._limits = limits
        self._logger = logger
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get(REQUEST_ID_HEADER)
        request_id = given if given is not None and valid_request_id(given) else uuid.uuid4().hex
        scope["fusiontrade.request_id"] = request_id
        _drop_trailing_slash(scope)
        self._logger.append_keys(request_id=request_id)
        started, status = self._clock(), 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._add_headers(message, scope, headers.get("Origin"))
            await send(message)

        try:
            await self._answered(scope, headers, receive, send_with_headers, lambda: status != 0)
        finally:
            self._tell(scope, status, round((self._clock() - started) * 1000, 1))
            self._logger.remove_keys(["request_id"])

    def _tell(self, scope: Scope, status: int, milliseconds: float) -> None:
        if AHEAD in scope:
            return
        line = {"method": scope["method"], "path": scope["path"], "status": status, "milliseconds": milliseconds}
        self._logger.info("request", extra=line)
        if self._metrics is not None:
            self._metrics.request(getattr(scope.get("route"), "path", UNKNOWN_ROUTE), status, milliseconds)

    async def _answered(
        self, scope: Scope, headers: Headers, receive: Receive, send: Send, has_started: Callable[[], bool]
    ) -> None:
        try:
            if _is_preflight(scope["method"], headers):
                await Response(status_code=204)(scope, receive, send)
                return
            if scope["method"] in _WITH_BODY:
                receive = bodies.replay(await self._checked_body(headers, receive), receive)
            await self._app(scope, receive, send)
        except Exception as error:
            if has_started():
                raise
            await problems.answer(error, Request(scope))(scope, receive, send)

    async def _checked_body(self, headers: Headers, receive: Receive) -> bytes:
        """Return the whole body; raises the 413, 415, 400 or 422 that it, or what is said of it, calls for."""
        if _announced_bytes(headers) > self._limits.max_body_bytes:
            raise bodies.too_large(self._limits.max_body_bytes)
        body = await bodies.read(receive, self._limits.max_body_bytes)
        media_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if body and media_type not in self._limits.media_types:
            raise HTTPException(415, f"send the body as {' or '.join(self._limits.media_types)}")
        if media_type == "application/json":
            bodies.check_json(body)
        return body

    def _add_headers(self, message: Message, scope: Scope, origin: str | None) -> None:
        headers = MutableHeaders(scope=message)
        headers[REQUEST_ID_HEADER] = scope["fusiontrade.request_id"]
        headers.update(rate_limits.headers_of(scope))
        for name, value in _SECURITY_HEADERS.items():
            headers.setdefault(name, value)
        if not self._limits.origins:
            return
        headers.add_vary_header("Origin")
        if origin in self._limits.origins:
            headers["Access-Control-Allow-Origin"] = str(origin)
            headers["Access-Control-Allow-Credentials"] = "true"
            headers["Access-Control-Expose-Headers"] = _EXPOSED_HEADERS
            headers["Access-Control-Allow-Methods"] = _ALLOWED_METHODS
            headers["Access-Control-Allow-Headers"] = _ALLOWED_HEADERS
            headers["Access-Control-Max-Age"] = "600"


def _announced_bytes(headers: Headers) -> int:
    """Return what Content-Length says, 0 where it says nothing usable: the bytes are counted anyway."""
    length = headers.get("Content-Length", "")
    return int(length) if _LENGTH.fullmatch(length) else 0


def _is_preflight(method: str, headers: Headers) -> bool:
    return method == "OPTIONS" and "Origin" in headers and "Access-Control-Request-Method" in headers


def _drop_trailing_slash(scope: Scope) -> None:
    path = scope["path"]
    if len(path) > 1 and path.endswith("/"):
        scope["path"] = path.rstrip("/") or "/"


def steady() -> float:
    """Return the seconds of a clock that never goes back."""
    return time.monotonic()
