"""The project's virtual environments, made when absent and left alone when current.

Runs on a bare Python 3.11-3.13 with the standard library alone: ``python3 infra/environment.py NAME [NAME ...]``
makes each named environment under ``.venv/NAME`` from ``infra/locks/NAME.txt`` (hash-pinned, one lock each), side by
side, and prints nothing when it is already current. What an environment was made from is recorded in it, written last
(``.locked``, ``.project``): a half-made one is made again. ``FUSIONTRADE_VENVS`` moves the folder ``.venv``.

uv, itself from a lock, installs in a sixth of pip's time; where it cannot (it does not read pip's settings, a mirror
for instance) pip does.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ROOT / "infra" / "locks"
OLDEST, NEWEST = (3, 11), (3, 13)
TORCH = "torch==2.13.0"  # first and alone: any looser request brings gigabytes of CUDA packages
_UV_IS_MADE = threading.Lock()


@dataclass(frozen=True)
class Environment:
    """How one environment is made: whether it holds this project, needs torch, or runs another interpreter."""

    project: bool = True
    torch: bool = False
    python: tuple[int, int] | None = None


ENVIRONMENTS = {
    "uv": Environment(project=False),
    "run": Environment(),
    "train": Environment(torch=True),
    "dev": Environment(torch=True),
    "emulator": Environment(project=False),
    "sam": Environment(project=False),
    "lambda": Environment(python=(3, 13)),
    "bench": Environment(project=False),
}


class EnvironmentFailure(Exception):
    """An environment could not be made; the message says what to do."""


def folder(name: str) -> Path:
    """Return where the environment ``name`` lives, made or not."""
    return Path(os.environ.get("FUSIONTRADE_VENVS", ROOT / ".venv")) / name


def interpreter(name: str) -> Path:
    """Return the Python of the environment ``name``."""
    return folder(name) / "bin" / "python"


def find_python(version: tuple[int, int]) -> Path | None:
    """Return an interpreter of exactly ``version`` (major, minor), or None: PATH first, then pyenv is asked."""
    if sys.version_info[:2] == version:
        return Path(sys.executable)
    name = f"python{version[0]}.{version[1]}"
    candidates = [shutil.which(name)]
    if pyenv := shutil.which("pyenv"):
        listed = subprocess.run([pyenv, "versions", "--bare"], capture_output=True, text=True, check=False).stdout
        home = subprocess.run([pyenv, "root"], capture_output=True, text=True, check=False).stdout.strip()
        wanted = f"{version[0]}.{version[1]}."
        candidates += [f"{home}/versions/{line}/bin/{name}" for line in listed.split() if line.startswith(wanted)]
    return next((Path(c) for c in candidates if c and _answers(Path(c), version)), None)


def _answers(python: Path, version: tuple[int, int]) -> bool:
    """Tell whether ``python`` really runs and is of ``version`` (a shim may exist and refuse to)."""
    probe = "import sys, venv; print(*sys.version_info[:2])"
    try:
        told = subprocess.run([python, "-c", probe], capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return told.returncode == 0 and told.stdout.split() == [str(part) for part in version]


def ensure(name: str) -> Path:
    """Make the environment ``name`` if it is absent or out of date and return its Python.

    Raises
    ------
    EnvironmentFailure
        If the interpreter it needs is missing or an installation fails.
    """
    wanted = ENVIRONMENTS[name]
    python = find_python(wanted.python) if wanted.python else Path(sys.executable)
    if python is None:
        raise EnvironmentFailure(f"environment '{name}' needs Python {wanted.python}: install it, or put it on PATH")
    if not wanted.python and not OLDEST <= sys.version_info[:2] <= NEWEST:
        raise EnvironmentFailure(f"Python 3.11 to 3.13 is needed, this is {sys.version.split()[0]}: use python3.11")
    locked, project = folder(name) / ".locked", folder(name) / ".project"
    if not _current(locked, _locked(name, python)):
        started = time.monotonic()
        print(f"making the environment '{name}' (once) ...", file=sys.stderr, flush=True)
        shutil.rmtree(folder(name), ignore_errors=True)
        _call([str(python), "-m", "venv", str(folder(name))])
        _install_locked(name, wanted)
        locked.write_text(_locked(name, python))
        print(f"made '{name}' in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    if wanted.project and not _current(project, _project()):
        _call([*_pip(name), "--no-deps", "--no-build-isolation", "--editable", str(ROOT)])
        project.write_text(_project())
    return interpreter(name)


def _pip(name: str) -> list[str]:
    return [str(interpreter(name)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]


def _install_locked(name: str, wanted: Environment) -> None:
    """Install the lock as it stands: it is complete, so nothing is resolved (``--no-deps``) and nothing can drift."""
    if wanted.torch:
        _call([*_pip(name), "--no-compile", TORCH])  # by pip: its settings may name a build without CUDA
    pinned = ["--no-deps", "--require-hashes", "-r", str(LOCKS / f"{name}.txt")]
    if name != "uv" and (uv := _uv()) is not None:
        compiled = ["--compile-bytecode"] if name == "run" else []
        command = [str(uv), "pip", "install", "--quiet", "--python", str(interpreter(name)), *compiled, *pinned]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return
    _call([*_pip(name), *pinned])


def _uv() -> Path | None:
    """Return the pinned uv, or None where it cannot be had."""
    with _UV_IS_MADE:
        try:
            return ensure("uv").with_name("uv")
        except EnvironmentFailure:
            return None


def _current(stamp: Path, fingerprint: str) -> bool:
    return stamp.exists() and stamp.read_text() == fingerprint


def _locked(name: str, python: Path) -> str:
    told = subprocess.run([python, "-V"], capture_output=True, text=True, check=True).stdout
    parts = [(LOCKS / f"{name}.txt").read_bytes(), told.encode(), str(folder(name)).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _project() -> str:
    return hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()


def _call(command: list[str]) -> None:
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    if told.returncode:
        raise EnvironmentFailure(f"{' '.join(command)}\nended with {told.returncode}:\n{told.stderr.strip()[-4000:]}")


def main(names: list[str]) -> int:
    """Make each named environment; return the exit status."""
    unknown = [name for name in names if name not in ENVIRONMENTS]
    if unknown or not names:
        print(f"usage: environment.py NAME ...   (one of {', '.join(ENVIRONMENTS)})", file=sys.stderr)
        return 2
    with ThreadPoolExecutor(2) as pool:
        made = [pool.submit(ensure, name) for name in names]
    failures = [failure for one in made if (failure := one.exception()) is not None]
    for failure in failures:
        if not isinstance(failure, EnvironmentFailure):
            raise failure
        print(failure, file=sys.stderr)
    return min(1, len(failures))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
