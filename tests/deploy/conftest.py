"""The template as it is written, and as CloudFormation gets it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from infra import environment
from infra.local.template import Template, read_document

ROOT = Path(__file__).resolve().parents[2]
NESTED = sorted((ROOT / "infra").glob("*.yaml"))
NO_ACCOUNT = {
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_DEFAULT_REGION": "us-east-1",
    "SAM_CLI_TELEMETRY": "0",
}

Resources = dict[str, dict[str, Any]]


def sam_tool(*command: str) -> str:
    """Run a program of the environment `sam` from the repository's root and return what it printed."""
    program = environment.folder("sam") / "bin" / command[0]
    if not program.exists():
        pytest.skip("the environment 'sam' is absent: run make test")
    told = subprocess.run(
        [program, *command[1:]], cwd=ROOT, env={**os.environ, **NO_ACCOUNT}, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stdout + told.stderr
    return told.stdout


def transformed(**parameters: str) -> Resources:
    given = [f"{name}={value}" for name, value in parameters.items()]
    printed = sam_tool("python", str(ROOT / "tests/support/sam_transform.py"), "template.yaml", *given)
    resources: Resources = json.loads(printed)["Resources"]
    return resources


@pytest.fixture(scope="session")
def template() -> Template:
    return Template(ROOT / "template.yaml")


@pytest.fixture(scope="session")
def deployed() -> Resources:
    """Every resource that CloudFormation makes of the root template with its defaults."""
    return transformed()


@pytest.fixture(scope="session")
def deployed_with_canary() -> Resources:
    return transformed(Canary="true")


@pytest.fixture(scope="session")
def everything(deployed_with_canary: Resources) -> Resources:
    """The resources of the root and of the nested stacks; those of a nested stack are called file:name."""
    inner = {f"{path.name}:{name}": r for path in NESTED for name, r in read_document(path)["Resources"].items()}
    return {**deployed_with_canary, **inner}


@pytest.fixture(scope="session")
def functions(deployed: Resources) -> Resources:
    return {n: r for n, r in deployed.items() if r["Type"] == "AWS::Lambda::Function"}
