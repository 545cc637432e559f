"""Where the product gets its candles: one provider behind a cache, a single flight, retries and a circuit breaker.

Always true of an answer: its bars passed `CandleFrame.checked`, were finished by ``as_of``, and are never none. Bars
that are older than the market's hours explain are marked ``stale`` with a warning; nothing is ever filled in. Who asks
waits no longer than the deadline: what does not come by then is a `ProviderUnavailable`.

The way of a request: memory → the archive → the provider (one request per symbol, timeframe and bar in flight, tried
again with jitter while time is left, not at all while the circuit is open) → what is left in memory or archive, marked
stale.
"""

from __future__ import annotations

import random as random_numbers
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass

from fusiontrade.clock import Clock, iso, system_clock
from fusiontrade.deadline import Deadline
from fusiontrade.errors import BadCandles, FusionTradeError, InvalidInput, ProviderUnavailable
from fusiontrade.market.archive import CandleArchive, CandleStore
from fusiontrade.market.breaker import CircuitBreaker
from fusiontrade.market.cache import CachedCandles, CacheKey, CandleCache
from fusiontrade.market.calendar import calendar_of
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.derived import bars_for, derive
from fusiontrade.market.flights import Flights
from fusiontrade.market.freshness import fresh_until, is_current, is_late
from fusiontrade.market.providers.base import HistoryUnavailable, Provider
from fusiontrade.market.retry import NothingSent, RetryPolicy, with_retries
from fusiontrade.market.symbols import Symbol
from fusiontrade.market.timeframes import Timeframe

__all__ = ["CandleAnswer", "CandleSource"]

_OLDEST_LEFTOVER = 7 * 86_400_000  # ms
_ARCHIVING = 1.0  # s of the deadline that must be left for writing to the archive


@dataclass(frozen=True, eq=False)
class CandleAnswer:
    """Candles with what a reader has to know about them.

    Parameters
    ----------
    frame
        Checked bars, finished by ``as_of``; at least one, oldest first.
    source
        The provider's name.
    stale
        Whether bars are missing at the end that the market's hours say should be there.
    warnings
        What every reader of these bars has to be told, in words.
    market_open
        Whether the market trades at ``as_of``.
    as_of
        The instant (ms) the answer holds for: the one asked about, else the provider's present.
    """

    frame: CandleFrame
    source: str
    stale: bool
    warnings: tuple[str, ...]
    market_open: bool
    as_of: int


@dataclass(frozen=True)
class _Request:
    """Bars of a timeframe that the provider keeps itself."""

    symbol: Symbol
    timeframe: Timeframe
    count: int
    end: int
    live: bool

    @property
    def key(self) -> CacheKey:
        """One key for the present; one a bar for past moments."""
        return self.present if self.live else CacheKey(self.symbol.code, self.timeframe, self._bar)

    @property
    def present(self) -> CacheKey:
        return CacheKey(self.symbol.code, self.timeframe)

    @property
    def flight(self) -> CacheKey:
        return CacheKey(self.symbol.code, self.timeframe, self._bar)

    @property
    def _bar(self) -> int:
        return self.end // self.timeframe.milliseconds


class CandleSource:
    """Candles of one provider; safe to share between threads, made once a process.

    Parameters
    ----------
    provider
        Who has the candles. Its optional attribute ``derived`` (longer timeframe → the one it is put together from)
        lets timeframes share one request.
    cache
        Candles in memory; default: as many as `fusiontrade.market.cache.MOST_BYTES` hold.
    storage
        Objects for the archive, or None: no archive.
    clock
        The present, ms: an ``as_of`` after it is refused.
    breaker, retry
        How failures of the provider are met.
    random, sleep
        Uniform numbers in [0, 1), and waiting for seconds, between retries.
    attempt_seconds
        The most that one request to the provider may take.
    workers
        Requests that `many` keeps going at once, over all callers.
    """

    def __init__(
        self,
        provider: Provider,
        *,
        cache: CandleCache | None = None,
        storage: CandleStore | None = None,
        clock: Clock = system_clock,
        breaker: CircuitBreaker | None = None,
        retry: RetryPolicy | None = None,
        random: Callable[[], float] = random_numbers.random,
        sleep: Callable[[float], None] = time.sleep,
        attempt_seconds: float = 10.0,
        workers: int = 16,
    ) -> None:
        self._provider = provider
        self._derived: Mapping[Timeframe, Timeframe] = getattr(provider, "derived", {})
        self._cache = CandleCache() if cache is None else cache
        self._archive = None if storage is None else CandleArchive(storage, provider.name)
        self._clock = clock
        self._breaker = CircuitBreaker(provider.name) if breaker is None else breaker
        self._retry = RetryPolicy() if retry is None else retry
        self._random = random
        self._sleep = sleep
        self._attempt_seconds = attempt_seconds
        self._flights: Flights[CachedCandles] = Flights()
        self._pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="candles")

    @property
    def provider(self) -> Provider:
        """Who has the candles."""
        return self._provider

    def close(self) -> None:
        """Let the worker threads go; `many` must not be called any more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def candles(
        self, symbol: Symbol, timeframe: Timeframe, *, count: int, as_of: int | None = None, deadline: Deadline
    ) -> CandleAnswer:
        """Return the newest ``count`` bars that were finished at ``as_of``.

        Parameters
        ----------
        count
            At most so many bars; fewer where the provider's history begins within them.
        as_of
            An instant, ms, or None for the provider's present.
        deadline
            By when the answer has to be there.

        Raises
        ------
        InvalidInput
            If ``as_of`` lies in the future (``HistoryUnavailable`` where the provider keeps no such history), or
            ``count`` is not positive.
        UnknownSymbol
            If the provider does not know the symbol.
        ProviderUnavailable
            If it does not answer, answers too late or answers nonsense, and nothing is left of earlier answers.
        """
        end = self._moment(symbol, as_of, count)
        return self._answer(symbol, timeframe, count, self._request(symbol, timeframe, count, end, as_of), deadline)

    def many(
        self,
        symbol: Symbol,
        timeframes: Iterable[Timeframe],
        *,
        count: int,
        as_of: int | None = None,
        deadline: Deadline,
    ) -> dict[Timeframe, CandleAnswer | FusionTradeError]:
        """Return `candles` of each timeframe as of one instant, fetched at the same time; errors stand as values.

        Raises
        ------
        InvalidInput, UnknownSymbol
            As in `candles`, where it concerns the request as a whole.
        """
        end = self._moment(symbol, as_of, count)
        wanted = tuple(dict.fromkeys(timeframes))
        requests = {timeframe: self._request(symbol, timeframe, count, end, as_of) for timeframe in wanted}
        deepest: dict[Timeframe, int] = {}
        for request in requests.values():
            deepest[request.timeframe] = max(request.count, deepest.get(request.timeframe, 0))
        futures = {
            timeframe: self._pool.submit(
                copy_context().run,
                self._answer,
                symbol,
                timeframe,
                count,
                _Request(symbol, request.timeframe, deepest[request.timeframe], end, request.live),
                deadline,
            )
            for timeframe, request in requests.items()
        }
        answers: dict[Timeframe, CandleAnswer | FusionTradeError] = {}
        for timeframe, future in futures.items():
            try:
                answers[timeframe] = future.result(deadline.remaining())
            except FusionTradeError as error:
                answers[timeframe] = error
            except TimeoutError:
                future.cancel()
                answers[timeframe] = self._too_late(symbol, timeframe)
        return answers

    def _moment(self, symbol: Symbol, as_of: int | None, count: int) -> int:
        if count < 1:
            raise InvalidInput("count", f"count is {count}: ask for at least one bar")
        if as_of is None:
            return self._provider.now(symbol)
        if as_of > self._clock():
            raise InvalidInput("query/as_of", f"{iso(as_of)} lies in the future: leave as_of out to ask about now")
        return as_of

    def _request(self, symbol: Symbol, timeframe: Timeframe, count: int, end: int, as_of: int | None) -> _Request:
        base = self._derived.get(timeframe, timeframe)
        return _Request(symbol, base, bars_for(timeframe, base, count), end, as_of is None)

    def _answer(
        self, symbol: Symbol, timeframe: Timeframe, count: int, request: _Request, deadline: Deadline
    ) -> CandleAnswer:
        bars, failure = self._bars(request, deadline)
        frame = bars if request.timeframe is timeframe else derive(bars, symbol, timeframe, end=request.end)
        frame = frame.tail(count)
        if not len(frame):
            raise HistoryUnavailable(f"{self._provider.name} has no finished {timeframe} bar of {symbol.code} by then")
        self._check_age(frame, request)
        late = failure is not None or is_late(bars, request.symbol, request.end)
        notes = (self._provider.notice, self._provider.stand_in(symbol), self._lateness(frame, failure, late))
        return CandleAnswer(
            frame=frame,
            source=self._provider.name,
            stale=late,
            warnings=tuple(note for note in notes if note),
            market_open=calendar_of(symbol).is_open(request.end),
            as_of=request.end,
        )

    def _check_age(self, frame: CandleFrame, request: _Request) -> None:
        """Raise where the newest bar is so old that an answer would be about another time than the one asked about."""
        newest = int(frame.close_time[-1])
        if request.end - newest <= _OLDEST_LEFTOVER:
            return
        told = (
            f"{self._provider.name} has no {frame.timeframe} bar of {frame.symbol} after {iso(newest)}: "
            f"too old to say anything about {iso(request.end)}"
        )
        raise ProviderUnavailable(told) if request.live else HistoryUnavailable(told)

    def _lateness(self, frame: CandleFrame, failure: ProviderUnavailable | None, late: bool) -> str | None:
        if not late:
            return None
        newest = (
            f"the newest finished {frame.timeframe} bar of {frame.symbol} closed at {iso(int(frame.close_time[-1]))}"
        )
        return f"stale candles: {newest}" if failure is None else f"stale candles: {newest} ({failure})"

    def _bars(self, request: _Request, deadline: Deadline) -> tuple[CandleFrame, ProviderUnavailable | None]:
        """Return bars and, where they are leftovers, the failure that made us use them."""
        try:
            return self._fresh(request, deadline), None
        except ProviderUnavailable as failure:
            kept = self._leftovers(request)
            if kept is None:
                raise
            return kept, failure

    def _fresh(self, request: _Request, deadline: Deadline) -> CandleFrame:
        while True:
            kept = self._cached(request)
            if kept is not None:
                return kept
            flight, leads = self._flights.join(request.flight, deadline)
            if leads:
                try:
                    entry = self._fetched_unless_cached(request, deadline)
                    flight.land(entry)
                except BaseException as error:
                    flight.fail(error)
                    raise
                finally:
                    self._flights.close(request.flight)
            else:
                landed = flight.wait(deadline)
                if landed is None:
                    continue
                entry = landed
            answer = entry.answer(request.end, request.count)
            if answer is not None:
                return answer

    def _fetched_unless_cached(self, request: _Request, deadline: Deadline) -> CachedCandles:
        """Return the entry that came while this caller was on its way to lead, else fetch it."""
        for key in (request.present, request.key):
            entry = self._cache.get(key)
            if entry is not None and entry.answer(request.end, request.count) is not None:
                return entry
        entry = self._fetched(request, deadline)
        self._cache.put(request.key, entry)
        return entry

    def _cached(self, request: _Request) -> CandleFrame | None:
        for key in (request.present, request.key):
            entry = self._cache.get(key)
            answer = None if entry is None else entry.answer(request.end, request.count)
            if answer is not None:
                return answer
        return None

    def _fetched(self, request: _Request, deadline: Deadline) -> CachedCandles:
        frame = self._archived(request)
        if frame is None:
            frame = self._asked_for(request, deadline)
            if self._archive is not None and deadline.remaining() > _ARCHIVING:
                self._archive.save(frame)
        exhausted = len(frame) < request.count
        return CachedCandles(frame, request.end, fresh_until(frame, request.symbol, request.end), exhausted)

    def _archived(self, request: _Request) -> CandleFrame | None:
        """Return the archive's bars where they are all that could be asked for."""
        if self._archive is None:
            return None
        symbol, timeframe = request.symbol, request.timeframe
        frame = self._archive.load(symbol.code, timeframe, end=request.end, count=request.count)
        if frame is None or len(frame) < request.count:
            return None
        return frame if is_current(frame, symbol, request.end) else None

    def _asked_for(self, request: _Request, deadline: Deadline) -> CandleFrame:
        try:
            return with_retries(
                lambda: self._ask(request, deadline),
                policy=self._retry,
                deadline=deadline,
                random=self._random,
                sleep=self._sleep,
            )
        except BadCandles as error:
            name = self._provider.name
            raise ProviderUnavailable(f"{name} sent bars that cannot be true: {error}", retry_after=60) from error

    def _ask(self, request: _Request, deadline: Deadline) -> CandleFrame:
        symbol, timeframe = request.symbol, request.timeframe
        if deadline.expired:
            raise self._too_late(symbol, timeframe)
        with self._breaker.call(symbol.code):
            frame = self._provider.candles(
                symbol,
                timeframe,
                end=request.end,
                count=request.count,
                timeout=min(deadline.remaining(), self._attempt_seconds),
            )
            frame = frame.checked().finished_by(request.end).tail(request.count)
            if not len(frame):
                raise NothingSent(f"{self._provider.name} sent no finished {timeframe} bar of {symbol.code}")
            return frame

    def _leftovers(self, request: _Request) -> CandleFrame | None:
        """Return the newest bars that are left of earlier answers, or None where they are too old to be of use."""
        entries = (self._cache.get(key) for key in (request.present, request.key))
        frames = [entry.leftovers(request.end, request.count) for entry in entries if entry is not None]
        if self._archive is not None and not any(frame is not None for frame in frames):
            code = request.symbol.code
            frames.append(self._archive.load(code, request.timeframe, end=request.end, count=request.count))
        usable = [frame for frame in frames if frame is not None]
        newest = max(usable, key=lambda frame: int(frame.close_time[-1]), default=None)
        if newest is None or request.end - int(newest.close_time[-1]) > _OLDEST_LEFTOVER:
            return None
        return newest

    def _too_late(self, symbol: Symbol, timeframe: Timeframe) -> ProviderUnavailable:
        return ProviderUnavailable(f"{self._provider.name} did not answer for {symbol.code} {timeframe} in time")
