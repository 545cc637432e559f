"""Clients that send more than anybody can hold: without end, far ahead of the answers, or on too many connections."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from tiny_bundles import build_bundle, serving

from serving.connections import impatient

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n"
PING = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@dataclass
class Answering:
    """A server of the protocol: answers 200 with the length of the body, once ``let`` is set."""

    port: int = 0
    bodies: list[bytes] = field(default_factory=list)
    headers: list[Any] = field(default_factory=list)
    let: asyncio.Event = field(default_factory=asyncio.Event)
    protocols: set[Any] = field(default_factory=set)
    opened: list[asyncio.StreamWriter] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.headers.append(scope["headers"])
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.bodies.append(body)
        await self.let.wait()
        said = str(len(body)).encode()
        length = [(b"content-length", str(len(said)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.body", "body": said})


@asynccontextmanager
async def answering(*, most: int = 100, at_once: bool = True) -> AsyncIterator[Answering]:
    """The server on a free port, until the block ends."""
    told = Answering()
    if at_once:
        told.let.set()
    config = uvicorn.Config(told, http=impatient(5.0, most), lifespan="off", log_config=None, interface="asgi3")
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    told.port = listener.getsockname()[1]
    task = asyncio.create_task(server._serve([listener]))
    while not server.started:
        await asyncio.sleep(0.005)
    told.protocols = server.server_state.connections
    try:
        yield told
    finally:
        told.let.set()
        for writer in told.opened:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        server.should_exit = server.force_exit = True
        await task


async def connected(told: Answering) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", told.port)
    told.opened.append(writer)
    return reader, writer


async def written(writer: asyncio.StreamWriter, piece: bytes, times: int) -> int:
    """Write ``piece`` so often, or until the other side ends it; return how often."""
    for number in range(times):
        try:
            writer.write(piece)
            await asyncio.wait_for(writer.drain(), 10)
        except OSError:
            return number
    return times


async def rest(reader: asyncio.StreamReader) -> bytes:
    """What is still sent until the connection ends."""
    found = b""
    try:
        while piece := await asyncio.wait_for(reader.read(65536), 10):
            found += piece
    except ConnectionError:
        pass
    return found


@pytest.mark.parametrize("line", [b"A: " + b"x" * 1000 + b"\r\n", b"x" * 1000], ids=["many", "one"])
@pytest.mark.parametrize("before", [b"5\r\nhello\r\n0\r\nA: ", b"5;"], ids=["trailer", "extension"])
def test_what_stands_between_or_after_the_pieces_of_a_body_has_an_end(before: bytes, line: bytes) -> None:
    async def scenario() -> None:
        async with answering() as told:
            reader, writer = await connected(told)
            writer.write(CHUNKED + b"\r\n" + before)
            assert await written(writer, line * 100, 200) < 200
            answer = await rest(reader)
            assert not answer or answer.startswith(b"HTTP/1.1 4")  # a reset may have overtaken it
            assert told.bodies == []

    asyncio.run(scenario())


def test_a_trailer_is_passed_over_and_is_no_header() -> None:
    async def scenario() -> None:
        async with answering() as told:
            reader, writer = await connected(told)
            writer.write(CHUNKED + b"Connection: close\r\n\r\n5;a=b\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n")
            assert (await rest(reader)).startswith(b"HTTP/1.1 200")
            assert told.bodies == [b"hello"]
            assert [name for name, _ in told.headers[0]] == [b"host", b"transfer-encoding", b"connection"]

    asyncio.run(scenario())


def test_a_body_in_pieces_of_one_byte_is_no_endless_trailer() -> None:
    async def scenario() -> None:
        async with answering() as told:
            reader, writer = await connected(told)
            writer.write(CHUNKED + b"Connection: close\r\n\r\n")
            assert await written(writer, b"1\r\nx\r\n" * 1000, 50) == 50
            writer.write(b"0\r\n\r\n")
            assert (await rest(reader)).endswith(b"50000")

    asyncio.run(scenario())


def test_requests_far_ahead_of_their_answers_are_refused_together() -> None:
    async def scenario() -> None:
        async with answering() as told:
            reader, writer = await connected(told)
            assert await written(writer, PING * 10_000, 20) < 20
            answer = await rest(reader)
            assert answer.count(b"HTTP/1.1 ") <= 130
            assert len(told.bodies) <= 130

    asyncio.run(scenario())


def test_no_more_is_read_while_requests_wait_for_the_first_of_them() -> None:
    async def scenario() -> None:
        async with answering(at_once=False) as told:
            reader, writer = await connected(told)
            writer.write(PING * 100)
            async with asyncio.timeout(10):
                while [len(one.pipeline) for one in told.protocols] != [99]:
                    await asyncio.sleep(0.005)
            (protocol,) = told.protocols
            writer.write(PING * 100)
            for _ in range(10):
                await asyncio.sleep(0.005)
                assert len(protocol.pipeline) == 99
            told.let.set()
            found = b""
            while found.count(b"HTTP/1.1 200") < 200:
                piece = await asyncio.wait_for(reader.read(65536), 10)
                assert piece
                found += piece

    asyncio.run(scenario())


def test_a_request_with_a_body_that_asks_for_another_protocol_is_told_so() -> None:
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"

    async def scenario() -> None:
        async with answering() as told:
            reader, writer = await connected(told)
            writer.write(HEAD + upgrade + b"Content-Length: 5\r\n\r\nhello")
            answer = await rest(reader)
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert b"send it without Upgrade" in answer
            assert told.headers == []
            reader, writer = await connected(told)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n" + upgrade + b"\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")

    asyncio.run(scenario())


def test_where_there_are_too_many_connections_the_one_idle_for_longest_makes_room() -> None:
    async def scenario() -> None:
        async with answering(most=3, at_once=False) as told:
            busy, first, second = [await connected(told) for _ in range(3)]
            busy[1].write(PING)
            while not told.bodies:
                await asyncio.sleep(0.005)
            first[1].write(PING[:10])  # a head that is begun is idle still
            newest = await connected(told)
            assert await rest(first[0]) == b""
            told.let.set()
            assert (await busy[0].readline()).startswith(b"HTTP/1.1 200")  # and it is idle since now
            for one in (second, newest):
                one[1].write(PING)
                assert (await one[0].readline()).startswith(b"HTTP/1.1 200")
            await connected(told)
            assert b"HTTP" not in await rest(busy[0])

    asyncio.run(scenario())


def test_idle_connections_take_no_file_that_others_need(tmp_path: Path) -> None:
    few = ("sh", "-c", f'ulimit -n 128; exec {sys.executable} -m serving.server "$@"', "sh")
    build_bundle(tmp_path / "bundles", "lstm")
    log = tmp_path / "log"
    environ = {**os.environ, "SERVING_BODY_SECONDS": "60"}
    with serving(tmp_path / "bundles", log, "--processes", "2", command=few, environ=environ) as program:
        held = [socket.create_connection(("127.0.0.1", program.port), timeout=10) for _ in range(300)]
        for _ in range(10):
            assert httpx.get(program.url + "/ping", timeout=10).status_code == 200
        for one in held:
            one.close()
        assert not [line for line in program.lines() if line["level"] in {"ERROR", "CRITICAL"}]
