"""One FastAPI application a function, and its Lambda handler.

Always true here: an application serves nothing but the routers it is given (no documentation routes of its own); its
errors are problems; a handler call runs on the one event loop of its process, knows how long it may still take, and
logs the function's request id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

from mangum import Mangum
from mangum.adapter import DEFAULT_TEXT_MIME_TYPES
from starlette.concurrency import run_in_threadpool

from fusiontrade import __version__, logs
from fusiontrade.accounts.admission.limits import LIMITS
from fusiontrade.clock import system_clock
from fusiontrade.settings import Settings
from fusiontrade.snapshots import after_restore, before_snapshot
from fusiontrade.startup import keep_for_good, uncollected
from fusiontrade.web import documents, problems
from fusiontrade.web.framework import APIRouter, FastAPI
from fusiontrade.web.transport import floor
from fusiontrade.web.transport.metrics import RequestMetrics

__all__ = ["LambdaHandler", "create_app", "handler_of"]

_OUR_NAME = frozenset({"host", "x-forwarded-port"})
LambdaHandler = Callable[[dict[str, Any], Any], dict[str, Any]]


def create_app(
    service: str,
    routers: Sequence[APIRouter],
    settings: Settings,
    *,
    media_types: Sequence[str] = ("application/json",),
) -> FastAPI:
    """Return the application of one function.

    Parameters
    ----------
    service : str
        The function's name: ``auth``, ``fusion``; it stands in every log line.
    routers : sequence of APIRouter
        Its routes, declared without a trailing slash; they answer with one too.
    settings : Settings
        Kept as ``app.state.settings``; ``app.state.limits`` and ``app.state.clock`` are the usual ones.
    media_types : sequence of str
        Types of body that its routes read; any other is a 415.
    """
    app = FastAPI(
        title="FusionTrade AI",
        version=__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    metrics = RequestMetrics(service, settings.stage) if settings.stage != "local" else None
    app.state.settings = settings
    app.state.metrics = metrics
    app.state.service = service
    app.state.limits = LIMITS
    app.state.clock = system_clock
    for router in routers:
        app.include_router(router)
    problems.install(app)
    app.openapi = lambda: documents.document_of(app)  # type: ignore[method-assign]
    app.add_middleware(
        floor.Floor,
        limits=floor.Limits(settings.max_body_bytes, tuple(media_types), frozenset(settings.allowed_origins)),
        logger=logs.logger_of(service, settings.log_level),
        clock=floor.steady,
        metrics=metrics,
    )
    return app


def handler_of(app: FastAPI, *ahead: Callable[[], object]) -> LambdaHandler:
    """Return the Lambda handler of ``app``, for HTTP API payloads of version 2.0.

    Parameters
    ----------
    ahead
        Work that is done before a snapshot of the process is taken, because every copy of it would do the same at
        its first request. It fetches nothing and opens nothing.
    """
    settings: Settings = app.state.settings
    logger = logs.logger_of(app.state.service, settings.log_level)
    logs.take_over(logger, settings.log_level)
    asyncio.set_event_loop(_event_loop())
    adapter = Mangum(app, lifespan="off", text_mime_types=[*DEFAULT_TEXT_MIME_TYPES, problems.MEDIA_TYPE])

    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        asyncio.set_event_loop(_event_loop())  # Mangum takes the thread's current one, which others may have unset
        logger.append_keys(function_request_id=getattr(context, "aws_request_id", None))
        answer: dict[str, Any] = adapter(_without_host(event), context)
        return answer

    before_snapshot(partial(_pass_through, app))
    for work in ahead:
        before_snapshot(work)
    if app.state.metrics is not None:
        after_restore(app.state.metrics.start_cold)
    keep_for_good()
    return handler


def _pass_through(app: FastAPI) -> None:
    """Send one request through the application that no route takes, and use a thread: what both load is loaded then."""
    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": [], floor.AHEAD: True}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        """Nobody waits for the answer."""

    async def everywhere() -> None:
        await app(scope, receive, send)
        await run_in_threadpool(int)

    with uncollected():
        _event_loop().run_until_complete(everywhere())
    keep_for_good()


def _without_host(event: dict[str, Any]) -> dict[str, Any]:
    """Return the event without what the client says our name is: no route needs it, and Mangum fails on a bad one."""
    headers = {name: value for name, value in event.get("headers", {}).items() if name.lower() not in _OUR_NAME}
    return {**event, "headers": headers}


@cache
def _event_loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


@after_restore
def _renew_event_loop() -> None:
    """A loop knows the threads and instants of the process that made it."""
    _event_loop().close()
    _event_loop.cache_clear()
