"""An AWS on loopback that answers as a test plays it: for what the emulator never does, such as refusing a part."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.emulator import aws_environment

Play = Callable[[dict[str, Any]], tuple[int, Any]]
"""Takes a call's JSON, returns status and JSON; a status of 0 drops the line without an answer."""


@dataclass
class AwsServer:
    """The calls it got, and what it answers."""

    play: Play
    port: int = 0
    calls: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return aws_environment(self.port)

    @contextmanager
    def running(self) -> Iterator[AwsServer]:
        played = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                pass

            def do_POST(self) -> None:
                call = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
                played.calls.append(call)
                played.paths.append(self.path)
                status, answer = played.play(call)
                if status == 0:
                    self.close_connection = True
                    self.connection.close()
                    return
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/x-amz-json-1.0")
                if status >= 400:
                    self.send_header("x-amzn-ErrorType", str(answer.get("__type", "")))
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
