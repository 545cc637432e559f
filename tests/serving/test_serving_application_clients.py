"""Clients that are slow, greedy or gone: each costs itself something, and nobody else."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import sys
import time
from collections.abc import Iterator

import httpx
import pytest
from processes import open_files, peak_memory
from tiny_bundles import Program, build_bundle, candles, item, serving, wait_for

HASTY = """
import sys
from serving import connections
connections._GRACE = 1.0
from serving.server import main
sys.exit(main())
"""
"""The program, which gives a body that was answered already one second more instead of five."""

HEAD = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A program that gives clients a second, computes one request at a time, half a second or more over rising bars."""
    folder = tmp_path_factory.mktemp("slow")
    build_bundle(folder, "lstm", behaviour="slow")
    environ = {**os.environ, "SERVING_BODY_SECONDS": "1"}
    log = tmp_path_factory.mktemp("log") / "log"
    command = (sys.executable, "-c", HASTY)
    with serving(folder, log, "--workers", "1", "--queue", "0", environ=environ, command=command) as running:
        yield running


def request(*, rising: bool = False) -> bytes:
    return json.dumps({"items": [item(candles(drift=2.0 if rising else 0.0))]}).encode()


def connected(program: Program) -> socket.socket:
    return socket.create_connection(("127.0.0.1", program.port), timeout=20)


def all_of(connection: socket.socket) -> bytes:
    """What the server still sends until it ends the connection."""
    answer = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65536):
            answer += piece
    return answer


def in_flight(program: Program) -> int:
    return int(httpx.get(program.url + "/models").json()["in_flight"])


def statuses(program: Program, path: str = "/invocations") -> list[int]:
    return [line["status"] for line in program.lines() if line["message"] == "request" and line["path"] == path]


def test_a_client_that_goes_away_frees_its_place_at_once(slow: Program) -> None:
    body = request(rising=True)
    with connected(slow) as leaving:
        leaving.sendall(HEAD % len(body) + body)
        wait_for(lambda: in_flight(slow) == 1)
    wait_for(lambda: in_flight(slow) == 0)
    response = httpx.post(slow.url + "/invocations", content=request(), headers={"content-type": "application/json"})
    assert response.status_code == 200
    assert wait_for(lambda: statuses(slow)[-2:] == [499, 200])
    assert not [line for line in slow.lines() if line["level"] in {"ERROR", "CRITICAL"}]


def test_a_body_that_drips_is_408_and_frees_its_place(slow: Program) -> None:
    body = request()
    with connected(slow) as dripping:
        dripping.sendall(HEAD % len(body) + body[:100])
        wait_for(lambda: in_flight(slow) == 1)
        for byte in body[100:104]:
            time.sleep(0.1)
            dripping.sendall(bytes([byte]))
        answer = all_of(dripping)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in answer.lower()
    assert b"did not arrive within 1 s" in answer
    assert in_flight(slow) == 0


@pytest.mark.parametrize(
    ("head", "status", "dripped"),
    [
        (b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", b"HTTP/1.1 415", b"x"),
        (b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 200", b"\r\n"),
    ],
    ids=["a body after its refusal", "line breaks before a head"],
)
def test_what_drips_after_an_answer_does_not_keep_a_connection(
    slow: Program, head: bytes, status: bytes, dripped: bytes
) -> None:
    with connected(slow) as dripping:
        dripping.sendall(head)
        assert dripping.recv(4096).startswith(status)
        begun = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - begun < 15:
                dripping.sendall(dripped)
                time.sleep(0.1)
        assert time.monotonic() - begun < 15


def test_a_head_without_end_is_refused_and_takes_no_memory(slow: Program) -> None:
    before = peak_memory(slow.process.pid)
    sent = 0
    with connected(slow) as endless:
        endless.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\nX-Endless: ")
        with contextlib.suppress(ConnectionError):
            while sent < 200 * 2**20:
                endless.sendall(b"a" * 65536)
                sent += 65536
    assert sent < 200 * 2**20
    assert peak_memory(slow.process.pid) - before < 8 * 2**20


@pytest.mark.parametrize(
    ("opening", "piece", "status", "told"),
    [
        (b"GET /ping HTTP/1.1\r\nHost: x\r\nX-Endless: ", b"a" * 1024, 431, "a head may have 65536 bytes"),
        (b"GET /ping HTTP/1.1\r\nHost: x\r\n", b"X: y\r\n" * 200, 431, "a head may have 65536 bytes"),
        (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", b"", 400, "Invalid HTTP request received."),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"", 400, "Invalid HTTP request received."),
    ],
    ids=["one header", "many headers", "space before colon", "TLS"],
)
def test_what_is_no_request_is_a_problem_too(
    slow: Program, opening: bytes, piece: bytes, status: int, told: str
) -> None:
    with connected(slow) as broken:
        broken.sendall(opening)
        for _ in range(100):
            if select.select([broken], [], [], 0.01)[0]:
                break
            broken.sendall(piece)
        head, _, content = all_of(broken).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"content-type: application/problem+json" in head
    problem = json.loads(content)
    assert (problem["status"], problem["detail"]) == (status, told)


def test_many_small_headers_are_refused_too(slow: Program) -> None:
    with connected(slow) as endless:
        endless.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\n")
        with contextlib.suppress(ConnectionError):
            for number in range(200_000):
                endless.sendall(b"X-%d: y\r\n" % number)
            pytest.fail("two megabytes of headers were taken")


def test_a_client_that_never_reads_its_answers_is_cut_off(slow: Program) -> None:
    at_once, wanted = 100, 3000
    with connected(slow) as deaf:
        before = -1
        while before != (before := len(statuses(slow, "/metrics"))) and before < wanted:
            with contextlib.suppress(ConnectionError):  # it may be cut off by now
                deaf.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * at_once)
            with contextlib.suppress(AssertionError):
                wait_for(lambda: len(statuses(slow, "/metrics")) >= before + at_once, 1.5)
        assert all_of(deaf).count(b"HTTP/1.1 200") < before
    assert 10 < before < wanted


def test_a_hundred_clients_that_vanish_leave_nothing_behind(slow: Program) -> None:
    body = request()
    before = open_files(slow.process.pid)
    for number in range(100):
        with connected(slow) as leaving:
            leaving.sendall((HEAD % len(body) + body)[: 40 + 150 * number])
    wait_for(lambda: in_flight(slow) == 0)
    wait_for(lambda: open_files(slow.process.pid) <= before + 2)
    assert not [line for line in slow.lines() if line["level"] in {"ERROR", "CRITICAL"}]


def test_requests_sent_before_the_answers_are_read_are_answered_in_order(slow: Program) -> None:
    body = request()
    with connected(slow) as eager:
        eager.sendall((HEAD % len(body) + body) * 3 + b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = all_of(eager)
    assert answer.count(b"HTTP/1.1 200") == 4
    assert answer.endswith(b'{"status":"ready"}')
