"""The AWS emulator for tests: one process on loopback, nothing saved, tables as `template.yaml` declares them."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from infra.environment import interpreter

ROOT = Path(__file__).resolve().parents[2]
PYTHON = interpreter("emulator")
SECONDS_TO_START = 30.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def aws_environment(port: int) -> dict[str, str]:
    """What a client of the emulator needs in its environment."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@contextmanager
def running(port: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The emulator, answering on ``port``; stopped at the end."""
    if not PYTHON.exists():
        pytest.skip("the emulator's environment is absent: run make test")
    environment = {
        **os.environ,
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "PERSIST_STATE": "0",
        "S3_PERSIST": "0",
        "STATE_DIR": str(folder / "state"),
        "S3_DATA_DIR": str(folder / "s3"),
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "LOG_LEVEL": "WARNING",
    }
    with (folder / "emulator.log").open("ab") as log:
        process = subprocess.Popen(
            [str(PYTHON), "-c", "import ministack.app as emulator; emulator.main()"],
            env=environment,
            cwd=folder,
            stdout=log,
            stderr=log,
        )
        try:
            _wait_for(port, process)
            yield process
        finally:
            process.terminate()
            process.wait(timeout=20)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline:
        assert process.poll() is None, "the emulator ended while starting; see emulator.log"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/_ministack/health", timeout=1):
                return
        except urllib.error.HTTPError:
            return  # it answers, whatever it says to this path
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"the emulator did not answer within {SECONDS_TO_START} s")


def make_table(logical_id: str, name: str) -> None:
    """Create a table, whose name nobody else uses, with the keys and indexes that the template gives it."""
    from fusiontrade.cloud.session import client

    declared = _resources()[logical_id]["Properties"]
    wanted = ("AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes", "BillingMode")
    dynamodb = client("dynamodb")
    with suppress(dynamodb.exceptions.ResourceInUseException):  # made by a first try whose answer came too late
        dynamodb.create_table(TableName=name, **{key: declared[key] for key in wanted if key in declared})


@cache
def _resources() -> dict[str, Any]:
    """What the template declares; read once, since reading takes longer than making a table."""
    from infra.local.template import Template

    return Template(ROOT / "template.yaml").resources
