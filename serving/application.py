"""The HTTP face of the engine: SageMaker's ``/ping`` and ``/invocations``, ``/models`` and ``/metrics``.

Always true here: where the engine has no place a request is a 503 with Retry-After; no body beyond its cap is ever
held; ``/ping`` is 200 only while requests are answered; a request that was accepted is answered even when the program
has been told to end, unless its client goes away, which ends the work for it. Errors are ``application/problem+json``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
import uuid
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from fusiontrade.errors import BundleRefused
from serving.bodies import (
    JSON,
    SWING,
    TEXTS,
    Announced,
    Aside,
    Memory,
    Room,
    announced,
    decompressed,
    is_quick,
    parsed,
    received,
    stocks_of,
    texts_of,
    written,
)
from serving.connections import unless_gone
from serving.refusals import CLIENT_GONE, SHOWN, Refusal, problem
from serving.settings import ServingSettings

if TYPE_CHECKING:
    from fusiontrade.inference.contract import ForecastResponse
    from fusiontrade.inference.swing import SwingResponse
    from fusiontrade.inference.texts import TextResponse
    from serving.running import Asked, Running
    from serving.siblings import Siblings

__all__ = ["Application", "Service", "State"]

_log = logging.getLogger(__name__)

_P = ParamSpec("_P")
_T = TypeVar("_T")
_BODIES = 16  # of the greatest length, held at the same time by all processes together; each may hold two
_MANY_ITEMS = 32  # more of them are written in a thread
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_PATIENCE = 3.0  # seconds that ``/models`` waits for what is still being opened
_LAST_WORDS = 2.0  # seconds for requests that were given up to be told so
_ROUTES = ("/ping", "/models", "/metrics", "/invocations")
_ENDPOINT = re.compile(r"/endpoints/[^/]+/invocations")

_Route = Callable[[Request], Coroutine[Any, Any, Response]]
_Answer = Callable[..., Coroutine[Any, Any, Any]]


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
    on_change
        Told the state once it is known whether the program can serve.
    siblings
        The other processes of the program, for which ``/models`` and ``/metrics`` answer too.
    """

    def __init__(
        self,
        settings: ServingSettings,
        load: Callable[[], Running],
        on_change: Callable[[State], None],
        siblings: Siblings | None = None,
    ) -> None:
        self.settings = settings
        self._on_change, self._siblings = on_change, siblings
        self.state = State.STARTING
        self.running: Running | None = None
        self._load = load
        self._pool = ThreadPoolExecutor(settings.workers, thread_name_prefix="body")
        self._aside = Aside(self._pool)
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="reading")  # seconds, which no body shall wait for
        self._memory = Memory(max(2, _BODIES // settings.processes) * settings.body_limit)
        self._answers: dict[str, _Answer] = {TEXTS: self._moods, SWING: self._stocks}
        self.accepted = 0  # invocations that are neither answered nor refused yet

    async def start(self) -> None:
        """Load the engine, become ready or failed, and tell whoever wants to know."""
        begun = time.perf_counter()
        try:
            self.running = await self._in_thread(self._load)
        except Exception as error:
            expected = isinstance(error, BundleRefused | OSError)
            _log.critical("not able to serve", extra={"reason": str(error)}, exc_info=None if expected else error)
            self.state = State.FAILED
        if self.state is State.STARTING:
            self.state = State.READY
            _log.info("ready", extra={"seconds": round(time.perf_counter() - begun, 3), "models": self._served()})
        self._on_change(self.state)
        if self.running is not None:
            self.running.open_rest()

    async def reload(self) -> None:
        """Read the bundles again; what is new and good serves from then on."""
        if self.running is not None:
            await asyncio.get_running_loop().run_in_executor(self._reading, self.running.reload)

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
        for pool in (self._pool, self._reading):
            pool.shutdown(wait=False, cancel_futures=True)
        if self.running is not None:
            self.running.close()

    async def listen(self) -> None:
        """Let the siblings ask what this process would tell of itself."""
        if self._siblings is not None:
            await self._siblings.listen({"models": self._told, "metrics": self._counted})

    async def ping(self, request: Request) -> Response:  # noqa: ARG002 - every route is given it
        """``GET /ping``: 200 while invocations are answered, else 503."""
        return JSONResponse({"status": self.state}, 200 if self.state is State.READY else 503)

    async def models(self, request: Request) -> Response:  # noqa: ARG002 - every route is given it
        """``GET /models``: the bundles that serve, those refused with the reason, and the requests being answered.

        Of several processes it shows the one whose bundles were exchanged least often: what serves everywhere.
        """
        if self.running is not None:
            await self.running.whole(_PATIENCE)
        own = await self._told()
        told = [own]
        if self._siblings is not None:
            told += (await self._siblings.ask("models")).values()
        shown = min(told, key=lambda one: one["generation"])
        in_flight = sum(one["in_flight"] for one in told)
        return JSONResponse({**shown, "in_flight": in_flight, "processes": [one["process"] for one in told]})

    async def _told(self) -> dict[str, Any]:
        refused = () if self.running is None else (*self.running.engine.refused, *self.running.companions.refused)
        generation = 0 if self.running is None else self.running.swap.generation
        return {
            "state": self.state,
            "in_flight": self.accepted,
            "generation": generation,
            "models": self._served(),
            "refused": [{"folder": one.folder, "reason": one.reason} for one in refused],
            "not_exchanged": self._not_exchanged(),
            "process": {"pid": os.getpid(), "state": self.state, "generation": generation, "in_flight": self.accepted},
        }

    async def metrics(self, request: Request) -> Response:  # noqa: ARG002 - every route is given it
        """``GET /metrics``: what was counted, in Prometheus' text form; of several processes, by process."""
        own = await self._counted()
        from serving.measuring import CONTENT_TYPE, merged

        if self._siblings is not None:
            told = {self._siblings.number: own, **await self._siblings.ask("metrics")}
            own = await self._in_thread(merged, told)
        return Response(own, headers={"Content-Type": CONTENT_TYPE})

    async def _counted(self) -> str:
        if self.running is None:
            raise self._not_ready()
        return await self._in_thread(self.running.metrics.exposition)

    async def invocations(self, request: Request) -> Response:
        """``POST /invocations``: a `ForecastRequest` in, a `ForecastResponse` out; or texts, or daily stocks."""
        from serving.running import Overloaded

        if self.state is not State.READY or self.running is None:
            raise self._not_ready()
        said = announced(request.headers, self.settings.body_limit)
        request.scope["form"] = said.form
        self.accepted += 1
        try:
            with self._memory.room() as room:
                answer = self._answers.get(said.content_type, self._forecast)
                response = await answer(self.running, request, said, room)
            few = len(response.items) <= _MANY_ITEMS
            content, headers = written(response, said) if few else await self._in_thread(written, response, said)
            return Response(content, media_type=JSON, headers=headers)
        except Overloaded as error:
            after = {"Retry-After": str(error.retry_after)}
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, str(error), headers=after) from None
        finally:
            self.accepted -= 1

    async def _forecast(self, running: Running, request: Request, said: Announced, room: Room) -> ForecastResponse:
        running.admit()
        asked = await self._read(request, said, room)
        return await unless_gone(request.scope, running.answer(asked, seconds=self.settings.answer_seconds))

    async def _moods(self, running: Running, request: Request, said: Announced, room: Room) -> TextResponse:
        body = await self._body(request, said, room)
        texts = texts_of(body) if is_quick(body, said) else await self._aside(texts_of, body)
        seconds = await running.whole(self.settings.answer_seconds)
        if not running.desk.has_room(len(texts)):
            detail = f"{running.desk.unanswered} texts wait already; try again in a few seconds"
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": "5"})
        answer = await unless_gone(request.scope, running.desk.answer(texts, seconds=seconds))
        running.metrics.told(answer.items)
        return answer

    async def _stocks(self, running: Running, request: Request, said: Announced, room: Room) -> SwingResponse:
        seconds = await running.whole(self.settings.answer_seconds)
        bundle, encoder = running.companions.swing, running.companions.encoder
        if bundle is None:
            detail = "no model of daily stocks is loaded: give a bundle of kind swing"
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, detail)
        asked = await self._aside(stocks_of, await self._body(request, said, room))
        try:
            answer = await unless_gone(request.scope, running.stocks.answer(asked, bundle, encoder, seconds=seconds))
        except BundleRefused as error:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from None
        running.metrics.told(answer.items)
        return answer

    async def _read(self, request: Request, said: Announced, room: Room) -> list[Asked]:
        body = await self._body(request, said, room)
        return _asked(body, said) if is_quick(body, said) else await self._aside(_asked, body, said)

    async def _body(self, request: Request, said: Announced, room: Room) -> bytes:
        limit = self.settings.body_limit
        body = await received(request.stream(), limit=limit, seconds=self.settings.body_seconds, room=room)
        if said.is_gzip:
            body = await self._in_thread(decompressed, body, limit)
            room.take(len(body))
        return body

    async def _in_thread(self, call: Callable[_P, _T], *given: _P.args, **named: _P.kwargs) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(call, *given, **named))

    def _not_ready(self) -> Refusal:
        detail = f"the program is {self.state}; try again in a few seconds"
        return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": "2"})

    def _not_exchanged(self) -> list[dict[str, str]]:
        failed = () if self.running is None else self.running.swap.failed
        return [{"folder": one.folder, "reason": one.reason} for one in failed]

    def _served(self) -> list[dict[str, Any]]:
        cards = [] if self.running is None else [bundle.card for bundle in self.running.engine.bundles.values()]
        return [
            {
                "id": card.model_id,
                "version": card.version,
                "kind": card.kind,
                "timeframe": card.timeframe,
                "precision": card.precision,
            }
            for card in cards
        ] + ([] if self.running is None else self.running.companions.told())


class Application:
    """The ASGI application: routes a request, answers it whatever happens, writes one line and counts it.

    It is its own router: Starlette's costs a tenth of the time of a request.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._routes: dict[str, tuple[str, _Route]] = {
            "/ping": ("GET", service.ping),
            "/models": ("GET", service.models),
            "/metrics": ("GET", service.metrics),
            "/invocations": ("POST", service.invocations),
        }

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one HTTP request."""
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

        try:
            response = await self._answered(Request(scope, receiving))
            status, sent = response.status_code, len(response.body)
            response.raw_headers.append((b"x-request-id", request_id.encode()))
            await response(scope, receive, send)
        finally:
            seconds = time.perf_counter() - begun
            self._count(scope, status, seconds, taken, sent)
            _log.log(
                logging.DEBUG if scope["path"] == "/ping" else logging.INFO,
                "request",
                extra={
                    "request_id": request_id,
                    "method": scope["method"],
                    "path": scope["path"][:SHOWN],
                    "status": status,
                    "milliseconds": round(seconds * 1000, 1),
                },
            )

    async def _answered(self, request: Request) -> Response:
        try:
            return await self._route(request)(request)
        except Refusal as refusal:
            return problem(request, refusal)
        except ClientDisconnect:
            return Response(status_code=CLIENT_GONE)
        except Exception:
            _log.exception("request failed", extra={"request_id": request.scope["request_id"]})
            detail = "something went wrong inside; the log has the reason under this request id"
            return problem(request, Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, detail))

    def _route(self, request: Request) -> _Route:
        path, method = request.scope["path"], request.scope["method"]
        known = self._routes.get("/invocations" if _ENDPOINT.fullmatch(path) else path)
        if known is None:
            raise Refusal(HTTPStatus.NOT_FOUND, f"there is no {path[:SHOWN]} here")
        allowed, route = known
        if method != allowed and not (allowed == "GET" and method == "HEAD"):
            raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, f"{path} takes {allowed}", headers={"Allow": allowed})
        return route

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
