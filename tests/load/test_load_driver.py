"""The load driver against servers that answer well, badly and not at all."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fusiontrade.inference.contract import ForecastRequest
from infra.load.bodies import Message, messages
from infra.load.driver import Amid, Figures, amid, drive

Answer = Callable[[bytes], bytes | None]


def ok(body: bytes = b"{}", status: str = "200 OK", more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body


@asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[tuple[str, int]]:
    """A server that answers each request with what ``answer`` gives; None closes the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:"))
                given = answer(await reader.readexactly(length))
                if given is None:
                    break
                half = len(given) // 2
                writer.write(given[:half])
                await writer.drain()
                await asyncio.sleep(0)
                writer.write(given[half:])
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    running = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with running:
        yield running.sockets[0].getsockname()[:2]


def driven(answer: Answer, *, seen: Callable[[Message, int, bytes], None] | None = None, **how: Any) -> Figures:
    request = ForecastRequest.model_construct(items=[])
    said = b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n"
    sent = [Message(request, said + body, 2) for body in (b"ab", b"cd")]

    async def scenario() -> Figures:
        async with server(answer) as address:
            return await drive(address, sent, patience=5.0, seen=seen, **how)

    return asyncio.run(scenario())


def test_every_request_is_sent_once_and_every_answer_counted() -> None:
    received: list[bytes] = []

    def answer(body: bytes) -> bytes:
        received.append(body)
        return ok()

    figures = driven(answer, clients=3, count=20)
    assert (figures.sent, figures.statuses[200], len(figures.latencies)) == (20, 20, 20)
    assert sorted(received) == 10 * [b"ab"] + 10 * [b"cd"]
    assert figures.failures == {}


def test_clients_end_when_they_are_told_to_and_not_before() -> None:
    answered: list[int] = []
    figures = driven(
        lambda body: ok(),
        seen=lambda message, status, body: answered.append(status),
        clients=2,
        seconds=60.0,
        going=lambda: len(answered) < 30,
    )
    assert 30 <= figures.statuses[200] <= 31
    assert figures.seconds < 60


def test_whoever_watches_gets_what_was_asked_and_what_came_back() -> None:
    seen: list[tuple[bytes, int, bytes]] = []
    driven(
        lambda body: ok(body.upper()),
        seen=lambda message, status, body: seen.append((message.wire[-2:], status, body)),
        clients=1,
        count=2,
    )
    assert seen == [(b"ab", 200, b"AB"), (b"cd", 200, b"CD")]


def test_refusals_count_by_status_and_one_without_a_time_to_return_is_noted() -> None:
    turns = iter([ok(), ok(b"", "503 no", "Retry-After: 2\r\n"), ok(b"", "503 no"), ok(b"", "500 oh")])
    figures = driven(lambda body: next(turns), clients=1, count=4)
    assert figures.statuses == {200: 1, 503: 2, 500: 1}
    assert (figures.without_retry_after, len(figures.latencies)) == (1, 1)


def test_a_closed_connection_is_one_failure_and_the_client_goes_on() -> None:
    turns = iter([ok(), None, ok()])
    figures = driven(lambda body: next(turns), clients=1, count=3)
    assert (figures.statuses[200], sum(figures.failures.values()), figures.sent) == (2, 1, 3)


def test_nobody_there_is_a_failure_for_each_request() -> None:
    request = ForecastRequest.model_construct(items=[])
    figures = asyncio.run(drive(("127.0.0.1", 1), [Message(request, b"x", 1)], clients=2, count=4))
    assert figures.failures == {"ConnectionRefusedError": 4}
    assert figures.percentile(0.5) == float("inf")


def test_a_percentile_is_an_answer_that_was_seen() -> None:
    figures = Figures(latencies=[0.4, 0.1, 0.3, 0.2], seconds=2.0)
    figures.statuses[200] = 4
    assert (figures.percentile(0.0), figures.percentile(0.5), figures.percentile(0.99)) == (0.1, 0.3, 0.4)
    assert figures.rate == 2.0


@pytest.mark.parametrize("content_type", ["application/json", "application/x-npy"])
def test_a_message_announces_the_body_it_has_and_is_the_same_for_the_same_seed(content_type: str) -> None:
    one, other = (messages(3, seed=7, content_types=(content_type,), items=(1, 2)) for _ in range(2))
    assert [message.wire for message in one] == [message.wire for message in other]
    assert [len(message.request.items) for message in one] == [1, 2, 1]
    for message in one:
        head, _, body = message.wire.partition(b"\r\n\r\n")
        assert f"Content-Length: {len(body)}".encode() in head
        assert f"Content-Type: {content_type}".encode() in head
        assert len(body) == message.size
        message.request.items[0].frame()  # candles that break no rule


def test_a_client_that_asks_by_the_clock_counts_the_time_it_was_kept_from_asking() -> None:
    def slow(body: bytes) -> bytes:
        time.sleep(0.05)
        return ok()

    figures = driven(
        slow, clients=1, count=5, every=0.02
    )  # wants to ask at 0, 20, .. 80 ms; is answered at 50, 100, ..
    assert figures.statuses[200] == 5
    for place, latency in enumerate(figures.latencies):
        assert latency >= 0.05 + place * 0.03 - 0.005


def test_clients_that_ask_by_the_clock_wait_for_it_and_begin_one_after_the_other() -> None:
    times: list[float] = []

    def answer(body: bytes) -> bytes:
        times.append(time.perf_counter())
        return ok()

    driven(answer, clients=2, count=6, every=0.1)
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert min(gaps) > 0.02
    assert times[-1] - times[0] >= 0.24


@pytest.mark.parametrize(
    ("eager", "taken", "early", "statuses"),
    [(False, True, 0, {200: 3}), (True, True, 3, {200: 3}), (False, False, 0, {200: 3})],
    ids=["all-at-work", "answered-before", "not-taken"],
)
def test_what_is_done_amid_requests_is_done_when_all_are_whole_and_none_answered(
    eager: bool, taken: bool, early: int, statuses: dict[int, int]
) -> None:
    """A server that answers once told to, or (eager) a request that is not whole yet."""
    request = ForecastRequest.model_construct(items=[])
    sent = [Message(request, b"POST / HTTP/1.1\r\nContent-Length: 300000\r\n\r\n" + 300_000 * b"a", 300_000)] * 3
    unread, asked = [len(message.wire) for message in sent], list[int]()
    at_moment: list[int] = []

    async def scenario() -> Amid:
        acted, all_read = asyncio.Event(), asyncio.Event()
        numbers = itertools.count()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            number = next(numbers)
            while unread[number] > 1:
                unread[number] -= len(await reader.read(65_536))
            if eager:
                writer.write(ok())
            if max(unread) <= 1:
                all_read.set()
            while unread[number]:
                unread[number] -= len(await reader.read(65_536))
            await acted.wait()
            if not eager:
                writer.write(ok())
            writer.close()

        def is_taken(count: int) -> bool:
            asked.append(count)
            asyncio.run_coroutine_threadsafe(asyncio.wait_for(all_read.wait(), 10), loop).result()
            return taken

        def act() -> None:
            at_moment.extend(unread)
            acted.set()

        loop = asyncio.get_running_loop()
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as running:
            return await amid(running.sockets[0].getsockname()[:2], sent, is_taken, act, patience=10.0)

    seen = asyncio.run(scenario())
    assert (seen.taken, seen.early, asked) == (taken, early, [3])
    assert max(at_moment) <= 1  # the system has the last byte; the server may not have read it
    assert seen.figures.statuses == statuses
    assert len(seen.figures.latencies) == 3


def test_requests_that_are_lost_amid_are_failures_and_not_answers() -> None:
    request = ForecastRequest.model_construct(items=[])
    sent = [Message(request, b"POST / HTTP/1.1\r\n\r\nab", 2)] * 2

    async def scenario() -> Amid:
        writers: list[asyncio.StreamWriter] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\na")
            writers.append(writer)

        def taken(count: int) -> bool:
            until = time.monotonic() + 10
            while len(writers) < count and time.monotonic() < until:
                time.sleep(0.005)
            return len(writers) == count

        def act() -> None:
            for writer in writers:
                writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as running:
            return await amid(running.sockets[0].getsockname()[:2], sent, taken, act, patience=10.0)

    figures = asyncio.run(scenario()).figures
    assert (figures.sent, sum(figures.failures.values()), figures.statuses, figures.latencies) == (2, 2, {}, [])
