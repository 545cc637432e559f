"""Older logs, row by row: what is understood, and what is refused and why."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusiontrade.clock import parse_iso
from fusiontrade.errors import InvalidInput
from fusiontrade.journal.entries import Entry, Model
from fusiontrade.journal.exports import csv_of
from fusiontrade.journal.imports import MOST_ROWS, Fault, read_log
from fusiontrade.journal.settlement import Settlement, Status
from tests.support.journal_entries import ALICE, DAY, HOUR, NOON, buy, hold, sell

NOW = NOON + 10 * DAY
HEAD = "timestamp,symbol,timeframe,signal,entry_price,tp1,stop_loss,status,exit_price,exit_time,probability"
WON = "2025-07-31 12:00:00,EURUSD=X,1h,STRONG BUY,1.1,1.104,1.097,WIN,1.104,2025-07-31T14:00:00Z,0.43"


def read(*rows: str, head: str = HEAD) -> tuple[list[Entry], list[Fault]]:
    return read_log("\n".join((head, *rows)).encode(), ALICE, NOW)


def test_a_row_of_an_older_log_becomes_a_settled_entry() -> None:
    (entry,), faults = read(WON)
    assert faults == []
    assert (entry.owner, entry.source, entry.data_source, entry.bundle) == (ALICE, "manual", "imported", "imported")
    assert (entry.symbol, entry.interval, entry.signal, entry.verdict) == ("EURUSD=X", "1h", "BUY", "STRONG BUY")
    assert (entry.opened_at, entry.expires_at) == (NOON, NOON + 4 * HOUR)
    assert (entry.entry_price, entry.tp1, entry.stop_loss) == (Decimal("1.1"), Decimal("1.104"), Decimal("1.097"))
    assert (entry.status, entry.outcome_price, entry.pips) == (Status.WIN, Decimal("1.104"), Decimal("40.00"))
    assert (entry.outcome_at, entry.probability) == (NOON + 2 * HOUR, Decimal("0.43"))


@pytest.mark.parametrize(
    ("signal", "expected"),
    [
        ("BUY", "BUY"),
        ("long", "BUY"),
        ("WEAK SELL", "SELL"),
        ("Short", "SELL"),
        ("DIVERGENT (HOLD)", "HOLD"),
        ("hold", "HOLD"),
    ],
)
def test_signals_are_understood_in_several_words(signal: str, expected: str) -> None:
    levels = "150,149,151" if expected == "SELL" else "150,151,149"
    (entry,), faults = read(f"1753963200,USDJPY,60m,{signal},{levels},,,,")
    assert (faults, entry.signal, entry.symbol, entry.interval) == ([], expected, "USDJPY=X", "1h")
    assert entry.status is (Status.EXPIRED if expected == "HOLD" else Status.PENDING)


@pytest.mark.parametrize("signal", ["BUY", "HOLD"])
@pytest.mark.parametrize(
    ("expires_at", "is_read"),
    [
        ("2000-04-05T00:00:00Z", True),
        ("2000-04-05T00:01:00Z", False),
        ("2286-01-01T00:00:00Z", False),
        ("2000-01-04T00:00:00Z", False),
    ],
)
def test_a_row_lives_for_a_quarter_of_a_year_at_most(signal: str, expires_at: str, is_read: bool) -> None:
    head = "opened_at,symbol,interval,signal,entry_price,tp1,stop_loss,expires_at"
    levels = "1.1,1.2,1.0" if signal == "BUY" else ",,"
    entries, faults = read(f"2000-01-04T00:00:00Z,EURUSD=X,1m,{signal},{levels},{expires_at}", head=head)
    assert len(entries) == is_read
    assert [fault.field for fault in faults] == ([] if is_read else ["expires_at"])


@pytest.mark.parametrize("outcome", ["WIN,1.05", "WIN,1.1", "WIN,0", "LOSS,1.2", "LOSS,1.1", "EXPIRED,0", "EXPIRED,"])
def test_a_price_that_contradicts_its_outcome_is_a_fault(outcome: str) -> None:
    entries, faults = read(WON.replace("WIN,1.104", outcome))
    assert (entries, [fault.field for fault in faults]) == ([], ["outcome_price"])


def test_a_loss_without_a_price_ended_at_its_stop_and_pips_follow_from_the_prices() -> None:
    (entry,), _ = read(WON.replace("WIN,1.104", "SL_HIT,"))
    assert (entry.status, entry.outcome_price, entry.pips) == (Status.LOSS, Decimal("1.097"), Decimal("-30.00"))


def test_only_what_expired_may_leave_its_moment_to_its_expiry() -> None:
    head = "opened_at,symbol,interval,signal,entry_price,tp1,stop_loss,status,outcome_price,expires_at"
    row = "2025-07-31T12:00:00Z,EURUSD=X,1h,BUY,1.1,1.104,1.097,{},1.1035,2025-07-31T16:00:00Z"
    (entry,), faults = read(row.format("EXPIRED"), head=head)
    assert (faults, entry.outcome_at) == ([], NOON + 4 * HOUR)
    assert [fault.field for fault in read(row.format("WIN"), head=head)[1]] == ["outcome_at"]


def test_instants_without_a_zone_are_utc_and_are_cut_to_the_minute() -> None:
    entries, _ = read(*(WON.replace("2025-07-31 12:00:00", text) for text in (
        "2025-07-31T12:00:59.9", "2025-07-31T14:00:30+02:00", "1753963230000",
    )))  # fmt: skip
    assert [entry.opened_at for entry in entries] == [NOON] * 3


def test_columns_may_stand_in_any_order_under_any_known_name_and_between_semicolons() -> None:
    head = "SL;Take Profit;price;Direction;timeframe;Pair;Date;remarks"
    (entry,), faults = read("1.097;1.104;1.1;buy;1h;eurusd;2025-07-31T12:00:00Z;=cmd()", head=head)
    assert (faults, entry.symbol, entry.tp1) == ([], "EURUSD=X", Decimal("1.104"))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (("2025-07-31 12:00:00", "yesterday"), "opened_at"),
        (("2025-07-31 12:00:00", ""), "opened_at"),
        (("2025-07-31 12:00:00", "2031-01-01"), "opened_at"),
        (("2025-07-31 12:00:00", "1969-01-01"), "opened_at"),
        (("2025-07-31 12:00:00", "99999-01-01"), "opened_at"),
        (("EURUSD=X", "../../etc"), "symbol"),
        (("EURUSD=X", "XXXYYY=X"), "symbol"),
        ((",1h,", ",7h,"), "interval"),
        (("STRONG BUY", "MAYBE"), "signal"),
        (("STRONG BUY", ""), "signal"),
        ((",1.1,", ",,"), "entry_price"),
        ((",1.1,", ",NaN,"), "entry_price"),
        ((",1.1,", ",inf,"), "entry_price"),
        ((",1.1,", ",-1.1,"), "entry_price"),
        ((",1.1,", ",1e99,"), "entry_price"),
        ((",1.1,", ",=1+1,"), "entry_price"),
        ((",1.1,", ",٣,"), "entry_price"),
        ((",1.1,", ",1.2,"), "tp1"),
        (("WIN", "MAYBE"), "status"),
        (("WIN,1.104", "EXPIRED,"), "outcome_price"),
        (("2025-07-31T14:00:00Z", ""), "outcome_at"),
        (("2025-07-31T14:00:00Z", "2025-07-31T11:00:00Z"), "outcome_at"),
        (("2025-07-31T14:00:00Z", "2031-07-31T14:00:00Z"), "outcome_at"),
        ((",0.43", ",1.43"), "probability"),
    ],
)
def test_a_faulty_row_is_named_with_its_column(change: tuple[str, str], field: str) -> None:
    entries, faults = read(WON, WON.replace(*change), WON)
    assert [(fault.row, fault.field) for fault in faults] == [(2, field)]
    assert len(entries) == 2
    assert len(faults[0].message) < 300


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "empty"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (HEAD.encode(), "has 0 rows"),
        (b"symbol,signal\nEURUSD=X,BUY", "lacks the column opened_at"),
        (b'timestamp,symbol,timeframe,signal\n"a', "no CSV"),
        (("\n".join((HEAD, *[WON] * (MOST_ROWS + 1)))).encode(), f"has {MOST_ROWS + 1} rows"),
    ],
)
def test_a_file_that_is_no_log_is_refused_as_a_whole(body: bytes, told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        read_log(body, ALICE, NOW)


@given(st.binary(max_size=400) | st.text(max_size=400).map(lambda text: (HEAD + "\n" + text).encode("utf-8", "ignore")))
def test_whatever_is_sent_is_a_report_or_a_refusal(body: bytes) -> None:
    try:
        entries, faults = read_log(body, ALICE, NOW)
    except InvalidInput:
        return
    assert len(entries) + len({fault.row for fault in faults}) >= 1


def test_an_export_can_be_imported_and_is_the_same_journal() -> None:
    entries = [
        buy(),
        sell(opened_at=NOON + HOUR, models=(Model("4h", "lstm-4h", "v.1"),), data_source="yahoo"),
        buy(opened_at=NOON + 2 * HOUR).settled(Settlement(Status.WIN, 1.104, NOON + 3 * HOUR)),
        sell(opened_at=NOON + 3 * HOUR).settled(Settlement(Status.LOSS, 1.103, NOON + 4 * HOUR)),
        hold(opened_at=NOON + 4 * HOUR),
    ]
    read_again, faults = read_log(csv_of(entries).encode(), ALICE, NOW)
    assert faults == []
    assert [entry.id for entry in read_again] == [entry.id for entry in entries]
    assert [entry.to_json() for entry in read_again] == [entry.to_json() for entry in entries]


def test_an_export_of_old_instants_keeps_them() -> None:
    (entry,), _ = read_log(csv_of([buy(opened_at=parse_iso("2003-05-05T10:00:00Z"))]).encode(), ALICE, NOW)
    assert entry.opened_at == parse_iso("2003-05-05T10:00:00Z")
