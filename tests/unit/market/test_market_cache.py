from __future__ import annotations

import io
import logging
import pickle

import numpy as np
import pytest

from fusiontrade.clock import parse_iso
from fusiontrade.errors import StateUnavailable
from fusiontrade.market.archive import CandleArchive
from fusiontrade.market.cache import CachedCandles, CacheKey, CandleCache
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe

HOUR = 3_600_000
T0 = parse_iso("2025-07-23T00:00:00Z")
KEY = CacheKey("BTC-USD", Timeframe.H1)


@pytest.fixture(autouse=True)
def warnings_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever level an application that was imported before has set."""
    caplog.set_level(logging.WARNING, logger="fusiontrade.market.archive")


def bars(first: int, count: int, *, level: float = 1.0, volume: bool = True) -> CandleFrame:
    """``count`` bars of an hour from ``first`` on; prices depend on the time alone."""
    time = first + np.arange(count, dtype=np.int64) * HOUR
    close = level * (100 + (time // HOUR % 50).astype(float))
    spare = np.ones(count) if volume else None
    return CandleFrame("BTC-USD", Timeframe.H1, time, close, close * 1.01, close * 0.99, close, spare)


def entry(count: int = 24, *, end: int = T0 + 24 * HOUR, exhausted: bool = False) -> CachedCandles:
    return CachedCandles(bars(end - count * HOUR, count), end, end + HOUR, exhausted)


# ---------------------------------------------------------------- memory


def test_an_entry_answers_until_a_newer_bar_may_exist() -> None:
    kept = entry()
    answer = kept.answer(kept.end + HOUR - 1, 10)
    assert answer is not None
    assert (len(answer), int(answer.close_time[-1])) == (10, kept.end)
    assert kept.answer(kept.end + HOUR, 10) is None


def test_an_entry_answers_the_past_without_what_was_not_finished_then() -> None:
    answer = entry().answer(T0 + 12 * HOUR + 1, 5)
    assert answer is not None
    np.testing.assert_array_equal(answer.close_time, T0 + np.arange(8, 13) * HOUR)


def test_too_few_bars_are_no_answer_unless_history_begins_with_them() -> None:
    assert entry(24).answer(T0 + 24 * HOUR, 25) is None
    answer = entry(24, exhausted=True).answer(T0 + 24 * HOUR, 25)
    assert answer is not None
    assert len(answer) == 24


def test_an_instant_before_the_first_bar_is_no_answer() -> None:
    assert entry(exhausted=True).answer(T0 - HOUR, 5) is None
    assert entry().leftovers(T0 - HOUR, 5) is None


def test_leftovers_are_there_however_old_but_never_from_after_the_moment() -> None:
    kept = entry()
    old = kept.leftovers(kept.end + 1000 * HOUR, 5)
    past = kept.leftovers(T0 + 2 * HOUR, 5)
    assert old is not None
    assert past is not None
    assert (int(old.close_time[-1]), len(past)) == (kept.end, 2)


def test_the_least_recently_used_entry_makes_room() -> None:
    cache = CandleCache(2 * entry().nbytes)
    first, second, third = (CacheKey(code, Timeframe.H1) for code in "ABC")
    for key in (first, second):
        cache.put(key, entry())
    cache.get(first)
    cache.put(third, entry())
    assert (len(cache), cache.get(second)) == (2, None)
    assert cache.get(first) is not None


def test_an_older_entry_does_not_replace_a_newer_one() -> None:
    cache, newer, older = CandleCache(), entry(end=T0 + 9 * HOUR), entry(end=T0 + 8 * HOUR)
    cache.put(KEY, newer)
    cache.put(KEY, older)
    assert cache.get(KEY) is newer


def test_a_cache_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one entry"):
        CandleCache(0)


def test_what_a_cache_holds_is_counted_in_bytes_and_never_more_than_it_may() -> None:
    cache = CandleCache(3 * entry(24).nbytes)
    for number in range(9):
        cache.put(CacheKey(f"S{number}", Timeframe.H1), entry(24))
        assert cache.nbytes == sum(each.nbytes for each in cache._entries.values()) <= 3 * entry(24).nbytes
    cache.put(CacheKey("S8", Timeframe.H1), entry(12))
    assert (len(cache), cache.nbytes) == (3, 2 * entry(24).nbytes + entry(12).nbytes)
    large = entry(600)
    cache.put(KEY, large)
    assert (len(cache), cache.get(KEY)) == (1, large)


def test_four_timeframes_of_a_hundred_symbols_and_more_fit() -> None:
    cache = CandleCache()
    for number in range(300):
        for timeframe in (Timeframe.M15, Timeframe.M30, Timeframe.H1, Timeframe.H4):
            cache.put(CacheKey(f"S{number}", timeframe), entry(720))
    assert len(cache) == 1200


def test_an_entry_keeps_no_longer_history_alive_than_its_own() -> None:
    whole = bars(T0, 5000)
    cache = CandleCache()
    cache.put(KEY, CachedCandles(whole.tail(24), T0 + 5000 * HOUR, T0 + 5001 * HOUR, False))
    kept = cache.get(KEY)
    assert kept is not None
    assert kept.frame.time.base is None
    np.testing.assert_array_equal(kept.frame.close, whole.close[-24:])


# ---------------------------------------------------------------- the archive


class Objects:
    """A store of objects in memory: our own port, and what can happen to it."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.puts = 0
        self.down = False

    def get(self, key: str) -> bytes | None:
        if self.down:
            raise StateUnavailable("storage is down")
        return self.kept.get(key)

    def put(self, key: str, body: bytes) -> None:
        if self.down:
            raise StateUnavailable("storage is down")
        self.puts += 1
        self.kept[key] = body


JUNE_END = parse_iso("2025-07-01T00:00:00Z")


@pytest.fixture
def objects() -> Objects:
    return Objects()


@pytest.fixture
def archive(objects: Objects) -> CandleArchive:
    return CandleArchive(objects, "yahoo")


def load(archive: CandleArchive, end: int, count: int) -> CandleFrame | None:
    return archive.load("BTC-USD", Timeframe.H1, end=end, count=count)


def test_bars_come_back_as_they_were_across_months(objects: Objects, archive: CandleArchive) -> None:
    saved = bars(JUNE_END - 10 * HOUR, 30)
    archive.save(saved)
    assert sorted(objects.kept) == [f"candles/yahoo/BTC-USD/1h/2025-{month}.npz" for month in ("06", "07")]
    loaded = load(archive, JUNE_END + 20 * HOUR, 25)
    assert loaded is not None
    for name in ("time", "open", "high", "low", "close", "volume"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(saved.tail(25), name))


def test_bars_without_volume_come_back_without(archive: CandleArchive) -> None:
    archive.save(bars(T0, 5, volume=False))
    loaded = load(archive, T0 + 5 * HOUR, 5)
    assert loaded is not None
    assert loaded.volume is None


def test_a_past_moment_gets_bars_finished_by_then(archive: CandleArchive) -> None:
    archive.save(bars(T0, 24))
    loaded = load(archive, T0 + 12 * HOUR + 5, 100)
    assert loaded is not None
    assert (int(loaded.close_time[-1]), len(loaded)) == (T0 + 12 * HOUR, 12)


def test_an_hour_into_a_new_month_the_last_one_still_answers(archive: CandleArchive) -> None:
    archive.save(bars(JUNE_END - 10 * HOUR, 10))
    loaded = load(archive, JUNE_END + HOUR // 2, 5)
    assert loaded is not None
    assert int(loaded.close_time[-1]) == JUNE_END


def test_a_hole_between_two_fetches_is_never_bridged(archive: CandleArchive) -> None:
    archive.save(bars(T0, 10))
    archive.save(bars(T0 + 20 * HOUR, 10))
    loaded = load(archive, T0 + 30 * HOUR, 100)
    assert loaded is not None
    np.testing.assert_array_equal(loaded.time, bars(T0 + 20 * HOUR, 10).time)
    archive.save(bars(T0 + 8 * HOUR, 14))
    whole = load(archive, T0 + 30 * HOUR, 100)
    assert whole is not None
    np.testing.assert_array_equal(whole.time, bars(T0, 30).time)


def test_a_hole_at_the_end_of_a_month_is_never_bridged(archive: CandleArchive) -> None:
    archive.save(bars(JUNE_END - 10 * HOUR, 8))
    archive.save(bars(JUNE_END, 10))
    loaded = load(archive, JUNE_END + 10 * HOUR, 100)
    assert loaded is not None
    assert int(loaded.time[0]) == JUNE_END + HOUR  # a month's first bar answers once it was fetched with one before it


def test_a_readjusted_past_replaces_what_was_kept(archive: CandleArchive) -> None:
    archive.save(bars(T0, 20))
    archive.save(bars(T0 + 10 * HOUR, 20, level=0.5))
    loaded = load(archive, T0 + 30 * HOUR, 100)
    assert loaded is not None
    np.testing.assert_array_equal(loaded.close, bars(T0 + 10 * HOUR, 20, level=0.5).close)


@pytest.mark.parametrize("second", [T0 + 10 * HOUR, JUNE_END])
def test_fetches_that_share_no_bar_are_not_joined_because_nothing_shows_a_split_between_them(
    archive: CandleArchive, second: int
) -> None:
    archive.save(bars(second - 10 * HOUR, 10))
    archive.save(bars(second, 10, level=0.5))
    loaded = load(archive, second + 10 * HOUR, 100)
    assert loaded is not None
    np.testing.assert_array_equal(loaded.close, bars(second, 10, level=0.5).close[-len(loaded) :])
    archive.save(bars(second - 3 * HOUR, 13, level=0.5))
    whole = load(archive, second + 10 * HOUR, 100)
    assert whole is not None
    np.testing.assert_array_equal(whole.close, bars(second - 3 * HOUR, 13, level=0.5).close)


def test_what_is_kept_already_is_not_written_again(objects: Objects, archive: CandleArchive) -> None:
    archive.save(bars(T0, 20))
    archive.save(bars(T0 + 5 * HOUR, 10))
    assert objects.puts == 1


def damaged_by(kind: str, body: bytes) -> bytes:
    if kind == "cut":
        return body[: len(body) // 2]
    if kind == "text":
        return b"<html>no such bucket</html>"
    if kind == "pickle":
        return pickle.dumps({"time": [1]})
    columns = dict(np.load(io.BytesIO(body)))
    if kind == "objects":
        columns["close"] = np.array([{"a": 1}] * len(columns["close"]), dtype=object)
    elif kind == "missing":
        del columns["close"]
    elif kind == "spans":
        columns["covered"] = np.array([1, 2, 3])
    else:
        columns["high"] = columns["high"] * 0
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **columns)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["cut", "text", "pickle", "objects", "missing", "spans", "wrong"])
def test_a_damaged_object_is_a_miss_with_a_warning_and_is_replaced(
    kind: str, objects: Objects, archive: CandleArchive, caplog: pytest.LogCaptureFixture
) -> None:
    archive.save(bars(T0, 10))
    (key,) = objects.kept
    objects.kept[key] = damaged_by(kind, objects.kept[key])
    assert load(archive, T0 + 10 * HOUR, 5) is None
    assert "damaged and ignored" in caplog.text
    archive.save(bars(T0, 10))
    assert load(archive, T0 + 10 * HOUR, 5) is not None


def test_a_store_that_is_down_is_a_miss_with_a_warning(
    objects: Objects, archive: CandleArchive, caplog: pytest.LogCaptureFixture
) -> None:
    objects.down = True
    archive.save(bars(T0, 10))
    assert load(archive, T0 + 10 * HOUR, 5) is None
    assert "not archived" in caplog.text
    assert "cannot be read" in caplog.text


def test_an_empty_archive_has_nothing(archive: CandleArchive) -> None:
    assert load(archive, T0, 5) is None
