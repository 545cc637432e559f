"""A process of the stack: started, watched, started again when it dies, ended with everything it started.

Always true here: each child is a session and process group of its own, so a Ctrl-C reaches the supervisor alone and
it decides the order of the end; each child runs behind `infra.local.leash`, so it ends with the supervisor even where
that is killed; after `Child.stop` nothing of its group is left.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import http.client
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from infra.local import leash
from infra.local.options import HOST

__all__ = ["Child", "Restarts", "answers", "cause_of"]

_LAST_LINES = 12


def cause_of(code: int) -> str:
    """Return how a process ended, in words."""
    return f"was killed by signal {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"


class Child:
    """One process of the stack.

    Parameters
    ----------
    name : str
        For people.
    command : sequence of str
        Program and arguments.
    environment : mapping
        Added to this process's own.
    is_ready : callable
        Awaited again and again until it returns True.
    take : callable
        Takes the child's name and each line it writes.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        is_ready: Callable[[], Awaitable[bool]],
        take: Callable[[str, str], object],
    ) -> None:
        self.name = name
        self._command, self._environment, self._is_ready, self._take = command, environment, is_ready, take
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self.last_lines: collections.deque[str] = collections.deque(maxlen=_LAST_LINES)

    @property
    def pid(self) -> int | None:
        """The process's id, None before the first start."""
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.returncode is None

    async def start(self, folder: Path) -> None:
        """Start the process in ``folder``."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            cwd=folder,
            env={**os.environ, **self._environment, leash.PARENT: str(os.getpid()), "PYTHONUNBUFFERED": "1"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            limit=8 * 1024 * 1024,
        )
        self._reader = asyncio.create_task(self._read(self._process))

    async def ready(self, seconds: float) -> bool:
        """Wait until the process serves; False where it ends first or takes longer than ``seconds``."""
        deadline = time.monotonic() + seconds
        while self.running and time.monotonic() < deadline:
            if await self._is_ready():
                return True
            await asyncio.sleep(0.05)
        return False

    async def wait(self) -> int:
        """Wait until the process has ended and everything it wrote was read; return its status."""
        if self._process is None:
            return 0
        code = await self._process.wait()
        self._kill_group()
        if self._reader:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._reader), 1)
        return code

    async def stop(self, seconds: float) -> None:
        """Ask the process to end; after ``seconds`` end it and all of its group."""
        if self._process is None:
            return
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), seconds)
        self._kill_group()
        await self.wait()

    def kill(self) -> None:
        """End the process and all of its group at once."""
        if self._process is not None:
            self._kill_group()

    def _kill_group(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        while process.stdout is not None and (raw := await process.stdout.readline()):
            line = raw.decode(errors="replace").rstrip("\r\n")
            self.last_lines.append(line)
            self._take(self.name, line)


class Restarts:
    """How often a part may be started again: ``limit`` times within ``seconds``, with growing pauses."""

    def __init__(self, *, limit: int = 5, seconds: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit, self._seconds, self._clock = limit, seconds, clock
        self._moments: list[float] = []

    def again(self) -> tuple[int, float] | None:
        """Count one restart; return which one of the window it is and the pause before it (s), None when spent."""
        now = self._clock()
        self._moments = [moment for moment in self._moments if now - moment < self._seconds] + [now]
        count = len(self._moments)
        return None if count > self.limit else (count, min(4.0, 0.1 * 2.0 ** (count - 1)))


async def answers(port: int, path: str, seconds: float = 1.0) -> bytes | None:
    """Return the body of a 200 from this machine's ``port``, None for anything else."""
    return await asyncio.to_thread(_get, port, path, seconds)


def _get(port: int, path: str, seconds: float) -> bytes | None:
    connection = http.client.HTTPConnection(HOST, port, timeout=seconds)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        return body if answer.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
