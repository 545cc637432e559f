"""The built template on the emulated cloud: what it makes is asserted one by one, CREATE_COMPLETE proves nothing."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from fusiontrade.accounts.admission.tokens import SigningKeys
from fusiontrade.cloud.secrets import Secrets
from fusiontrade.cloud.session import client, forget_clients
from infra import environment
from infra.deploy import ensure_signing_keys, main, outputs_of
from infra.local.template import Template
from tests.deploy.design import INDEXES, QUEUES, RIGHTS, SCHEDULES, STREAMED, TABLES
from tests.deploy.reading import keys_of
from tests.deploy.test_deploy_build import HERE, built, runtime  # noqa: F401 - pytest finds fixtures by name
from tests.support import emulator
from tests.support.aws_fixtures import aws, emulator_port  # noqa: F401

pytestmark = pytest.mark.timeout(600)

STACK = "fusiontrade-test"
TABLE_VARIABLES = {f"{name.removesuffix('Table').upper()}_TABLE": name for name in TABLES}


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


@pytest.mark.parametrize("name", RIGHTS)
def test_deployed_function_has_role_layers_logs_and_variables(
    stack: dict[str, str], template: Template, name: str
) -> None:
    declared = template.functions[f"{name}Function"]
    made: Any = client("lambda").get_function(FunctionName=stack[f"{name}Function"])["Configuration"]
    assert (made["Runtime"], made["Architectures"]) == ("python3.13", [HERE])
    assert (made["Timeout"], made["MemorySize"]) == (declared.timeout, declared.memory)
    assert stack[f"{name}Role"] in made["Role"]
    assert len(made["Layers"]) == len(declared.layers)
    variables = made["Environment"]["Variables"]
    assert variables["STAGE"] == "dev"
    assert set(variables) == set(declared.environment)
    for variable, logical_id in TABLE_VARIABLES.items():
        assert variables.get(variable, stack[logical_id]) == stack[logical_id]
    alias = client("lambda").get_alias(FunctionName=stack[f"{name}Function"], Name="live")
    assert alias["FunctionVersion"] == "1"


def test_deployed_alarms_are_there_for_each_function_and_queue(stack: dict[str, str]) -> None:
    alarms: Any = client("cloudwatch").describe_alarms()["MetricAlarms"]

    def watched(dimension: str, value: str) -> set[str]:
        wanted = {"Name": dimension, "Value": value}
        return {alarm["MetricName"] for alarm in alarms if wanted in alarm.get("Dimensions", [])}

    for name in RIGHTS:
        assert watched("FunctionName", stack[f"{name}Function"]) == {"Errors", "Throttles", "Duration"}, name
    for name in (*QUEUES, "Schedule"):
        dead = stack[f"{name}DeadLetters"].rpartition("/")[2]
        assert watched("QueueName", dead) == {"ApproximateNumberOfMessagesVisible"}, name
    for name in QUEUES:
        queue = stack[f"{name}Queue"].rpartition("/")[2]
        assert watched("QueueName", queue) == {"ApproximateAgeOfOldestMessage"}, name


def test_deployed_queues_give_up_to_their_dead_letters_and_reach_their_workers(stack: dict[str, str]) -> None:
    mappings: Any = client("lambda").list_event_source_mappings()["EventSourceMappings"]
    readers = {mapping["EventSourceArn"]: mapping for mapping in mappings}
    for name, (function, batch_size) in QUEUES.items():
        told: Any = client("sqs").get_queue_attributes(QueueUrl=stack[f"{name}Queue"], AttributeNames=["All"])
        attributes = told["Attributes"]
        redrive = json.loads(attributes["RedrivePolicy"])
        assert redrive["deadLetterTargetArn"].endswith(stack[f"{name}DeadLetters"].rpartition("/")[2])
        assert int(redrive["maxReceiveCount"]) == 5
        mapping = readers[attributes["QueueArn"]]
        assert stack[function] in mapping["FunctionArn"]
        assert mapping["FunctionArn"].endswith(":live")
        assert mapping["BatchSize"] == batch_size
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def test_deployed_schedules_call_the_live_functions_with_their_tasks(stack: dict[str, str]) -> None:
    scheduler: Any = client("scheduler")
    made = {}
    for summary in scheduler.list_schedules()["Schedules"]:
        schedule = scheduler.get_schedule(Name=summary["Name"])
        target = schedule["Target"]
        assert target["Arn"].endswith(":live")
        function = next(name for name, _ in SCHEDULES if stack[name] in target["Arn"])
        made[function, json.loads(target["Input"])["task"]] = schedule["ScheduleExpression"]
        assert stack["SchedulerRole"] in target["RoleArn"]
        assert target["DeadLetterConfig"]["Arn"].endswith(stack["ScheduleDeadLetters"].rpartition("/")[2])
    assert made == SCHEDULES


def test_deployed_key_seals_and_the_derivation_secret_was_generated(stack: dict[str, str]) -> None:
    variables: Any = client("lambda").get_function(FunctionName=stack["AuthFunction"])["Configuration"]["Environment"]
    arn = variables["Variables"]["ACCOUNTS_KEY_ARN"]
    context = {"user_id": "u", "purpose": "hf_token"}
    sealed = client("kms").encrypt(KeyId=arn, Plaintext=b"x", EncryptionContext=context)["CiphertextBlob"]
    assert client("kms").decrypt(KeyId=arn, CiphertextBlob=sealed, EncryptionContext=context)["Plaintext"] == b"x"
    secret = Secrets().read(variables["Variables"]["DERIVATION_SECRET_ARN"])
    assert len(secret) == 64


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
