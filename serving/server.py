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
import ctypes
import gc
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from pydantic import ValidationError

from serving.application import Application, Service, State
from serving.connections import impatient
from serving.logs import configure_logs
from serving.processes import AT_ONCE, ENDING, READY, supervised
from serving.settings import ServingSettings

if TYPE_CHECKING:
    from serving.running import Running
    from serving.siblings import Siblings

__all__ = ["main"]

_log = logging.getLogger("serving.server")

_LAST_SECONDS = 3  # for answers already computed to leave, after the drain
_BACKLOG = 512
_TAKEN_AT_ONCE = 16  # connections that are taken and not opened yet
_MOST_CONNECTIONS = 8192  # of a process: each may hold a head of 64 kB
_OTHER_FILES = 256  # at most half of what is allowed: connections on their way, bundles, sockets of siblings
_M_ARENA_MAX = -8  # of glibc's malloc.h
_NOT_NEEDED = ("pandas", "polars")  # TA-Lib imports what it finds of them: 36 MB and 0.35 s for nothing
_LONGEST_FOLDER = 75  # bytes; a socket's path may have 104, its name in there needs 26


class _Server(uvicorn.Server):
    """uvicorn with our way to end: ``/ping`` turns 503 first, and a signal is a wish, not a failure.

    Parameters
    ----------
    control
        Where a parent hands connections over, instead of listening.
    """

    def __init__(self, config: uvicorn.Config, service: Service, control: socket.socket | None) -> None:
        super().__init__(config)
        self._service, self._control = service, control
        self._loading: asyncio.Task[None] | None = None
        self._given: set[asyncio.Task[object]] = set()
        self._draining: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End in order at the first signal, at once at the second; which is which the parent tells, if there is one."""
        loop = asyncio.get_running_loop()
        if self._control is None:
            loop.add_signal_handler(signal.SIGTERM, self._end)
            loop.add_signal_handler(signal.SIGINT, self._end)
        else:
            loop.add_signal_handler(signal.SIGTERM, self._end_in_order)
        loop.add_signal_handler(signal.SIGHUP, self._read_again)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, or to take what the parent hands over, and to load the engine in the background."""
        await super().startup(sockets)
        await self._service.listen()
        if self._control is not None:
            self._control.setblocking(False)
            asyncio.get_running_loop().add_reader(self._control, self._take)
        self._loading = asyncio.create_task(self._service.start())

    async def on_tick(self, counter: int) -> bool:
        """Tell the parent every second that this process serves: one that hangs shall get no connections."""
        if self._control is not None and counter % 10 == 0 and self._service.state is State.READY:
            with contextlib.suppress(OSError):
                self._control.send(READY)
        return await super().on_tick(counter)

    def _take(self) -> None:
        """Take the connections that the parent handed over; end in order where there is no parent any more."""
        loop, control = asyncio.get_running_loop(), self._control
        if control is None:
            return
        try:
            while len(self._given) < _TAKEN_AT_ONCE:  # the rest is read when these have been opened
                said, files, _, _ = socket.recv_fds(control, _BACKLOG, _BACKLOG)
                if not said:
                    break
                if AT_ONCE in said:
                    self._end()
                if b"c" in said and not files:
                    _log.error("a connection was lost: no file descriptor is left for it")
                for file in files:
                    connection = socket.socket(fileno=file)
                    connection.setblocking(False)
                    task = loop.create_task(loop.connect_accepted_socket(self._protocol, connection))
                    self._given.add(task)
                    task.add_done_callback(self._given.discard)
            else:
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        loop.remove_reader(control)
        self._end_in_order()

    def _protocol(self) -> asyncio.Protocol:
        make: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = make(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol

    def _end(self) -> None:
        if self._draining is not None:
            self.should_exit = self.force_exit = True
        self._end_in_order()

    def _end_in_order(self) -> None:
        if self._draining is None:
            if self._control is not None:
                with contextlib.suppress(OSError):  # where there is no parent any more
                    self._control.send(ENDING)
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
    _keep_few_heaps()
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        where = f"{settings.host}:{settings.port} ({error.strerror})"
        reason = f"cannot listen on {where}: choose another with --port, or an address of this machine with --host"
        _log.critical("not able to serve", extra={"reason": reason})
        return 1
    _log.info("listening", extra={"host": settings.host, "port": listener.getsockname()[1], "pid": os.getpid()})
    if settings.processes == 1:
        code = _serve(settings, [listener])
    else:
        with tempfile.TemporaryDirectory(prefix="serving-", dir=_short_folder()) as folder:
            beside = partial(_serve_beside, settings, Path(folder), os.getpid())
            code = supervised(listener, settings.processes, beside)
    _log.info("ended", extra={"code": code})
    return code


def _keep_few_heaps() -> None:
    """Give the event loop a heap and all other threads one; nothing happens where there is no glibc.

    With one for each thread, as it is by itself, they go on growing for tens of thousands of requests.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


def _connections() -> int:
    """Allow this process as many open files as it may have, and return how many connections fit."""
    try:
        import resource
    except ImportError:  # no Unix
        return _MOST_CONNECTIONS
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_CONNECTIONS + _OTHER_FILES
    if 0 <= allowed < wanted:
        allowed = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, most))
    return min(_MOST_CONNECTIONS, max(allowed - _OTHER_FILES, allowed // 2)) if allowed >= 0 else _MOST_CONNECTIONS


def _short_folder() -> str | None:
    """Return where Unix sockets may have names: paths of more than about a hundred bytes are refused them."""
    return None if len(os.fsencode(tempfile.gettempdir())) <= _LONGEST_FOLDER else "/tmp"  # noqa: S108  # nosec B108  # made for us alone


def _serve_beside(settings: ServingSettings, folder: Path, parent: int, number: int, control: socket.socket) -> int:
    """Serve in one of several processes, which meet in ``folder``; remove it where ``parent`` no longer can."""
    from serving.siblings import Siblings

    code = _serve(settings, [], control, Siblings(folder, number, settings.processes))
    if os.getppid() != parent:
        shutil.rmtree(folder, ignore_errors=True)
    return code


def _serve(
    settings: ServingSettings,
    listeners: list[socket.socket],
    control: socket.socket | None = None,
    siblings: Siblings | None = None,
) -> int:
    code = 0

    def on_change(state: State) -> None:
        nonlocal code
        if state is State.FAILED:
            code, server.should_exit = 1, True
        elif state is State.READY and control is not None:
            control.send(READY)

    service = Service(settings, lambda: _load(settings), on_change, siblings)
    config = uvicorn.Config(
        Application(service),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        http=impatient(settings.body_seconds, _connections()),
        interface="asgi3",
        ws="none",
        lifespan="off",
        timeout_graceful_shutdown=_LAST_SECONDS,
    )
    server = _Server(config, service, control)
    with contextlib.suppress(asyncio.CancelledError), asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(server.serve(sockets=listeners))
    service.close()
    if service.accepted:
        logging.shutdown()
        os._exit(1)  # a computation that outlived the drain would hold the interpreter open
    return code


def _load(settings: ServingSettings) -> Running:
    """Return a warmed-up engine at work; its imports (numpy, TA-Lib, ONNX Runtime) happen here, off the event loop."""
    modules: dict[str, Any] = sys.modules
    for name in _NOT_NEEDED:
        modules.setdefault(name, None)  # as if it were not installed
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
    parser.add_argument("--processes", help="interpreters behind the port (default: one a core; 1 with a GPU)")
    parser.add_argument("--workers", help="threads of a process that run models (default: its cores, at least 2)")
    parser.add_argument("--queue", help="items that may be unanswered beyond one a worker (default: 1024)")
    parser.add_argument("--threads", help="threads inside one model call (default: 1)")
    parser.add_argument("--log-level", dest="log_level", help="DEBUG, INFO, WARNING or ERROR (default: INFO)")
    return ServingSettings.from_environment(os.environ, **vars(parser.parse_args(arguments)))


if __name__ == "__main__":
    ended = main()
    logging.shutdown()
    os._exit(ended)  # a thread that is inside native code still would break the interpreter's own way to end
