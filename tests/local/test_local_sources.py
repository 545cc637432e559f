"""Which events of a template a laptop serves, and with which settings."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

from infra.local.sources import Sources, sources_of
from infra.local.template import Template

HEAD = """
Parameters: {Most: {Type: Number, Default: 3}}
Resources:
  Queue:
    Type: AWS::SQS::Queue
    Properties: {RedrivePolicy: {deadLetterTargetArn: !GetAtt Dead.Arn, maxReceiveCount: 7}}
  Dead: {Type: AWS::SQS::Queue}
  Work:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: functions/work
      Handler: app.handler
      EventInvokeConfig:
        MaximumRetryAttempts: 1
        DestinationConfig: {OnFailure: {Type: SQS, Destination: !GetAtt Dead.Arn}}
      Events:
"""


def read(folder: Path, events: str) -> Sources:
    path = folder / "template.yaml"
    path.write_text(dedent(HEAD) + "".join(f"        {line}\n" for line in dedent(events).strip().splitlines()))
    return sources_of(Template(path, stack="s"), limit=4)


def test_queue_is_read_with_its_settings_and_lambdas_defaults(tmp_path: Path) -> None:
    sources = read(
        tmp_path,
        """
        Set:
          Type: SQS
          Properties:
            Queue: !GetAtt Queue.Arn
            BatchSize: 2
            MaximumBatchingWindowInSeconds: 5
            FunctionResponseTypes: [ReportBatchItemFailures]
            ScalingConfig: {MaximumConcurrency: !Ref Most}
        Default: {Type: SQS, Properties: {Queue: !GetAtt Dead.Arn}}
        """,
    )
    given, default = sources.queues
    assert (given.function, given.queue) == ("Work", "Queue")
    assert given.url == "https://sqs.us-east-1.amazonaws.com/000000000000/s-Queue"
    assert given.arn == "arn:aws:sqs:us-east-1:000000000000:s-Queue"
    assert (given.batch_size, given.window_seconds, given.limit, given.attempts) == (2, 5, 3, 7)
    assert given.reports_failures
    assert (default.batch_size, default.window_seconds, default.limit, default.attempts) == (10, 0, 4, 0)
    assert not default.reports_failures
    assert sources.unserved == []


def test_schedules_of_both_kinds_are_read_and_those_switched_off_are_not(tmp_path: Path) -> None:
    sources = read(
        tmp_path,
        """
        Daily:
          Type: ScheduleV2
          Properties:
            ScheduleExpression: cron(0 6 * * ? *)
            Input: '{"task": "daily"}'
            RoleArn: !GetAtt Nowhere.Arn
        Rule: {Type: Schedule, Properties: {Schedule: rate(5 minutes)}}
        Off: {Type: ScheduleV2, Properties: {ScheduleExpression: rate(1 day), State: DISABLED}}
        OffToo: {Type: Schedule, Properties: {Schedule: rate(1 day), Enabled: false}}
        """,
    )
    daily, rule = sources.timers
    assert (daily.function, daily.name, daily.text) == ("Work", "Daily", "cron(0 6 * * ? *)")
    assert daily.payload == '{"task": "daily"}'
    assert (daily.retries, daily.dead_letters) == (1, "https://sqs.us-east-1.amazonaws.com/000000000000/s-Dead")
    assert (rule.text, rule.payload) == ("rate(5 minutes)", "{}")
    assert sources.unserved == []


def test_what_cannot_be_served_is_said_with_its_reason(tmp_path: Path) -> None:
    sources = read(
        tmp_path,
        """
        Stream: {Type: DynamoDB, Properties: {Stream: "arn"}}
        Filtered: {Type: SQS, Properties: {Queue: !GetAtt Queue.Arn, FilterCriteria: {Filters: []}}}
        Elsewhere: {Type: SQS, Properties: {Queue: "arn:aws:sqs:us-east-1:1:other"}}
        Odd: {Type: ScheduleV2, Properties: {ScheduleExpression: at(2026-01-01T00:00:00)}}
        Berlin:
          Type: ScheduleV2
          Properties: {ScheduleExpression: rate(1 day), ScheduleExpressionTimezone: Europe/Berlin}
        """,
    )
    assert (sources.queues, sources.timers) == ([], [])
    said = {reason.split()[1]: (title, reason) for title, reason in sources.unserved}
    assert set(said) == {"Stream", "Filtered", "Elsewhere", "Odd", "Berlin"}
    assert {title for title, _ in said.values()} == {"work"}
    assert "at(2026-01-01T00:00:00)" in said["Odd"][1]
    assert "UTC" in said["Berlin"][1]
