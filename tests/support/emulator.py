"""The AWS emulator for tests: one process on loopback, nothing saved, tables as `template.yaml` declares them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from infra.emulated import emulated
from infra.environment import ROOT, interpreter
from infra.local.options import free_port

__all__ = ["aws_environment", "free_port", "make_table", "running", "wake"]


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
def running(port: int, folder: Path) -> Iterator[None]:
    """The emulator, answering on ``port``; stopped at the end."""
    if not interpreter("emulator").exists():
        pytest.skip("the emulator's environment is absent: run make test")
    with emulated(folder, port):
        yield


def wake() -> None:
    """Ask each service once, with patience: the first question makes the emulator load it, seconds on a busy machine.

    The clients of the product wait three seconds, twice.
    """
    from fusiontrade.cloud.session import client

    first = {
        "dynamodb": "list_tables",
        "kms": "list_keys",
        "s3": "list_buckets",
        "secretsmanager": "list_secrets",
        "sqs": "list_queues",
    }
    for service, question in first.items():
        getattr(client(service, read_seconds=60.0), question)()


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
