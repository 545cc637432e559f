"""Requests a second and waiting times at 1, 16 and 64 clients: the serving program, LitServe, and itself unbatched.

All programs are up and asked one after the other for a few seconds, several times over, from clients on the same
machine, the same seeded requests. LitServe is measured as it comes (one worker, no batching) and at its best of what it
offers: batches of 16 in one worker for each core.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from statistics import median

from infra.bench.rows import Row
from infra.load.bodies import Message, messages
from infra.load.driver import Figures, run
from infra.load.program import Program, serving_python

__all__ = ["rows"]

CLIENTS = (1, 16, 64)
SECONDS = 2.5
ROUNDS = 5
JSON, NPY = "application/json", "application/x-npy"

_LIT = "infra.bench.lit_server"
OURS, BINARY, UNBATCHED = "ours", "ours, npy", "the same without batching"
LIT, LIT_BEST = "LitServe", "LitServe, batches of 16, a worker a core"

Runs = dict[tuple[str, int], list[Figures]]


def rows() -> Iterator[Row]:
    """Measure all programs, then compare them."""
    runs = _measured()
    at_64 = runs[OURS, 64]
    for other, target in ((LIT, 2.5), (LIT_BEST, None), (UNBATCHED, 2.5)):
        for clients in CLIENTS[1:]:
            yield _faster(runs, OURS, other, clients, target)
    yield _faster(runs, OURS, UNBATCHED, 1, 1.0)
    yield _faster(runs, OURS, LIT, 1, None)
    for clients in CLIENTS:
        yield _faster(runs, BINARY, LIT, clients, None)
    ratios = sorted(
        theirs.percentile(0.99) / ours.percentile(0.99) for ours, theirs in zip(at_64, runs[UNBATCHED, 64], strict=True)
    )
    slowest = 1000 * median(figures.percentile(0.99) for figures in at_64)
    yield Row(
        "serving, p99 at 64 clients", UNBATCHED, slowest, "ms", median(ratios), ratios[0], ratios[-1], 10.0,
        "; ".join(f"{name} p99 {1000 * median(f.percentile(0.99) for f in runs[name, 64]):.0f} ms" for name in _NAMES),
    )  # fmt: skip


def _faster(runs: Runs, ours: str, other: str, clients: int, target: float | None) -> Row:
    ratios = sorted(
        mine.rate / max(theirs.rate, 1e-9)
        for mine, theirs in zip(runs[ours, clients], runs[other, clients], strict=True)
    )
    rate = median(figures.rate for figures in runs[ours, clients])
    body = "npy" if ours == BINARY else "JSON"
    return Row(
        f"serving, {body}, {clients} client{'s' if clients > 1 else ''}", other, rate, "req/s", median(ratios),
        ratios[0], ratios[-1], target,
    )  # fmt: skip


_NAMES = (OURS, BINARY, UNBATCHED, LIT, LIT_BEST)


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
    runs: Runs = {(name, clients): [] for name in _NAMES for clients in CLIENTS}
    with contextlib.ExitStack() as stack:
        programs = {name: stack.enter_context(program) for name, program in _programs().items()}
        for clients in CLIENTS:
            for _ in range(ROUNDS):
                for name in _NAMES:
                    program = programs[OURS if name == BINARY else name]
                    sent = bodies[NPY if name == BINARY else JSON]
                    runs[name, clients].append(_run(program, sent, clients))
    for (name, clients), found in runs.items():
        best = max(found, key=lambda figures: figures.rate)
        print(f"    {name:<44} {clients:>3} clients, best of {ROUNDS}: {best}", flush=True)
    return runs


def _run(program: Program, bodies: Sequence[Message], clients: int) -> Figures:
    run(program.address, bodies, clients=clients, seconds=0.3)
    figures = run(program.address, bodies, clients=clients, seconds=SECONDS)
    if figures.statuses[200] == 0:
        raise RuntimeError(f"{program.log} was never answered: {figures}")
    return figures
