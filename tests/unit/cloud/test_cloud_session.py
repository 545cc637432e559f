"""The factory of clients: one for each service and time-out, made without searching the disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from fusiontrade.cloud.session import client, forget_clients


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    forget_clients()
    yield
    forget_clients()


def test_the_first_client_lists_a_handful_of_folders_and_not_every_service(monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[object] = []
    for name in ("listdir", "scandir"):
        plain = getattr(os, name)
        monkeypatch.setattr(os, name, lambda path=".", plain=plain: (listed.append(path), plain(path))[1])
    made: Any = client("dynamodb")
    assert made.meta.service_model.service_name == "dynamodb"
    assert len(listed) < 20


def test_a_service_that_does_not_exist_is_said_to_be_unknown() -> None:
    from botocore.exceptions import UnknownServiceError

    with pytest.raises(UnknownServiceError, match="dynamodbb"):
        client("dynamodbb")


def test_no_call_waits_for_long() -> None:
    config = client("dynamodb").meta.config
    assert (config.connect_timeout, config.read_timeout) == (1.0, 3.0)
    assert config.retries == {"mode": "standard", "total_max_attempts": 2}
    assert client("sagemaker-runtime", read_seconds=8.0, attempts=1).meta.config.retries["total_max_attempts"] == 1


def test_a_client_is_made_once_for_each_service_and_time_out() -> None:
    assert client("s3") is client("s3")
    assert client("s3") is not client("s3", read_seconds=9.0)
