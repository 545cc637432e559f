"""What schedules gave up, fired again: by the operator's command, each event for the function that it was for."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from fusiontrade.cloud.session import client, forget_clients
from infra.redrive import fire_again, main
from tests.support.aws_server import AwsServer

ARN = "arn:aws:lambda:us-east-1:123456789012:function:fusiontrade-prod-Schedule:live"
FAILED = {"task": "intraday", "scheduled_at": "2026-11-22T06:00:00Z"}
UNDELIVERED = {"task": "subscribed", "scheduled_at": "2026-11-22T06:05:00Z"}


@pytest.fixture
def dead(aws: None) -> str:
    return str(client("sqs").create_queue(QueueName=f"dead-{uuid.uuid4().hex[:8]}")["QueueUrl"])


def give_up(dead: str, body: Any, **attributes: str) -> None:
    told: Any = {name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()}
    text = body if isinstance(body, str) else json.dumps(body)
    client("sqs").send_message(QueueUrl=dead, MessageBody=text, MessageAttributes=told)


def waiting(dead: str) -> int:
    names: Any = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    return sum(map(int, client("sqs").get_queue_attributes(QueueUrl=dead, AttributeNames=names)["Attributes"].values()))


def test_events_are_handed_to_their_functions_and_what_is_none_stays(
    dead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_up(dead, {"requestContext": {"functionArn": ARN}, "requestPayload": FAILED, "responsePayload": {}})
    give_up(dead, UNDELIVERED, TARGET_ARN=ARN, ERROR_CODE="ThrottlingException")
    give_up(dead, "no event at all")
    with AwsServer(lambda _: (202, {})).running() as functions:
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", f"http://127.0.0.1:{functions.port}")
        forget_clients()
        assert fire_again(dead, most=3) == (2, 1)
    assert sorted(functions.calls, key=str) == sorted([FAILED, UNDELIVERED], key=str)
    assert {"live" in path and "Schedule" in path for path in functions.paths} == {True}
    assert waiting(dead) == 1


def test_an_event_that_its_function_does_not_take_is_not_lost(dead: str, monkeypatch: pytest.MonkeyPatch) -> None:
    give_up(dead, UNDELIVERED, TARGET_ARN=ARN)
    with AwsServer(lambda _: (403, {"__type": "AccessDeniedException"})).running() as functions:
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", f"http://127.0.0.1:{functions.port}")
        forget_clients()
        with pytest.raises(Exception, match="AccessDenied"):
            fire_again(dead, most=1)
    assert waiting(dead) == 1


def test_on_this_machine_the_next_firing_does_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["schedule"])
    assert ended.value.code == 2
    assert "the next firing" in capsys.readouterr().err
