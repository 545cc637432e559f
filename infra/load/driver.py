"""N clients on keep-alive connections, each with one request in flight; what they saw, with every latency.

A client asks again as soon as it is answered, or by a clock of its own (``every``): then a latency counts from the
time at which it wanted to ask, so that a server that is behind cannot hide it by being asked less. A message is
written as it is and its answer read with the least work there is, so that the clients leave the machine to the
program they drive. Always true here: every request that was sent is counted once, as an answer with its status or as
a failure with its reason.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from infra.load.bodies import Message

__all__ = ["Amid", "Figures", "amid", "drive", "run"]

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_REFUSED_SECONDS = 0.05  # a client that was refused comes back too soon, but not at once
_RETRY = re.compile(rb"\r\nretry-after: *\d+", re.IGNORECASE)

Seen = Callable[[Message, int, bytes], None]
"""Told of each answer: what was asked, its status, its body."""


@dataclass
class Figures:
    """What a run saw; latencies are seconds, of answers of status 200."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    without_retry_after: int = 0

    @property
    def sent(self) -> int:
        """Requests, answered or not."""
        return sum(self.statuses.values()) + sum(self.failures.values())

    @property
    def rate(self) -> float:
        """Answers of status 200 a second."""
        return self.statuses[200] / self.seconds if self.seconds else 0.0

    def percentile(self, share: float) -> float:
        """Return the latency, s, that ``share`` of the answers did not exceed; infinite where there was none."""
        if not self.latencies:
            return float("inf")
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def __str__(self) -> str:
        statuses = ", ".join(f"{count:,} x {status}" for status, count in sorted(self.statuses.items()))
        failed = ", ".join(f"{count:,} x {reason}" for reason, count in self.failures.items())
        times = " / ".join(f"{1000 * self.percentile(share):.1f}" for share in (0.5, 0.95, 0.99))
        return (
            f"{self.rate:,.0f} requests/s, p50/p95/p99 {times} ms; {statuses or 'no answer'}"
            f"{'; ' + failed if failed else ''}"
        )


class _Supply:
    """Hands out messages until the count or the time is used up, or it is told to end."""

    def __init__(
        self, messages: Sequence[Message], count: int | None, seconds: float | None, going: Callable[[], bool]
    ) -> None:
        self._messages, self._count, self._going = messages, count, going
        self._until = None if seconds is None else time.perf_counter() + seconds
        self._given = 0

    def next(self) -> Message | None:
        if self._count is not None and self._given >= self._count:
            return None
        if self._until is not None and time.perf_counter() >= self._until:
            return None
        if not self._going():
            return None
        self._given += 1
        return self._messages[(self._given - 1) % len(self._messages)]


class _Connection(asyncio.Protocol):
    """One client's connection: sends a message, reads one answer."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._needed: int | None = None
        self._body = 0
        self._answer: asyncio.Future[tuple[int, bytes, bytes]] | None = None
        self.open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self.open = True

    def ask(self, message: bytes) -> asyncio.Future[tuple[int, bytes, bytes]]:
        """Send ``message``; the future is status, head and body of the answer, or the failure."""
        self._answer = asyncio.get_running_loop().create_future()
        self._received.clear()
        self._needed = None
        if self._transport is not None:
            self._transport.write(message)
        return self._answer

    def send(self, rest: bytes) -> None:
        """Send more of a message that was asked in part."""
        if self._transport is not None:
            self._transport.write(rest)

    @property
    def is_sent(self) -> bool:
        """Whether the system has taken everything."""
        return self._transport is not None and not self._transport.get_write_buffer_size()

    @property
    def is_answered(self) -> bool:
        """Whether anything of an answer has come, or none can any more."""
        return bool(self._received) or not self.open

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._needed is None:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            length = _LENGTH.search(self._received, 0, end + 2)
            self._body = end + 4
            self._needed = self._body + (int(length[1]) if length else 0)
        if len(self._received) >= self._needed and self._answer is not None and not self._answer.done():
            head = bytes(self._received[: self._body])
            self._answer.set_result((int(head[9:12]), head, bytes(self._received[self._body : self._needed])))

    def connection_lost(self, error: Exception | None) -> None:
        self.open = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error or ConnectionResetError("closed"))

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.abort()


class _Clock:
    """When a client asks: at once, or every so many seconds from ``first`` on."""

    def __init__(self, first: float, every: float | None) -> None:
        self._due, self._every = first, every

    async def next(self) -> float:
        """Wait until it is time, and return the time at which the client wanted to ask."""
        now = time.perf_counter()
        if self._every is None:
            return now
        due, self._due = self._due, self._due + self._every
        if due > now:
            await asyncio.sleep(due - now)
        return due


async def _client(
    address: tuple[str, int], supply: _Supply, clock: _Clock, figures: Figures, *, patience: float, seen: Seen | None
) -> None:
    loop = asyncio.get_running_loop()
    connection: _Connection | None = None
    while (message := supply.next()) is not None:
        begun = await clock.next()
        try:
            if connection is None or not connection.open:
                connection = (await asyncio.wait_for(loop.create_connection(_Connection, *address), patience))[1]
            status, head, body = await asyncio.wait_for(connection.ask(message.wire), patience)
        except (OSError, TimeoutError) as error:
            figures.failures[type(error).__name__] += 1
            if connection is not None:
                connection.close()
            connection = None
            await asyncio.sleep(0.02)
            continue
        figures.statuses[status] += 1
        if status == 200:
            figures.latencies.append(time.perf_counter() - begun)
        elif status == 503:
            figures.without_retry_after += _RETRY.search(head) is None
            await asyncio.sleep(_REFUSED_SECONDS)
        if seen is not None:
            seen(message, status, body)
    if connection is not None:
        connection.close()


async def drive(
    address: tuple[str, int],
    messages: Sequence[Message],
    *,
    clients: int,
    count: int | None = None,
    seconds: float | None = None,
    every: float | None = None,
    going: Callable[[], bool] = lambda: True,
    patience: float = 60.0,
    seen: Seen | None = None,
) -> Figures:
    """Let ``clients`` send ``messages`` round and round until ``count`` were sent, or ``seconds`` are over.

    Parameters
    ----------
    every
        Seconds from one request of a client to the next; without it a client asks as soon as it is answered.
    going
        Asked before every request; no more are sent once it is False.
    patience
        Seconds that a client waits for a connection, and for an answer.
    seen
        Called with every answer.
    """
    figures, supply = Figures(), _Supply(messages, count, seconds, going)
    begun = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for place in range(clients):
            clock = _Clock(begun + (every or 0.0) * place / clients, every)
            group.create_task(_client(address, supply, clock, figures, patience=patience, seen=seen))
    figures.seconds = time.perf_counter() - begun
    return figures


def run(address: tuple[str, int], messages: Sequence[Message], **how: object) -> Figures:
    """Run `drive` on an event loop of its own."""
    return asyncio.run(drive(address, messages, **how))  # type: ignore[arg-type]


def _timed(figures: Figures, begun: float, answer: asyncio.Future[tuple[int, bytes, bytes]]) -> None:
    if not answer.cancelled() and answer.exception() is None and answer.result()[0] == 200:
        figures.latencies.append(time.perf_counter() - begun)


@dataclass(frozen=True)
class Amid:
    """What a run saw around one moment.

    Parameters
    ----------
    taken
        Whether the program said before it that it had every request.
    early
        Requests that were answered, or whose connections were lost, before it.
    """

    figures: Figures
    taken: bool
    early: int


async def amid(
    address: tuple[str, int],
    messages: Sequence[Message],
    taken: Callable[[int], bool],
    act: Callable[[], object],
    *,
    patience: float = 60.0,
) -> Amid:
    """Do ``act`` while every one of ``messages`` has been sent whole and none is answered.

    Each is sent but for its last byte, on a connection of its own: none can be answered while ``taken`` is waited
    for, and the program is free to say how many it has. Then the last bytes are sent, and once the system has them
    ``act`` is called.

    Parameters
    ----------
    taken
        Tells, in a thread of its own, whether the program has as many requests as it is given.
    patience
        Seconds for the last bytes, and then for every answer.
    """
    loop, figures, begun = asyncio.get_running_loop(), Figures(), time.perf_counter()
    connections = [(await loop.create_connection(_Connection, *address))[1] for _ in messages]
    try:
        answers = [one.ask(message.wire[:-1]) for one, message in zip(connections, messages, strict=True)]
        for answer in answers:
            answer.add_done_callback(partial(_timed, figures, begun))
        has_all = await asyncio.to_thread(taken, len(messages))
        for one, message in zip(connections, messages, strict=True):
            one.send(message.wire[-1:])
        async with asyncio.timeout(patience):
            while not all(one.is_sent or not one.open for one in connections):
                await asyncio.sleep(0.001)
        act()
        await asyncio.sleep(0)  # an answer that has come by now counts as early, be it a moment younger
        early = sum(one.is_answered for one in connections)
        await asyncio.wait(answers, timeout=patience)
    finally:
        for one in connections:
            one.close()
    figures.seconds = time.perf_counter() - begun
    for answer in answers:
        if not answer.done():
            figures.failures["TimeoutError"] += 1
        elif (error := answer.exception()) is not None:
            figures.failures[type(error).__name__] += 1
        else:
            figures.statuses[answer.result()[0]] += 1
    return Amid(figures, has_all, early)
