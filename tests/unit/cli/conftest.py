"""A loopback API that plays the platform for the command, well and badly."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from typer.testing import CliRunner, Result

from fusiontrade.cli.app import app
from fusiontrade.fusion.examples import FUSION_EXAMPLE

ACCOUNTS = {"devtest@fusiontrade.ai": "DevTest123!", "trader@example.com": "correct horse battery"}


@dataclass
class Platform:
    """What the loopback API answers, and what it was asked."""

    url: str = ""
    forecast: dict[str, Any] = field(default_factory=lambda: json.loads(json.dumps(FUSION_EXAMPLE)))
    refusal: tuple[int, dict[str, Any], dict[str, str]] | None = None
    models: dict[str, Any] | None = None
    tokens: dict[str, str] = field(default_factory=dict)
    logins: list[str] = field(default_factory=list)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def answer(self, path: str, query: dict[str, str], body: dict[str, Any], token: str) -> tuple[int, Any, Any]:
        if path == "/api/health":
            return 200, {"status": "healthy", "version": "0.1.0", "service": "FusionTrade AI"}, {}
        if path == "/api/v1/auth/login":
            return self._login(body)
        if path == "/models" and self.models is not None:
            return 200, self.models, {}
        if token not in self.tokens:
            return 401, {"detail": "sign in first", "request_id": "r1"}, {}
        if path == "/api/v1/auth/me":
            return 200, {"email": self.tokens[token], "subscription_tier": "pro"}, {}
        self.asked.append((unquote(path.rpartition("/")[2]), query))
        return self.refusal or (200, self.forecast, {})

    def _login(self, body: dict[str, Any]) -> tuple[int, Any, Any]:
        if ACCOUNTS.get(body["email"]) != body["password"]:
            return 401, {"detail": "the address or the password is wrong"}, {}
        self.logins.append(body["email"])
        token = f"token-{len(self.logins)}"
        self.tokens[token] = body["email"]
        return 200, {"access_token": token, "token_type": "bearer", "expires_in": 1800, "user": {}}, {}


@pytest.fixture
def platform() -> Iterator[Platform]:
    played = Platform()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else {}
            parts = urlsplit(self.path)
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            status, answer, headers = played.answer(parts.path, dict(parse_qsl(parts.query)), body, token)
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            for name, value in (
                {"Content-Type": "application/json", "Content-Length": str(len(content))} | headers
            ).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    played.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield played
    server.shutdown()
    server.server_close()
    thread.join()


@dataclass(frozen=True)
class Command:
    """Runs the command as a user with a home of their own."""

    config: Path
    environ: dict[str, str]

    def run(self, *arguments: str, **environ: str) -> Result:
        return CliRunner().invoke(app, list(arguments), env=self.environ | environ)

    @property
    def sessions(self) -> dict[str, Any]:
        return dict(json.loads((self.config / "sessions.json").read_text()))


@pytest.fixture
def command(tmp_path: Path, platform: Platform) -> Command:
    config = tmp_path / "config"
    environ = {"FUSIONTRADE_CONFIG": str(config), "FUSIONTRADE_API": platform.url, "COLUMNS": "120", "NO_COLOR": "1"}
    return Command(config, environ)
