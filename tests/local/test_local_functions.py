"""Pools over real runtime processes: a handler that hangs, dies, fails or is edited never costs more than its event."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from infra.local.functions import Pool, process_environment
from infra.local.template import Function

HERE = Path(__file__).parent
SHARED = HERE.parents[1] / "shared"


class Said:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.notices: list[str] = []


def function_in(code: Path, **changes: Any) -> Function:
    values = {
        "logical_id": "Work", "name": "stack-Work", "code": code, "handler": "app.handler", "timeout": 20,
        "memory": 192, "environment": {"GREETING": "hello"},
    }  # fmt: skip
    return Function(**{**values, **changes})


@asynccontextmanager
async def pool_of(
    code: Path = HERE / "function", *, limit: int = 2, environ: Mapping[str, str] = os.environ, **changes: Any
) -> AsyncIterator[tuple[Pool, Said]]:
    function, said = function_in(code, **changes), Said()
    environment = process_environment(function, SHARED, {"STAGE": "local"}, environ)
    pool = Pool(
        function, environment, limit=limit, log=said.lines.append, say=lambda part, text: said.notices.append(text)
    )
    try:
        yield pool, said
    finally:
        await pool.close()


async def call(pool: Pool, **event: Any) -> tuple[bool, dict[str, Any]]:
    outcome = await pool.invoke(json.dumps(event).encode())
    return outcome.failed, json.loads(outcome.payload)


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(test())  # type: ignore[arg-type]


def test_handler_gets_the_context_lambda_gives() -> None:
    async def scenario() -> None:
        async with pool_of() as (pool, _):
            failed, answer = await call(pool)
            assert not failed
            assert (answer["function"], answer["memory"]) == ("stack-Work", "192")
            assert 15_000 < answer["remaining"] <= 20_000
            assert len(answer["request_id"]) == 36

    run(scenario)


def test_process_sees_the_templates_variables_and_none_of_this_machines() -> None:
    async def scenario() -> None:
        environ = {"PATH": os.environ["PATH"], "AWS_PROFILE": "personal", "SECRET_OF_MINE": "x"}
        async with pool_of(environ=environ) as (pool, _):
            _, answer = await call(pool)
            variables = set(answer["variables"])
            assert {"GREETING", "STAGE", "AWS_LAMBDA_FUNCTION_NAME", "LAMBDA_TASK_ROOT", "_HANDLER"} <= variables
            assert variables.isdisjoint({"AWS_PROFILE", "SECRET_OF_MINE"})

    run(scenario)


def test_warm_process_is_used_again() -> None:
    async def scenario() -> None:
        async with pool_of() as (pool, _):
            assert await pool.warm() is None
            pids = {(await call(pool))[1]["pid"] for _ in range(5)}
            assert pids == set(pool.pids)

    run(scenario)


def test_handler_past_its_time_is_killed_and_the_next_event_is_served() -> None:
    async def scenario() -> None:
        async with pool_of(timeout=1, limit=1) as (pool, _):
            _, before = await call(pool)
            failed, answer = await call(pool, do="sleep", seconds=30)
            assert failed
            assert answer["errorType"] == "Sandbox.Timedout"
            assert answer["errorMessage"].endswith("Task timed out after 1.00 seconds")
            _, after = await call(pool)
            assert after["pid"] != before["pid"]
            await until(lambda: not _exists(before["pid"]))

    run(scenario)


def test_process_that_dies_during_an_event_fails_that_event_only() -> None:
    async def scenario() -> None:
        async with pool_of(limit=1) as (pool, said):
            failed, answer = await call(pool, do="crash")
            assert failed
            assert answer == {
                "errorType": "Runtime.ExitError",
                "errorMessage": "the process of function ended with exit status 3",
            }
            assert (await call(pool))[0] is False
            assert "ended with exit status 3; starting another" in said.notices[0]

    run(scenario)


def test_process_killed_while_idle_is_said_and_replaced() -> None:
    async def scenario() -> None:
        async with pool_of() as (pool, said):
            await pool.warm()
            (victim,) = pool.pids
            os.kill(victim, signal.SIGKILL)
            await until(lambda: bool(pool.pids) and victim not in pool.pids)
            assert said.notices == [f"process {victim} ended with signal SIGKILL; starting another"]
            assert (await call(pool))[0] is False

    run(scenario)


def test_exception_in_the_handler_is_described_and_the_process_kept() -> None:
    async def scenario() -> None:
        async with pool_of() as (pool, said):
            _, before = await call(pool)
            failed, answer = await call(pool, do="raise")
            assert failed
            assert (answer["errorType"], answer["errorMessage"]) == ("ValueError", "asked to fail")
            assert (await call(pool))[1]["pid"] == before["pid"]
            assert any("asked to fail" in line for line in said.lines)

    run(scenario)


def test_lines_the_handler_prints_reach_the_log() -> None:
    async def scenario() -> None:
        async with pool_of() as (pool, said):
            await call(pool, do="print", text="one line")
            await until(lambda: "one line" in said.lines)

    run(scenario)


def test_events_beyond_the_limit_wait_for_a_place() -> None:
    async def scenario() -> None:
        async with pool_of(limit=2) as (pool, _):
            answers = await asyncio.gather(*(call(pool, do="sleep", seconds=0.1) for _ in range(5)))
            assert [failed for failed, _ in answers] == [False] * 5
            assert len({answer["pid"] for _, answer in answers}) == 2

    run(scenario)


def test_module_that_cannot_be_imported_fails_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import a_package_that_is_not_there\n")

    async def scenario() -> None:
        async with pool_of(tmp_path) as (pool, _):
            failed, answer = await call(pool)
            assert failed
            assert answer["errorType"] == "Runtime.ImportModuleError"
            assert "a_package_that_is_not_there" in answer["errorMessage"]
            await until(lambda: pool.pids == [])

    run(scenario)


def test_edited_code_is_served_after_a_reload(tmp_path: Path) -> None:
    source = "def handler(event, context):\n    return {'version': %d}\n"
    (tmp_path / "app.py").write_text(source % 1)

    async def scenario() -> None:
        async with pool_of(tmp_path) as (pool, said):
            assert await call(pool) == (False, {"version": 1})
            (tmp_path / "app.py").write_text(source % 22)
            pool.reload()
            assert await call(pool) == (False, {"version": 22})
            assert said.notices == []

    run(scenario)


def test_closing_leaves_no_process() -> None:
    async def scenario() -> None:
        async with pool_of() as (pool, _):
            await asyncio.gather(*(call(pool, do="sleep", seconds=0.1) for _ in range(2)))
            pids = pool.pids
        assert len(pids) == 2
        assert not any(_exists(pid) for pid in pids)

    run(scenario)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
