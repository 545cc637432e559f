"""Handlers under Lambda's Python and its real runtime client, seeing the folders they are given and nothing else.

The interpreter runs with ``-S``: no site-packages, so a package that a function imports and no layer brings is an
import error here as it would be in the cloud.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from infra import environment
from infra.local.functions import process_environment
from infra.local.slots import Slot
from infra.local.template import Function, Template
from tests.support.http_api import event

ROOT = Path(__file__).resolve().parents[2]
LAMBDA = (3, 13)
BROUGHT_BY_LAMBDA = (
    "awslambdaric", "simplejson", "snapshot-restore-py",
    "boto3", "botocore", "s3transfer", "jmespath", "python-dateutil", "six", "urllib3",
)  # fmt: skip
SECONDS_TO_START = 60


def lambda_python() -> Path:
    """Python 3.13 itself, not a virtual environment's."""
    python = environment.find_python(LAMBDA)
    if python is None:
        pytest.skip("no Python 3.13 here, the version that Lambda runs")
    return python


def lambda_packages() -> Path:
    """The folder of everything that was installed for Python 3.13."""
    lambda_python()
    folder = environment.folder("lambda") / "lib" / "python3.13" / "site-packages"
    if not folder.is_dir():
        pytest.skip("the environment 'lambda' is absent: run make test")
    return folder


def pinned(requirements: Path) -> dict[str, str]:
    """Package and version of every line of a hash-pinned requirements file."""
    return dict(re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;\\]+)", requirements.read_text(encoding="utf-8"), re.MULTILINE))


def link_packages(names: Sequence[str], target: Path) -> dict[str, str]:
    """Make ``target`` a folder of the named installed packages alone; return the version of each."""
    installed = lambda_packages()
    target.mkdir(parents=True, exist_ok=True)
    versions = {}
    for name in names:
        pattern = re.sub(r"[-_.]+", "[-_.]", name)
        (record,) = [
            folder / "RECORD"
            for folder in installed.glob("*.dist-info")
            if re.fullmatch(rf"{pattern}-[^-]+\.dist-info", folder.name, re.IGNORECASE)
        ]
        versions[name] = record.parent.name.removesuffix(".dist-info").rpartition("-")[2]
        for line in record.read_text(encoding="utf-8").splitlines():
            top = line.split(",")[0].split("/")[0].strip('"')
            if top not in ("..", "__pycache__") and not (target / top).exists():
                (target / top).symlink_to(installed / top)
    return versions


def environment_of(function: Function, paths: Sequence[Path], **overrides: str) -> dict[str, str]:
    """The environment of a function's process; nothing is imported but from ``paths``."""
    given = {
        "STAGE": "local",
        "MARKET_DATA": "simulated",
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "PYTHONDONTWRITEBYTECODE": "1",
        **overrides,
    }
    return process_environment(function, ROOT / "shared", given)


def invoke(function: Function, given: Mapping[str, Any], paths: Sequence[Path], **overrides: str) -> tuple[bool, Any]:
    """Hand one event to a handler in a fresh process; return whether it failed, and what it answered."""
    lines: list[str] = []

    async def scenario() -> tuple[bool, Any]:
        runtime = (str(lambda_python()), "-S", "-m", "awslambdaric")
        slot = Slot(function, environment_of(function, paths, **overrides), lines.append, runtime)
        try:
            async with asyncio.timeout(SECONDS_TO_START):
                failure = await slot.ready
            outcome = failure or await slot.invoke(json.dumps(given).encode())
            return outcome.failed, json.loads(outcome.payload)
        finally:
            slot.kill()
            await slot.ended

    failed, answer = asyncio.run(scenario())
    assert not failed, (answer, lines[-20:])
    return failed, answer


def request(function: Function, method: str, target: str, paths: Sequence[Path], **headers: str) -> Any:
    """Send one HTTP request to a handler; return the gateway's response object."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return invoke(function, event(method, target, headers=named), paths)[1]


def run_python(code: str, function: Function, paths: Sequence[Path], **overrides: str) -> str:
    """Run ``code`` as a function's process would and return what it printed."""
    told = subprocess.run(
        [lambda_python(), "-S", "-c", code], env=environment_of(function, paths, **overrides), cwd=function.code,
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr[-4000:]
    return told.stdout


def function_called(title: str, template: Template) -> Function:
    """The template's function that logs as the service ``title``; also of a built template."""
    return next(f for f in template.functions.values() if f.environment["POWERTOOLS_SERVICE_NAME"] == title)
