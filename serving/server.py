"""The serving program: ``python -m serving.server --bundles DIR --host 127.0.0.1 --port 8080``.

Always true here: the port answers (``/ping`` 503) before any model is loaded; SIGTERM and SIGINT refuse new requests,
let the accepted ones finish, and end the program with code 0 in less than 30 s; SIGHUP reads the bundles again; no
torch is imported, ever. Ends with 1 where it cannot serve (port in use, no bundle that may serve) and 2 where its
settings are wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import uvicorn
from pydantic import ValidationError

from serving.application import Service, create_app
from serving.connections import impatient
from serving.logs import configure_logs
from serving.settings import ServingSettings

if TYPE_CHECKING:
    from serving.running import Running

__all__ = ["main"]

_log = logging.getLogger("serving.server")

_LAST_SECONDS = 3  # for answers already computed to leave, after the drain
_BACKLOG = 512


class _Server(uvicorn.Server):
    """uvicorn with our way to end: ``/ping`` turns 503 first, and a signal is a wish, not a failure."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._draining: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End in order at the first signal, at once at the second."""
        loop = asyncio.get_running_loop()
        for wish in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(wish, self._end)
        loop.add_signal_handler(signal.SIGHUP, self._read_again)
        yield

    def _end(self) -> None:
        if self._draining is not None:
            self.should_exit = self.force_exit = True
            return
        self._draining = asyncio.get_running_loop().create_task(self._drain())

    def _read_again(self) -> None:
        _log.info("reading the bundles again")
        self._reading = asyncio.get_running_loop().create_task(self._service.reload())

    async def _drain(self) -> None:
        _log.info("draining", extra={"accepted": self._service.accepted})
        if not await self._service.drained(self._service.settings.drain_seconds):
            _log.error("requests were cut off", extra={"accepted": self._service.accepted})
        self.should_exit = True


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to end; return the exit code."""
    try:
        settings = _settings(arguments)
    except ValidationError as error:
        for fault in error.errors(include_url=False):
            name = "_".join(str(part) for part in fault["loc"])
            print(f"serving: {name} (SERVING_{name.upper()}): {fault['msg']}", file=sys.stderr)
        return 2
    configure_logs(settings.log_level)
    try:
        listener = socket.create_server((settings.host, settings.port), backlog=_BACKLOG)
    except OSError as error:
        reason = f"cannot listen on {settings.host}:{settings.port} ({error.strerror}): choose another with --port"
        _log.critical("not able to serve", extra={"reason": reason})
        return 1
    service = Service(settings, lambda: _load(settings))
    _log.info("listening", extra={"host": settings.host, "port": listener.getsockname()[1], "pid": os.getpid()})
    code = _run(service, listener)
    _log.info("ended", extra={"code": code})
    service.close()
    if service.accepted:
        logging.shutdown()
        os._exit(1)  # a computation that outlived the drain would hold the interpreter open
    return code


def _run(service: Service, listener: socket.socket) -> int:
    failed = False

    def on_failure() -> None:
        nonlocal failed
        failed = server.should_exit = True

    config = uvicorn.Config(
        create_app(service, on_failure),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        http=impatient(service.settings.body_seconds),
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=_LAST_SECONDS,
    )
    server = _Server(config, service)
    with contextlib.suppress(asyncio.CancelledError), asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(server.serve(sockets=[listener]))
    return 1 if failed else 0


def _load(settings: ServingSettings) -> Running:
    """Return a warmed-up engine at work; its imports (numpy, TA-Lib, ONNX Runtime) happen here, off the event loop."""
    from serving.running import start

    running = start(settings)
    gc.collect()
    gc.freeze()  # what is there by now stays for good: no collection has to look at it again
    return running


def _settings(arguments: Sequence[str] | None) -> ServingSettings:
    parser = argparse.ArgumentParser(prog="python -m serving.server", description="Serve the models of a folder.")
    parser.add_argument(
        "--bundles", metavar="DIR", help="folder of bundles (default: /opt/ml/model, else the starters)"
    )
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", help="port to listen on, 0 for a free one (default: 8080)")
    parser.add_argument("--device", help="cpu, cuda or auto (default: auto)")
    parser.add_argument("--workers", help="threads that compute (default: one a core, at least 2)")
    parser.add_argument("--queue", help="items that may be unanswered beyond one a worker (default: 1024)")
    parser.add_argument("--threads", help="threads inside one model call (default: 1)")
    parser.add_argument("--log-level", dest="log_level", help="DEBUG, INFO, WARNING or ERROR (default: INFO)")
    return ServingSettings.from_environment(os.environ, **vars(parser.parse_args(arguments)))


if __name__ == "__main__":
    sys.exit(main())
