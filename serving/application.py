"""The HTTP face of the engine: SageMaker's ``/ping`` and ``/invocations``, ``/models`` and ``/metrics``.

Always true here: where the engine has no place a request is a 503 with Retry-After; no body beyond its cap is ever
held; ``/ping`` is 200 only while requests are answered; a request that was accepted is answered even when the program
has been told to end, unless its client goes away, which ends the work for it. Errors are ``application/problem+json``.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from enum import StrEnum
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fusiontrade.errors import BundleRefused
from serving.bodies import (
    JSON,
    Announced,
    Memory,
    Room,
    announced,
    decompressed,
    is_quick,
    parsed,
    received,
    written,
)
from serving.refusals import HANDLERS, Refusal
from serving.settings import ServingSettings

if TYPE_CHECKING:
    from fusiontrade.inference.contract import ForecastResponse
    from serving.running import Asked, Running

__all__ = ["Service", "State", "create_app"]

_log = logging.getLogger(__name__)

_P = ParamSpec("_P")
_T = TypeVar("_T")
_BODIES = 16  # of the greatest length, held at the same time
_MANY_ITEMS = 32  # more of them are written in a thread
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_LAST_WORDS = 2.0  # seconds for requests that were given up to be told so
_ROUTES = ("/ping", "/models", "/metrics", "/invocations")


class State(StrEnum):
    """Where the program is in its life."""

    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"
    DRAINING = "draining"


class Service:
    """What the routes share: the engine, the state, and the memory for bodies.

    Parameters
    ----------
    settings
        Sizes and limits.
    load
        Returns a warmed-up engine at work; called once, in a thread. Raises `BundleRefused` if nothing can serve.
    """

    def __init__(self, settings: ServingSettings, load: Callable[[], Running]) -> None:
        self.settings = settings
        self.state = State.STARTING
        self.running: Running | None = None
        self._load = load
        self._pool = ThreadPoolExecutor(settings.workers, thread_name_prefix="body")
        self._memory = Memory(_BODIES * settings.body_limit)
        self.accepted = 0  # invocations that are neither answered nor refused yet

    async def start(self, on_failure: Callable[[], None]) -> None:
        """Load the engine and become ready; ``on_failure`` is called where nothing can serve."""
        begun = time.perf_counter()
        try:
            self.running = await self._in_thread(self._load)
        except Exception as error:
            expected = isinstance(error, BundleRefused | OSError)
            _log.critical("not able to serve", extra={"reason": str(error)}, exc_info=None if expected else error)
            self.state = State.FAILED
            on_failure()
            return
        if self.state is State.STARTING:
            self.state = State.READY
            _log.info("ready", extra={"seconds": round(time.perf_counter() - begun, 3), "models": self._served()})

    async def reload(self) -> None:
        """Read the bundles again; what is new and good serves from then on."""
        if self.running is not None:
            await asyncio.to_thread(self.running.reload)  # takes seconds, which no body shall wait for

    async def drained(self, seconds: float) -> bool:
        """Refuse new requests, wait for the accepted ones at most ``seconds``; tell whether all were answered."""
        self.state = State.DRAINING
        until = time.monotonic() + seconds
        while self.accepted and time.monotonic() < until:
            await asyncio.sleep(0.02)
        if self.accepted and self.running is not None:
            self.running.give_up()  # whoever still waits is told so, instead of being cut off
            until = time.monotonic() + _LAST_WORDS
            while self.accepted and time.monotonic() < until:
                await asyncio.sleep(0.02)
        return not self.accepted

    def close(self) -> None:
        """Let go of the threads without waiting for them."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self.running is not None:
            self.running.close()

    async def ping(self, request: Request) -> Response:  # noqa: ARG002 - Starlette passes it
        """``GET /ping``: 200 while invocations are answered, else 503."""
        return JSONResponse({"status": self.state}, 200 if self.state is State.READY else 503)

    async def models(self, request: Request) -> Response:  # noqa: ARG002 - Starlette passes it
        """``GET /models``: the bundles that serve, those refused with the reason, and the requests being answered."""
        refused = () if self.running is None else self.running.engine.refused
        return JSONResponse(
            {
                "state": self.state,
                "in_flight": self.accepted,
                "generation": 0 if self.running is None else self.running.swap.generation,
                "models": self._served(),
                "refused": [{"folder": one.folder, "reason": one.reason} for one in refused],
                "not_exchanged": self._not_exchanged(),
            }
        )

    async def metrics(self, request: Request) -> Response:  # noqa: ARG002 - Starlette passes it
        """``GET /metrics``: what was counted, in Prometheus' text form."""
        if self.running is None:
            raise self._not_ready()
        content, content_type = await self._in_thread(self.running.exposition)
        return Response(content, headers={"Content-Type": content_type})

    async def invocations(self, request: Request) -> Response:
        """``POST /invocations``: a `ForecastRequest` in, a `ForecastResponse` out."""
        if self.state is not State.READY or self.running is None:
            raise self._not_ready()
        said = announced(request.headers, self.settings.body_limit)
        request.scope["form"] = said.form
        self.accepted += 1
        try:
            with self._memory.room() as room:
                response = await self._forecast(self.running, request, said, room)
            few = len(response.items) <= _MANY_ITEMS
            content, headers = written(response, said) if few else await self._in_thread(written, response, said)
            return Response(content, media_type=JSON, headers=headers)
        finally:
            self.accepted -= 1

    async def _forecast(self, running: Running, request: Request, said: Announced, room: Room) -> ForecastResponse:
        from serving.running import Overloaded

        try:
            running.admit()
            asked = await self._read(request, said, room)
            return await _unless_gone(request, running.answer(asked, seconds=self.settings.answer_seconds))
        except Overloaded as error:
            headers = {"Retry-After": str(error.retry_after)}
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, str(error), headers=headers) from None

    async def _read(self, request: Request, said: Announced, room: Room) -> list[Asked]:
        limit = self.settings.body_limit
        body = await received(request.stream(), limit=limit, seconds=self.settings.body_seconds, room=room)
        if said.is_gzip:
            body = await self._in_thread(decompressed, body, limit)
            room.take(len(body))
        return _asked(body, said) if is_quick(body, said) else await self._in_thread(_asked, body, said)

    async def _in_thread(self, call: Callable[_P, _T], *given: _P.args, **named: _P.kwargs) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(call, *given, **named))

    def _not_ready(self) -> Refusal:
        detail = f"the program is {self.state}; try again in a few seconds"
        return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": "2"})

    def _not_exchanged(self) -> list[dict[str, str]]:
        failed = () if self.running is None else self.running.swap.failed
        return [{"folder": one.folder, "reason": one.reason} for one in failed]

    def _served(self) -> list[dict[str, str]]:
        cards = [] if self.running is None else [bundle.card for bundle in self.running.engine.bundles.values()]
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
            Route("/metrics", service.metrics),
            Route("/invocations", service.invocations, methods=["POST"]),
            Route("/endpoints/{name}/invocations", service.invocations, methods=["POST"]),
        ],
        exception_handlers=dict(HANDLERS),
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return _Observed(app, service)


class _Observed:
    """Gives each request its id, writes one line when it has been answered, and counts it."""

    def __init__(self, app: Any, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope["request_id"] = request_id
        begun = time.perf_counter()
        status = taken = sent = 0

        async def receiving() -> Any:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            return message

        async def sending(message: Any) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", request_id.encode())]
            sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receiving, sending)
        finally:
            seconds = time.perf_counter() - begun
            self._count(scope, status, seconds, taken, sent)
            _log.log(
                logging.DEBUG if scope["path"] == "/ping" else logging.INFO,
                "request",
                extra={
                    "request_id": request_id,
                    "method": scope["method"],
                    "path": scope["path"],
                    "status": status,
                    "milliseconds": round(seconds * 1000, 1),
                },
            )

    def _count(self, scope: Any, status: int, seconds: float, taken: int, sent: int) -> None:
        if self._service.running is not None:
            route = next((known for known in _ROUTES if scope["path"].endswith(known)), "other")
            form = scope.get("form", "none")
            self._service.running.metrics.answered(
                route, status, content_type=form, seconds=seconds, received=taken, sent=sent
            )


def _asked(body: bytes, said: Announced) -> list[Asked]:
    from serving.running import Asked

    return [Asked.of(item) for item in parsed(body, said).items]


async def _unless_gone(request: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """Return what ``work`` returns; where the client goes away before, cancel it."""
    answer, gone = asyncio.ensure_future(work), asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ClientDisconnect
        return answer.result()
    finally:
        answer.cancel()
        gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
