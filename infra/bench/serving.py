"""Requests a second and waiting times at 1, 16 and 64 clients: the serving program, LitServe, and itself unbatched.

All programs are up and asked one after the other for a few seconds, several times over, from clients on the same
machine, the same seeded requests. Waiting times are compared at the same load, 64 clients that ask by the clock: where
each asks as soon as it is answered, its wait is 64 divided by the requests a second and nothing else. LitServe is
measured as it comes (one worker, no batching) and at its best of what it offers: batches of 16 in one worker for each
core.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from infra.bench.rows import Row
from infra.load.bodies import Message, messages
from infra.load.driver import Figures, run
from infra.load.program import Program, serving_python

__all__ = ["rows"]

SECONDS = 2.5
PACED_SECONDS = 10.0  # who cannot keep up falls behind by the length of the run
ALIKE = 0.95  # two sides that do the same for a lone client differ by that much from run to run
ROUNDS, PACED_ROUNDS, LONE_ROUNDS = 5, 3, 14
JSON, NPY = "application/json", "application/x-npy"

_LIT = "infra.bench.lit_server"
OURS, BINARY, UNBATCHED = "ours", "ours, npy", "the same without batching"
LIT, LIT_BEST = "LitServe", "LitServe, batches of 16, a worker a core"
_NAMES = (OURS, BINARY, UNBATCHED, LIT, LIT_BEST)


@dataclass(frozen=True)
class Load:
    """How many clients ask, and every how many seconds each; None is as soon as it is answered."""

    clients: int
    every: float | None = None

    def __str__(self) -> str:
        plural = "s" if self.clients > 1 else ""
        pace = f", each asks every {1000 * self.every:.0f} ms" if self.every else ""
        return f"{self.clients} client{plural}{pace}"


ONE, SOME, MANY, PACED = Load(1), Load(16), Load(64), Load(64, 0.1)

Runs = dict[tuple[str, Load], list[Figures]]


def rows() -> Iterator[Row]:
    """Measure all programs, then compare them."""
    runs = _measured()
    for other, target in ((LIT, 2.5), (LIT_BEST, None), (UNBATCHED, 2.5)):
        for load in (SOME, MANY):
            yield _faster(runs, OURS, other, load, target)
    yield _faster(runs, OURS, UNBATCHED, ONE, ALIKE)
    yield _faster(runs, OURS, LIT, ONE, None)
    for load in (ONE, SOME, MANY):
        yield _faster(runs, BINARY, LIT, load, None)
    for other, target in ((UNBATCHED, 10.0), (LIT, None), (LIT_BEST, None)):
        yield _sooner(runs, PACED, other, target)
    yield _sooner(runs, MANY, UNBATCHED, None)


def _faster(runs: Runs, ours: str, other: str, load: Load, target: float | None) -> Row:
    ratios = sorted(
        mine.rate / max(theirs.rate, 1e-9) for mine, theirs in zip(runs[ours, load], runs[other, load], strict=True)
    )
    rate = median(figures.rate for figures in runs[ours, load])
    body = "npy" if ours == BINARY else "JSON"
    what = f"serving, {body}, {load}"
    return Row(what, other, rate, "req/s", median(ratios), ratios[0], ratios[-1], target)


def _sooner(runs: Runs, load: Load, other: str, target: float | None) -> Row:
    ratios = sorted(
        theirs.percentile(0.99) / mine.percentile(0.99)
        for mine, theirs in zip(runs[OURS, load], runs[other, load], strict=True)
    )
    slowest = {name: 1000 * median(figures.percentile(0.99) for figures in runs[name, load]) for name in (OURS, other)}
    note = f"theirs {slowest[other]:.0f} ms"
    what = f"serving, JSON, p99, {load}"
    return Row(what, other, slowest[OURS], "ms", median(ratios), ratios[0], ratios[-1], target, note)


def _programs() -> dict[str, Program]:
    python = serving_python()
    lit = ("-m", _LIT, "{port}")
    return {
        OURS: Program(python, name="bench-ours"),
        UNBATCHED: Program(python, {"batch": 1}, name="bench-unbatched"),
        LIT: Program(python, command=(*lit, "1", "1"), ready="/health", name="bench-litserve"),
        LIT_BEST: Program(python, command=(*lit, "16", "2"), ready="/health", name="bench-litserve-best"),
    }


def _measured() -> Runs:
    """Start all programs, then let each answer for some seconds in turn: one that nobody asks takes no time."""
    bodies = {kind: messages(64, seed=5, content_types=(kind,)) for kind in (JSON, NPY)}
    sizes = {kind: sum(one.size for one in found) / len(found) / 1000 for kind, found in bodies.items()}
    print(f"    one item of 720 bars a request: JSON {sizes[JSON]:.0f} kB, npy {sizes[NPY]:.0f} kB", flush=True)
    loads = {ONE: LONE_ROUNDS, SOME: ROUNDS, MANY: ROUNDS, PACED: PACED_ROUNDS}
    runs: Runs = {(name, load): [] for name in _NAMES for load in loads}
    with contextlib.ExitStack() as stack:
        programs = {name: stack.enter_context(program) for name, program in _programs().items()}
        for load, rounds in loads.items():
            for number in range(rounds):
                for name in _NAMES[:: -1 if number % 2 else 1]:  # what went before leaves warm or cold caches
                    program = programs[OURS if name == BINARY else name]
                    sent = bodies[NPY if name == BINARY else JSON]
                    runs[name, load].append(_run(program, sent, load))
    for (name, load), found in runs.items():
        best = max(found, key=lambda figures: figures.rate)
        print(f"    {name:<44} {load!s:<41} best of {len(found)}: {best}", flush=True)
    return runs


def _run(program: Program, bodies: Sequence[Message], load: Load) -> Figures:
    run(program.address, bodies, clients=load.clients, seconds=0.3)
    seconds = SECONDS if load.every is None else PACED_SECONDS
    figures = run(program.address, bodies, clients=load.clients, every=load.every, seconds=seconds)
    if figures.statuses[200] == 0:
        raise RuntimeError(f"{program.log} was never answered: {figures}")
    return figures
