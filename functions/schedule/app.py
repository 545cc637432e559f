"""The schedule function: starts the daily and the five-minute forecasts and the daily check of the models' drift, sends
mails that a request left owed, and turns the signing keys every month.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

from fusiontrade.clock import parse_iso, system_clock
from fusiontrade.forecasts.scheduling import Scheduler
from fusiontrade.logs import logger_of, take_over
from fusiontrade.settings import Settings
from fusiontrade.snapshots import after_restore

settings = Settings.from_environment(os.environ)
logger = logger_of("schedule", settings.log_level)


@cache
def scheduler() -> Scheduler:
    """Return the process's one scheduler."""
    from fusiontrade.forecasts import factory

    return factory.scheduler(settings)


def start(kind: str, event: Mapping[str, Any], request_id: str | None) -> dict[str, Any]:
    """Start the forecasts of ``kind`` for the event's instant, ``scheduled_at``; now where it names none."""
    from fusiontrade.forecasts.factory import symbols_of

    now = system_clock()
    at = parse_iso(event["scheduled_at"]) if event.get("scheduled_at") else now
    runs = scheduler().start(kind, at, symbols_of(settings, kind, now), request_id=request_id)
    return {"runs": [{"run_id": run.id, "status": run.status, "total": run.total} for run in runs]}


def turn_keys(event: Mapping[str, Any], request_id: str | None) -> dict[str, Any]:  # noqa: ARG001 - as every task
    """Let the signing keys turn, unless they turned lately."""
    from fusiontrade.accounts.admission.key_rotation import rotate
    from fusiontrade.cloud.secrets import Secrets

    turned = rotate(Secrets(), settings.need("signing_keys_secret_arn"), system_clock)
    return {"changed": turned.changed, "current": turned.current, "next": turned.next}


def relay_mails(event: Mapping[str, Any], request_id: str | None) -> dict[str, Any]:  # noqa: ARG001 - as every task
    """Send the mails that are owed and that no request sends any more."""
    from fusiontrade.accounts.by_mail.outbox import Outbox
    from fusiontrade.cloud.queues import Queue
    from fusiontrade.cloud.tables import Table
    from fusiontrade.mails.outbound import Outbound

    outbound = Outbound(Queue(settings.need("mail_queue_url")))
    return {"mails": Outbox(Table(settings.need("accounts_table")), outbound, system_clock).relay()}


def check_drift(event: Mapping[str, Any], request_id: str | None) -> dict[str, Any]:
    """Have the day's check of every model's forecasts made; asked for twice, it is made once."""
    from fusiontrade.cloud.queues import Queue
    from fusiontrade.registry.drift import ordered

    at = parse_iso(event["scheduled_at"]) if event.get("scheduled_at") else system_clock()
    order = ordered(at)
    Queue(settings.need("training_queue_url")).send(order.message(), request_id=request_id)
    return {"job": order.id}


TASKS: Mapping[str, Callable[[Mapping[str, Any], str | None], dict[str, Any]]] = {
    "intraday": partial(start, "intraday"),
    "subscribed": partial(start, "subscribed"),
    "rotate-keys": turn_keys,
    "relay-mails": relay_mails,
    "drift": check_drift,
}


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Do the event's ``task``; raises where it has to be tried again."""
    take_over(logger, settings.log_level)
    task = str(event.get("task"))
    if task not in TASKS:
        raise ValueError(f"there is no task {task!r}: use one of {', '.join(TASKS)}")
    told = TASKS[task](event, getattr(context, "aws_request_id", None))
    logger.info("scheduled", extra={"task": task, **told})
    return told


after_restore(scheduler.cache_clear)
