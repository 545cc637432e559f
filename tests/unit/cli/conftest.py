"""A loopback API that plays the platform for the command, well and badly."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import pytest
from typer.testing import CliRunner, Result

from fusiontrade.cli.app import app
from fusiontrade.fusion.examples import FUSION_EXAMPLE
from tests.support.listening import Handler, listening

ACCOUNTS = {"devtest@fusiontrade.ai": "DevTest123!", "trader@example.com": "correct horse battery"}


@dataclass(frozen=True)
class Call:
    """One request as the loopback API got it."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def token(self) -> str:
        return self.headers.get("authorization", "").removeprefix("Bearer ")


@dataclass
class PlayedJournal:
    """A journal of one user, and a job that is done after ``turns`` looks."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    statistics: dict[str, Any] = field(default_factory=dict)
    content: list[bytes] = field(default_factory=lambda: [b"id,symbol\r\n"])
    breaks_at: int | None = None
    mends: bool = False
    report: dict[str, Any] = field(default_factory=lambda: {"imported": 0, "errors": []})
    outcome: dict[str, Any] = field(default_factory=lambda: {"status": "SUCCEEDED", "result": {"settled": 3}})
    turns: int = 2
    calls: list[Call] = field(default_factory=list)

    def answer(self, call: Call) -> tuple[int, Any, Any]:
        self.calls.append(call)
        last = unquote(call.path.rpartition("/")[2])
        if call.path.startswith("/api/v1/ml/jobs/"):
            self.turns -= 1
            return 200, self._job(**(self.outcome if self.turns <= 0 else {"status": "RUNNING"})), {}
        if (call.method, last) == ("POST", "verify-now"):
            return 202, self._job(), {}
        if (call.method, last) == ("POST", "import"):
            return 200, self.report, {}
        if last == "journal":
            return 200, self._page(call.query), {}
        if last == "stats":
            return 200, self.statistics, {}
        if last == "export":
            return self._part(call.query)
        found = [each for each in self.entries if each["id"] == last]
        return (200, found[0], {}) if found else (404, {"detail": "no such entry", "request_id": "r7"}, {})

    def _part(self, query: dict[str, str]) -> tuple[int, Any, Any]:
        number = int(query.get("cursor", "0"))
        if number == self.breaks_at:
            self.breaks_at = None if self.mends else number
            return 503, {"detail": "the database did not answer"}, {"Retry-After": "1"} if self.mends else {}
        following = urlencode(query | {"cursor": str(number + 1)})
        more = {"Link": f'<?{following}>; rel="next"'} if number + 1 < len(self.content) else {}
        return 200, self.content[number], {"Content-Type": "text/csv"} | more

    def _page(self, query: dict[str, str]) -> dict[str, Any]:
        start, limit = int(query.get("cursor", "0")), int(query.get("limit", "50"))
        assert 1 <= limit <= 200
        there = [each for each in self.entries if query.get("status") in (None, each["status"])]
        following = str(start + limit) if start + limit < len(there) else None
        return {"items": there[start : start + limit], "next_cursor": following}

    def _job(self, **changes: Any) -> dict[str, Any]:
        job = {"id": "job-1", "kind": "verify-now", "status": "QUEUED", "progress": 0.0, "result": None, "error": None}
        return job | {"created_at": "2025-07-31T12:00:00Z", "finished_at": None} | changes


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
    journal: PlayedJournal = field(default_factory=PlayedJournal)

    def answer(self, call: Call) -> tuple[int, Any, Any]:
        path, token = call.path, call.token
        if path == "/api/health":
            return 200, {"status": "healthy", "version": "0.1.0", "service": "FusionTrade AI"}, {}
        if path == "/api/v1/auth/login":
            return self._login(json.loads(call.body))
        if path == "/models" and self.models is not None:
            return 200, self.models, {}
        if token not in self.tokens:
            return 401, {"detail": "sign in first", "request_id": "r1"}, {}
        if path == "/api/v1/auth/me":
            return 200, {"email": self.tokens[token], "subscription_tier": "pro"}, {}
        self.asked.append((unquote(path.rpartition("/")[2]), call.query))
        if self.refusal:
            return self.refusal
        if path.startswith(("/api/v1/journal", "/api/v1/ml/jobs/")):
            return self.journal.answer(call)
        return 200, self.forecast, {}

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

    class Player(Handler):
        def do_GET(self) -> None:
            body = self.body()
            parts = urlsplit(self.path)
            told = {name.lower(): value for name, value in self.headers.items()}
            call = Call(self.command, parts.path, dict(parse_qsl(parts.query)), told, body)
            status, answer, headers = played.answer(call)
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.reply(status, content, headers=headers)

        do_POST = do_GET

    with listening(Player) as port:
        played.url = f"http://127.0.0.1:{port}"
        yield played


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
