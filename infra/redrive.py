"""Dead letters: ``python -m infra.redrive`` counts them, ``python -m infra.redrive mail`` lets them be worked on again.

Always true here: a message is sent to its queue before it is deleted from the dead letters, so that none is lost, and a
crash in between gives one twice, which every worker bears; what was given up while this runs is left for the next time;
no text of a message is printed, since mails hold codes. Without ``--stack`` it speaks to this machine's emulated AWS.
What schedules gave up (``schedule``) is an event and the function it was for: it is handed to that function again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from fusiontrade.cloud.session import client

__all__ = ["QUEUES", "SCHEDULE", "counts", "fire_again", "main", "redrive", "urls_of"]

QUEUES = ("forecast", "mail", "jobs", "training")
SCHEDULE = "schedule"
_SCHEDULE = "ScheduleDeadLetters"
_AT_ONCE = 10


def redrive(dead: str, alive: str, *, most: int) -> int:
    """Move up to ``most`` messages from the queue ``dead`` to ``alive`` (URLs); return how many were moved."""
    sqs, moved = client("sqs", read_seconds=10.0), 0
    while moved < most:
        found = sqs.receive_message(
            QueueUrl=dead,
            MaxNumberOfMessages=min(_AT_ONCE, most - moved),
            MessageAttributeNames=["All"],
        ).get("Messages", [])
        if not found:
            break
        for message in found:
            kept = {name: _given(value) for name, value in message.get("MessageAttributes", {}).items()}
            sqs.send_message(QueueUrl=alive, MessageBody=message["Body"], MessageAttributes=kept)
            sqs.delete_message(QueueUrl=dead, ReceiptHandle=message["ReceiptHandle"])
            moved += 1
    return moved


def fire_again(dead: str, *, most: int) -> tuple[int, int]:
    """Hand up to ``most`` events that schedules gave up to their functions again; return how many, and how many not.

    Two kinds of messages lie there: Lambda's record of an event that its function failed for, and the event itself
    where EventBridge Scheduler could not deliver it. What is neither stays, unseen by others for the queue's time.
    """
    sqs, invoke = client("sqs", read_seconds=10.0), client("lambda", read_seconds=10.0).invoke
    fired = left = 0
    while fired + left < most:
        found = sqs.receive_message(
            QueueUrl=dead, MaxNumberOfMessages=min(_AT_ONCE, most - fired - left), MessageAttributeNames=["All"]
        ).get("Messages", [])
        if not found:
            break
        for message in found:
            event = _event_in(message)
            if event is None:
                left += 1
                continue
            invoke(FunctionName=event[0], InvocationType="Event", Payload=event[1])
            sqs.delete_message(QueueUrl=dead, ReceiptHandle=message["ReceiptHandle"])
            fired += 1
    return fired, left


def _event_in(message: Mapping[str, Any]) -> tuple[str, bytes] | None:
    """Return the ARN of the function that a message's event is for, and the event; None where it holds none."""
    target = message.get("MessageAttributes", {}).get("TARGET_ARN", {}).get("StringValue")
    try:
        told = json.loads(message["Body"])
        if target is None:
            target, told = told["requestContext"]["functionArn"], told["requestPayload"]
    except (KeyError, TypeError, ValueError):
        return None
    return (str(target), json.dumps(told).encode()) if isinstance(told, dict) else None


def _given(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value[key] for key in ("DataType", "StringValue", "BinaryValue") if key in value}


def counts(urls: Mapping[str, str]) -> dict[str, int]:
    """Return how many messages lie in each queue, about (SQS counts no better)."""
    return {name: _count(url) for name, url in urls.items()}


def _count(url: str) -> int:
    name = "ApproximateNumberOfMessages"
    told = client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=[name])
    return int(told["Attributes"][name])


def urls_of(stack: str) -> dict[str, str]:
    """Return the URL of each queue by its logical id: a deployed stack's, or where none is named this machine's."""
    wanted = [_logical_id(name, kind) for name in QUEUES for kind in ("Queue", "DeadLetters")]
    wanted.append(_SCHEDULE)
    if not stack:
        from infra.local.gateway import local_template
        from infra.local.options import Options

        template = local_template(Options())
        return {name: str(template.resolve({"Ref": name})) for name in wanted}
    pages = client("cloudformation", read_seconds=10.0).get_paginator("list_stack_resources").paginate(StackName=stack)
    found = {
        resource["LogicalResourceId"]: resource["PhysicalResourceId"]
        for page in pages
        for resource in page["StackResourceSummaries"]
    }
    return {name: found[name] for name in wanted}


def _logical_id(name: str, kind: str) -> str:
    return f"{name.capitalize()}{kind}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Count, or move one queue's dead letters back; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m infra.redrive", description="What queues gave up, and once more.")
    whose = (*QUEUES, SCHEDULE)
    parser.add_argument("queue", nargs="?", choices=whose, help="whose dead letters to do again (default: count all)")
    parser.add_argument("--stack", default="", help="a deployed stack, with your AWS credentials and region")
    parser.add_argument("--emulator-port", type=int, default=4566, help="port of this machine's emulated AWS")
    options = parser.parse_args(arguments)
    if options.queue == SCHEDULE and not options.stack:
        parser.error("schedule needs --stack: on this machine the next firing does what an earlier one could not")
    if not options.stack:
        from infra.local.functions import AWS_VARIABLES

        os.environ.pop("AWS_PROFILE", None)
        os.environ.update({**AWS_VARIABLES, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{options.emulator_port}"})
    urls = urls_of(options.stack)
    if options.queue is None:
        all_dead = {name: url for name, url in urls.items() if name.endswith("DeadLetters")}
        for name, number in counts(all_dead).items():
            print(f"{name:<20} {number}")
        return 0
    if options.queue == SCHEDULE:
        fired, left = fire_again(urls[_SCHEDULE], most=_count(urls[_SCHEDULE]))
        print(f"{fired} events of schedules were handed to their functions again")
        if left:
            print(f"{left} messages are no events: look at them in {_SCHEDULE}")
        return min(1, left)
    dead, alive = (urls[_logical_id(options.queue, kind)] for kind in ("DeadLetters", "Queue"))
    moved = redrive(dead, alive, most=_count(dead))
    print(f"{moved} messages of {options.queue} will be worked on again")
    return 0


if __name__ == "__main__":
    sys.exit(main())
