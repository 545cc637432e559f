"""Much, for long: memory over 50,000 requests, too many at once, answers in company, bundles exchanged, an end."""

from __future__ import annotations

import asyncio
import json
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from fusiontrade.inference.contract import FUSED, ModelKind
from fusiontrade.inference.texts import TEXTS, TextRequest
from fusiontrade.inference.wire import NPY
from infra.load.bodies import Message, messages
from infra.load.bundles import changed, copied
from infra.load.checks import Check, Options, Versions, alike, until
from infra.load.driver import Figures, amid, run
from infra.load.program import Program, serving_python
from serving.engine import folders_of

__all__ = ["alone_and_together", "drained", "memory", "overload", "swaps"]

JSON = "application/json"
BOTH = (NPY, JSON)
KINDS_BESIDE: tuple[ModelKind, ...] = ("gru", "cnn", "transformer")
_HEAD = "POST /invocations HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n"


def memory(options: Options) -> Iterator[Check]:
    """Send 50,000 mixed requests, wrong ones among them; memory and open files stay as they were after 2,000."""
    total, clients = options.requests or 50_000, options.clients or 16
    first, step = min(2_000, total // 5), max(1, total // 10)
    mixed = [*messages(60, seed=11, content_types=BOTH, items=(1, 1, 1, 2, 4)), *beside(), *wrong()]
    with Program(serving_python(), name="load-memory") as program:
        figures = run(program.address, mixed, clients=clients, count=first)
        settled = _at_rest(program)
        print(f"  after {first:>6,}: {settled[0]:6.1f} MB, {settled[1]} open files; {figures}", flush=True)
        done, failures, faults = first, sum(figures.failures.values()), _faults(figures)
        rests = [settled]
        while done < total:
            figures = run(program.address, mixed, clients=clients, count=min(step, total - done))
            done += figures.sent
            failures, faults = failures + sum(figures.failures.values()), faults + _faults(figures)
            rests.append(_at_rest(program))
            print(f"  after {done:>6,}: {rests[-1][0]:6.1f} MB, {rests[-1][1]} open files; {figures}", flush=True)
    growth = 100 * (rests[-1][0] / settled[0] - 1)
    yield Check("memory within 5 % of that after the first", growth <= 5.0, f"{growth:+.1f} %")
    most = max(files for _, files in rests)
    yield Check("open files flat", most <= settled[1] + 2, f"{settled[1]}, at most {most}")
    yield Check("every request answered", failures == 0, f"{failures} of {done:,} were not")
    yield Check("no fault of the program", faults == 0, f"{faults} answers of 500 and more")


def beside() -> list[Message]:
    """Return requests for what serves beside the fused kinds: all kinds of a timeframe, and the moods of texts."""
    asked = messages(6, seed=12, content_types=BOTH, models=(*FUSED, *KINDS_BESIDE))
    texts = TextRequest(texts=["Gold rises on strong demand", "Shares fall after a profit warning"])
    body = texts.model_dump_json().encode()
    return [*asked, Message(asked[0].request, _HEAD.format(TEXTS, len(body)).encode() + body, len(body))]


def wrong() -> list[Message]:
    """Return requests that must not be answered with a forecast, each wrong in its own way."""
    good = messages(1, seed=3, content_types=(JSON,))[0]
    short = messages(1, seed=4, content_types=(NPY,), bars=100)[0]
    bodies = [(JSON, b"{"), (JSON, b'{"items": []}'), (NPY, b"\x93NUMPY"), ("text/plain", b"hello"), (JSON, b"\xff")]
    bodies.append((JSON, good.wire.partition(b"\r\n\r\n")[2].replace(b'"high":[1', b'"high":[-1')))
    return [short, *(Message(good.request, _HEAD.format(kind, len(b)).encode() + b, len(b)) for kind, b in bodies)]


def _faults(figures: Figures) -> int:
    return sum(count for status, count in figures.statuses.items() if status >= 500 and status != 503)


def _at_rest(program: Program) -> tuple[float, int]:
    """Return memory and open files once the clients' connections are gone."""
    time.sleep(0.5)
    return program.megabytes, program.open_files


def overload(options: Options) -> Iterator[Check]:
    """Send four times what has a place at once: each gets an answer or a 503 that says when to come back."""
    clients = options.clients or 128
    sent = messages(32, seed=21, content_types=BOTH)
    with Program(serving_python(), {"queue": 30}, name="load-overload") as program:
        alone = run(program.address, sent, clients=1, seconds=2.0)
        figures = run(program.address, sent, clients=clients, seconds=8.0)
        print(f"  one client: {alone}\n  {clients} clients, 32 places: {figures}", flush=True)
        after = run(program.address, sent, clients=1, seconds=2.0)
    refused = figures.statuses[503]
    yield Check("too much is refused", refused > 0, f"{refused:,} of {figures.sent:,}")
    yield Check("every refusal says when to return", figures.without_retry_after == 0, f"{figures.without_retry_after}")
    others = figures.sent - figures.statuses[200] - refused
    yield Check("nothing but 200 and 503", others == 0, f"{others} others")
    share = figures.rate / max(alone.rate, 1e-9)
    yield Check("as much is answered as for one client, or more", share >= 0.9, f"{share:.1f} times")
    yield Check("well again at once", after.statuses[200] == after.sent, str(after))


def alone_and_together(options: Options) -> Iterator[Check]:
    """Ask the same alone and in the company of 63 others: the answers are the same to 1e-5."""
    count, clients = options.requests or 10_000, options.clients or 64
    sent = messages(230, seed=31, content_types=BOTH, items=(1, 1, 2, 4))
    sent += messages(20, seed=32, content_types=BOTH, models=(*FUSED, *KINDS_BESIDE))
    known: dict[int, Any] = {}
    differing: list[int] = []

    def keep(message: Message, status: int, body: bytes) -> None:
        if status == 200:
            known[id(message)] = json.loads(body)

    def compare(message: Message, status: int, body: bytes) -> None:
        if status == 200 and not alike(known[id(message)], json.loads(body), 1e-5):
            differing.append(id(message))

    with Program(serving_python(), name="load-alike") as program:
        alone = run(program.address, sent, clients=1, count=len(sent), seen=keep)
        print(f"  alone: {alone}", flush=True)
        figures = run(program.address, sent, clients=clients, count=count, seen=compare)
        print(f"  together: {figures}", flush=True)
        batches = _batches(program)
    yield Check("all answered", figures.statuses[200] == count, f"{figures.statuses[200]:,} of {count:,}")
    yield Check("the same as alone to 1e-5", not differing, f"{len(differing)} differ")
    yield Check("they did ride together", batches > 1.0, f"{batches:.1f} items a run of a model on average")


def _batches(program: Program) -> float:
    """Return the mean number of items in one run of a model, from /metrics."""
    totals = {"sum": 0.0, "count": 0.0}
    for line in program.get("/metrics")[1].decode().splitlines():
        name, _, value = line.rpartition(" ")
        for part in totals:
            if "batch" in name and name.partition("{")[0].endswith(f"_{part}"):
                totals[part] += float(value)
    return totals["sum"] / totals["count"] if totals["count"] else 0.0


def swaps(options: Options) -> Iterator[Check]:
    """Exchange bundles twenty times under load: no request fails, none is answered by two versions."""
    count, clients, times = options.requests or 20_000, options.clients or 16, 20
    sent = messages(60, seed=41, content_types=BOTH, items=(1, 2))
    with tempfile.TemporaryDirectory() as folder:
        bundles = copied(Path(folder) / "bundles")
        with Program(serving_python(), {"bundles": bundles}, name="load-swaps") as program:
            watched, done = Versions(), threading.Event()

            def exchange() -> None:
                try:
                    for turn in range(times):
                        for bundle in folders_of(bundles)[turn % 2 :: 2]:
                            changed(bundle, {"trial": turn})
                        program.signal(signal.SIGHUP)
                        until(partial(_has_exchanged, program, turn + 1), 30.0)
                finally:
                    done.set()

            thread = threading.Thread(target=exchange)
            thread.start()
            figures = run(program.address, sent, clients=clients, count=count, seen=watched.seen)
            while not done.is_set():
                more = run(program.address, sent, clients=clients, count=500, seen=watched.seen)
                figures.statuses.update(more.statuses)
                figures.failures.update(more.failures)
            thread.join()
            told = program.json("/models")
    print(f"  {figures}", flush=True)
    versions = sorted(len(found) for found in watched.versions.values())
    yield Check("twenty swaps happened", told["generation"] == times, f"{told['generation']}, {versions} versions seen")
    yield Check("no request failed", figures.statuses[200] == figures.sent, str(figures))
    yield Check("no item failed", watched.failed == 0, f"{watched.failed} {watched.last_error}")
    yield Check("no answer mixes versions", watched.mixed == 0, f"{watched.mixed} of {figures.sent:,}")


def _has_exchanged(program: Program, times: int) -> bool:
    return bool((program.json("/models") or {}).get("generation", 0) >= times)


def drained(options: Options) -> Iterator[Check]:
    """Say SIGTERM while requests are answered: each of them is, and the program ends with 0 in under 30 s."""
    clients = options.clients or 16
    sent = messages(clients, seed=51, content_types=BOTH, items=(16,))
    said: list[float] = []
    with Program(serving_python(), name="load-drained") as program:

        def taken(count: int) -> bool:
            return until(lambda: (program.json("/models") or {}).get("in_flight") == count, 10.0)

        def end() -> None:
            program.signal(signal.SIGTERM)
            said.append(time.monotonic())

        seen = asyncio.run(amid(program.address, sent, taken, end))
        code = program.wait(seconds=40.0)
        seconds = time.monotonic() - said[0]
    print(f"  {seen.figures}", flush=True)
    answered = seen.figures.statuses[200]
    yield Check(f"all {clients} were accepted", seen.taken, "by its own word" if seen.taken else "some were not")
    yield Check("none was answered before SIGTERM", not seen.early, f"{seen.early} of {clients}, sent whole")
    yield Check("all were answered", answered == clients, f"{answered} of {clients}")
    yield Check("ended with 0 in under 30 s", code == 0 and seconds < 30, f"status {code} in {seconds:.1f} s")
