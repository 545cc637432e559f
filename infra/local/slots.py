"""One warm function process under Lambda's real runtime client, on loopback.

Always true here: one slot handles one event at a time, as in the cloud; the handler runs in a process of its own
under ``awslambdaric`` with the context that Lambda gives; a time-out is enforced by killing the process; a slot that
was killed or has died is never used again. Every method is called from one event loop's thread; the threads of the
Runtime API only hand values over to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, cast

from infra.local import leash
from infra.local.template import ACCOUNT, REGION, Function

__all__ = ["RUNTIME", "Outcome", "Slot", "error_of"]

RUNTIME = (sys.executable, "-m", "infra.local.leash", "KILL", "awslambdaric")
_STOP = "stop"


@dataclass(frozen=True)
class Outcome:
    """What became of one event: the handler's JSON, or Lambda's description of the error."""

    payload: bytes
    failed: bool = False

    @property
    def reason(self) -> str:
        """What went wrong, in one sentence; the traceback is among the lines that the process wrote."""
        told = json.loads(self.payload)
        return f"{told.get('errorType', 'Error')}: {told.get('errorMessage', '')}"


def error_of(kind: str, message: str) -> Outcome:
    """Return an outcome as Lambda reports what the handler did not answer itself."""
    return Outcome(json.dumps({"errorType": kind, "errorMessage": message}).encode(), failed=True)


class Slot:
    """One process of one function.

    Parameters
    ----------
    function : Function
        What runs.
    environment : mapping
        The process's whole environment besides what the runtime itself needs.
    log : callable
        Takes each line the process writes.
    runtime : sequence of str
        The command that runs the handler named after it: this interpreter's runtime client, bound to our life.
    """

    def __init__(
        self,
        function: Function,
        environment: Mapping[str, str],
        log: Callable[[str], None],
        runtime: Sequence[str] = RUNTIME,
    ) -> None:
        self.function = function
        self._loop = asyncio.get_running_loop()
        self._events: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self._pending: tuple[str, asyncio.Future[Outcome]] | None = None
        self.ready: asyncio.Future[Outcome | None] = self._loop.create_future()
        self.ended: asyncio.Future[int] = self._loop.create_future()
        self.stale = False
        self._killed = False
        self._server = _serve(self)
        self._process = subprocess.Popen(
            [*runtime, function.handler],
            cwd=function.code,
            env={**environment, **_runtime_variables(function, self._server.server_port)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        threading.Thread(target=self._watch, args=(log,), daemon=True).start()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether events may still be given to it."""
        return not (self._killed or self.ended.done())

    @property
    def started(self) -> bool:
        """Whether the handler's module was imported."""
        return self.ready.done() and self.ready.result() is None

    @property
    def died(self) -> bool:
        """Whether it has ended without our doing, after a good start."""
        return self.started and self.ended.done() and not self._killed

    @property
    def cause(self) -> str:
        """How an ended process ended."""
        code = self.ended.result()
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"

    async def invoke(self, event: bytes) -> Outcome:
        """Hand one event to the handler and return what became of it; never raises for what the handler does.

        A handler that exceeds its time is killed, and its slot with it.
        """
        if not self.alive:
            return error_of("Runtime.ExitError", f"the process of {self.function.title} has ended")
        identity = str(uuid.uuid4())
        answer: asyncio.Future[Outcome] = self._loop.create_future()
        self._pending = (identity, answer)
        self._events.put((identity, event))
        try:
            return await asyncio.wait_for(asyncio.shield(answer), self.function.timeout)
        except TimeoutError:
            self.kill()
            message = f"{identity} Task timed out after {self.function.timeout:.2f} seconds"
            return error_of("Sandbox.Timedout", message)
        finally:
            self._pending = None

    def kill(self) -> None:
        """End the process at once; it gets no further events."""
        self._killed = True
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._server.shutdown_soon()

    # --- called from other threads --------------------------------------------------------------------------------

    def next_event(self) -> tuple[str, bytes]:
        """Return the next event, waiting for it (the runtime asks as soon as the handler's module is imported)."""
        self._tell(lambda: _settle(self.ready, None))
        return self._events.get()

    def answered(self, identity: str, outcome: Outcome) -> None:
        """Take the runtime's answer to one event."""

        def take() -> None:
            if self._pending and self._pending[0] == identity:
                _settle(self._pending[1], outcome)

        self._tell(take)

    def failed_to_start(self, outcome: Outcome) -> None:
        """Take the runtime's report that the handler's module cannot be imported."""
        self._tell(lambda: _settle(self.ready, outcome))

    def _watch(self, log: Callable[[str], None]) -> None:
        with cast(IO[bytes], self._process.stdout) as output:
            for line in output:
                # the runtime writes a traceback as one line, its own lines parted by carriage returns
                for part in line.decode(errors="replace").rstrip().split("\r"):
                    log(part)
        code = self._process.wait()
        self._server.shutdown_soon()
        self._tell(lambda: self._gone(code))

    def _gone(self, code: int) -> None:
        _settle(self.ended, code)
        outcome = error_of("Runtime.ExitError", f"the process of {self.function.title} ended with {self.cause}")
        _settle(self.ready, outcome)
        if self._pending:
            _settle(self._pending[1], outcome)

    def _tell(self, callback: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(callback)


def _settle(future: asyncio.Future[Any], value: object) -> None:
    if not future.done():
        future.set_result(value)


def _runtime_variables(function: Function, port: int) -> dict[str, str]:
    """What Lambda sets beside the function's own environment."""
    return {
        leash.PARENT: str(os.getpid()),
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{port}",
        "_HANDLER": function.handler,
        "LAMBDA_TASK_ROOT": str(function.code),
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory),
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": "local",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
    }


class _RuntimeServer(http.server.ThreadingHTTPServer):
    """The Runtime API of one slot on a free port."""

    daemon_threads = True
    slot: Slot

    def shutdown_soon(self) -> None:
        """Stop accepting; safe from any thread, any number of times."""
        self.slot._events.put((_STOP, b""))
        threading.Thread(target=self._close, daemon=True).start()

    def _close(self) -> None:
        self.shutdown()
        self.server_close()


def _serve(slot: Slot) -> _RuntimeServer:
    server = _RuntimeServer(("127.0.0.1", 0), _RuntimeApi)
    server.slot = slot
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server


class _RuntimeApi(http.server.BaseHTTPRequestHandler):
    """https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html, as far as the runtime client uses it."""

    server: _RuntimeServer
    protocol_version = "HTTP/1.1"
    # an answer in one packet and without Nagle's wait: a call takes 0.4 ms instead of 88
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing: every event would be two lines."""

    def do_GET(self) -> None:
        identity, event = self.server.slot.next_event()
        if identity == _STOP:
            self.close_connection = True
            return
        function = self.server.slot.function
        self._answer(
            200,
            event,
            {
                "Lambda-Runtime-Aws-Request-Id": identity,
                "Lambda-Runtime-Deadline-Ms": str(int((time.time() + function.timeout) * 1000)),
                "Lambda-Runtime-Invoked-Function-Arn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{function.name}",
                "Lambda-Runtime-Trace-Id": f"Root=1-{int(time.time()):08x}-{identity.replace('-', '')[:24]};Sampled=0",
                "Content-Type": "application/json",
            },
        )

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        *_, identity, kind = self.path.split("/")
        slot = self.server.slot
        if identity == "init":
            slot.failed_to_start(Outcome(body, failed=True))
        else:
            slot.answered(identity, Outcome(body, failed=kind == "error"))
        self._answer(202, b'{"status":"OK"}', {})

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
