"""Copies of one snapshot: what they may share, and what each has to have for itself.

A snapshot is simulated twice: by forks that begin where the hooks before it ended (a fork seeds Python's generator
anew, which a snapshot does not, so its state is put back first), and by Lambda's real runtime client, started as
SnapStart starts it, against a Runtime API of our own.
"""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests.support.http_api import event

pytest.importorskip("snapshot_restore_py")

ROOT = Path(__file__).resolve().parents[3]
FUNCTIONS = sorted(
    path.parent.name
    for path in (ROOT / "functions").glob("*/app.py")
    if "create_app(" in path.read_text(encoding="utf-8")
)
"""Those that answer HTTP; the workers of queues and schedules have no application."""
ENVIRONMENT = {
    "STAGE": "dev",
    "PATH": os.environ["PATH"],
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_ACCESS_KEY_ID": "first",
    "AWS_SECRET_ACCESS_KEY": "first",
    "ACCOUNTS_TABLE": "accounts",
    "SIGNING_KEYS_SECRET_ARN": "arn:aws:secretsmanager:us-east-1:000000000000:secret:keys",
    "ENDPOINT_NAME": "models",
    "PYTHONPATH": f"{ROOT}:{ROOT / 'shared'}",
}


class Answers(http.server.BaseHTTPRequestHandler):
    """An AWS that knows no item, and counts its connections."""

    protocol_version = "HTTP/1.1"
    connections: list[tuple[str, int]]

    def setup(self) -> None:
        super().setup()
        self.connections.append(self.client_address)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b"{}"
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


COPIES = dedent(
    """
    import json, os, random, sys
    from importlib import import_module

    app = import_module("functions.{name}.app")
    from awslambdaric import lambda_runtime_hooks_runner as hooks
    from fusiontrade.cloud import session
    from fusiontrade.cloud.tables import Table
    from fusiontrade.web.asking import authentication
    from tests.support.http_api import call

    hooks.run_before_snapshot()
    clients = session._made.cache_info().currsize + session._session.cache_info().currsize
    if {careless}:  # everything that must not outlive a snapshot is there when it is taken
        table = Table("accounts")
        table.get({{"pk": "a", "sk": "b"}})
        authentication.tokens_of(app.app.state.settings)
        before = session.client("dynamodb")
        import numpy
    state, numbers = random.getstate(), None
    if "numpy" in sys.modules:
        numbers = sys.modules["numpy"].random.get_state()
    for copy in range(2):
        reading, writing = os.pipe()
        if os.fork() == 0:
            random.setstate(state)
            if numbers is not None:
                sys.modules["numpy"].random.set_state(numbers)
            os.environ["AWS_ACCESS_KEY_ID"] = f"copy{{copy}}"
            hooks.run_after_restore()
            told = {{
                "clients_in_snapshot": clients,
                "random": random.random(),
                "numpy": float(sys.modules["numpy"].random.random()) if numbers is not None else copy,
                "cached": authentication.tokens_of.cache_info().currsize
                + authentication.signing_keys_of.cache_info().currsize,
                "key": session.client("dynamodb")._request_signer._credentials.access_key,
                "status": call(app.handler, "GET", "/no/such/path").status,
            }}
            if {careless}:
                table.get({{"pk": "a", "sk": "b"}})
            os.write(writing, json.dumps(told).encode())
            os._exit(0)
        os.wait()
        print(os.read(reading, 65536).decode(), flush=True)
    """
)


def copies(name: str, endpoint: str, *, careless: bool) -> list[dict[str, Any]]:
    """What two copies of a function's snapshot tell of themselves."""
    code = COPIES.format(name=name, careless=careless)
    environment = {**ENVIRONMENT, "AWS_ENDPOINT_URL": endpoint}
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr[-3000:]
    return [json.loads(line) for line in told.stdout.splitlines() if line.startswith('{"clients')]


@pytest.fixture
def aws() -> Any:
    class Counting(Answers):
        connections: list[tuple[str, int]] = []  # noqa: RUF012 - one list for this server

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Counting)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", Counting.connections
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_snapshot_holds_no_client_and_its_copies_answer(name: str, aws: tuple[str, list[Any]]) -> None:
    one, other = copies(name, aws[0], careless=False)
    assert one["clients_in_snapshot"] == 0
    assert aws[1] == []  # nothing was fetched before the snapshot
    assert (one["status"], other["status"]) == (404, 404)
    assert one["random"] != other["random"]
    assert (one["key"], other["key"]) == ("copy0", "copy1")


def test_copies_share_neither_random_numbers_nor_connections_nor_what_was_cached(aws: tuple[str, list[Any]]) -> None:
    one, other = copies("auth", aws[0], careless=True)
    assert one["random"] != other["random"]
    assert one["numpy"] != other["numpy"]
    assert (one["cached"], other["cached"]) == (0, 0)
    assert (one["key"], other["key"]) == ("copy0", "copy1")
    assert len(aws[1]) == 3  # one before the snapshot, one of each copy: none took up the old one
    assert len(set(aws[1])) == 3


class RuntimeApi(http.server.BaseHTTPRequestHandler):
    """Lambda's Runtime API: restores at once, hands out the events, keeps the answers."""

    protocol_version = "HTTP/1.1"
    calls: list[str]
    events: list[dict[str, Any]]
    answers: list[Any]
    finished: threading.Event

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.calls.append(self.path.partition("/runtime/")[2])
        if self.path.endswith("/restore/next"):
            self._send(200, b"")
        elif self.events:
            headers = {
                "Lambda-Runtime-Aws-Request-Id": "one",
                "Lambda-Runtime-Deadline-Ms": "9999999999999",
                "Lambda-Runtime-Invoked-Function-Arn": "arn:one",
                "Lambda-Runtime-Trace-Id": "Root=1-00000000-000000000000000000000000;Sampled=0",
                "Content-Type": "application/json",
            }
            self._send(200, json.dumps(self.events.pop(0)).encode(), headers)
        else:
            self.finished.set()
            self.close_connection = True

    def do_POST(self) -> None:
        self.calls.append(self.path.partition("/runtime/")[2])
        self.answers.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._send(202, b"{}")


def test_the_real_runtime_takes_the_snapshot_before_the_first_event() -> None:
    class Api(RuntimeApi):
        calls: list[str] = []  # noqa: RUF012 - of this server
        events = [event("GET", "/health"), event("GET", "/health")]  # noqa: RUF012
        answers: list[Any] = []  # noqa: RUF012
        finished = threading.Event()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    environment = {
        **ENVIRONMENT,
        "PYTHONPATH": f"{ROOT / 'functions' / 'docs'}:{ROOT / 'shared'}",
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{server.server_port}",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start",
        "_HANDLER": "app.handler",
        "PYTHONUNBUFFERED": "1",
        "LAMBDA_TASK_ROOT": str(ROOT / "functions" / "docs"),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "awslambdaric", "app.handler"],
        cwd=ROOT / "functions" / "docs", env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        assert Api.finished.wait(60)
    finally:
        process.kill()
        written = process.communicate()[0]
        server.shutdown()
        server.server_close()
    assert Api.calls[:3] == ["restore/next", "invocation/next", "invocation/one/response"], written
    assert [answer["statusCode"] for answer in Api.answers] == [200, 200]
    lines = [json.loads(line) for line in written.splitlines() if line.startswith("{")]
    assert len([line for line in lines if "ColdStarts" in line]) == 1
    assert len([line for line in lines if line.get("message") == "request"]) == 2  # the one of our own left no trace
