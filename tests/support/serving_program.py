"""A program on the loopback that answers invocations as the serving container does, well or badly."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fusiontrade.cloud.session import forget_clients
from fusiontrade.inference.wire import NPY
from tests.support.fusion_fakes import FakeEndpoint

__all__ = ["Program", "served"]


@dataclass
class Program:
    """What plays the serving program: ``answer`` makes status and body of its answer from a request's body."""

    answer: Callable[[bytes], tuple[int, bytes]]
    paths: list[str] = field(default_factory=list)
    url: str = ""


def well_behaved() -> Callable[[bytes], tuple[int, bytes]]:
    """Return answers that say BUY of everything."""
    models = FakeEndpoint()
    return lambda body: (200, models.invoke(body, content_type=NPY, timeout=1))


@contextmanager
def served() -> Iterator[Program]:
    """The program, with the SageMaker runtime's client pointed at it."""
    playing = Program(well_behaved())

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            playing.paths.append(self.path)
            status, body = playing.answer(self.rfile.read(int(self.headers["Content-Length"])))
            with contextlib.suppress(ConnectionError):  # the caller may have stopped waiting
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    playing.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", playing.url)
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        forget_clients()
        yield playing
    forget_clients()
    server.shutdown()
    server.server_close()
    thread.join()
