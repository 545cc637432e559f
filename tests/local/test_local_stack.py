"""The whole stack, started as a person starts it: it answers, survives the death of each part, keeps state, ends clean.

Ports are free ones, the state is a temporary folder, the market is simulated; the models are the starters.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra import environment

ROOT = Path(__file__).resolve().parents[2]
DEMO = {"email": "devtest@fusiontrade.ai", "password": "DevTest123!"}
UP = "Ctrl-C ends everything."

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc"),
    pytest.mark.skipif(
        not environment.interpreter("emulator").exists(),
        reason="the environment of the emulated AWS is absent: python3 infra/environment.py emulator",
    ),
]


class Stack:
    """A running ``python -m infra.local``."""

    def __init__(self, folder: Path, ports: tuple[int, int, int]) -> None:
        self.folder, self.ports = folder, ports
        self.url = f"http://127.0.0.1:{ports[0]}"
        self._output = folder / f"console-{time.monotonic_ns()}.txt"
        api, serving, emulator = map(str, ports)
        arguments = ["--port", api, "--serving-port", serving, "--emulator-port", emulator]
        with self._output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "infra.local", *arguments, "--market-data", "simulated"],
                cwd=ROOT,
                env={**os.environ, "FUSIONTRADE_STATE": str(folder / "state"), "COLUMNS": "200"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def console(self) -> str:
        return self._output.read_text()

    def up(self) -> Stack:
        wait_until(lambda: UP in self.console or self.process.poll() is not None, self, 200)
        assert self.process.poll() is None, self.console
        return self

    def processes(self) -> dict[int, str]:
        """Every descendant of the supervisor: process id to command line."""
        parents = {}
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        found, level = {}, {self.process.pid}
        while level := {pid for pid, parent in parents.items() if parent in level}:
            for pid in level:
                with contextlib.suppress(OSError):
                    found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def pid_of(self, part: str) -> int:
        return next(pid for pid, command in self.processes().items() if part in command)

    def login(self) -> httpx.Response:
        return httpx.post(f"{self.url}/api/v1/auth/login", json=DEMO, timeout=30)

    def get(self, path: str, token: str = "") -> httpx.Response:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return httpx.get(f"{self.url}{path}", headers=headers, timeout=35)

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


def wait_until(condition: Callable[[], bool], stack: Stack, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, stack.console
        time.sleep(0.05)


def gone(pids: dict[int, str]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def free_ports() -> tuple[int, int, int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        first, second, third = (s.getsockname()[1] for s in sockets)
    return first, second, third


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    running = Stack(tmp_path_factory.mktemp("stack"), free_ports())
    try:
        yield running.up()
    finally:
        if running.process.poll() is None:
            running.end(signal.SIGTERM)


@pytest.fixture(scope="module")
def token(stack: Stack) -> str:
    answer = stack.login()
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


def test_console_names_addresses_account_market_and_models(stack: Stack) -> None:
    for part in (
        f"{stack.url}/docs",
        DEMO["email"],
        DEMO["password"],
        "invented prices",
        "starting the emulated AWS",
        "lstm 15m 30m 1h 4h",
        "patchtst 15m 30m 1h 4h",
        "/state/outbox",
    ):
        assert part in stack.console


def test_health_and_the_document_are_served_through_the_handlers(stack: Stack) -> None:
    health = stack.get("/api/health")
    assert (health.status_code, health.json()["status"]) == (200, "healthy")
    assert "/api/v1/fusion/{symbol}" in stack.get("/openapi.json").json()["paths"]


def test_demo_user_gets_a_forecast_marked_as_simulated(stack: Stack, token: str) -> None:
    answer = stack.get("/api/v1/fusion/EURUSD%3DX", token)
    assert answer.status_code == 200, answer.text
    forecast = answer.json()
    assert (forecast["symbol"], forecast["data_source"]) == ("EURUSD=X", "simulated")
    assert set(forecast["timeframes"]) == {"15m", "30m", "1h", "4h"}
    assert all(frame["lstm"] != "N/A" for frame in forecast["timeframes"].values())
    assert any("invented prices" in warning for warning in forecast["warnings"])


def test_what_is_sent_to_a_new_address_lies_in_the_outbox(stack: Stack) -> None:
    given = {"email": "new@example.com", "password": "a long enough sentence", "full_name": "New"}
    answer = httpx.post(f"{stack.url}/api/v1/auth/register", json=given, timeout=30)
    assert answer.status_code == 202, answer.text
    outbox = stack.folder / "state" / "outbox"
    wait_until(lambda: any(outbox.glob("*.eml")), stack)
    (mail,) = outbox.glob("*.eml")
    assert "new@example.com" in mail.read_text()


def test_forecast_in_the_background_is_worked_off_by_the_queue(stack: Stack, token: str) -> None:
    forecast_in_the_background(stack, token)


def forecast_in_the_background(stack: Stack, token: str) -> None:
    headers = {"authorization": f"Bearer {token}"}
    asked = {"symbol": "EURUSD=X", "interval": "1h"}
    accepted = httpx.post(f"{stack.url}/api/v1/ml/predict/trigger", json=asked, headers=headers, timeout=30)
    assert accepted.status_code == 202, accepted.text

    def job() -> dict[str, Any]:
        time.sleep(1)  # a user may ask 120 times a minute
        told: dict[str, Any] = stack.get(accepted.headers["location"], token).json()
        return told

    wait_until(lambda: job()["status"] not in ("QUEUED", "RUNNING"), stack)
    assert job()["status"] == "SUCCEEDED"


@pytest.mark.parametrize(
    ("path", "status", "slug"),
    [
        ("/api/v1/fusion/XXXYYY=X", 404, "/problems/unknown-symbol"),
        ("/api/v1/fusion/%20bad%20", 422, "/problems/invalid-input"),
        ("/no/such/path", 404, "/problems/not-found"),
    ],
)
def test_errors_are_problem_documents(stack: Stack, token: str, path: str, status: int, slug: str) -> None:
    answer = stack.get(path, token)
    assert (answer.status_code, answer.json()["type"]) == (status, slug)
    assert answer.headers["content-type"] == "application/problem+json"


def test_second_stack_on_the_same_ports_says_which_are_taken(stack: Stack, tmp_path: Path) -> None:
    second = Stack(tmp_path, stack.ports)
    assert second.process.wait(30) == 1
    for port in stack.ports:
        assert f"port {port} " in second.console
    assert "FUSIONTRADE_PORT=" in second.console


@pytest.mark.parametrize(
    ("part", "name"),
    [("infra.local.emulator", "emulator"), ("serving.server", "serving"), ("local.gateway", "gateway")],
)
def test_killed_part_is_said_and_started_again_with_its_state(stack: Stack, token: str, part: str, name: str) -> None:
    keys = stack.get("/.well-known/jwks.json").json()
    os.kill(stack.pid_of(part), signal.SIGKILL)
    wait_until(lambda: f"{name} is back" in stack.console, stack)
    assert f"{name} was killed by signal SIGKILL; starting it again (1 of 5)" in stack.console
    assert stack.get("/.well-known/jwks.json").json() == keys
    assert stack.get("/api/v1/auth/me", token).json()["email"] == DEMO["email"]
    assert stack.get("/api/v1/fusion/EURUSD=X", token).status_code == 200


def test_queues_are_worked_off_after_every_part_was_killed(stack: Stack, token: str) -> None:
    forecast_in_the_background(stack, token)


def test_killed_function_is_said_and_replaced(stack: Stack, token: str) -> None:
    victim = stack.pid_of("awslambdaric")
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: f"process {victim} ended with signal SIGKILL; starting another" in stack.console, stack)
    assert stack.get("/api/v1/auth/me", token).status_code == 200


def test_state_outlives_the_stack_and_no_process_does(stack: Stack, token: str) -> None:
    keys, children = stack.get("/.well-known/jwks.json").json(), stack.processes()
    assert len(children) >= 6
    assert stack.end(signal.SIGINT) == 0
    assert gone(children)
    assert "everything has ended" in stack.console

    again = Stack(stack.folder, stack.ports).up()
    try:
        assert again.get("/.well-known/jwks.json").json() == keys
        assert again.get("/api/v1/auth/me", token).json()["email"] == DEMO["email"]
        children = again.processes()
    finally:
        again.end(signal.SIGKILL)
    wait_until(lambda: gone(children), again, 15)
