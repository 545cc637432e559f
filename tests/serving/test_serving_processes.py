"""Several processes behind one port: connections spread, bundles exchanged in each, ends and deaths of any of them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from processes import is_alive, open_files
from tiny_bundles import Program, build_bundle, candles, item, serving, wait_for

from serving.measuring import Metrics, merged

JSON = {"content-type": "application/json"}
BODY = json.dumps({"items": [item(candles(timeframe="1h"))]}).encode()
RISING = json.dumps({"items": [item(candles(timeframe="1h", drift=2.0))]}).encode()


LATE = """
import os, sys, time
fork = os.fork
def late():
    pid = fork()
    until = time.monotonic() + 1
    while not pid and time.monotonic() < until:
        time.sleep(0.01)
    return pid
os.fork = late
from serving.server import main
sys.exit(main())
"""
"""The program, whose children are given no time by the system before a second has passed."""

SOON_SILENT = """
import sys
from serving import processes
processes._SILENT = 2.0
from serving.server import main
sys.exit(main())
"""


@dataclass(frozen=True)
class Pair:
    """A program of two processes, and the folder of its bundles."""

    program: Program
    bundles: Path


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    folder = tmp_path / "bundles"
    build_bundle(folder, "lstm", "1h")
    return folder


@contextlib.contextmanager
def two(bundles: Path, tmp_path: Path, *arguments: str, **how: Any) -> Iterator[Program]:
    """The program with two processes, of which each is ready."""
    with serving(bundles, tmp_path / "log", "--processes", "2", *arguments, **how) as program:
        wait_for(lambda: states(program) == ["ready", "ready"])
        yield program


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two processes for every test that leaves two behind; one that hangs is silent after two seconds."""
    folder = tmp_path_factory.mktemp("pair")
    build_bundle(folder / "bundles", "lstm", "1h")
    with two(folder / "bundles", folder, command=(sys.executable, "-c", SOON_SILENT)) as program:
        yield Pair(program, folder / "bundles")


@pytest.fixture
def pair(shared: Pair) -> Pair:
    """The shared pair, both processes ready."""
    wait_for(lambda: states(shared.program) == ["ready", "ready"])
    return shared


def models(program: Program) -> dict[str, Any]:
    told: dict[str, Any] = httpx.get(program.url + "/models").json()
    return told


def states(program: Program) -> list[str]:
    return [one["state"] for one in models(program)["processes"]]


def pids(program: Program) -> list[int]:
    return sorted(one["pid"] for one in models(program)["processes"])


def ask(program: Program, content: bytes = BODY) -> httpx.Response:
    return httpx.post(program.url + "/invocations", content=content, headers=JSON, timeout=30)


def status(program: Program, content: bytes) -> int:
    """Return the status of an answer, 0 where the connection was lost."""
    with contextlib.suppress(httpx.TransportError):
        return ask(program, content).status_code
    return 0


def at_work(program: Program, requests: int) -> tuple[list[int], list[threading.Thread]]:
    """Let that many slow requests be at work; return the list their statuses come to, and who waits for them."""
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(status(program, RISING))) for _ in range(requests)]
    for thread in threads:
        thread.start()
    wait_for(lambda: models(program)["in_flight"] == requests)
    return answers, threads


def children(program: Program) -> list[int]:
    pid = program.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def counted(program: Program) -> list[float]:
    """Return how many requests each process has answered well."""
    text = httpx.get(program.url + "/metrics").text
    wanted = 'serving_requests_total{{process="{}",route="/invocations",status="200"}} '
    return [float((text.partition(wanted.format(process))[2] or "0").split()[0]) for process in "01"]


def test_connections_take_turns_and_figures_are_told_by_process(pair: Pair) -> None:
    program = pair.program
    assert len(set(pids(program))) == 2
    assert program.process.pid not in pids(program)
    before = counted(program)
    for _ in range(6):
        assert ask(program).status_code == 200
    assert counted(program) == [count + 3 for count in before]
    text = httpx.get(program.url + "/metrics").text
    for process in "01":
        assert f'serving_bundle{{kind="lstm",model="lstm-1h",process="{process}",timeframe="1h"' in text
    assert text.count("# TYPE serving_requests_total counter") == 1


def test_a_killed_process_is_replaced_while_the_other_answers(pair: Pair) -> None:
    program, before = pair.program, pids(pair.program)
    os.kill(before[0], signal.SIGKILL)
    for _ in range(10):
        assert ask(program).status_code == 200
    wait_for(lambda: len(set(pids(program)) - {before[0]}) == 2 and states(program) == ["ready", "ready"])
    assert before[1] in pids(program)
    (line,) = [line for line in program.lines() if line.get("pid") == before[0] and "code" in line]
    assert (line["message"], line["code"]) == ("a process ended by itself; another is started", -signal.SIGKILL)


def test_a_process_that_is_told_to_end_gets_no_new_connection_and_is_replaced(tmp_path: Path) -> None:
    build_bundle(tmp_path / "slow", "lstm", "1h", behaviour="slow")
    with two(tmp_path / "slow", tmp_path, "--workers", "1", "--queue", "8") as program:
        before = pids(program)
        answers, threads = at_work(program, 4)
        os.kill(before[0], signal.SIGTERM)
        wait_for(lambda: any(line["message"] == "draining" for line in program.lines()))
        assert {httpx.get(program.url + "/ping").status_code for _ in range(8)} == {200}
        for thread in threads:
            thread.join(30)
        wait_for(lambda: states(program) == ["ready", "ready"] and before[0] not in pids(program))
    assert answers == [200] * 4


def test_a_replacement_that_cannot_serve_is_tried_again_and_the_other_serves_on(pair: Pair, tmp_path: Path) -> None:
    program = pair.program
    first, second = pids(program)
    away = pair.bundles.rename(tmp_path / "away")
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: any("does not exist" in line.get("reason", "") for line in program.lines()))
    assert ask(program).status_code == 200
    assert second in pids(program)
    away.rename(pair.bundles)
    wait_for(lambda: states(program) == ["ready", "ready"])
    assert {ask(program).status_code for _ in range(4)} == {200}


def test_a_replacement_that_cannot_be_made_is_tried_again_and_the_other_serves_on(pair: Pair) -> None:
    resource = pytest.importorskip("resource")
    program = pair.program
    first, second = pids(program)
    own = program.process.pid
    most = resource.prlimit(own, resource.RLIMIT_NOFILE)
    resource.prlimit(own, resource.RLIMIT_NOFILE, (open_files(own) - 1, most[1]))
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: any(line["message"] == "a process could not be started" for line in program.lines()))
    resource.prlimit(own, resource.RLIMIT_NOFILE, most)
    assert ask(program).status_code == 200
    wait_for(lambda: states(program) == ["ready", "ready"])
    assert second in pids(program)


def test_figures_that_are_asked_of_a_process_not_yet_ready_are_no_failure(pair: Pair) -> None:
    program = pair.program
    (first, _), said = pids(program), len(program.lines())
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: "starting" in states(program))
    assert httpx.get(program.url + "/metrics").status_code == 200
    wait_for(lambda: states(program) == ["ready", "ready"])
    assert [line for line in program.lines()[said:] if line["level"] == "ERROR"] == []


def test_sighup_exchanges_the_bundles_of_each_process(pair: Pair, tmp_path: Path) -> None:
    program, bundles = pair.program, pair.bundles
    before = models(program)
    build_bundle(tmp_path / "new", "lstm", "1h", horizon_bars=8)
    shutil.rmtree(bundles / "lstm-1h")
    (tmp_path / "new" / "lstm-1h").rename(bundles / "lstm-1h")
    program.process.send_signal(signal.SIGHUP)
    expected = sorted(one["generation"] + 1 for one in before["processes"])
    wait_for(lambda: sorted(one["generation"] for one in models(program)["processes"]) == expected)
    told = models(program)
    assert told["generation"] == expected[0]
    new = told["models"][0]["version"]
    assert new != before["models"][0]["version"]
    assert {ask(program).json()["items"][0]["lstm"]["model"]["version"] for _ in range(4)} == {new}


@pytest.mark.parametrize("wish", [signal.SIGTERM, signal.SIGINT])
def test_a_wish_to_end_lets_every_process_answer_what_it_accepted(tmp_path: Path, wish: signal.Signals) -> None:
    build_bundle(tmp_path / "slow", "lstm", "1h", behaviour="slow")
    with two(tmp_path / "slow", tmp_path, "--workers", "1", "--queue", "8") as program:
        own = pids(program)
        answers, threads = at_work(program, 4)
        program.process.send_signal(wish)
        assert program.process.wait(30) == 0
        for thread in threads:
            thread.join(10)
    assert answers == [200] * 4
    assert not any(map(is_alive, own))


def test_a_wish_to_end_that_the_whole_group_hears_cuts_nothing_off(tmp_path: Path) -> None:
    build_bundle(tmp_path / "slow", "lstm", "1h", behaviour="slow")
    with two(tmp_path / "slow", tmp_path, "--workers", "1", "--queue", "8") as program:
        answers, threads = at_work(program, 4)
        for pid in [*pids(program), program.process.pid]:
            os.kill(pid, signal.SIGTERM)
        assert program.process.wait(30) == 0
        for thread in threads:
            thread.join(10)
    assert answers == [200] * 4


def test_what_was_accepted_is_answered_where_the_parent_dies_while_the_program_ends(tmp_path: Path) -> None:
    build_bundle(tmp_path / "slow", "lstm", "1h", behaviour="slow")
    with two(tmp_path / "slow", tmp_path, "--workers", "1", "--queue", "8") as program:
        own = pids(program)
        answers, threads = at_work(program, 4)
        program.process.send_signal(signal.SIGTERM)
        wait_for(lambda: [line["message"] for line in program.lines()].count("draining") == 2)
        program.process.kill()
        for thread in threads:
            thread.join(30)
        wait_for(lambda: not any(map(is_alive, own)))
    assert answers == [200] * 4


def test_a_second_wish_to_end_is_granted_at_once(tmp_path: Path) -> None:
    build_bundle(tmp_path / "slow", "lstm", "1h", behaviour="slow")
    with two(tmp_path / "slow", tmp_path, "--workers", "1", "--queue", "8") as program:
        answers, threads = at_work(program, 4)
        program.process.send_signal(signal.SIGTERM)
        wait_for(lambda: [line["message"] for line in program.lines()].count("draining") == 2)
        program.process.send_signal(signal.SIGTERM)
        program.process.wait(30)
        for thread in threads:
            thread.join(10)
    assert 200 not in answers


def test_a_wish_to_end_reaches_a_process_that_was_made_just_now(tmp_path: Path) -> None:
    build_bundle(tmp_path / "slow", "lstm", "1h", behaviour="slow")
    command = (sys.executable, "-c", LATE)
    with two(tmp_path / "slow", tmp_path, "--workers", "1", "--queue", "8", command=command) as program:
        answers, threads = at_work(program, 4)
        killed = pids(program)[0]
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: len(set(children(program)) - {killed}) == 2)
        program.process.send_signal(signal.SIGTERM)
        assert program.process.wait(20) == 0
        for thread in threads:
            thread.join(10)
    assert set(answers) == {0, 200}  # lost with the killed one, and answered by the other


@pytest.fixture
def short() -> Iterator[str]:
    """A folder in which sockets can have names."""
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as folder:
        yield folder


def test_children_end_with_their_parent_and_the_port_is_free_again(bundles: Path, tmp_path: Path, short: str) -> None:
    with two(bundles, tmp_path, environ={**os.environ, "TMPDIR": short}) as program:
        own, port = pids(program), program.port
        assert list(Path(short).glob("serving-*"))
        program.process.kill()
        wait_for(lambda: not any(map(is_alive, own)), seconds=20)
        assert not list(Path(short).glob("serving-*"))
        with serving(bundles, tmp_path / "again", "--processes", "2", "--port", str(port)) as after:
            assert ask(after).status_code == 200


def test_processes_meet_where_the_folder_for_temporary_files_has_a_long_name(bundles: Path, tmp_path: Path) -> None:
    (tmp_path / ("long" * 30)).mkdir()
    with two(bundles, tmp_path, environ={**os.environ, "TMPDIR": str(tmp_path / ("long" * 30))}) as program:
        assert len(pids(program)) == 2


def test_where_nothing_can_serve_the_program_ends_with_one(tmp_path: Path) -> None:
    (tmp_path / "bundles").mkdir()
    with serving(tmp_path / "bundles", tmp_path / "log", "--processes", "2", ready=False) as program:
        assert program.process.wait(30) == 1
        assert any("there is none in it" in line.get("reason", "") for line in program.lines())


def test_a_process_that_hangs_is_left_out_of_what_is_told(pair: Pair) -> None:
    program = pair.program
    with httpx.Client(base_url=program.url, timeout=10) as kept:
        own = kept.get("/models").json()["process"]["pid"]  # this connection stays with the process that has it
        (stopped,) = set(pids(program)) - {own}
        os.kill(stopped, signal.SIGSTOP)
        try:
            told = kept.get("/models").json()
            counted = kept.get("/metrics").text
        finally:
            os.kill(stopped, signal.SIGCONT)
    assert [one["pid"] for one in told["processes"]] == [own]
    assert len({line.split('process="')[1][0] for line in counted.splitlines() if 'process="' in line}) == 1


def test_expositions_of_processes_become_one_with_every_sample_kept() -> None:
    first, second = Metrics(), Metrics()
    first.answered("/ping", 200, content_type="json", seconds=0.002, received=5, sent=7)
    second.answered("/ping", 503, content_type="json", seconds=0.002, received=1, sent=2)
    text = merged({0: first.exposition(), 1: second.exposition()})
    assert 'serving_requests_total{process="0",route="/ping",status="200"} 1.0' in text
    assert 'serving_requests_total{process="1",route="/ping",status="503"} 1.0' in text
    assert 'serving_request_seconds_bucket{le="0.0025",process="1",route="/ping"} 1.0' in text
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    each = [line for one in (first, second) for line in one.exposition().splitlines() if not line.startswith("#")]
    assert len(samples) == len(each)


def test_a_process_that_hangs_gets_no_more_connections(pair: Pair) -> None:
    program = pair.program
    stopped, _ = pids(program)
    os.kill(stopped, signal.SIGSTOP)
    try:
        time.sleep(3)
        answers = [httpx.get(program.url + "/ping", timeout=3).status_code for _ in range(20)]
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert answers == [200] * 20
    wait_for(lambda: states(program) == ["ready", "ready"])


def test_connections_that_no_process_takes_wait_and_are_answered(pair: Pair) -> None:
    program, own = pair.program, pids(pair.program)
    for pid in own:
        os.kill(pid, signal.SIGSTOP)
    with contextlib.ExitStack() as stack:
        waiting = [
            stack.enter_context(socket.create_connection(("127.0.0.1", program.port), timeout=20)) for _ in range(900)
        ]
        for connection in waiting:
            connection.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        for pid in own:
            os.kill(pid, signal.SIGCONT)
        answers = [connection.recv(12) for connection in waiting]
    assert answers == [b"HTTP/1.1 200"] * 900


def test_an_address_of_version_6_is_listened_on(bundles: Path, tmp_path: Path) -> None:
    with serving(bundles, tmp_path / "log", "--processes", "2", "--host", "::1", ready=False) as program:
        wait_for(lambda: answers_on_ipv6(program.port))


def answers_on_ipv6(port: int) -> bool:
    try:
        return httpx.get(f"http://[::1]:{port}/ping").status_code == 200
    except httpx.TransportError:
        return False
