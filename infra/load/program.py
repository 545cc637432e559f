"""The serving program as a process: started, waited for, measured from /proc, ended or killed."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from infra import environment

__all__ = ["HOST", "Program", "free_port", "serving_python"]

HOST = "127.0.0.1"
ROOT = environment.ROOT
_LOGS = ROOT / "build" / "load"


def serving_python() -> Path:
    """Return the Python with the container's packages: the environment ``bench``, else ``dev``."""
    bench = environment.interpreter("bench")
    return bench if bench.exists() else environment.interpreter("dev")


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.create_server((HOST, 0)) as listener:
        return int(listener.getsockname()[1])


class Program:
    """A server's process, ended when the context is left.

    Parameters
    ----------
    python : Path
        Which interpreter runs it.
    settings : mapping
        ``SERVING_*`` variables, without the prefix and in small letters: ``{"batch": 1}``.
    command : sequence of str
        What to run instead of the serving program; ``{port}`` stands for the port.
    ready : str
        The path that answers 200 once it is ready.
    port : int, optional
        Where it shall listen; a free port where none is given.
    name : str
        Of its log, and of it in errors.
    """

    def __init__(
        self,
        python: Path,
        settings: Mapping[str, object] | None = None,
        *,
        command: Sequence[str] = ("-m", "serving.server"),
        ready: str = "/ping",
        port: int | None = None,
        name: str = "serving",
    ) -> None:
        self.port = port or free_port()
        self._ready = ready
        self._command = [str(python), *(part.format(port=self.port) for part in command)]
        self._settings = {"host": HOST, "port": self.port, "log_level": "WARNING", **(settings or {})}
        self._name = name
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self.seconds_to_ready = 0.0

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return HOST, self.port

    @property
    def pid(self) -> int:
        """The process's id."""
        if self._process is None:
            raise RuntimeError(f"{self._name} was not started")
        return self._process.pid

    @property
    def pids(self) -> list[int]:
        """The process and its children."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [self.pid, *map(int, children.split())]

    @property
    def log(self) -> Path:
        """The file that everything it writes goes to."""
        return _LOGS / f"{self._name}.log"

    def start(self, *, seconds: float = 90.0) -> None:
        """Start the process and wait until it is ready.

        Raises
        ------
        RuntimeError
            If it ends, or is not ready in ``seconds``; shows the end of its log.
        """
        _LOGS.mkdir(parents=True, exist_ok=True)
        self._log = self.log.open("ab")
        begun = time.perf_counter()
        self._process = subprocess.Popen(
            self._command,
            cwd=ROOT,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,  # whatever it starts ends with it
        )
        while time.perf_counter() - begun < seconds and self._process.poll() is None:
            if self.get(self._ready, patience=1.0)[0] == 200:
                self.seconds_to_ready = time.perf_counter() - begun
                return
            time.sleep(0.004)
        said = self.log.read_text(errors="replace")[-2000:]
        self.kill()
        raise RuntimeError(f"{self._name} was not ready in {seconds:.0f} s:\n{said}")

    def _environment(self) -> dict[str, str]:
        passed = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
        settings = {f"SERVING_{name.upper()}": str(value) for name, value in self._settings.items()}
        return {**passed, **settings, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "shared")])}

    def get(self, path: str, *, patience: float = 5.0) -> tuple[int, bytes]:
        """Return status and body of a GET; 0 and nothing where nobody answers."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=patience)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()

    def json(self, path: str) -> Any:
        """Return what a GET answers, parsed."""
        return json.loads(self.get(path)[1] or b"null")

    @property
    def megabytes(self) -> float:
        """Resident memory of the program's processes now, MB (10⁶ bytes)."""
        lines = [line for pid in self.pids for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
        return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) * 1024 / 1e6

    @property
    def open_files(self) -> int:
        """File descriptors of the program's processes now."""
        return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in self.pids)

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def signal(self, wanted: signal.Signals) -> None:
        """Send the process a signal."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, wanted)

    def terminate(self, *, seconds: float = 40.0) -> tuple[int | None, float]:
        """Ask the process to end; return its status (None where it was still there) and how long it took."""
        begun = time.perf_counter()
        self.signal(signal.SIGTERM)
        return self.wait(seconds=seconds), time.perf_counter() - begun

    def wait(self, *, seconds: float) -> int | None:
        """Wait for the end; return the status, None where it did not come."""
        if self._process is None:
            return None
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """End the process at once, as ``kill -9`` does."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._log is not None:
            self._log.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.running:
            self.terminate(seconds=5.0)
        self.kill()
