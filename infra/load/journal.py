"""``python -m infra.load.journal``: how long a long journal takes to answer, through the gateway of the laptop stack.

One user has many entries in two stacks; in one of them other users have as many again. The same questions, about
growing ranges too, are asked in turn in the one and in the other, so that whatever else the machine does hits both;
what counts is the median of the ratios of neighbours. What has to hold: what others have changes nothing, and
statistics take time in proportion to the range. The stacks run from a copy of the code, in folders thrown away.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

from fusiontrade.clock import iso, parse_iso
from fusiontrade.cloud.session import client
from fusiontrade.cloud.values import encode_item
from fusiontrade.journal.entries import Entry, Model, item_of
from fusiontrade.journal.records import digest_key, digest_owner, mark_name, mark_of
from fusiontrade.journal.settlement import Settlement, Status
from infra import environment
from infra.load.program import HOST, ROOT, free_port
from infra.local.banner import DEMO_EMAIL, DEMO_PASSWORD
from infra.local.functions import AWS_VARIABLES
from infra.local.template import Template

QUARTER = 15 * 60_000
NEVER = parse_iso("2200-01-01T00:00:00Z")
"""When what is PENDING here is due: the stack's own verification would settle it in the middle of a measurement."""
DAY = 96 * QUARTER
END = parse_iso("2026-07-01T00:00:00Z")
SYMBOLS = ("EURUSD=X", "USDJPY=X", "GC=F", "BTC-USD")
COPIED = ("functions", "infra", "layers", "serving", "shared")
OTHERS = 100
MOST = 1.5
"""The ratio from which on a question is slower because of others."""
_MOST_TRIES = 4
_SECONDS_TO_START = 120.0
_UP = "Ctrl-C ends everything."


@dataclass(frozen=True)
class Question:
    """One request that is timed; ``entries`` is what its range holds."""

    name: str
    target: str
    entries: int


class Pair(NamedTuple):
    """The seconds of a question where nobody else has entries, and where others have."""

    alone: float
    among: float


def entries_of(owner: str, count: int) -> Iterator[Entry]:
    """Give ``count`` entries, newest first: a quarter of an hour has one of each symbol, three in four are settled."""
    for number in range(count):
        symbol = SYMBOLS[number % len(SYMBOLS)]
        opened_at = END - (number // len(SYMBOLS) + 1) * QUARTER
        entry = Entry(
            owner=owner, source="daily", symbol=symbol, interval="15m", signal="BUY", opened_at=opened_at,
            expires_at=opened_at + 4 * QUARTER, due_at=NEVER, data_source="simulated", verdict="MODERATE BUY",
            lstm_signal="BUY", patchtst_signal="BUY", fusion_score=Decimal("68.5"), probability=Decimal("0.431275"),
            entry_price=Decimal("1.10125"), tp1=Decimal("1.10525"), tp2=Decimal("1.10725"), tp3=Decimal("1.10925"),
            stop_loss=Decimal("1.09825"), atr=Decimal("0.002"),
            models=tuple(Model(step, f"lstm-{step}", "7f3a91bc00de") for step in ("15m", "30m", "1h", "4h")),
        )  # fmt: skip
        if number % 4 == 3:
            yield entry
        else:
            won = number % 3 == 0
            price, status = (1.10525, Status.WIN) if won else (1.09825, Status.LOSS)
            yield entry.settled(Settlement(status, price, opened_at + 2 * QUARTER))


def write(table: str, entries: Iterator[Entry]) -> None:
    """Put entries and the digests that tell of them, in batches: a load, not the product's own way."""
    digests: dict[tuple[str, str], dict[str, Any]] = {}
    items: list[dict[str, Any]] = []
    for entry in entries:
        items.append(item_of(entry))
        key = digest_key(entry)
        named = {**key, "owner_symbol": f"{digest_owner(entry.owner)}#{entry.symbol}"}
        digests.setdefault((key["owner"], key["id"]), named)[mark_name(entry)] = mark_of(entry)
    items += digests.values()
    dynamodb = client("dynamodb", read_seconds=60.0)
    for start in range(0, len(items), 25):
        batch = [{"PutRequest": {"Item": encode_item(item)}} for item in items[start : start + 25]]
        left = dynamodb.batch_write_item(RequestItems={table: batch})["UnprocessedItems"]
        if left:
            raise RuntimeError("the emulator did not take every item")


class Stack:
    """A running ``python -m infra.local`` of its own, from a copy of the code: who edits meanwhile reloads nothing."""

    def __init__(self, folder: Path) -> None:
        self.ports = [free_port() for _ in range(3)]
        self.again = 0
        self._folder, self._output = folder, folder / "console.txt"
        code = folder / "code"
        for name in COPIED:
            shutil.copytree(ROOT / name, code / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "template.yaml", code)
        own = variables_of(folder, code)
        named = zip(("--port", "--serving-port", "--emulator-port"), map(str, self.ports), strict=True)
        with self._output.open("w") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "infra.local", *(each for pair in named for each in pair),
                 "--market-data", "simulated"],
                cwd=code, env={**os.environ, **own}, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def __enter__(self) -> Stack:
        deadline = time.monotonic() + _SECONDS_TO_START
        while _UP not in self._output.read_text():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise RuntimeError(f"the stack did not start:\n{self._output.read_text()}")
            time.sleep(0.2)
        _, signed_in = self.ask("POST", "/api/v1/auth/login", {"email": DEMO_EMAIL, "password": DEMO_PASSWORD})
        self.token, self.user = str(signed_in["access_token"]), str(signed_in["user"]["id"])
        return self

    token = ""

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(30)

    def _said(self) -> str:
        """Return the end of the stack's log."""
        return "".join((self._folder / "state" / "log" / "fusiontrade.log").read_text().splitlines(keepends=True)[-40:])

    def ask(self, method: str, path: str, body: Mapping[str, str] | None = None) -> tuple[float, Any]:
        """Send one request and return the seconds it took and the JSON it got.

        One that says when to ask again is asked again, a few times; ``again`` counts that.
        """
        for turn in range(_MOST_TRIES):
            request = urllib.request.Request(
                f"http://{HOST}:{self.ports[0]}{path}",
                method=method,
                data=None if body is None else json.dumps(body).encode(),
                headers={"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"},
            )
            started = time.perf_counter()
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                    told = answer.read()
                return time.perf_counter() - started, json.loads(told)
            except urllib.error.HTTPError as error:
                wait = error.headers.get("Retry-After")
                if error.code not in (429, 503) or wait is None or turn == _MOST_TRIES - 1:
                    raise RuntimeError(f"{method} {path}: {error.code} {error.read()!r}\n{self._said()}") from error
                self.again += 1
                time.sleep(float(wait))
        raise AssertionError("unreachable")


def variables_of(folder: Path, code: Path) -> dict[str, str]:
    """Return what a stack that runs from ``code`` needs to know, our own environments among it."""
    environments = environment.folder("run").parent.absolute()
    paths = f"{code}:{code / 'shared'}"
    return {"FUSIONTRADE_STATE": str(folder / "state"), "FUSIONTRADE_VENVS": str(environments), "PYTHONPATH": paths}


def fill(table: str, port: int, owner: str, entries: int, others: int) -> None:
    """Give ``owner`` so many entries, and a hundred other users so many together, in the emulator on ``port``."""
    os.environ |= {**AWS_VARIABLES, "AWS_ENDPOINT_URL": f"http://{HOST}:{port}"}
    write(table, entries_of(owner, entries))
    for number in range(OTHERS):
        write(table, entries_of(f"{number:032d}", others // OTHERS))


def questions(count: int) -> list[Question]:
    """Return what is asked of a journal of ``count`` entries."""
    days = count / len(SYMBOLS) * QUARTER / DAY

    def since(share: float) -> str:
        return urllib.parse.quote(iso(END - int(days * share) * DAY))

    symbol = urllib.parse.quote(SYMBOLS[0])
    return [
        Question("newest page", "", 50),
        Question("newest page of a symbol", f"?symbol={symbol}", 50),
        Question("page of a tenth ago", f"?to={since(0.1)}", 50),
        Question("what is PENDING", "?status=PENDING", 50),
        Question("statistics, hundredth", f"/stats?from={since(0.01)}", count // 100),
        Question("statistics, tenth", f"/stats?from={since(0.1)}", count // 10),
        Question("statistics, half", f"/stats?from={since(0.5)}", count // 2),
        Question("statistics, everything", "/stats", count),
        Question("statistics of a symbol", f"/stats?symbol={symbol}", count // len(SYMBOLS)),
    ]


def measured(alone: Stack, among: Stack, asked: Sequence[Question], rounds: int) -> dict[str, list[Pair]]:
    """Return the seconds of each question, in turn in the one stack and the other, ``rounds`` times."""
    found: dict[str, list[Pair]] = {question.name: [] for question in asked}
    for turn in range(rounds + 1):
        for question in asked:
            order = (alone, among) if turn % 2 else (among, alone)
            seconds = {stack: stack.ask("GET", f"/api/v1/journal{question.target}")[0] for stack in order}
            if turn:  # the first round warms up
                found[question.name].append(Pair(seconds[alone], seconds[among]))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return 1 where what others have slows a question down by more than half."""
    parser = argparse.ArgumentParser(prog="python -m infra.load.journal", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--entries", type=int, default=100_000, help="of the user who asks")
    parser.add_argument("--others", type=int, default=100_000, help="entries of a hundred other users in one stack")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args(arguments)
    table = Template(ROOT / "template.yaml", {}, stack="fusiontrade-local").physical_name("JournalTable")
    temporary = tempfile.TemporaryDirectory
    with temporary() as one, temporary() as other, Stack(Path(one)) as alone, Stack(Path(other)) as among:
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
            filling = [
                pool.submit(fill, table, alone.ports[2], alone.user, options.entries, 0),
                pool.submit(fill, table, among.ports[2], among.user, options.entries, options.others),
            ]
            for each in filling:
                each.result()
        asked = questions(options.entries)
        status = told(asked, measured(alone, among, asked, options.rounds), options)
        print(f"asked again where the answer said so: {alone.again + among.again} times")
    return status


def told(asked: Sequence[Question], found: Mapping[str, Sequence[Pair]], options: argparse.Namespace) -> int:
    """Print the table and return the exit status."""
    print(f"{options.entries} entries of one user; alone, and among {options.others} of others; medians, ms")
    print(f"{'question':<28}{'entries':>9}{'alone':>9}{'among':>9}{'ratio':>7}  quartiles")
    slower, whole = 0, {}
    for question in asked:
        pairs = found[question.name]
        before, after = median(pair.alone for pair in pairs), median(pair.among for pair in pairs)
        low, ratio, high = quantiles([pair.among / pair.alone for pair in pairs], n=4, method="inclusive")
        slower += ratio > MOST
        whole[question.name] = after
        print(
            f"{question.name:<28}{question.entries:>9}{1000 * before:>9.1f}{1000 * after:>9.1f}{ratio:>7.2f}"
            f"  {low:.2f}-{high:.2f}"
        )
    ranges = {question.name: question.entries for question in asked}
    tenth, half, everything = (f"statistics, {name}" for name in ("tenth", "half", "everything"))
    for less, more in ((tenth, half), (half, everything)):
        each = (whole[more] - whole[less]) / max(ranges[more] - ranges[less], 1)
        print(f"{less} -> {more.removeprefix('statistics, ')}: {1e6 * each:.1f} us an entry more; alike is linear")
    return min(1, slower)


if __name__ == "__main__":
    sys.exit(main())
