"""What goes wrong around the program: killed, given a bad bundle, left by its clients, or kept waiting by them."""

from __future__ import annotations

import asyncio
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from fusiontrade.inference.wire import NPY
from infra.load.bodies import Message, messages
from infra.load.bundles import SPOILED, copied
from infra.load.checks import Check, Options, Versions, until
from infra.load.driver import Figures, drive, run
from infra.load.program import Program, serving_python
from infra.load.scenarios import BOTH

__all__ = ["bad_bundles", "killed", "leaving", "slow"]

_Checks = Iterator[Check]
_IN_A_ROW = 8


def killed(options: Options) -> Iterator[Check]:
    """Kill the program with -9 under load and start it again: clients that come again are answered."""
    clients = options.clients or 16
    sent = messages(32, seed=61, content_types=BOTH)
    program = Program(serving_python(), name="load-killed")
    answered: list[float] = []
    found: list[Figures] = []
    enough = threading.Event()

    def note(message: Message, status: int, body: bytes) -> None:  # noqa: ARG001 - the driver passes them
        if status == 200:
            answered.append(time.monotonic())

    def load() -> None:
        found.append(run(program.address, sent, clients=clients, seconds=90.0, going=_until_set(enough), seen=note))

    with program:
        thread = threading.Thread(target=load)
        thread.start()
        time.sleep(4.0)
        gone = time.monotonic()
        program.kill()
        program.start()
        back = time.monotonic()
        until(lambda: bool(answered) and answered[-1] > back, 20.0)
        enough.set()
        thread.join()
        after = run(program.address, sent, clients=1, count=20)
    (figures,) = found
    first = min((moment for moment in answered if moment > gone + 0.05), default=float("inf"))
    print(f"  {figures}\n  down {back - gone:.2f} s, first answer {first - gone:.2f} s after the kill", flush=True)
    yield Check("answered again as soon as it is ready", first - back < 1.0, f"{first - back:+.2f} s from ready")
    yield Check("ready again in under 10 s", back - gone < 10.0, f"{back - gone:.2f} s")
    refused = figures.statuses[503]
    others = figures.sent - figures.statuses[200] - refused - sum(figures.failures.values())
    yield Check("nothing but answers, refusals and broken connections", others == 0, str(figures))
    yield Check("well afterwards", after.statuses[200] == 20, str(after))


def bad_bundles(options: Options) -> Iterator[Check]:
    """Drop bundles that must not serve into the folder under load: the old ones go on, and it is said why."""
    clients = options.clients or 8
    sent = messages(32, seed=71, content_types=BOTH)
    with tempfile.TemporaryDirectory() as place:
        bundles = copied(Path(place) / "bundles")
        with Program(serving_python(), {"bundles": bundles, "watch_seconds": 0.25}, name="load-bundles") as program:
            before = {one["id"]: one["version"] for one in program.json("/models")["models"]}
            for what, spoil in SPOILED.items():
                watched, found, enough = Versions(), list[Figures](), threading.Event()
                how = {"clients": clients, "seconds": 90.0, "going": _until_set(enough), "seen": watched.seen}
                thread = threading.Thread(
                    target=lambda found=found, how=how: found.append(run(program.address, sent, **how))
                )
                thread.start()
                time.sleep(1.0)
                spoil(bundles / "lstm-1h")
                reason = _reason(program, 60.0)
                ping = program.get("/ping")[0]
                time.sleep(1.0)
                enough.set()
                thread.join()
                (figures,) = found
                print(f"  {what}: {figures}; {reason}", flush=True)
                yield from _kept(what, figures, watched, before, (reason, ping))
                _restore(bundles, program)
            left = _not_exchanged(program)
        yield Check("well again with a good bundle", not left, f"{left}")


def _kept(what: str, figures: Figures, watched: Versions, before: dict[str, str], told: tuple[str, int]) -> _Checks:
    reason, ping = told
    yield Check(f"{what}: refused and named", "lstm-1h" in reason, reason)
    all_well = figures.statuses[200] == figures.sent and watched.failed == 0
    yield Check(
        f"{what}: no request failed", all_well, f"{figures.sent - figures.statuses[200]}, {watched.failed} items"
    )
    old = all(versions == {before[name]} for name, versions in watched.versions.items())
    yield Check(f"{what}: the old versions answered", old and ping == 200, f"ping {ping}")


def _until_set(event: threading.Event) -> Callable[[], bool]:
    return lambda: not event.is_set()


def _reason(program: Program, seconds: float) -> str:
    failed: list[dict[str, str]] = []  # of the first process that tells: the next one asked may not have read yet

    def is_told() -> bool:
        failed[:] = _not_exchanged(program)
        return bool(failed)

    until(is_told, seconds)
    return "; ".join(f"{one['folder']}: {one['reason']}" for one in failed) or "nothing was refused"


def _not_exchanged(program: Program) -> list[dict[str, str]]:
    """Return what ``/models`` tells of it; nothing where it is not answered in time."""
    return list((program.json("/models") or {}).get("not_exchanged", ()))


def _restore(bundles: Path, program: Program) -> None:
    import shutil

    from serving.settings import STARTER_BUNDLES

    shutil.rmtree(bundles / "lstm-1h")
    shutil.copytree(STARTER_BUNDLES / "lstm-1h", bundles / "lstm-1h")
    program.signal(signal.SIGHUP)
    said: list[bool] = []  # whichever process is asked: each tells of its own reading, and they are asked in turn

    def is_well() -> bool:
        said.append((program.json("/models") or {}).get("not_exchanged") == [])
        return len(said) >= _IN_A_ROW and all(said[-_IN_A_ROW:])

    until(is_well, 60.0)


def leaving(options: Options) -> Iterator[Check]:
    """Let clients go away in the middle of everything: the others are answered, and nothing is held for the gone."""
    gone, clients = options.requests or 1_500, options.clients or 8
    sent = messages(32, seed=81, content_types=(NPY,))

    async def scenario(program: Program) -> Figures:
        async with asyncio.TaskGroup() as group:
            staying = group.create_task(drive(program.address, sent, clients=clients, seconds=12.0))
            for part in range(16):
                group.create_task(_leaves(program.address, sent, gone // 16, part))
        return staying.result()

    with Program(serving_python(), name="load-leaving") as program:
        run(program.address, sent, clients=clients, count=200)
        files = _files_at_rest(program)
        figures = asyncio.run(scenario(program))
        print(f"  {gone:,} clients left; those that stayed: {figures}", flush=True)
        idle = _until_idle(program, 5.0)
        now = _files_at_rest(program)
        after = run(program.address, sent, clients=1, count=20)
    yield Check("those that stayed were answered", figures.statuses[200] == figures.sent, str(figures))
    yield Check("nothing is at work for the gone", idle, "idle" if idle else "still at work after 5 s")
    yield Check("their files are closed", now <= files + 2, f"{files} before, {now} after")
    yield Check("well afterwards", after.statuses[200] == 20, str(after))


async def _leaves(address: tuple[str, int], sent: list[Message], times: int, seed: int) -> None:
    """Connect, send a share of a request between nothing and all of it, wait a moment, and be gone."""
    random = np.random.default_rng(seed)
    for turn in range(times):
        message = sent[turn % len(sent)].wire
        share = int(min(1.0, random.uniform(0.0, 1.5)) * len(message))
        try:
            _, writer = await asyncio.open_connection(*address)
        except OSError:
            await asyncio.sleep(0.05)
            continue
        writer.write(message[:share])
        await asyncio.sleep(float(random.uniform(0.0, 0.08)))
        writer.transport.abort()


def _until_idle(program: Program, seconds: float) -> bool:
    return until(lambda: (program.json("/models") or {}).get("in_flight") == 0, seconds)


def _files_at_rest(program: Program) -> int:
    time.sleep(1.0)
    return program.open_files


def slow(options: Options) -> Iterator[Check]:
    """Let 300 clients send a byte now and then: they are cut off in time, and nobody else notices."""
    many, clients, allowed = options.requests or 300, options.clients or 4, 3.0
    sent = messages(16, seed=91, content_types=(NPY,))
    lives: list[float] = []

    async def scenario(program: Program) -> Figures:
        async with asyncio.TaskGroup() as group:
            others = group.create_task(drive(program.address, sent, clients=clients, seconds=14.0))
            for place in range(many):
                group.create_task(_drips(program.address, sent[place % len(sent)].wire, place, lives))
        return others.result()

    with Program(serving_python(), {"body_seconds": allowed}, name="load-slow") as program:
        alone = run(program.address, sent, clients=clients, seconds=5.0)
        files = _files_at_rest(program)
        figures = asyncio.run(scenario(program))
        print(f"  without them: {alone}\n  with {many} slow ones: {figures}", flush=True)
        now = _files_at_rest(program)
    longest = max(lives, default=float("inf"))
    # a body that is late is answered 408 after the allowed time, and its connection closed five seconds later
    yield Check(
        "the slow are cut off", len(lives) == many and longest <= allowed + 7.0, f"after {longest:.1f} s at most"
    )
    yield Check("the others were answered", figures.statuses[200] == figures.sent, str(figures))
    share = figures.rate / max(alone.rate, 1e-9)
    yield Check("at no less than half their pace", share >= 0.5, f"{share:.2f} of it")
    yield Check("their files are closed", now <= files + 2, f"{files} before, {now} after")


async def _drips(address: tuple[str, int], message: bytes, place: int, lives: list[float]) -> None:
    """Send a head, or a head and some of a body, byte by byte until cut off; note how long that took."""
    reader, writer = await asyncio.open_connection(*address)
    begun = time.monotonic()
    head = message.index(b"\r\n\r\n")
    at = 0 if place % 2 else head + 4 + 1000
    try:
        writer.write(message[:at])
        while time.monotonic() - begun < 30.0:
            writer.write(message[at : at + 1])
            await writer.drain()
            at += 1
            answered = asyncio.ensure_future(reader.read(65536))
            done, _ = await asyncio.wait([answered], timeout=0.25)
            if done and answered.result() == b"":
                break
            answered.cancel()
    except OSError:
        pass
    finally:
        lives.append(time.monotonic() - begun)
        writer.close()
