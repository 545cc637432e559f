"""The functions of the template, each as a pool of slots.

Always true here: a slot is used by one event at a time; more slots are started on demand up to the limit, further
events wait; a slot that dies, times out or runs old code is replaced, never repaired. A pool keeps one slot warm, so
that the first request after a start, a crash or an edit does not pay for the imports.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from infra.local.slots import Outcome, Slot, error_of
from infra.local.template import REGION, Function

__all__ = ["AWS_VARIABLES", "INIT_SECONDS", "Pool", "process_environment"]

INIT_SECONDS = 25.0
_PASSED_ON = (
    "PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "COVERAGE_PROCESS_START",
)  # fmt: skip

AWS_VARIABLES = {
    "AWS_REGION": REGION,
    "AWS_DEFAULT_REGION": REGION,
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
"""What keeps an AWS client on this machine: credentials that open nothing, and no look at a person's own."""

Say = Callable[[str, str], None]
"""Takes the name of a part and something a person should see."""


def process_environment(
    function: Function, shared: Path, overrides: Mapping[str, str], environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Return the whole environment of a function's process: the template's variables and what Lambda itself sets.

    Nothing else of this machine's environment is let in but what reaching the network needs, so a variable that the
    template does not give is as absent as in the cloud. ``overrides`` come last.
    """
    passed = {name: environ[name] for name in _PASSED_ON if name in environ}
    return {
        **passed,
        "TZ": "UTC",
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": os.pathsep.join([str(function.code), str(shared)]),
        **AWS_VARIABLES,
        "POWERTOOLS_TRACE_DISABLED": "true",
        **function.environment,
        **overrides,
    }


class Pool:
    """The slots of one function.

    Parameters
    ----------
    function : Function
        What runs in them.
    environment : mapping
        Of each process.
    limit : int
        Most slots at once.
    log, say : callable
        Take a line the function wrote; take something a person should see.
    """

    def __init__(
        self, function: Function, environment: Mapping[str, str], *, limit: int, log: Callable[[str], None], say: Say
    ) -> None:
        self.function = function
        self._environment, self._log, self._say = environment, log, say
        self._slots: set[Slot] = set()
        self._idle: list[Slot] = []
        self._places = asyncio.Semaphore(limit)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    @property
    def pids(self) -> list[int]:
        """Ids of the processes that live now."""
        return [slot.pid for slot in self._slots if slot.alive]

    async def invoke(self, event: bytes) -> Outcome:
        """Run the handler on one event; waits for a place where all are taken."""
        async with self._places:
            slot = self._take()
            outcome = await self._start_up(slot)
            if outcome is None:
                outcome = await slot.invoke(event)
            self._give_back(slot)
            return outcome

    async def warm(self) -> Outcome | None:
        """Start one slot where none is idle; return why it cannot start, None where it can."""
        slot = self._take()
        outcome = await self._start_up(slot)
        self._give_back(slot)
        return outcome

    def reload(self) -> None:
        """Replace every slot: idle ones now, busy ones when they are done."""
        for slot in self._slots:
            slot.stale = True
        for slot in self._idle:
            slot.kill()
        self._idle.clear()
        self._background(self._rewarm())

    async def close(self) -> None:
        """End every process and wait until it is gone."""
        self._closing = True
        for slot in self._slots:
            slot.kill()
        await asyncio.gather(*(slot.ended for slot in self._slots), *self._tasks, return_exceptions=True)

    def _take(self) -> Slot:
        while self._idle:
            slot = self._idle.pop()
            if slot.alive:
                return slot
        slot = Slot(self.function, self._environment, self._log)
        self._slots.add(slot)
        self._background(self._bury(slot))
        return slot

    async def _start_up(self, slot: Slot) -> Outcome | None:
        """Wait until the handler's module is imported; return the error where it cannot be."""
        try:
            failure = await asyncio.wait_for(asyncio.shield(slot.ready), INIT_SECONDS)
        except TimeoutError:
            failure = error_of("Sandbox.Timedout", f"{self.function.title} did not start in {INIT_SECONDS:.0f} s")
        if failure is not None:
            slot.kill()
        return failure

    def _give_back(self, slot: Slot) -> None:
        if slot.stale:
            slot.kill()
        elif slot.alive:
            self._idle.append(slot)

    async def _bury(self, slot: Slot) -> None:
        """When a slot has ended, forget it; say so if it was not our doing; keep one warm."""
        await slot.ended
        self._slots.discard(slot)
        if slot in self._idle:
            self._idle.remove(slot)
        if slot.died and not self._closing:
            self._say(self.function.title, f"process {slot.pid} ended with {slot.cause}; starting another")
        if slot.started and not self._slots:
            await self._rewarm()

    async def _rewarm(self) -> None:
        if not self._closing and (failure := await self.warm()) is not None:
            self._say(self.function.title, f"cannot start: {failure.reason}")

    def _background(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
