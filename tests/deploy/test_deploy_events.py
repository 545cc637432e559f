"""Queues and schedules, asserted on what CloudFormation gets: nothing is lost in silence."""

from __future__ import annotations

import importlib
import json
import tomllib

import pytest

from infra.local.expressions import parse
from infra.local.template import Template, read_document
from tests.deploy.conftest import ROOT, Resources
from tests.deploy.design import MOST_AT_ONCE, QUEUES, RESERVED, SCHEDULES
from tests.deploy.reading import of_type


def test_queue_is_encrypted_and_gives_up_to_dead_letters_that_are_kept(deployed: Resources) -> None:
    queues = of_type(deployed, "AWS::SQS::Queue")
    assert set(queues) == {*(f"{n}Queue" for n in QUEUES), *(f"{n}DeadLetters" for n in (*QUEUES, "Schedule"))}
    for name, queue in queues.items():
        assert queue["Properties"]["SqsManagedSseEnabled"] is True, name
        redrive = queue["Properties"].get("RedrivePolicy")
        if name.endswith("Queue"):
            dead = name.replace("Queue", "DeadLetters")
            assert redrive == {"deadLetterTargetArn": {"Fn::GetAtt": [dead, "Arn"]}, "maxReceiveCount": 5}
        else:
            assert redrive is None
            assert queue["Properties"]["MessageRetentionPeriod"] == 14 * 86_400
            assert (queue["DeletionPolicy"], queue["UpdateReplacePolicy"]) == ("Retain", "Retain")


def test_queue_is_watched_for_what_was_given_up_and_for_lag(deployed: Resources) -> None:
    for name in (*QUEUES, "Schedule"):
        dead = f"{name}DeadLetters"
        stack = deployed["ScheduleDeadLettersAlarms" if name == "Schedule" else f"{name}QueueAlarms"]["Properties"]
        assert stack["TemplateURL"] == "infra/queue_alarms.yaml"
        assert stack["Parameters"]["DeadLetters"] == {"Fn::GetAtt": [dead, "QueueName"]}
        queue = stack["Parameters"].get("Queue")
        assert queue == (None if name == "Schedule" else {"Fn::GetAtt": [f"{name}Queue", "QueueName"]})
    alarms = of_type(read_document(ROOT / "infra" / "queue_alarms.yaml")["Resources"], "AWS::CloudWatch::Alarm")
    watched = {name: (a["Properties"]["MetricName"], a["Properties"]["Threshold"]) for name, a in alarms.items()}
    assert watched == {
        "GivenUp": ("ApproximateNumberOfMessagesVisible", 0),
        "Waiting": ("ApproximateAgeOfOldestMessage", {"Ref": "LagSeconds"}),
    }


def test_worker_tells_which_messages_failed_and_is_given_time_to_finish(deployed: Resources) -> None:
    sources = of_type(deployed, "AWS::Lambda::EventSourceMapping")
    told = {}
    for source in sources.values():
        properties = source["Properties"]
        assert properties["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        queue = properties["EventSourceArn"]["Fn::GetAtt"][0]
        most = MOST_AT_ONCE[queue.removesuffix("Queue")]
        assert properties["ScalingConfig"] == {"MaximumConcurrency": {"Ref": most}}
        function = properties["FunctionName"]["Ref"].removesuffix("Aliaslive")
        timeout = deployed[function]["Properties"]["Timeout"]
        assert deployed[queue]["Properties"]["VisibilityTimeout"] >= 6 * timeout, queue
        told[queue] = (function, properties["BatchSize"])
    assert told == {f"{name}Queue": reader for name, reader in QUEUES.items()}


@pytest.mark.parametrize("name", QUEUES)
def test_batch_is_done_in_time_even_where_every_message_takes_as_long_as_it_may(
    template: Template, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAGE", "local")
    reader, batch_size = QUEUES[name]
    function = template.functions[reader]
    worker = importlib.import_module(f"functions.{function.title}.app")
    assert batch_size * worker.SECONDS_FOR_ONE <= function.timeout


def test_as_much_concurrency_is_reserved_as_the_queues_of_a_worker_use(
    functions: Resources, template: Template
) -> None:
    reserved = {
        name: function["Properties"]["ReservedConcurrentExecutions"]["Ref"]
        for name, function in functions.items()
        if "ReservedConcurrentExecutions" in function["Properties"]
    }
    assert reserved == RESERVED
    # a poll beyond what is reserved is throttled, and counts as a delivery of its messages
    stages = tomllib.loads((ROOT / "samconfig.toml").read_text())
    for stage in ("dev", "staging", "prod"):
        chosen = dict(each.split("=", 1) for each in stages[stage]["deploy"]["parameters"]["parameter_overrides"])
        values = {**template.parameters, **chosen}
        for function, limit in RESERVED.items():
            used = [int(values[MOST_AT_ONCE[queue]]) for queue, (reader, _) in QUEUES.items() if reader == function]
            assert sum(used) <= int(values[limit]), (stage, function)


def test_schedules_are_those_of_the_design_and_none_is_lost(deployed: Resources) -> None:
    made = {}
    for schedule in of_type(deployed, "AWS::Scheduler::Schedule").values():
        properties, target = schedule["Properties"], schedule["Properties"]["Target"]
        # a name of its own would be the same in every stage of one account
        assert "Name" not in properties
        assert properties["FlexibleTimeWindow"] == {"Mode": "OFF"}
        assert target["RoleArn"] == {"Fn::GetAtt": ["SchedulerRole", "Arn"]}
        assert target["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": ["ScheduleDeadLetters", "Arn"]}}
        given = json.loads(target["Input"])
        assert given["scheduled_at"] == "<aws.scheduler.scheduled-time>"
        made[target["Arn"]["Ref"].removesuffix("Aliaslive"), given["task"]] = properties["ScheduleExpression"]
        parse(properties["ScheduleExpression"])
    assert made == SCHEDULES


def test_scheduled_run_that_fails_is_repeated_and_then_kept(deployed: Resources) -> None:
    invoked = of_type(deployed, "AWS::Lambda::EventInvokeConfig")
    functions = {config["Properties"]["FunctionName"]["Ref"] for config in invoked.values()}
    assert functions == {name for name, _ in SCHEDULES}
    for config in invoked.values():
        assert config["Properties"]["MaximumRetryAttempts"] == 2
        assert config["Properties"]["Qualifier"] == "live"
        destination = config["Properties"]["DestinationConfig"]["OnFailure"]["Destination"]
        assert destination == {"Fn::GetAtt": ["ScheduleDeadLetters", "Arn"]}
