"""Servers on loopback for tests: a handler that keeps silent, listened for on a free port until the block ends."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["Handler", "listening"]


class Handler(BaseHTTPRequestHandler):
    """Answers one connection; says nothing of it on the terminal."""

    def log_message(self, format: str, *args: object) -> None:
        pass

    def body(self) -> bytes:
        """Return what was sent."""
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def reply(
        self, status: int, content: bytes, media: str = "application/json", headers: Mapping[str, str] | None = None
    ) -> None:
        """Answer; ``headers`` win. Whoever has stopped waiting is no failure."""
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            said = {"Content-Type": media, "Content-Length": str(len(content))} | dict(headers or {})
            for name, value in said.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """Yield the port on 127.0.0.1 at which ``handler`` answers, each connection in a thread of its own."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
