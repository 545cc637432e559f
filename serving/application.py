"""The HTTP face of the engine: SageMaker's ``/ping`` and ``/invocations``, and ``/models``.

Always true here: at most ``workers`` requests are computed and ``queue`` wait, one more is a 503 with Retry-After;
no body beyond its cap is ever held; ``/ping`` is 200 only while requests are answered; a request that was accepted is
answered even when the program has been told to end. Errors are ``application/problem+json``.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fusiontrade.errors import BundleRefused
from serving.settings import ServingSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from serving.engine import Engine

__all__ = ["Service", "State", "create_app"]

_log = logging.getLogger(__name__)

_JSON = "application/json"
_SHOWN_ERRORS = 10
_MOST_ERRORS = 5_000
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class State(StrEnum):
    """Where the program is in its life."""

    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"
    DRAINING = "draining"


class Refusal(Exception):
    """A request that is answered with a problem instead of forecasts."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        errors: list[dict[str, str]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.errors, self.headers = status, detail, errors, headers


class _Places:
    """A counted room; used from the event loop's thread alone."""

    def __init__(self, limit: int) -> None:
        self.limit, self.taken = limit, 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Take a place until the block ends, or refuse at once: waiting here would be an unbounded queue."""
        if self.taken >= self.limit:
            raise Refusal(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "all places are taken; try again in a second",
                headers={"Retry-After": "1"},
            )
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


class Service:
    """What the routes share: the engine, the state, and the places.

    Parameters
    ----------
    settings
        Sizes and limits.
    load
        Returns a warmed-up engine; called once, in a worker thread. Raises `BundleRefused` if nothing can serve.
    """

    def __init__(self, settings: ServingSettings, load: Callable[[], Engine]) -> None:
        self.settings = settings
        self.state = State.STARTING
        self.engine: Engine | None = None
        self._load = load
        self._pool = ThreadPoolExecutor(settings.workers, thread_name_prefix="answer")
        self._computing = _Places(settings.workers + settings.queue)
        self._reading = _Places(2 * (settings.workers + settings.queue))
        self.accepted = 0  # invocations that are neither answered nor refused yet

    async def start(self, on_failure: Callable[[], None]) -> None:
        """Load the engine and become ready; ``on_failure`` is called where nothing can serve."""
        begun = time.perf_counter()
        try:
            self.engine = await self._in_worker(self._load)
        except Exception as error:
            expected = isinstance(error, BundleRefused | OSError)
            _log.critical("not able to serve", extra={"reason": str(error)}, exc_info=None if expected else error)
            self.state = State.FAILED
            on_failure()
            return
        if self.state is State.STARTING:
            self.state = State.READY
            _log.info("ready", extra={"seconds": round(time.perf_counter() - begun, 3), "models": self._served()})

    async def drained(self, seconds: float) -> bool:
        """Refuse new requests, wait for the accepted ones at most ``seconds``; tell whether all were answered."""
        self.state = State.DRAINING
        until = time.monotonic() + seconds
        while self.accepted and time.monotonic() < until:
            await asyncio.sleep(0.02)
        return not self.accepted

    def close(self) -> None:
        """Let go of the worker threads without waiting for them."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def ping(self, request: Request) -> Response:  # noqa: ARG002 - Starlette passes it
        """``GET /ping``: 200 while invocations are answered, else 503."""
        return JSONResponse({"status": self.state}, 200 if self.state is State.READY else 503)

    async def models(self, request: Request) -> Response:  # noqa: ARG002 - Starlette passes it
        """``GET /models``: the bundles that serve, those refused with the reason, and the requests being answered."""
        refused = [] if self.engine is None else self.engine.refused
        return JSONResponse(
            {
                "state": self.state,
                "in_flight": self.accepted,
                "models": self._served(),
                "refused": [{"folder": one.folder, "reason": one.reason} for one in refused],
            }
        )

    async def invocations(self, request: Request) -> Response:
        """``POST /invocations``: a `ForecastRequest` in, a `ForecastResponse` out."""
        if self.state is not State.READY or self.engine is None:
            detail = f"the program is {self.state}; try again in a few seconds"
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": "2"})
        self.accepted += 1
        try:
            _check_headers(request, self.settings.body_limit)
            with self._reading.one():
                body = await _body(request, self.settings)
            engine = self.engine
            with self._computing.one():
                answer = await self._in_worker(lambda: _answered(engine, body))
            return Response(answer, media_type=_JSON)
        finally:
            self.accepted -= 1

    async def _in_worker(self, call: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    def _served(self) -> list[dict[str, str]]:
        cards = [] if self.engine is None else [bundle.card for bundle in self.engine.bundles.values()]
        return [
            {"id": card.model_id, "version": card.version, "kind": card.kind, "timeframe": card.timeframe}
            for card in cards
        ]


def create_app(service: Service, on_failure: Callable[[], None]) -> Any:
    """Return the ASGI application; the engine loads in the background while ``/ping`` already answers 503."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:  # noqa: ARG001 - Starlette passes it
        loading = asyncio.create_task(service.start(on_failure))
        yield
        loading.cancel()

    app = Starlette(
        routes=[
            Route("/ping", service.ping),
            Route("/models", service.models),
            Route("/invocations", service.invocations, methods=["POST"]),
            Route("/endpoints/{name}/invocations", service.invocations, methods=["POST"]),
        ],
        exception_handlers={
            Refusal: _refused,
            HTTPException: _http_error,
            ClientDisconnect: _gone,
            Exception: _unexpected,
        },
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return _Logged(app)


class _Logged:
    """Gives each request its id and writes one line when it has been answered."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope["request_id"] = request_id
        status, begun = 0, time.perf_counter()

        async def sending(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            _log.log(
                logging.DEBUG if scope["path"] == "/ping" else logging.INFO,
                "request",
                extra={
                    "request_id": request_id,
                    "method": scope["method"],
                    "path": scope["path"],
                    "status": status,
                    "milliseconds": round((time.perf_counter() - begun) * 1000, 1),
                },
            )


def _check_headers(request: Request, limit: int) -> None:
    """Refuse by the headers alone what would be refused by the body."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != _JSON:
        raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"the body has to be {_JSON}, not {content_type or 'untyped'}")
    if (encoding := request.headers.get("content-encoding", "identity")) != "identity":
        raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"the body must not be encoded, it is {encoding}")
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > limit:
        raise _too_large(limit)


async def _body(request: Request, settings: ServingSettings) -> bytes:
    """Return the body, never holding more than its cap."""
    body = bytearray()
    try:
        async with asyncio.timeout(settings.body_seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > settings.body_limit:
                    raise _too_large(settings.body_limit)
    except TimeoutError:
        detail = f"the body did not arrive within {settings.body_seconds:g} s"
        raise Refusal(HTTPStatus.REQUEST_TIMEOUT, detail, headers={"Connection": "close"}) from None
    return bytes(body)


def _too_large(limit: int) -> Refusal:
    detail = f"a body may have {limit} bytes: send fewer items per request"
    return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, headers={"Connection": "close"})


def _answered(engine: Engine, body: bytes) -> bytes:
    """Parse, compute, serialise: all of it in a worker thread, since any of it may take long."""
    from fusiontrade.inference.contract import ForecastRequest

    try:
        request = ForecastRequest.model_validate_json(body)
    except ValidationError as error:
        raise _malformed(error) from None
    return engine.answer(request).model_dump_json().encode()


def _malformed(error: ValidationError) -> Refusal:
    if error.error_count() > _MOST_ERRORS:  # naming each would cost more than the whole answer
        return Refusal(HTTPStatus.BAD_REQUEST, f"the body breaks the contract in {error.error_count()} places")
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    told = [
        {"pointer": "".join(f"/{part}" for part in fault["loc"]), "message": fault["msg"]}
        for fault in faults[:_SHOWN_ERRORS]
    ]
    first = told[0]
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    detail = f"{first['pointer'] or 'the body'}: {first['message']}{more}"
    return Refusal(HTTPStatus.BAD_REQUEST, detail, errors=told)


def _problem(request: Request, refusal: Refusal) -> Response:
    content: dict[str, Any] = {
        "type": "/problems/" + refusal.status.phrase.lower().replace(" ", "-"),
        "title": refusal.status.phrase,
        "status": int(refusal.status),
        "detail": refusal.detail,
        "instance": request.url.path,
        "request_id": request.scope.get("request_id"),
    }
    if refusal.errors:
        content["errors"] = refusal.errors
    headers = dict(refusal.headers or {})
    return JSONResponse(content, refusal.status, headers, media_type="application/problem+json")


async def _refused(request: Request, error: Exception) -> Response:
    if not isinstance(error, Refusal):
        raise error
    return _problem(request, error)


async def _http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return _problem(request, Refusal(HTTPStatus(error.status_code), error.detail, headers=error.headers))


async def _gone(request: Request, error: Exception) -> Response:  # noqa: ARG001 - nobody is left to read it
    return Response(status_code=HTTPStatus.BAD_REQUEST)


async def _unexpected(request: Request, error: Exception) -> Response:  # noqa: ARG001 - logged by the server
    detail = "something went wrong inside; the log has the reason under this request id"
    return _problem(request, Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, detail))
