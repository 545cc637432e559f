"""Fixtures of the emulated cloud: one emulator a session; each test gets tables and secrets of its own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusiontrade.accounts.admission.tokens import SigningKeys
from fusiontrade.cloud.session import client, forget_clients
from fusiontrade.cloud.tables import Table
from fusiontrade.derivation import Derivation
from tests.support import emulator

__all__ = [
    "accounts_key_arn",
    "accounts_table",
    "accounts_table_name",
    "aws",
    "derivation",
    "derivation_secret_arn",
    "emulator_port",
    "mail_queue_url",
    "models_table_name",
    "signing_keys",
    "signing_keys_arn",
]

DERIVATION_SECRET = "the derivation secret of these tests, long enough"


@pytest.fixture(scope="session")
def emulator_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    port = emulator.free_port()
    folder: Path = tmp_path_factory.mktemp("emulator")
    with emulator.running(port, folder):
        with pytest.MonkeyPatch.context() as patched:
            for name, value in emulator.aws_environment(port).items():
                patched.setenv(name, value)
            forget_clients()
            emulator.wake()
        forget_clients()
        yield port


@pytest.fixture
def aws(emulator_port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in emulator.aws_environment(emulator_port).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    forget_clients()
    yield
    forget_clients()


@pytest.fixture
def accounts_table_name(aws: None) -> str:
    name = f"Accounts-{uuid.uuid4().hex[:8]}"
    emulator.make_table("AccountsTable", name)
    return name


@pytest.fixture
def accounts_table(accounts_table_name: str) -> Table:
    return Table(accounts_table_name)


@pytest.fixture
def models_table_name(aws: None) -> str:
    name = f"Models-{uuid.uuid4().hex[:8]}"
    emulator.make_table("ModelsTable", name)
    return name


@pytest.fixture
def signing_keys() -> SigningKeys:
    return SigningKeys.generate()


@pytest.fixture
def signing_keys_arn(aws: None, signing_keys: SigningKeys) -> str:
    name = f"signing-keys-{uuid.uuid4().hex[:8]}"
    return str(
        client("secretsmanager", read_seconds=30.0).create_secret(Name=name, SecretString=signing_keys.to_json())["ARN"]
    )


@pytest.fixture
def derivation() -> Derivation:
    return Derivation(lambda: DERIVATION_SECRET)


@pytest.fixture
def derivation_secret_arn(aws: None) -> str:
    name = f"derivation-{uuid.uuid4().hex[:8]}"
    return str(
        client("secretsmanager", read_seconds=30.0).create_secret(Name=name, SecretString=DERIVATION_SECRET)["ARN"]
    )


@pytest.fixture
def mail_queue_url(aws: None) -> str:
    return str(client("sqs").create_queue(QueueName=f"mail-{uuid.uuid4().hex[:8]}")["QueueUrl"])


@pytest.fixture
def accounts_key_arn(aws: None) -> str:
    return str(client("kms").create_key(Description="accounts")["KeyMetadata"]["Arn"])
