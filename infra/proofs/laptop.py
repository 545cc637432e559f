"""What the proofs need of a running laptop stack: its API as a client sees it, and an operator's hand beside it.

The hand makes accounts, fires schedules and ends processes of this one stack, known by its state folder and its port.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Client", "Stack", "WalkFailure", "until"]

Json = dict[str, Any]
_ROOT = Path(__file__).resolve().parents[2]


class WalkFailure(Exception):
    """A step did not answer as the API says."""


@dataclass(frozen=True)
class Client:
    """One caller: ``api`` is the root, ``token`` opens it, ``say`` takes a line for each request where it is given."""

    api: str
    token: str = ""
    say: Callable[[str], object] | None = None

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Json]:
        """Return status and JSON of an answer; ``body`` may be bytes as they are."""
        where = urllib.parse.urlsplit(self.api)
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=60)
        sent = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        sent |= {"Content-Type": "application/json"} | {name.replace("_", "-"): text for name, text in headers.items()}
        try:
            content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request(method, path, content, sent)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        if self.say is not None:
            self.say(f"{method:6} {path[:76]:76} {answer.status}")
        return answer.status, json.loads(text or b"{}")

    def expect(self, status: int, method: str, path: str, body: Any = None, **headers: str) -> Json:
        """Return the JSON of an answer that has ``status``; raises `WalkFailure` where it has another."""
        got, told = self.ask(method, path, body, **headers)
        if got != status:
            raise WalkFailure(f"{method} {path}: {status} was expected, the answer is {got}: {told}")
        return told

    def signed_in(self, email: str, password: str) -> Client:
        """Return the same caller as an account."""
        told = self.expect(200, "POST", "/api/v1/auth/login", {"email": email, "password": password})
        return Client(self.api, str(told["access_token"]), self.say)


def until(ready: Callable[[], Any], seconds: float, what: str, *, pause: float = 0.5) -> Any:
    """Return what ``ready`` gives once it gives something; raises `WalkFailure` after ``seconds``."""
    end = time.monotonic() + seconds
    while not (found := ready()):
        if time.monotonic() > end:
            raise WalkFailure(f"{what} did not come in {seconds:.0f} s")
        time.sleep(pause)
    return found


@dataclass(frozen=True)
class Stack:
    """The stack whose state is in ``state`` and whose emulated AWS listens on ``emulator_port``."""

    state: Path
    emulator_port: int

    @property
    def variables(self) -> dict[str, str]:
        """What leads an AWS client to it."""
        from infra.local.functions import AWS_VARIABLES

        return {**AWS_VARIABLES, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.emulator_port}"}

    def make_account(self, email: str, password: str, tier: str) -> None:
        """Make an account, as an operator does."""
        command = [str(Path(sys.executable).with_name("fusiontrade")), "accounts", "create", email, "--tier", tier]
        variables = {"FUSIONTRADE_PASSWORD": password, "FUSIONTRADE_EMULATOR_PORT": str(self.emulator_port)}
        subprocess.run(command, env={**os.environ, **variables}, check=True, capture_output=True)

    def fire(self, function: str, event: Mapping[str, Any]) -> Json:
        """Run a function's handler on ``event`` in a process of its own, as a schedule does; return its answer."""
        from infra.local.functions import process_environment
        from infra.local.template import Template

        template = Template(_ROOT / "template.yaml", stack="fusiontrade-local")
        chosen = next(each for each in template.functions.values() if each.title == function)
        program = "import app, json, sys; print(json.dumps(app.handler(json.loads(sys.argv[1]), None)))"
        environment = process_environment(chosen, _ROOT / "shared", {**self.variables, "STAGE": "local"})
        ran = subprocess.run(
            [sys.executable, "-c", program, json.dumps(event)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode:
            raise WalkFailure(f"{function} failed: {ran.stderr[-800:]}")
        return dict(json.loads(ran.stdout.splitlines()[-1]))

    def processes(self, what: str) -> list[int]:
        """Return the ids of this stack's processes of a kind: ``training``, ``trainings``, ``serving``, a function."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
                inside = (folder / "environ").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if self._is(what, words, inside):
                found.append(int(folder.name))
        return found

    def _is(self, what: str, words: str, inside: str) -> bool:
        if what == "training":
            return f"serving.training.job --root {self.state}/training/" in words
        if what == "trainings":
            return "infra.local.sagemaker" in words and f'"{self.state}"' in words
        if what == "serving":
            return "serving.server" in words and f"{self.state}/" in words
        return f"/functions/{what}" in inside and f":{self.emulator_port}" in inside and "awslambdaric" in words

    def kill(self, what: str) -> list[int]:
        """End those processes with SIGKILL; return which they were."""
        ended = []
        for pid in self.processes(what):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            ended.append(pid)
        return ended

    def messages_in_hand(self, queue: str) -> int:
        """Return how many messages of a queue a worker has just now."""
        from fusiontrade.cloud.session import client

        sqs = client("sqs")
        url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
        names = ["ApproximateNumberOfMessagesNotVisible"]
        return int(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"][names[0]])
