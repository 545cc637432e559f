"""One command for the habits: ``python -m infra.check lint``, ``test`` or ``coverage``.

``lint`` runs format, style, types, security and template checks and reports all of them, not only the first that
fails. ``test`` runs the functions' and the product's tests under Lambda's Python 3.13 where an interpreter is
present, then the whole suite; pytest's own summary is the last thing printed and says what was skipped and why.
``coverage`` runs the whole suite once more and tells which lines and branches no test took (half as long again).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from infra import environment

ROOT = Path(__file__).resolve().parents[1]
LAMBDA_TESTS = ["tests/unit", "tests/contract"]
SHIPPED = ["shared", "serving", "functions"]
# a file's tests stay in one worker, so that no stack, emulator or port of theirs is made twice; `loadgroup` would be
# finer, but pytest-xdist 3.8 does not see its marks under pytest 9.2 and shares such tests out without a word
PARALLEL = ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]


def lint() -> int:
    """Run every check that does not execute the product; return 0 only if all of them pass."""
    bin_ = environment.folder("dev") / "bin"
    sam = environment.folder("sam") / "bin"
    checks: list[list[str | Path]] = [
        [bin_ / "ruff", "format", "--check", "."],
        [bin_ / "ruff", "check", "."],
        [bin_ / "mypy"],
        [bin_ / "bandit", "--quiet", "-ll", "--recursive", *SHIPPED],
        [sam / "cfn-lint", "template.yaml", *sorted(str(p) for p in (ROOT / "infra").glob("*.yaml"))],
    ]
    failed = [check for check in checks if _run(check)]
    for check in failed:
        print(f"FAILED: {' '.join(map(str, check))}")
    return len(failed)


def test(arguments: Sequence[str]) -> int:
    """Run the tests under Python 3.13 where it is present and the whole suite; return 0 if all pass."""
    under_lambda = _test_under_lambda()
    return _pytest(*(arguments or PARALLEL)) or under_lambda


def coverage() -> int:
    """Run the whole suite and tell what no test took; return 0 if all pass."""
    return _pytest(*PARALLEL, "--cov", "--cov-report=term:skip-covered")


def _test_under_lambda() -> int:
    """Run the functions' and the product's tests under Lambda's Python; say so where there is none."""
    if environment.find_python((3, 13)) is None:
        print("no Python 3.13 here: the functions' tests run only under this interpreter", flush=True)
        return 0
    try:
        python = environment.ensure("lambda")
    except environment.EnvironmentFailure as failure:
        print(failure, file=sys.stderr)
        return 1
    print(f"functions and shared under {python}:", flush=True)
    return _run([python, "-m", "pytest", "-q", *PARALLEL, *LAMBDA_TESTS])


def _pytest(*arguments: str) -> int:
    return _run([environment.interpreter("dev"), "-m", "pytest", *arguments])


def _run(command: Sequence[str | Path]) -> int:
    return subprocess.run([str(part) for part in command], cwd=ROOT, check=False).returncode


def main(arguments: list[str]) -> int:
    """Dispatch ``lint``, ``coverage`` or ``test [pytest arguments]``."""
    match arguments:
        case ["lint"]:
            return min(1, lint())
        case ["coverage"]:
            return coverage()
        case ["test", *rest]:
            return test(rest)
    print("usage: python -m infra.check lint | coverage | test [pytest arguments]", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
