"""What the worker counts on, against what the template gives its function and queues."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fusiontrade.forecasts.chunks import LAST_DELIVERY
from fusiontrade.forecasts.factory import CHUNK_SECONDS
from fusiontrade.forecasts.runs import CHUNK_SIZE
from fusiontrade.forecasts.scheduling import KINDS
from fusiontrade.forecasts.worker import LAST_TRY
from fusiontrade.fusion.service import MOST_SYMBOLS
from infra.local.template import Template

RESOURCES: dict[str, Any] = Template(Path(__file__).resolve().parents[3] / "template.yaml").resources


@pytest.mark.parametrize("queue", ["ForecastQueue", "JobsQueue"])
def test_a_message_is_given_up_at_the_delivery_that_the_worker_takes_for_the_last(queue: str) -> None:
    given = RESOURCES[queue]["Properties"]["RedrivePolicy"]["maxReceiveCount"]
    assert given == LAST_DELIVERY >= LAST_TRY


def test_the_function_has_time_for_a_message_and_what_is_kept_back() -> None:
    assert RESOURCES["ForecastWorkerFunction"]["Properties"]["Timeout"] >= CHUNK_SECONDS + 20


def test_a_chunk_fits_one_request_to_the_container() -> None:
    assert CHUNK_SIZE <= MOST_SYMBOLS


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_kind_of_run_has_a_schedule(kind: str) -> None:
    inputs = [
        str(event.get("Properties", {}).get("Input"))
        for event in RESOURCES["ScheduleFunction"]["Properties"]["Events"].values()
    ]
    assert any(f'"{kind}"' in text and "scheduled_at" in text for text in inputs)
