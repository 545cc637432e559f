"""Each role against what its function really asks for, while every route, queue and schedule is used once.

The functions run as on a laptop, from the template, with a door before the emulated AWS that writes their calls down;
what a call needs is looked for in the role that the template gives the function. A right that is missing would be an
outage in the cloud; one that nothing used must not be there, or be named here with its reason.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import pytest

from fusiontrade.cloud.session import forget_clients
from infra.local import resources
from infra.local.template import Template
from tests.deploy.conftest import ROOT
from tests.deploy.design import RIGHTS
from tests.deploy.reading import as_list
from tests.deploy.walking import Walk, everywhere, starter_with_weights, trained
from tests.support.aws_fixtures import aws, emulator_port  # noqa: F401 - pytest finds fixtures by name
from tests.support.recorded_aws import Call, door_before
from tests.support.sagemaker_server import sagemaker_stub
from tests.support.serving_program import served

pytestmark = pytest.mark.timeout(600)

DONE_BY_OTHERS = {
    "sqs:ReceiveMessage": "Lambda receives for the function",
    "sqs:DeleteMessage": "Lambda deletes what was worked off",
    "sqs:GetQueueAttributes": "Lambda looks at the queue it polls",
    "logs:CreateLogStream": "Lambda writes the function's lines",
    "logs:PutLogEvents": "Lambda writes the function's lines",
    "sagemaker:InvokeEndpoint": "the models' program has a door of its own on a laptop",
    "s3:GetObject": "an invented market is kept in no archive",
    "s3:PutObject": "an invented market is kept in no archive",
    "s3:ListBucket": "an invented market is kept in no archive",
    **{
        f"sagemaker:{does}": "the trainings' program has a door of its own on a laptop"
        for does in (
            "CreateEndpointConfig",
            "CreateModel",
            "CreateTrainingJob",
            "DescribeEndpoint",
            "DescribeEndpointConfig",
            "DescribeModel",
            "DescribeTrainingJob",
            "StopTrainingJob",
            "UpdateEndpoint",
        )
    },
    "iam:PassRole": "SageMaker asks for it where a role is handed over",
    "ses:SendEmail": "mail lies in the outbox here",
    "ses:SendRawEmail": "mail lies in the outbox here",
}

NOT_IN_THIS_WALK = {
    ("Journal", "Journal", "dynamodb:DeleteItem"): "an import that the database fails in the middle is taken back",
    ("Schedule", "DeadLetters", "sqs:SendMessage"): "Lambda sends what was given up, by the function's role",
    ("Verify", "DeadLetters", "sqs:SendMessage"): "Lambda sends what was given up, by the function's role",
}
USES_AWS = sorted(RIGHTS.keys() - {"Docs", "Mail"})


@pytest.fixture(scope="module")
def walked(emulator_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:  # noqa: F811
    folder = tmp_path_factory.mktemp("walk")
    template = Template(ROOT / "template.yaml", {"IntradaySymbols": "EURUSD=X,BTC-USD,ETH-USD"}, stack="privileges")
    leading = {}
    for name in template.of_type("AWS::DynamoDB::Table"):
        properties, physical = template.properties(name), template.physical_name(name)
        leading[physical] = properties["KeySchema"][0]["AttributeName"]
        for index in properties.get("GlobalSecondaryIndexes", []):
            leading[f"{physical}/index/{index['IndexName']}"] = index["KeySchema"][0]["AttributeName"]
    with ExitStack() as ending, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{emulator_port}")
        program = ending.enter_context(served())
        door = ending.enter_context(door_before(emulator_port, leading))
        bundles = folder / "bundles"
        bundles.mkdir()
        starter_with_weights(bundles)
        resources.ensure(template, bundles)
        bucket = template.physical_name("ArtifactsBucket")
        sagemaker = ending.enter_context(sagemaker_stub(train=partial(trained, bucket), looks=0))
        walk = Walk(template, door, folder, program.url, sagemaker.url)
        asyncio.run(everywhere(walk))
        yield walk
    forget_clients()


def statements_of(template: Template, function: str) -> list[dict[str, Any]]:
    (policy,) = template.properties(function.replace("Function", "Role"))["Policies"]
    statements: list[dict[str, Any]] = policy["PolicyDocument"]["Statement"]
    return statements


def allows(statement: dict[str, Any], call: Call) -> bool:
    if call.action not in as_list(statement["Action"]):
        return False
    if not any(fnmatchcase(call.resource, pattern) for pattern in as_list(statement["Resource"])):
        return False
    conditions = statement.get("Condition", {})
    patterns = conditions.get("ForAllValues:StringLike", {}).get("dynamodb:LeadingKeys")
    if patterns and not all(any(fnmatchcase(key, pattern) for pattern in as_list(patterns)) for key in call.keys):
        return False
    context = dict(call.context)
    return all(context.get(name) == value for name, value in conditions.get("StringEquals", {}).items())


TABLE = "arn:aws:dynamodb:us-east-1:000000000000:table/T"
OWN = {
    "Action": ["dynamodb:GetItem"],
    "Resource": TABLE,
    "Condition": {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["USER#*"]}},
}
SEAL = {
    "Action": "kms:Encrypt",
    "Resource": "key",
    "Condition": {"StringEquals": {"kms:EncryptionContext:purpose": "hf_token"}},
}


@pytest.mark.parametrize(
    ("statement", "call", "expected"),
    [
        (OWN, Call("f", "dynamodb:GetItem", TABLE, frozenset({"USER#1"})), True),
        (OWN, Call("f", "dynamodb:PutItem", TABLE, frozenset({"USER#1"})), False),
        (OWN, Call("f", "dynamodb:GetItem", TABLE + "2", frozenset({"USER#1"})), False),
        (OWN, Call("f", "dynamodb:GetItem", TABLE + "/index/i", frozenset({"USER#1"})), False),
        (OWN, Call("f", "dynamodb:GetItem", TABLE, frozenset({"JOB#1"})), False),
        (SEAL, Call("f", "kms:Encrypt", "key", context=(("kms:EncryptionContext:purpose", "hf_token"),)), True),
        (SEAL, Call("f", "kms:Encrypt", "key", context=(("kms:EncryptionContext:purpose", "other"),)), False),
        (SEAL, Call("f", "kms:Encrypt", "key"), False),
    ],
)
def test_call_is_allowed_by_a_statement_that_names_all_of_it(
    statement: dict[str, Any], call: Call, expected: bool
) -> None:
    assert allows(statement, call) is expected


def test_every_operation_of_the_api_was_used(walked: Walk) -> None:
    document = json.loads((ROOT / "functions" / "docs" / "openapi.json").read_text())
    operations = {
        (method.upper(), re.compile(re.sub(r"\{\w+\}", "[^/]+", path) + "$"))
        for path, methods in document["paths"].items()
        for method in methods
    }
    assert [
        (method, path.pattern)
        for method, path in operations
        if not any(method == used and path.match(target) for used, target in walked.called)
    ] == []


def test_every_call_of_a_function_is_allowed_by_its_role(walked: Walk) -> None:
    assert walked.door.unread == set()
    assert {call.caller for call in walked.door.calls} == {f"{name}Function" for name in USES_AWS}
    refused = [
        call
        for call in walked.door.calls
        if not any(allows(statement, call) for statement in statements_of(walked.template, call.caller))
    ]
    assert sorted(refused, key=str) == []


@pytest.mark.parametrize("name", USES_AWS)
def test_every_right_of_a_role_is_used(walked: Walk, name: str) -> None:
    function = f"{name}Function"
    calls = [call for call in walked.door.calls if call.caller == function]
    unused = {
        (name, statement["Sid"], action)
        for statement in statements_of(walked.template, function)
        for action in as_list(statement["Action"])
        if action not in DONE_BY_OTHERS and not any(allows({**statement, "Action": action}, call) for call in calls)
    }
    assert unused == {right for right in NOT_IN_THIS_WALK if right[0] == name}
