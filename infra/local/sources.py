"""What besides HTTP calls a function: its queues and its schedules, as the template says.

Always true here: an event that a laptop does not serve is named with the reason, never dropped in silence; defaults
are Lambda's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from infra.local.expressions import Cron, ExpressionError, Rate, parse
from infra.local.template import QUEUE, Template, TemplateError

__all__ = ["QueueSource", "Sources", "Timer", "sources_of"]

_SCHEDULES = ("ScheduleV2", "Schedule")
_MOST_RETRIES = 2


@dataclass(frozen=True)
class QueueSource:
    """A queue that a function works off.

    ``limit`` batches are worked on at once; ``attempts`` times a message is received before it goes to the dead
    letters, 0 where it never does; ``reports_failures`` says whether the answer may name the messages that failed.
    """

    function: str
    queue: str
    url: str
    arn: str
    batch_size: int
    window_seconds: float
    reports_failures: bool
    limit: int
    attempts: int


@dataclass(frozen=True)
class Timer:
    """A schedule of a function: ``payload`` is the event it gets ``when`` it fires.

    A run that fails is repeated ``retries`` times; what then still fails goes to the queue ``dead_letters``, empty
    where there is none.
    """

    function: str
    name: str
    text: str
    when: Rate | Cron
    payload: str
    retries: int
    dead_letters: str


@dataclass
class Sources:
    """All of a template's; ``unserved`` holds the function and the reason for each event that is left out."""

    queues: list[QueueSource] = field(default_factory=list)
    timers: list[Timer] = field(default_factory=list)
    unserved: list[tuple[str, str]] = field(default_factory=list)


def sources_of(template: Template, limit: int) -> Sources:
    """Return the queues and schedules of every function; at most ``limit`` batches of a queue run at once."""
    found = Sources()
    for function in template.functions.values():
        for name, event in function.other_events:
            kind, properties = event["Type"], event.get("Properties", {})
            try:
                if kind == "SQS":
                    found.queues.append(_queue(template, function.logical_id, properties, limit))
                elif kind in _SCHEDULES:
                    if _is_on(template, properties):
                        found.timers.append(_timer(template, function.logical_id, name, properties))
                else:
                    found.unserved.append((function.title, f"event {name} ({kind}) is not served on a laptop"))
            except (ExpressionError, TemplateError) as error:
                found.unserved.append((function.title, f"event {name} ({kind}) is not served on a laptop: {error}"))
    return found


def _queue(template: Template, function: str, properties: Mapping[str, Any], limit: int) -> QueueSource:
    if "FilterCriteria" in properties:
        raise TemplateError("filters are not known here")
    logical_id = _target(properties.get("Queue"))
    if template.resources.get(logical_id, {}).get("Type") != QUEUE:
        raise TemplateError(f"Queue of {function} is not !GetAtt Name.Arn of a queue of this template")
    given = template.resolve({k: v for k, v in properties.items() if k != "Queue"}, function)
    redrive = template.properties(logical_id).get("RedrivePolicy", {})
    most = int(given.get("ScalingConfig", {}).get("MaximumConcurrency", limit))
    return QueueSource(
        function=function,
        queue=logical_id,
        url=template.resolve({"Ref": logical_id}),
        arn=template.resolve({"Fn::GetAtt": [logical_id, "Arn"]}),
        batch_size=int(given.get("BatchSize", 10)),
        window_seconds=float(given.get("MaximumBatchingWindowInSeconds", 0)),
        reports_failures="ReportBatchItemFailures" in given.get("FunctionResponseTypes", []),
        limit=min(most, limit),
        attempts=int(redrive.get("maxReceiveCount", 0)),
    )


def _timer(template: Template, function: str, name: str, properties: Mapping[str, Any]) -> Timer:
    if properties.get("ScheduleExpressionTimezone", "UTC") != "UTC":
        raise TemplateError("times are UTC here")
    text = str(template.resolve(properties.get("ScheduleExpression") or properties.get("Schedule"), name))
    invoked = template.document["Resources"][function]["Properties"].get("EventInvokeConfig", {})
    failure = invoked.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination")
    return Timer(
        function=function,
        name=name,
        text=text,
        when=parse(text),
        payload=str(template.resolve(properties.get("Input", "{}"), name)),
        retries=int(template.resolve(invoked.get("MaximumRetryAttempts", _MOST_RETRIES), name)),
        dead_letters=template.resolve({"Ref": _target(failure)}, name) if failure else "",
    )


def _is_on(template: Template, properties: Mapping[str, Any]) -> bool:
    state = template.resolve(properties.get("State", "ENABLED"))
    return bool(state == "ENABLED" and template.resolve(properties.get("Enabled", True)))


def _target(reference: Any) -> str:
    """Return the logical id that ``!GetAtt Name.Arn`` names, empty where it is something else."""
    match reference:
        case {"Fn::GetAtt": [str(name), "Arn"]}:
            return name
    return ""
