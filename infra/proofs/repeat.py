"""The same bundle twice: ``python -m infra.proofs.repeat --data FOLDER --out FOLDER [--models cnn,swing]``.

Each architecture is trained twice by its own command, as child processes: once undisturbed; once killed (SIGKILL) in
the middle of each network it fits, and started again until it ends. All that must not matter differs between the two:
the folders, the path of the data, the seed of Python's hashes, the zone of time, how many threads BLAS has where the
training does not say. The bytes of both ``manifest.json`` are held against each other, one line for each bundle; ends
with 1 where two differ, where a training failed, or where one that was killed began anew instead of going on.

Run it with ``.venv/train/bin/python``. What a training command takes beside data, folder, seed and threads is given to
them as it stands: ``--intraday "--epochs 2 --batch 128"``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusiontrade.errors import BundleRefused
from serving.bundle import MANIFEST, verified_files

__all__ = ["Failure", "Training", "difference", "main", "repeated", "trainings"]

ROOT = Path(__file__).resolve().parents[2]
_PROGRESS = re.compile(r"(?P<what>\S+) (?:epoch|step) (?P<done>\d+)/(?P<all>\d+)\b")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_ONE_WAY = {"PYTHONHASHSEED": "1", "TZ": "UTC", **dict.fromkeys(_THREADS, "2")}
_ANOTHER = {"PYTHONHASHSEED": "2", "TZ": "Pacific/Auckland", **dict.fromkeys(_THREADS, "1")}
_AFTER_THE_REST = ("version",)  # of a card: a hash over the other files and fields


class Failure(Exception):
    """A training did not end, or did not go on where it was killed."""


@dataclass(frozen=True)
class Training:
    """A training command, ``python -m module``, that writes the bundle ``name`` below its ``--out``."""

    name: str
    module: str
    options: tuple[str, ...] = ()

    def arguments(self, data: Path, out: Path) -> list[str]:
        """Return what the command is given."""
        return ["--data", str(data), "--out", str(out), *self.options]


@dataclass(frozen=True)
class Repeated:
    """Two trainings of one bundle: the manifest's sha256 and files, what differs, what was killed where, seconds."""

    sha256: str
    files: int
    difference: str
    kills: tuple[str, ...]
    seconds: tuple[float, float]

    def line(self, name: str) -> str:
        """Return what is printed of it."""
        told = f"DIFFERS: {self.difference}" if self.difference else f"bytes equal ({self.files} files)"
        one, two = self.seconds
        return f"{name} {self.sha256} {told}; killed after {', '.join(self.kills)}; {one:.0f} s and {two:.0f} s"


def main(arguments: Sequence[str] | None = None) -> int:
    """Train everything that is asked for twice; return the exit status."""
    chosen = _parser().parse_args(arguments)
    alike = True
    for training in trainings(chosen):
        try:
            found = repeated(training, chosen.data.resolve(), chosen.out.resolve() / training.name)
        except (Failure, BundleRefused) as failure:
            alike = False
            print(f"{training.name} FAILED: {failure}", flush=True)
            continue
        alike &= not found.difference
        print(found.line(training.name), flush=True)
    return 0 if alike else 1


def trainings(chosen: argparse.Namespace) -> list[Training]:
    """Return the commands that make the chosen models."""
    same = ("--seed", str(chosen.seed), "--threads", str(chosen.threads))
    made = []
    for model in chosen.models.split(","):
        if model == "swing":
            embedded = [("--encoder", chosen.encoder), ("--embeddings", chosen.embeddings)]
            given = [str(part) for name, value in embedded if value for part in (name, value.resolve())]
            one = Training("swing-1d", "serving.training.swing", (*same, *given, *shlex.split(chosen.swing)))
        elif model == "kronos":
            named = ("--name", "kronos-compact")
            one = Training(named[1], "serving.kronos.training", (*same, *named, *shlex.split(chosen.kronos)))
        else:
            which = ("--models", model, "--timeframes", chosen.timeframe)
            name = f"{model}-{chosen.timeframe}"
            one = Training(name, "serving.training", (*same, *which, *shlex.split(chosen.intraday)))
        made.append(one)
    return made


def repeated(training: Training, data: Path, out: Path) -> Repeated:
    """Train twice below ``out``, which must not be there yet; what either says is kept in a ``.log`` there.

    Raises
    ------
    Failure
        If a training fails, was not killed before it ended, or began anew after it was.
    BundleRefused
        If a manifest is not that of the files beside it.
    """
    if out.exists():
        raise Failure(f"{out} is there already")
    first, second = out / "undisturbed", out / "elsewhere" / "killed"
    second.mkdir(parents=True)
    (linked := out / "elsewhere" / "data").symlink_to(data)
    began = time.monotonic()
    _end(training, data, first, _ONE_WAY)
    between = time.monotonic()
    kills = _end(training, linked, second, _ANOTHER, kill=True)
    seconds = between - began, time.monotonic() - between
    files = verified_files(first / training.name, required=())
    digest = hashlib.sha256((first / training.name / MANIFEST).read_bytes()).hexdigest()
    differs = difference(first / training.name, second / training.name)
    return Repeated(digest, len(files), differs, tuple(kills), seconds)


def difference(first: Path, second: Path) -> str:
    """Return each file of two bundles that differs and the first field or byte that does; "" for equal manifests.

    Raises
    ------
    BundleRefused
        If a manifest is not that of the files beside it.
    """
    one, two = verified_files(first, required=()), verified_files(second, required=())
    if (first / MANIFEST).read_bytes() == (second / MANIFEST).read_bytes():
        return ""
    found = []
    for name in sorted(one.keys() | two.keys()):
        if name not in one or name not in two:
            found.append(f"{name} is in one of them alone")
        elif one[name] != two[name]:
            found.append(f"{name} {_first(one[name], two[name])}")
    return (
        ", ".join(found) or f"{MANIFEST} {_first_byte(*((side / MANIFEST).read_bytes() for side in (first, second)))}"
    )


def _end(training: Training, data: Path, out: Path, variables: Mapping[str, str], *, kill: bool = False) -> list[str]:
    """Let a training run to its end, through every kill where it is to be killed; return where it was.

    It is killed once in each network: in the second half of its epochs or steps, half of an epoch into the next one.
    """
    killed: dict[str, tuple[int, str]] = {}
    while True:
        with _started(training, data, out, variables) as child:
            stopped = _followed(child, killed, out.with_suffix(".log"), kill=kill)
        if not stopped:
            break
    if kill and not killed:
        raise Failure("it was not killed: it has to have two epochs, or twice as many steps as it tells of at once")
    return [said for _, said in killed.values()]


@contextmanager
def _started(
    training: Training, data: Path, out: Path, variables: Mapping[str, str]
) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", training.module, *training.arguments(data, out)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", **variables}
    out.mkdir(parents=True, exist_ok=True)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, env=environment
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def _followed(child: subprocess.Popen[str], killed: dict[str, tuple[int, str]], log: Path, *, kill: bool) -> bool:
    """Write down what a training says until it ends or is killed; return whether it was killed."""
    before, said, heard = time.monotonic(), "", set()
    with log.open("a", encoding="utf-8") as kept:
        for said in child.stdout or ():
            kept.write(said)
            kept.flush()
            pause, before = (time.monotonic() - before) / 2, time.monotonic()
            if (told := _PROGRESS.match(said)) is None:
                continue
            what, done, whole = told["what"], int(told["done"]), int(told["all"])
            if what in killed and what not in heard and done <= killed[what][0]:
                raise Failure(f"killed after {killed[what][1]} it began anew and said {told[0]!r}")
            heard.add(what)
            if kill and what not in killed and whole / 2 <= done < whole:
                time.sleep(pause)
                child.send_signal(signal.SIGKILL)
                if child.wait() != -signal.SIGKILL:
                    raise Failure(f"it ended before it could be killed after {told[0]!r}")
                killed[what] = done, told[0]
                kept.write("--- killed\n")
                return True
    if status := child.wait():
        raise Failure(f"it ended with {status}: {said.strip()}")
    return False


def _first(one: bytes, two: bytes) -> str:
    try:
        return _first_field(json.loads(one), json.loads(two)) or _first_byte(one, two)
    except ValueError:
        return _first_byte(one, two)


def _first_byte(one: bytes, two: bytes) -> str:
    shorter = min(len(one), len(two))
    place = next((place for place in range(shorter) if one[place] != two[place]), shorter)
    return f"byte {place} of {len(one)} and {len(two)}"


def _first_field(one: Any, two: Any, path: str = "") -> str:
    """Return the first field that differs and both values, "" where none does."""
    if isinstance(one, dict) and isinstance(two, dict):
        names = sorted(one.keys() | two.keys(), key=lambda name: (name in _AFTER_THE_REST, name))
        steps = ((f"{path}.{name}".lstrip("."), one.get(name), two.get(name)) for name in names)
    elif isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        steps = ((f"{path}[{place}]", *pair) for place, pair in enumerate(zip(one, two, strict=True)))
    else:
        return "" if one == two else f"{path}: {_short(one)} against {_short(two)}"
    return next((found for step, left, right in steps if (found := _first_field(left, right, step))), "")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m infra.proofs.repeat", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with instruments.toml and Parquet bars")
    parser.add_argument("--out", type=Path, required=True, help="folder of both bundles of each training, and its logs")
    parser.add_argument(
        "--models",
        default="lstm,gru,cnn,transformer,patchtst,swing,kronos",
        help="swing: the daily bundle, kronos: the encoder (default: %(default)s)",
    )
    parser.add_argument("--timeframe", default="15m", help="of the intraday models (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=20240, help="of every training (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of every training (default: %(default)s)")
    parser.add_argument("--encoder", type=Path, help="bundle folder of the encoder of swing")
    parser.add_argument("--embeddings", type=Path, help="folder that keeps the embeddings of swing between runs")
    for command in ("intraday", "swing", "kronos"):
        parser.add_argument(f"--{command}", default="", help=f"further options of the {command} training")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
