"""Starts the parts in order, keeps them running, ends them together.

Always true here: four children, the emulated AWS, the models' program, the trainings' program (which owns the training
processes) and the gateway (which owns the function processes); a child that dies is said, started again and said to be
back; one that dies too often ends the whole stack with the reason; whatever ends the supervisor, no process stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import fcntl
import json
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from infra import environment
from infra.local.children import Child, Restarts, answers, cause_of
from infra.local.log import READY, Log, readable
from infra.local.options import HOST, ROOT, Options, check_ports, free_port, yahoo_answers
from infra.local.served import filled

__all__ = ["StackFailure", "Supervisor", "only_one"]

SECONDS_TO_START = 60.0


class StackFailure(Exception):
    """The stack cannot run, or no longer; the message says why and what to do."""


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the state folder: two stacks in one folder would spoil each other's state.

    Raises
    ------
    StackFailure
        If another stack holds it, or it cannot be written.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        held = (folder / "lock").open("w")
    except OSError as error:
        raise StackFailure(
            f"the state folder cannot be written: {error}; choose another one with FUSIONTRADE_STATE=..."
        ) from None
    with held as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StackFailure(
                f"another stack uses {folder}: stop it, or choose another folder with FUSIONTRADE_STATE=..."
            ) from None
        yield


class Supervisor:
    """One run of the stack.

    Parameters
    ----------
    options : Options
        The choices; an empty ``market_data`` is found out at the start.
    log : Log
        Takes what every part writes.
    """

    def __init__(self, options: Options, log: Log) -> None:
        self.options, self.log = options, log
        self.stopping = asyncio.Event()
        self.failure: str | None = None
        self._gateway_ready, self._broken = asyncio.Event(), ""
        self._children: list[Child] = []
        self._watchers: list[asyncio.Task[None]] = []

    async def run(self, started: Callable[[Options, dict[str, Any]], None]) -> None:
        """Start, call ``started`` with the choices and what the parts tell, and stay until asked to stop.

        What they tell: ``models`` that serve, ``refused`` bundles, and ``broken``, the functions that do not start.

        Raises
        ------
        StackFailure
            If a part does not start, or dies too often.
        """
        check_ports(self.options)
        if not self.options.training_port:
            self.options = dataclasses.replace(self.options, training_port=free_port())
        self._listen_for_signals()
        try:
            if await self._until_stopped(self._start()):
                started(self.options, {**await self.models(), "broken": self._broken})
                await self.stopping.wait()
        finally:
            await self._end()
        if self.failure:
            raise StackFailure(self.failure)

    async def models(self) -> dict[str, Any]:
        """Return what the program tells of its models: ``models`` that serve, ``refused`` that must not."""
        told: dict[str, Any] = json.loads(await answers(self.options.serving_port, "/models") or b"{}")
        return told

    # --- start ----------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        self.log.notice("local", "starting the emulated AWS, the models and the API", style="dim")
        market = asyncio.create_task(self._market())
        emulator, serving = self._emulator(), self._serving()
        await asyncio.gather(self._begin(emulator), self._begin(serving))
        await self._need(emulator)
        await self._resources()
        self.options = dataclasses.replace(self.options, market_data=await market)
        gateway, trainings = self._gateway(), self._trainings()
        await asyncio.gather(self._begin(gateway), self._begin(trainings))
        await asyncio.gather(self._need(serving), self._need(gateway), self._need(trainings))
        self._watchers = [asyncio.create_task(self._watch(child)) for child in self._children]

    async def _market(self) -> str:
        if self.options.market_data:
            return self.options.market_data
        if await asyncio.to_thread(yahoo_answers):
            return "yahoo"
        self.log.notice("market", "Yahoo does not answer from here: this market is simulated, its prices are invented")
        return "simulated"

    async def _begin(self, child: Child) -> None:
        self._children.append(child)
        self.log.line("local", f"starting {child.name}")
        await child.start(ROOT)

    async def _need(self, child: Child) -> None:
        if await child.ready(SECONDS_TO_START):
            self.log.line("local", f"{child.name} is ready (pid {child.pid})")
            return
        how = "did not answer in time" if child.running else cause_of(await child.wait())
        raise StackFailure(f"{child.name} {how}; {self._last_words(child)}")

    def _last_words(self, child: Child) -> str:
        lines = "\n".join(f"    {readable(line)}" for line in child.last_lines)
        return f"its last lines:\n{lines}\nmore in {self.options.log_file}"

    async def _resources(self) -> None:
        """Make the tables, the bucket, the keys and the demo account, in a process that ends when they are there."""
        seeding = Child("resources", self._python("TERM", "infra.local.resources"), {}, _never, self.log.take)
        await seeding.start(ROOT)
        try:
            code = await asyncio.wait_for(seeding.wait(), SECONDS_TO_START)
        except TimeoutError:
            code = -signal.SIGKILL
        finally:
            seeding.kill()
        if code:
            raise StackFailure(f"making the tables {cause_of(code)}; {self._last_words(seeding)}")

    # --- the parts ------------------------------------------------------------------------------------------------

    def _emulator(self) -> Child:
        state, port = self.options.folder, self.options.emulator_port
        temporary = state / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        variables = {
            "GATEWAY_PORT": str(port),
            "BIND_HOST": HOST,
            "PERSIST_STATE": "1",
            "STATE_DIR": str(state / "state"),
            "S3_PERSIST": "1",
            "S3_DATA_DIR": str(state / "s3"),
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "TMPDIR": str(temporary),
            "LOG_LEVEL": "WARNING",
            "DOCKER_HOST": f"unix://{temporary}/no-docker.sock",
        }
        python = environment.interpreter("emulator")
        if not python.exists():
            raise StackFailure(f"{python} is missing: python3 infra/environment.py emulator makes it, as make run does")
        command = [str(python), "-m", "infra.local.leash", "TERM", "infra.local.emulator"]

        async def is_ready() -> bool:
            return await answers(port, "/_ministack/health") is not None

        return Child("emulator", command, variables, is_ready, self.log.take)

    def _serving(self) -> Child:
        port = self.options.serving_port
        bundles = filled(self.options.served, Path(self.options.bundles))
        command = self._python("TERM", "serving.server", "--bundles", str(bundles))
        command += ["--host", HOST, "--port", str(port), "--processes", "1"]

        async def is_ready() -> bool:
            return await answers(port, "/ping") is not None

        watching = {"SERVING_WATCH_SECONDS": "1", "SERVING_SLOW_SECONDS": "2"}  # a laptop trains beside it
        return Child("serving", command, watching, is_ready, self.log.take)

    def _trainings(self) -> Child:
        async def is_ready() -> bool:
            return await answers(self.options.training_port, "/") is not None

        return Child("training", self._python("TERM", "infra.local.sagemaker"), {}, is_ready, self.log.take)

    def _gateway(self) -> Child:
        async def is_ready() -> bool:
            return self._gateway_ready.is_set()

        def take(name: str, line: str) -> None:
            kind, text = self.log.take(name, line)
            if kind == READY:
                self._broken = text
                self._gateway_ready.set()

        return Child("gateway", self._python("TERM", "infra.local.gateway"), {}, is_ready, take)

    def _python(self, ending: str, module: str, *arguments: str) -> list[str]:
        given = list(arguments) or [self.options.to_json()]
        return [sys.executable, "-m", "infra.local.leash", ending, module, *given]

    # --- watch ----------------------------------------------------------------------------------------------------

    async def _watch(self, child: Child) -> None:
        restarts = Restarts()
        while not self.stopping.is_set():
            code = await child.wait()
            if self.stopping.is_set():
                return
            said = f"{child.name} {cause_of(code)}"
            if (again := restarts.again()) is None:
                self.failure = f"{said}, the {restarts.limit + 1}th time within a minute; {self._last_words(child)}"
                self.stopping.set()
                return
            count, pause = again
            self.log.notice("local", f"{said}; starting it again ({count} of {restarts.limit})")
            await asyncio.sleep(pause)
            try:
                await self._recover(child)
            except StackFailure as failure:
                self.log.notice("local", str(failure))
                child.kill()
            else:
                self.log.notice("local", f"{child.name} is back (pid {child.pid})", style="green")

    async def _recover(self, child: Child) -> None:
        if child.name == "gateway":
            self._gateway_ready.clear()
        await child.start(ROOT)
        await self._need(child)
        if child.name == "emulator":
            await self._resources()

    # --- end ------------------------------------------------------------------------------------------------------

    def _listen_for_signals(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._asked_to_stop)

    def _asked_to_stop(self) -> None:
        if self.stopping.is_set():  # asked twice: at once then
            for child in self._children:
                child.kill()
        self.stopping.set()

    async def _until_stopped(self, work: Any) -> bool:
        """Run ``work``; False where a stop came first."""
        task, stop = asyncio.ensure_future(work), asyncio.create_task(self.stopping.wait())
        await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            return False
        task.result()
        return True

    async def _end(self) -> None:
        self.stopping.set()
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        self.log.line("local", "stopping")
        # what takes requests first, what keeps the state last
        await asyncio.gather(*(child.stop(8) for child in self._children if child.name != "emulator"))
        await asyncio.gather(*(child.stop(8) for child in self._children))
        self.log.line("local", "stopped")


async def _never() -> bool:
    return False
