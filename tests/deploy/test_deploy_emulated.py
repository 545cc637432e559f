"""The built template on the emulated cloud: what it makes is asserted one by one, CREATE_COMPLETE proves nothing."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from fusiontrade.accounts.tokens import SigningKeys
from fusiontrade.cloud.secrets import Secrets
from fusiontrade.cloud.session import client, forget_clients
from infra import environment
from infra.deploy import ensure_signing_keys, main, outputs_of
from infra.local.template import Template
from tests.deploy.design import INDEXES, STREAMED, TABLES
from tests.deploy.reading import keys_of
from tests.deploy.test_deploy_build import HERE, built, runtime  # noqa: F401 - pytest finds fixtures by name
from tests.support import emulator
from tests.support.aws_fixtures import aws, emulator_port  # noqa: F401

pytestmark = pytest.mark.timeout(600)

STACK = "fusiontrade-test"


@pytest.fixture(scope="module")
def deployed_once(built: Template, emulator_port: int) -> None:  # noqa: F811
    """The stack, deployed by SAM as a person would."""
    variables = {**os.environ, **emulator.aws_environment(emulator_port), "SAM_CLI_TELEMETRY": "0"}
    command = [
        environment.folder("sam") / "bin" / "sam", "deploy", "--template", built.path, "--config-env", "none",
        "--stack-name", STACK, "--resolve-s3", "--capabilities", "CAPABILITY_IAM", "--no-confirm-changeset",
        "--parameter-overrides", f"Arch={HERE}", "Stage=dev", "LogRetentionDays=14", "AlarmEmail=a@example.com",
    ]  # fmt: skip
    told = subprocess.run(command, env=variables, cwd=built.path.parent, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout[-3000:] + told.stderr[-3000:]


@pytest.fixture
def stack(deployed_once: None, aws: None) -> Iterator[dict[str, str]]:  # noqa: F811
    """The physical ids of the deployed stack, by logical id."""
    pages = client("cloudformation", read_seconds=10.0).get_paginator("list_stack_resources")
    yield {
        resource["LogicalResourceId"]: resource["PhysicalResourceId"]
        for page in pages.paginate(StackName=STACK)
        for resource in page["StackResourceSummaries"]
    }
    forget_clients()


def test_deployed_tables_have_their_keys_indexes_and_streams(stack: dict[str, str]) -> None:
    for name, keys in TABLES.items():
        table: Any = client("dynamodb").describe_table(TableName=stack[name])["Table"]
        assert keys_of(table) == keys
        indexes = {(name, index["IndexName"]): keys_of(index) for index in table.get("GlobalSecondaryIndexes") or []}
        assert indexes == {which: there for which, there in INDEXES.items() if which[0] == name}
        assert bool(table.get("StreamSpecification", {}).get("StreamEnabled")) == (name in STREAMED)


def test_deployed_functions_have_role_layers_logs_and_variables(stack: dict[str, str]) -> None:
    for name, layers in {"AuthFunction": 2, "FusionFunction": 3, "DocsFunction": 2}.items():
        made: Any = client("lambda").get_function(FunctionName=stack[name])["Configuration"]
        assert (made["Runtime"], made["Architectures"]) == ("python3.13", [HERE])
        assert stack[name.replace("Function", "Role")] in made["Role"]
        assert len(made["Layers"]) == layers
        assert made["Environment"]["Variables"]["STAGE"] == "dev"
        alias = client("lambda").get_alias(FunctionName=stack[name], Name="live")
        assert alias["FunctionVersion"] == "1"
    variables = client("lambda").get_function(FunctionName=stack["AuthFunction"])["Configuration"]["Environment"]
    assert variables["Variables"]["ACCOUNTS_TABLE"] == stack["AccountsTable"]
    variables = client("lambda").get_function(FunctionName=stack["FusionFunction"])["Configuration"]["Environment"]
    assert variables["Variables"]["MODELS_TABLE"] == stack["ModelsTable"]


def test_deployed_alarms_are_there_for_each_function(stack: dict[str, str]) -> None:
    alarms: Any = client("cloudwatch").describe_alarms()["MetricAlarms"]
    for name in ("AuthFunction", "FusionFunction", "DocsFunction"):
        watched = {
            alarm["MetricName"]
            for alarm in alarms
            if {"Name": "FunctionName", "Value": stack[name]} in alarm.get("Dimensions", [])
        }
        assert watched == {"Errors", "Throttles", "Duration"}, name


def test_deployed_roles_allow_only_their_own_table(stack: dict[str, str]) -> None:
    policy: Any = client("iam").get_role_policy(RoleName=stack["AuthRole"], PolicyName="auth")["PolicyDocument"]
    document = policy if isinstance(policy, dict) else json.loads(policy)
    resources = {s["Sid"]: s["Resource"] for s in document["Statement"]}
    assert resources["Accounts"].endswith(f":table/{stack['AccountsTable']}")
    assert resources["Logs"].startswith("arn:aws:logs:us-east-1:")


def test_first_keys_are_written_once_and_then_left_alone(stack: dict[str, str]) -> None:
    arn = outputs_of(STACK)["SigningKeysArn"]
    assert ensure_signing_keys(arn) is True
    first = Secrets().read(arn)
    assert len(SigningKeys.from_json(first).keys) == 1
    assert ensure_signing_keys(arn) is False
    assert Secrets().read(arn) == first


def test_keys_are_written_into_a_secret_that_never_had_a_value(aws: None) -> None:  # noqa: F811
    arn = client("secretsmanager").create_secret(Name="never-written")["ARN"]
    assert ensure_signing_keys(arn) is True
    assert len(SigningKeys.from_json(Secrets().read(arn)).keys) == 1


def test_secret_that_does_not_exist_is_an_error_and_not_made(aws: None) -> None:  # noqa: F811
    with pytest.raises(client("secretsmanager").exceptions.ResourceNotFoundException):
        ensure_signing_keys("arn:aws:secretsmanager:us-east-1:000000000000:secret:nowhere-AAAAAA")


@pytest.mark.parametrize("arguments", [[], ["default"], ["production"]])
def test_unknown_stage_is_refused_with_the_known_ones(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "dev|staging|prod" in capsys.readouterr().err
