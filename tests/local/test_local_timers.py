"""Schedules as the gateway fires them: at their moments, twice without harm, and never lost when they fail."""

from __future__ import annotations

import asyncio
import json
import os
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fusiontrade.cloud.session import client
from infra.local.expressions import parse
from infra.local.functions import Pool, process_environment
from infra.local.sources import Timer
from infra.local.template import Function
from infra.local.timers import TimerWorker, payload_of
from tests.support.aws_fixtures import aws, emulator_port  # noqa: F401 - pytest finds fixtures by name

HERE = Path(__file__).parent
SIX = datetime(2026, 11, 22, 6, tzinfo=UTC)
AT = "<aws.scheduler.scheduled-time>"


class Scene:
    """What a schedule's runs left behind, and a clock that runs faster than the world's."""

    def __init__(self, folder: Path, *, speed: float = 1.0) -> None:
        self.diary, self.speed = folder / "diary", speed
        self.lines: list[str] = []
        self.notices: list[str] = []
        self.began = time.monotonic()

    def now(self) -> datetime:
        passed = time.monotonic() - self.began
        return SIX - timedelta(seconds=1) + timedelta(seconds=passed * self.speed)

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.diary.read_text().splitlines()] if self.diary.exists() else []


def timer(payload: dict[str, Any], text: str = "cron(0 6 * * ? *)", dead_letters: str = "") -> Timer:
    return Timer("Work", "Daily", text, parse(text), json.dumps(payload), 2, dead_letters)


@asynccontextmanager
async def worker_of(scene: Scene, timer: Timer, sqs: Any = None) -> AsyncIterator[TimerWorker]:
    function = Function("Work", "stack-Work", HERE / "worker", "app.handler", 20, 192, {"DIARY": str(scene.diary)})
    environment = process_environment(function, HERE.parents[1] / "shared", {}, os.environ)
    pool = Pool(function, environment, limit=2, log=scene.lines.append, say=lambda _, text: scene.notices.append(text))
    await pool.warm()
    scene.began = time.monotonic()
    try:
        yield TimerWorker(
            timer, pool, sqs, scene.lines.append, lambda _, text: scene.notices.append(text),
            clock=scene.now, pauses=(0.01, 0.02), longest_sleep=0.02,
        )  # fmt: skip
    finally:
        await pool.close()


async def until(condition: Callable[[], bool], seconds: float = 40) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(test())  # type: ignore[arg-type]


def test_schedule_fires_at_its_moment_with_its_input(tmp_path: Path) -> None:
    async def scenario() -> None:
        scene = Scene(tmp_path)
        async with worker_of(scene, timer({"task": "intraday", "scheduled_at": AT})) as worker:
            running = asyncio.create_task(worker.run())
            assert scene.events() == []
            await until(lambda: bool(scene.events()))
            running.cancel()
            assert scene.now() >= SIX
            assert scene.events() == [{"task": "intraday", "scheduled_at": "2026-11-22T06:00:00Z"}]

    run(scenario)


def test_schedule_fires_at_each_of_its_moments_and_once_after_a_sleep(tmp_path: Path) -> None:
    async def scenario() -> None:
        scene = Scene(tmp_path, speed=60)
        async with worker_of(scene, timer({"scheduled_at": AT}, "rate(1 minute)")) as worker:
            running = asyncio.create_task(worker.run())
            await until(lambda: len(scene.events()) >= 2)
            scene.began -= 3600 / scene.speed  # the machine slept for an hour
            await until(lambda: len(scene.events()) >= 4)
            running.cancel()
        moments = [event["scheduled_at"] for event in scene.events()]
        assert moments[:2] == ["2026-11-22T06:00:00Z", "2026-11-22T06:01:00Z"]
        assert len(set(moments)) == len(moments)
        assert moments[3] > "2026-11-22T07:00:00Z"

    run(scenario)


def test_firing_twice_gives_the_handler_the_same_event_twice(tmp_path: Path) -> None:
    async def scenario() -> None:
        scene = Scene(tmp_path)
        async with worker_of(scene, timer({"task": "intraday", "scheduled_at": AT})) as worker:
            await asyncio.gather(worker.fire(SIX), worker.fire(SIX))
        first, second = scene.events()
        assert first == second == {"task": "intraday", "scheduled_at": "2026-11-22T06:00:00Z"}

    run(scenario)


def test_run_that_fails_is_repeated_twice_and_then_kept_with_its_event(tmp_path: Path, aws: None) -> None:  # noqa: F811
    sqs = client("sqs")
    url = sqs.create_queue(QueueName=f"dead-{uuid.uuid4().hex[:8]}")["QueueUrl"]

    async def scenario() -> None:
        scene = Scene(tmp_path)
        failing = timer({"do": "raise", "scheduled_at": AT}, dead_letters=url)
        async with worker_of(scene, failing, sqs) as worker:
            await worker.fire(SIX)
        assert len(scene.events()) == 3
        assert scene.notices == ["Daily of 06:00 failed 3 times: ValueError: asked to fail"]

    run(scenario)
    (message,) = sqs.receive_message(QueueUrl=url)["Messages"]
    record = json.loads(message["Body"])
    assert record["requestPayload"] == {"do": "raise", "scheduled_at": "2026-11-22T06:00:00Z"}
    assert record["requestContext"]["condition"] == "RetriesExhausted"
    assert record["requestContext"]["approximateInvokeCount"] == 3
    assert record["responsePayload"]["errorType"] == "ValueError"


@pytest.mark.parametrize(("text", "expected"), [(AT, "2026-11-22T06:00:00Z"), ("<other>", "<other>")])
def test_known_context_attributes_alone_are_filled_in(text: str, expected: str) -> None:
    assert json.loads(payload_of(timer({"a": text}), SIX)) == {"a": expected}
