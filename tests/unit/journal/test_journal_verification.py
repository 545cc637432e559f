"""What candles decide of entries, against a walk written apart from the product, over candles of real shape."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import cache
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusiontrade.clock import parse_iso
from fusiontrade.deadline import Deadline
from fusiontrade.errors import ProviderUnavailable
from fusiontrade.journal.entries import IMPORTED, SHARDS, Entry, decimal_of
from fusiontrade.journal.horizons import expiry, walked
from fusiontrade.journal.settlement import Settlement
from fusiontrade.journal.store import DuePage, Journal
from fusiontrade.journal.verification import Group, Verification, groups_of, outcomes_of
from fusiontrade.market.calendar import calendar_of
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.providers.simulated import SimulatedProvider
from fusiontrade.market.source import CandleAnswer, CandleSource
from fusiontrade.market.symbols import parse_symbol
from fusiontrade.market.timeframes import Timeframe
from tests.support.journal_entries import ALICE, DAY, HOUR, NOON, buy, sell
from tests.support.markets import Market

END = parse_iso("2026-01-09T18:00:00Z")  # weeks with Christmas, New Year and a market that opens after them
SYMBOLS = ("EURUSD=X", "GC=F", "BTC-USD", "AAPL")
STEPS = (Timeframe.M15, Timeframe.H1, Timeframe.H4)
UNDECIDED = ("PENDING", None, None)


@cache
def market(code: str, timeframe: Timeframe) -> CandleFrame:
    """Bars of the simulated market, every fifth of which opens away from the close before it."""
    symbol = parse_symbol(code)
    frame = SimulatedProvider(lambda: END).candles(symbol, timeframe, end=END, count=1200, timeout=9.0)
    rng = np.random.default_rng(len(code) + timeframe.milliseconds)
    jumps = rng.normal(0, 2, len(frame)) * (rng.random(len(frame)) < 0.2) * _range(frame) / frame.close.mean()
    factor = np.exp(np.cumsum(jumps))
    keep = rng.random(len(frame)) > 0.03  # bars that a feed never brings
    keep[-1] = True
    moved = [column * factor for column in (frame.open, frame.high, frame.low, frame.close)]
    return CandleFrame(code, timeframe, frame.time, *moved).rows(keep).checked()


def _range(frame: CandleFrame) -> float:
    return float((frame.high - frame.low).mean())


def answer_of(frame: CandleFrame, at: int = END) -> CandleAnswer:
    return CandleAnswer(frame.rows(np.asarray(frame.close_time <= at)), "simulated", False, (), True, at)


def random_entries(code: str, timeframe: Timeframe, count: int, seed: int) -> list[Entry]:
    """Entries at the closes of random bars, with levels near enough for touches, both-touched bars and gaps."""
    frame, rng, symbol = market(code, timeframe), np.random.default_rng(seed), parse_symbol(code)
    entries: dict[str, Entry] = {}
    while len(entries) < count:
        row = int(rng.integers(50, len(frame) - 1))
        price, unit = float(frame.close[row]), _range(frame) * float(rng.uniform(0.2, 2.5))
        opened_at = int(frame.close_time[row])
        make, sign = (buy, 1) if rng.random() < 0.5 else (sell, -1)
        entry = make(
            symbol=code, interval=timeframe.value, opened_at=opened_at, entry_price=decimal_of(price),
            tp1=decimal_of(price + sign * 2 * unit), stop_loss=decimal_of(price - sign * 1.5 * unit),
            expires_at=expiry(symbol, timeframe, opened_at, int(rng.integers(1, 9))), tp2=None, tp3=None,
        )  # fmt: skip
        entries[entry.id] = entry
    return list(entries.values())


def told_by_hand(entry: Entry, frame: CandleFrame, known_to: int) -> tuple[str, float | None, int | None]:
    """The rules as a trader would tell them, bar after bar, on floats and with words for each side."""
    last, seen = float(entry.levels[0]), 0
    for row in range(len(frame)):
        begins, ends = int(frame.time[row]), int(frame.time[row]) + frame.timeframe.milliseconds
        if begins < entry.opened_at:
            continue
        if ends > entry.expires_at or ends > known_to:
            break
        bar = tuple(float(column[row]) for column in (frame.open, frame.high, frame.low))
        found = long_by_hand(entry, *bar) if entry.signal == "BUY" else short_by_hand(entry, *bar)
        if found is not None:
            status, price, at_the_open = found
            return status, price, begins if at_the_open else ends
        last, seen = float(frame.close[row]), seen + 1
    missing = not seen and len(whole_bars_of(entry, frame))
    return ("EXPIRED", last, entry.expires_at) if known_to >= entry.expires_at and not missing else UNDECIDED


def whole_bars_of(entry: Entry, frame: CandleFrame) -> Sequence[int]:
    length = frame.timeframe.milliseconds
    opens = calendar_of(parse_symbol(entry.symbol)).bar_opens(frame.timeframe, entry.opened_at, entry.expires_at)
    return [opened for opened in opens.tolist() if opened + length <= entry.expires_at]


def long_by_hand(entry: Entry, opened: float, high: float, low: float) -> tuple[str, float, bool] | None:
    _, target, stop = map(float, entry.levels)
    if opened <= stop:
        return "LOSS", opened, True
    if opened >= target:
        return "WIN", opened, True
    if low <= stop:
        return "LOSS", stop, False
    return ("WIN", target, False) if high >= target else None


def short_by_hand(entry: Entry, opened: float, high: float, low: float) -> tuple[str, float, bool] | None:
    _, target, stop = map(float, entry.levels)
    if opened >= stop:
        return "LOSS", opened, True
    if opened <= target:
        return "WIN", opened, True
    if high >= stop:
        return "LOSS", stop, False
    return ("WIN", target, False) if low <= target else None


def told(settlement: Settlement | None) -> tuple[str, float | None, int | None]:
    return UNDECIDED if settlement is None else (settlement.status, settlement.price, settlement.at)


def decided(group: Group, answer: CandleAnswer) -> dict[str, Settlement]:
    return {entry.id: settlement for entry, settlement in outcomes_of(group, answer)}


def group_at(code: str, step: Timeframe, entries: Sequence[Entry]) -> Group:
    return Group(parse_symbol(code), step, sorted(entries, key=lambda entry: entry.opened_at))


def test_a_thousand_random_entries_settle_as_a_walk_by_hand_says() -> None:
    seen: list[str] = []
    gaps = both = 0
    for seed, (code, step) in enumerate((code, step) for code in SYMBOLS for step in STEPS):
        frame = market(code, step)
        entries = random_entries(code, step, 84, seed)
        found = decided(group_at(code, step, entries), answer_of(frame))
        for entry in entries:
            expected = told_by_hand(entry, frame, END)
            assert told(found.get(entry.id)) == expected
            seen.append(expected[0])
            levels = {float(entry.tp1 or 0), float(entry.stop_loss or 0)}
            gaps += expected[0] in ("WIN", "LOSS") and expected[1] not in levels
            both += _touches_both(entry, frame, expected[2])
    assert len(seen) == 1008
    assert min(seen.count(status) for status in ("WIN", "LOSS", "EXPIRED")) > 50
    assert gaps > 50
    assert both > 5


def _touches_both(entry: Entry, frame: CandleFrame, at: int | None) -> bool:
    row = np.flatnonzero(frame.close_time == at)
    low, high = sorted((float(entry.tp1 or 0), float(entry.stop_loss or 0)))
    return bool(len(row)) and float(frame.low[row[0]]) <= low and float(frame.high[row[0]]) >= high


@pytest.mark.parametrize("bars", [0, 1])
def test_an_entry_of_whose_life_a_feed_brought_nothing_is_no_expired_trade_of_no_pips(bars: int) -> None:
    """The feed was away from noon on and is back: of four hours nobody knows the price, of one that is known it is."""
    frame = SimulatedProvider(lambda: NOON + DAY).candles(
        parse_symbol("BTC-USD"), Timeframe.H1, end=NOON + DAY, count=100, timeout=9.0
    )
    away = (frame.time >= NOON + bars * HOUR) & (frame.time < NOON + 6 * HOUR)
    far = {"tp1": Decimal("1e9"), "stop_loss": Decimal("1e-9"), "tp2": None, "tp3": None, "data_source": "simulated"}
    entry = buy(symbol="BTC-USD", opened_at=NOON, expires_at=NOON + 4 * HOUR, entry_price=Decimal(100), **far)
    found = decided(group_at("BTC-USD", Timeframe.H1, [entry]), answer_of(frame.rows(~away), NOON + DAY))
    known = float(frame.close[frame.time == NOON][0])
    assert told(found.get(entry.id)) == (("EXPIRED", known, NOON + 4 * HOUR) if bars else UNDECIDED)


def test_an_entry_that_lived_over_a_weekend_only_expires_at_its_entry() -> None:
    """Nothing traded and nothing is missing: its price is the one it began with."""
    friday = parse_iso("2025-12-12T22:00:00Z")
    frame = market("EURUSD=X", Timeframe.H1)
    price = decimal_of(float(frame.close[frame.close_time <= friday][-1]))
    entry = buy(
        opened_at=friday, expires_at=friday + 4 * HOUR, data_source="simulated", entry_price=price,
        tp1=price * 2, stop_loss=price / 2, tp2=None, tp3=None,
    )  # fmt: skip
    found = decided(group_at("EURUSD=X", Timeframe.H1, [entry]), answer_of(frame))
    assert told(found.get(entry.id)) == ("EXPIRED", float(price), friday + 4 * HOUR)


@pytest.mark.parametrize("code", SYMBOLS)
def test_the_outcome_does_not_depend_on_how_candles_come(code: str) -> None:
    """Looked at after every bar, after every seventh, or once at the end: the same, and never before its bar."""
    frame = market(code, Timeframe.H1)
    entries = random_entries(code, Timeframe.H1, 25, seed=7)
    whole = decided(group_at(code, Timeframe.H1, entries), answer_of(frame))
    begins = min(entry.opened_at for entry in entries)
    for every in (1, 7):
        pending, found = list(entries), {}
        for at in [*frame.close_time[frame.close_time > begins].tolist()[::every], END]:
            news = decided(group_at(code, Timeframe.H1, pending), answer_of(frame, at)) if pending else {}
            assert [settlement for settlement in news.values() if (settlement.at or 0) > at] == []
            pending = [entry for entry in pending if entry.id not in news]
            found |= news
        assert found == whole


@given(st.integers(0, 10_000), st.sampled_from(SYMBOLS), st.integers(1, 59))
def test_no_entry_settles_by_a_bar_that_is_not_finished(seed: int, code: str, minutes: int) -> None:
    """At a moment within a bar everything is as it was at that bar's opening."""
    frame = market(code, Timeframe.H1)
    (entry,) = random_entries(code, Timeframe.H1, 1, seed)
    after = frame.close_time[frame.close_time >= entry.opened_at]
    bar = int(after[min(len(after) - 1, seed % 6)])
    group = group_at(code, Timeframe.H1, [entry])
    within = answer_of(frame, bar + minutes * 60_000)
    found, at_opening = decided(group, within), decided(group, answer_of(frame, bar))
    if entry.expires_at <= bar or entry.expires_at > bar + minutes * 60_000:
        assert {k: told(v) for k, v in found.items()} == {k: told(v) for k, v in at_opening.items()}
    assert [each for each in found.values() if (each.at or 0) > bar + minutes * 60_000] == []


def test_bars_before_the_entry_and_after_its_expiry_change_nothing() -> None:
    frame = market("BTC-USD", Timeframe.H1)
    (entry,) = random_entries("BTC-USD", Timeframe.H1, 1, seed=3)
    group = group_at("BTC-USD", Timeframe.H1, [entry])
    wild = CandleFrame(
        frame.symbol, frame.timeframe, frame.time, frame.open,
        np.where((frame.time < entry.opened_at) | (frame.close_time > entry.expires_at), frame.high * 9, frame.high),
        np.where((frame.time < entry.opened_at) | (frame.close_time > entry.expires_at), frame.low / 9, frame.low),
        frame.close,
    )  # fmt: skip
    assert decided(group, answer_of(wild)) == decided(group, answer_of(frame))


def test_history_that_begins_too_late_settles_nothing() -> None:
    frame = market("BTC-USD", Timeframe.H1)
    (entry,) = random_entries("BTC-USD", Timeframe.H1, 1, seed=3)
    group = group_at("BTC-USD", Timeframe.H1, [entry])
    later = frame.rows(np.asarray(frame.time > entry.opened_at))
    assert decided(group, answer_of(later)) == {}


def test_a_weekend_is_no_missing_history() -> None:
    friday_close = parse_iso("2025-12-19T22:00:00Z")
    entry = buy(opened_at=friday_close, expires_at=friday_close + 3 * 24 * HOUR, entry_price=Decimal("1.1"))
    frame = market("EURUSD=X", Timeframe.H1)
    from_sunday = frame.rows(np.asarray(frame.time >= friday_close))
    assert len(decided(group_at("EURUSD=X", Timeframe.H1, [entry]), answer_of(from_sunday))) == 1


def test_over_a_weekend_an_expiry_is_known_and_a_late_feed_is_waited_for() -> None:
    frame = market("EURUSD=X", Timeframe.H1)
    saturday = parse_iso("2025-12-20T10:00:00Z")
    friday = [int(each) for each in frame.close_time if each <= parse_iso("2025-12-19T22:00:00Z")]
    entry = buy(
        opened_at=friday[-4], expires_at=parse_iso("2025-12-20T01:00:00Z"),
        entry_price=Decimal(1), tp1=Decimal(100), stop_loss=Decimal("0.001"), tp2=None, tp3=None,
    )  # fmt: skip
    group = group_at("EURUSD=X", Timeframe.H1, [entry])
    known = answer_of(frame, saturday)
    assert told(decided(group, known).get(entry.id))[0] == "EXPIRED"
    late = CandleAnswer(known.frame.rows(slice(0, -2)), "simulated", True, (), False, saturday)
    assert decided(group, late) == {}


def test_other_sources_settle_nothing_but_what_was_imported() -> None:
    frame = market("BTC-USD", Timeframe.H1)
    (entry,) = random_entries("BTC-USD", Timeframe.H1, 1, seed=3)
    fields = vars(entry) | {"bundle": ""}
    group = [Entry(**{**fields, "data_source": source}) for source in ("yahoo", IMPORTED)]
    ids = decided(Group(parse_symbol("BTC-USD"), Timeframe.H1, group[:1]), answer_of(frame))
    assert ids == {}
    assert len(decided(Group(parse_symbol("BTC-USD"), Timeframe.H1, group[1:]), answer_of(frame))) == 1


def test_entries_are_grouped_by_symbol_and_by_the_bars_they_are_walked_by() -> None:
    noon = parse_iso("2025-07-30T13:00:00Z")
    entries = [
        buy(opened_at=noon),
        buy(opened_at=noon - HOUR),
        buy(opened_at=noon, interval="4h"),
        buy(opened_at=noon + HOUR, interval="4h"),
        buy(opened_at=noon, symbol="GC=F"),
    ]
    groups = {(group.symbol.code, group.step.value): len(group.entries) for group in groups_of(entries)}
    assert groups == {("EURUSD=X", "1h"): 3, ("EURUSD=X", "4h"): 1, ("GC=F", "1h"): 1}


def test_entries_of_several_years_are_fetched_in_parts() -> None:
    opened = [parse_iso(f"{year}-07-30T13:00:00Z") for year in (2022, 2023, 2024)]
    groups = list(groups_of(buy(opened_at=at + hour * HOUR) for at in opened for hour in range(3)))
    assert [len(group.entries) for group in groups] == [3, 3, 3]
    for group in groups:
        bars = calendar_of(group.symbol).bar_opens(group.step, group.begins, group.ends)
        assert len(bars) <= 3000


def test_the_bars_walked_never_straddle_the_entry() -> None:
    for code in SYMBOLS:
        symbol = parse_symbol(code)
        for timeframe in STEPS:
            for at in market(code, Timeframe.M15).close_time[::37].tolist():
                step = walked(symbol, timeframe, at)
                opens = calendar_of(symbol).bar_opens(step, at - step.milliseconds, at)
                assert not len(opens) or step is Timeframe.M15 or int(opens[-1]) + step.milliseconds <= at


class Endless(Journal):
    """A journal that always has one more pending entry, and counts how many were read."""

    def __init__(self) -> None:
        self.read = 0

    def pending(self, owner: str) -> Iterator[Entry]:
        while self.read < 1000:
            self.read += 1
            yield buy(owner, opened_at=END - 10 * HOUR)


def test_reading_what_a_user_has_pending_ends_with_the_time() -> None:
    journal = Endless()
    verification = Verification(journal, CandleSource(Market()), now_of=lambda _: END, clock=lambda: END)
    report = verification.run_for(ALICE, Deadline.after(1.0))
    assert journal.read < 1000
    assert (report.checked, report.complete) == (0, False)


class _Diary:
    """A journal with one due entry in every shard, and candles that are not to be had; writes down who is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def due(self, shard: str, now: int, limit: int, start: object = None) -> DuePage:
        self.asked.append(shard)
        return DuePage([buy(opened_at=NOON + HOUR * int(shard))], None)

    def candles(self, *_: object, **__: object) -> CandleAnswer:
        self.asked.append("candles")
        raise ProviderUnavailable("down")


def test_what_is_held_at_a_time_is_bounded_however_much_is_due() -> None:
    diary = _Diary()
    now = NOON + DAY
    verification = Verification(cast(Journal, diary), diary, now_of=lambda _: now, clock=lambda: now, workers=1)
    report = verification.run(Deadline.after(60.0))
    assert (report.checked, report.pending, report.complete) == (SHARDS, SHARDS, True)
    waves = [wave.split() for wave in " ".join(diary.asked).split("candles")]
    assert [sorted(wave) for wave in waves if wave] == [[f"{n + m:02d}" for m in range(4)] for n in (0, 4, 8, 12)]
