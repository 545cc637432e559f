"""The local gateway: serves the events of `template.yaml` by running the handlers.

HTTP routes are answered here, queues and schedules are `queues` and `timers` over the same pools; what is not in the
template is not served. A function without routes is started after the others: nobody waits for its first event. Runs
as a process of its own: ``python -m infra.local.gateway OPTIONS_AS_JSON``.

Answers of the gateway itself: 404 where no route fits, 413 above 10 MB (or where the event exceeds the 6 MB that
Lambda takes, base64 counted), 500 where the function fails or times out, 503 where it takes longer than the
integration may.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from fusiontrade.cloud.session import client
from infra.local import http_events
from infra.local.functions import AWS_VARIABLES, Pool, process_environment
from infra.local.http_events import HttpRequest, HttpResponse
from infra.local.log import LINE, NOTICE, READY, emit
from infra.local.options import HOST, ROOT, Options
from infra.local.queues import QueueWorker
from infra.local.slots import Outcome
from infra.local.sources import sources_of
from infra.local.template import Function, Template
from infra.local.timers import TimerWorker

__all__ = ["Gateway", "local_template", "overrides"]

NAME = "gateway"
SECONDS_TO_FINISH = 4.0


def local_template(options: Options) -> Template:
    """Return the stack's template with the parameters it has on this machine."""
    origins = [options.url, f"http://localhost:{options.port}", "http://localhost:5173", "http://127.0.0.1:5173"]
    return Template(ROOT / "template.yaml", {"AllowedOrigins": ",".join(origins)}, stack="fusiontrade-local")


def overrides(options: Options) -> dict[str, str]:
    """Return the variables that differ from the cloud's: where the services are, and which market it is."""
    return {
        "STAGE": "local",
        "POWERTOOLS_LOG_LEVEL": options.log_level,
        "AWS_ENDPOINT_URL": options.emulator_url,
        "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": options.serving_url,
        "AWS_ENDPOINT_URL_SAGEMAKER": options.training_url,
        "TRAINING_IMAGE": "laptop",
        "TRAINING_ROLE_ARN": "arn:aws:iam::000000000000:role/laptop",
        "TRAINING_POLL_SECONDS": "2",
        "MAIL_DELIVERY": "outbox",
        "MAIL_OUTBOX": str(options.outbox),
        **options.variables,
    }


class Gateway:
    """The HTTP API and the pools behind it: an ASGI application."""

    def __init__(self, template: Template, pools: Mapping[str, Pool], domain: str) -> None:
        self.pools = dict(pools)
        self._routes = [route for function in template.functions.values() for route in function.routes]
        self._cors = template.cors
        self._domain = domain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        try:
            answer = await self._answer(request)
        except ClientDisconnect:
            return
        response = Response(answer.body, answer.status)
        for name, value in answer.headers:
            response.headers.append(name, value)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> HttpResponse:
        body = await _body(request)
        if body is None:
            return http_events.gateway_answer(413, "Request Entity Too Large")
        arrived = _arrived(request, body)
        if (answer := http_events.preflight(self._cors, arrived)) is not None:
            return answer
        answer = await self._invoke(arrived)
        cors = http_events.cors_headers(self._cors, arrived.header("origin"))
        kept = tuple((k, v) for k, v in answer.headers if not (self._cors and k.startswith("access-control-")))
        return HttpResponse(answer.status, kept + cors, answer.body)

    async def _invoke(self, arrived: HttpRequest) -> HttpResponse:
        started, identity = time.perf_counter(), str(uuid.uuid4())
        found = http_events.match(self._routes, arrived.method, arrived.path)
        if found is None:
            return http_events.gateway_answer(404, "Not Found")
        event = http_events.event_of(
            arrived, found, request_id=identity, now_ms=time.time_ns() // 1_000_000, domain=self._domain
        )
        payload = json.dumps(event).encode()
        if len(payload) > http_events.EVENT_LIMIT:
            return http_events.gateway_answer(413, "Request Entity Too Large")
        pool = self.pools[found.route.function]
        try:
            running = asyncio.ensure_future(pool.invoke(payload))
            running.add_done_callback(_seen)
            outcome = await asyncio.wait_for(asyncio.shield(running), found.route.timeout_ms / 1000)
        except TimeoutError:
            answer = http_events.gateway_answer(503, "Service Unavailable")
        else:
            if outcome.failed:
                emit(LINE, pool.function.title, f"failed: {outcome.reason}")
                answer = http_events.gateway_answer(500, "Internal Server Error")
            else:
                answer = http_events.response_of(outcome.payload)
        took = (time.perf_counter() - started) * 1000
        emit(LINE, NAME, f"{arrived.method} {arrived.path} -> {answer.status} {took:.0f} ms ({pool.function.title})")
        return answer


def _seen(task: asyncio.Future[Any]) -> None:
    """Look at a result that nobody waits for any more, so that asyncio does not report it."""
    if not task.cancelled():
        task.exception()


async def _body(request: Request) -> bytes | None:
    """Return the body, None where it exceeds the limit (it is not read any further then)."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > http_events.BODY_LIMIT:
            return None
        parts.append(part)
    return b"".join(parts)


def _arrived(request: Request, body: bytes) -> HttpRequest:
    raw = request.scope.get("raw_path") or request.scope["path"].encode()
    return HttpRequest(
        method=request.method,
        path=raw.decode("ascii", errors="replace").partition("?")[0],
        query=request.scope["query_string"].decode("ascii", errors="replace"),
        headers=[(k.decode("latin-1"), v.decode("latin-1")) for k, v in request.scope["headers"]],
        body=body,
        source_ip=request.client.host if request.client else HOST,
    )


# --- the process ------------------------------------------------------------------------------------------------------


def _pool(function: Function, options: Options) -> Pool:
    def log(text: str) -> None:
        emit(LINE, function.title, text)

    environment = process_environment(function, ROOT / "shared", overrides(options))
    return Pool(function, environment, limit=options.concurrency, log=log, say=_say)


def _say(part: str, text: str) -> None:
    emit(NOTICE, part, text)


async def _watch(pools: Mapping[str, Pool], stop: asyncio.Event) -> None:
    """Reload the functions whose code has changed."""
    from watchfiles import PythonFilter, awatch

    shared = ROOT / "shared"
    folders = {pool.function.code: [pool] for pool in pools.values()} | {shared: list(pools.values())}
    async for changes in awatch(*folders, watch_filter=PythonFilter(), stop_event=stop):
        paths = [Path(path) for _, path in changes]
        touched = [
            pool for folder, those in folders.items() if any(p.is_relative_to(folder) for p in paths) for pool in those
        ]
        for pool in dict.fromkeys(touched):
            emit(LINE, pool.function.title, f"code changed ({paths[0].name}): reloaded")
            pool.reload()


async def _warm(pools: Mapping[str, Pool]) -> None:
    """Start every function that answers HTTP, say that the gateway serves, and start the rest one by one."""
    asked = [pool for pool in pools.values() if pool.function.routes]
    outcomes = await asyncio.gather(*(pool.warm() for pool in asked))
    failures = [pool.function.title for pool, why in zip(asked, outcomes, strict=True) if _is_broken(pool, why)]
    emit(READY, NAME, ", ".join(failures))
    for pool in pools.values():
        if pool not in asked:
            _is_broken(pool, await pool.warm())


def _is_broken(pool: Pool, failure: Outcome | None) -> bool:
    if failure is not None:
        _say(pool.function.title, f"cannot start: {failure.reason}")
    return failure is not None


@contextlib.asynccontextmanager
async def _events(template: Template, pools: Mapping[str, Pool], limit: int) -> AsyncIterator[None]:
    """Work off the queues and fire the schedules; at the end let the batches that are worked on finish."""
    sources, sqs = sources_of(template, limit), client("sqs", read_seconds=20.0)
    for title, reason in sources.unserved:
        _say(title, reason)

    def log(text: str) -> None:
        emit(LINE, NAME, text)

    workers = [QueueWorker(source, pools[source.function], sqs, log, _say) for source in sources.queues]
    timers = [TimerWorker(timer, pools[timer.function], sqs, log, _say) for timer in sources.timers]
    for worker in workers:
        worker.start()
    running = [asyncio.create_task(timer.run()) for timer in timers]
    try:
        yield
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*(worker.stop(SECONDS_TO_FINISH) for worker in workers))


class _Server(uvicorn.Server):
    """uvicorn without its signal handling: the process has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


async def _serve(options: Options) -> None:
    template = local_template(options)
    pools = {name: _pool(function, options) for name, function in template.functions.items()}
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    gateway = Gateway(template, pools, f"{HOST}:{options.port}")
    config = uvicorn.Config(gateway, HOST, options.port, log_config=None, access_log=False, lifespan="off")
    config.server_header = False
    server = _Server(config)
    async with _events(template, pools, options.concurrency):
        serving = asyncio.create_task(server.serve())
        tasks = [asyncio.create_task(_warm(pools)), asyncio.create_task(_watch(pools, stop))]
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        server.should_exit = True
        await asyncio.wait([serving], timeout=2)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*(pool.close() for pool in pools.values()))


def main(options: Options) -> None:
    """Serve until asked to end."""
    os.environ.pop("AWS_PROFILE", None)
    os.environ.update({**AWS_VARIABLES, "AWS_ENDPOINT_URL": options.emulator_url})
    asyncio.run(_serve(options))


if __name__ == "__main__":
    main(Options.from_json(sys.argv[1]))
