"""A part that keeps dying ends the stack with the reason; what parts write becomes one readable log."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import sys
from pathlib import Path

import pytest
from rich.console import Console

from infra.local.banner import loaded, show
from infra.local.children import Child
from infra.local.log import LINE, NOTICE, READY, Log, emit, readable
from infra.local.options import Options
from infra.local.supervisor import Supervisor


async def never() -> bool:
    return False


async def at_once() -> bool:
    return True


def child_of(code: str, log: Log, is_ready: object = at_once) -> Child:
    return Child("part", [sys.executable, "-c", code], {}, is_ready, log.take)  # type: ignore[arg-type]


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=200)


@pytest.fixture
def log(tmp_path: Path, console: Console) -> Log:
    made = Log(tmp_path / "log" / "fusiontrade.log", console, verbose=False)
    yield made
    made.close()


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_part_that_dies_too_often_ends_the_stack_with_its_last_lines(
    tmp_path: Path, log: Log, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.local.children.Restarts.again", _two_without_pause())

    async def scenario() -> Supervisor:
        supervisor = Supervisor(Options(state=str(tmp_path)), log)
        child = child_of("print('no bundle may serve'); raise SystemExit(3)", log, never)
        await supervisor._begin(child)
        await supervisor._watch(child)
        return supervisor

    supervisor = asyncio.run(scenario())
    assert supervisor.stopping.is_set()
    assert supervisor.failure is not None
    assert supervisor.failure.startswith("part ended with status 3, the 6th time within a minute")
    assert "no bundle may serve" in supervisor.failure
    assert "part ended with status 3; starting it again (1 of 5)" in shown(console)


def _two_without_pause() -> object:
    given = iter([(1, 0.0), (2, 0.0), None])
    return lambda _self: next(given)


def test_child_that_ignores_the_wish_to_end_is_killed_with_its_children(log: Log, tmp_path: Path) -> None:
    code = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "inner = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(inner.pid))\n"
        "print('up', flush=True)\n"
        "time.sleep(60)\n"
    )

    async def scenario() -> int | None:
        child = child_of(code, log)
        await child.start(tmp_path)
        async with asyncio.timeout(10):
            while "up" not in child.last_lines:
                await asyncio.sleep(0.02)
        await child.stop(0.2)
        async with asyncio.timeout(10):
            while _alive(int((tmp_path / "pid").read_text())):
                await asyncio.sleep(0.02)
        return await child.wait()

    assert asyncio.run(scenario()) == -signal.SIGKILL


def _alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_log_that_has_grown_large_is_put_aside_while_it_is_written(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.local.log._KEEP_BYTES", 60)
    for number in range(4):
        log.line("part", f"line {number} {'x' * 20}")
    now = (tmp_path / "log" / "fusiontrade.log").read_text()
    before = (tmp_path / "log" / "fusiontrade.old.log").read_text()
    assert [number for number in range(4) if f"line {number}" in before] == [0, 1]
    assert [number for number in range(4) if f"line {number}" in now] == [2, 3]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
def test_full_disk_costs_lines_of_the_log_and_is_said_once(console: Console) -> None:
    full = Log(Path("/dev/full"), console, verbose=False)
    full.line("part", "one")
    full.notice("part", "two")
    full.close()
    assert shown(console).count("lines are missing in the log") == 1
    assert "part: two" in shown(console)


def test_marked_lines_speak_for_their_part_and_only_notices_reach_the_console(
    log: Log, console: Console, tmp_path: Path
) -> None:
    output = io.StringIO()
    emit(LINE, "fusion", "quiet", output)
    emit(NOTICE, "auth", "loud", output)
    emit(READY, "gateway", "", output)
    kinds = [log.take("gateway", line)[0] for line in output.getvalue().split("\n")[:-1]]
    log.take("gateway", "plain")
    assert kinds == [LINE, NOTICE, READY]
    assert shown(console) == "auth: loud\n"
    written = (tmp_path / "log" / "fusiontrade.log").read_text().splitlines()
    assert [line.split(" ", 1)[1] for line in written] == ["fusion    | quiet", "auth      | loud", "gateway   | plain"]


def test_a_line_that_nobody_reads_any_more_is_lost_and_breaks_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    output = os.fdopen(writing, "w")
    emit(NOTICE, "auth", "loud", output)
    emit(LINE, "auth", "two\nlines", output)
    with contextlib.suppress(BrokenPipeError):
        output.close()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"level": "INFO", "message": "request", "service": "auth", "status": 200}', "INFO request status=200"),
        ('{"message": "ready", "models": [1, 2]}', "ready models=[1, 2]"),
        ('{"other": 1}', '{"other": 1}'),
        ("{not json", "{not json"),
        ("plain text", "plain text"),
    ],
)
def test_structured_line_is_written_for_people(line: str, expected: str) -> None:
    assert readable(line) == expected


def test_table_shows_models_refused_bundles_and_the_address_of_another_port(console: Console) -> None:
    told = {
        "models": [{"id": "lstm-1h", "version": "abc"}],
        "refused": [{"folder": "lstm-4h", "reason": "model.onnx was changed"}],
    }
    show(console, Options(port=3001, market_data="files", market_data_dir="/data"), told, 1.25)
    for part in ("lstm 1h", "lstm-4h: model.onnx was changed", "--api http://127.0.0.1:3001", "files: /data"):
        assert part in shown(console)


def test_table_does_not_call_a_stack_up_whose_functions_do_not_start(console: Console) -> None:
    show(console, Options(market_data="simulated"), {"broken": "auth, fusion"}, 1.25)
    assert "is up, but not all of it" in shown(console)
    assert "auth, fusion (tried again when the code changes)" in shown(console)


def test_table_names_a_kind_of_model_once_with_its_timeframes_in_order() -> None:
    names = ["gru-4h", "gru-15m", "lstm-1h", "kronos-compact", "swing-1d", "mine", "lstm-15m"]
    told = loaded([{"id": name, "version": "abc"} for name in names])
    assert told.splitlines() == ["gru 15m 4h", "lstm 15m 1h", "kronos-compact", "swing 1d", "mine"]


def test_table_without_a_model_says_how_to_get_one() -> None:
    assert loaded([]) == "none (make train makes some)"
