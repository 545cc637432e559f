"""Statistics: each figure by an example worked out by hand, and what holds for every set of records."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusiontrade.journal.entries import Entry
from fusiontrade.journal.records import digest_key, mark_name, mark_of, records_in
from fusiontrade.journal.settlement import Settlement, Status
from fusiontrade.journal.statistics import MOST_CURVE_POINTS, Record, drawdown, statistics_of
from tests.support.journal_entries import HOUR, NOON, buy, hold, sell


def record(number: int, pips: str | None = None, status: Status | None = Status.PENDING, **more: object) -> Record:
    """The entry of hour ``number``, settled an hour later where it has pips."""
    fields = {
        "id": f"{number:013d}-0000000000000000",
        "opened_at": number * HOUR,
        "symbol": "EURUSD=X",
        "interval": "1h",
        "status": status,
        "outcome_at": None if pips is None else (number + 1) * HOUR,
        "pips": None if pips is None else Decimal(pips),
    }
    return Record(**{**fields, **more})


def won(number: int, pips: str, **more: object) -> Record:
    return record(number, pips, Status.WIN, **more)


def lost(number: int, pips: str, **more: object) -> Record:
    return record(number, pips, Status.LOSS, **more)


def expired(number: int, pips: str, **more: object) -> Record:
    return record(number, pips, Status.EXPIRED, **more)


def test_five_settled_entries_by_hand() -> None:
    told = statistics_of(
        [won(0, "40"), lost(1, "-30"), expired(2, "5"), lost(3, "-30"), won(4, "20"), record(5), record(6, status=None)]
    )
    counts = [told[name] for name in ("total", "pending", "wins", "losses", "expired", "holds")]
    assert counts == [7, 1, 2, 2, 1, 1]
    assert told["win_rate"] == 0.5
    assert told["total_pips"] == 5.0
    assert (told["average_pips"], told["expectancy"]) == (1.0, 1.0)
    assert told["profit_factor"] == pytest.approx(65 / 60)
    assert told["max_drawdown"] == 55.0  # from 40 down to -15
    assert [point["equity"] for point in told["equity_curve"]] == [40.0, 10.0, 15.0, -15.0, 5.0]
    assert [point["at"] // HOUR for point in told["equity_curve"]] == [1, 2, 3, 4, 5]


def test_equity_follows_the_outcomes_and_not_the_openings() -> None:
    late, early = won(0, "10", outcome_at=9 * HOUR), lost(1, "-4", outcome_at=2 * HOUR)
    told = statistics_of([late, early])
    assert [point["equity"] for point in told["equity_curve"]] == [-4.0, 6.0]
    assert told["max_drawdown"] == 4.0


@pytest.mark.parametrize(
    ("pips", "expected"),
    [([], 0), ([5, 5], 0), ([-5], 5), ([10, -3, 2, -8], 9), ([-1, 4, -2, 9, -12, 3], 12), ([3, -3, 3, -3], 3)],
)
def test_a_drawdown_is_the_deepest_fall_below_an_earlier_peak_or_the_start(pips: list[int], expected: int) -> None:
    assert drawdown([Decimal(each) for each in pips]) == expected


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([won(0, "1")], 999.0),
        ([won(0, "10000"), lost(1, "-0.01")], 999.0),
        ([lost(0, "-1")], 0.0),
        ([expired(0, "0")], None),
        ([record(0)], None),
        ([won(0, "30"), lost(1, "-20")], 1.5),
    ],
)
def test_a_profit_factor_is_capped_and_null_where_it_is_undefined(
    records: list[Record], expected: float | None
) -> None:
    assert statistics_of(records)["profit_factor"] == expected


def test_brier_and_calibration_by_hand() -> None:
    given_ = [
        won(0, "1", probability=Decimal("0.42")),
        lost(1, "-1", probability=Decimal("0.48")),
        expired(2, "1", probability=Decimal("1")),
        won(3, "1"),
    ]
    told = statistics_of(given_)
    assert told["brier"] == pytest.approx((0.58**2 + 0.48**2 + 1.0) / 3)
    bins = {(bin_["from"], bin_["to"]): bin_ for bin_ in told["calibration"]}
    assert len(bins) == 10
    assert (bins[0.4, 0.5]["count"], bins[0.4, 0.5]["won"]) == (2, 0.5)
    assert bins[0.4, 0.5]["predicted"] == pytest.approx(0.45)
    assert (bins[0.9, 1.0]["count"], bins[0.9, 1.0]["won"], bins[0.9, 1.0]["predicted"]) == (1, 0.0, 1.0)
    assert (bins[0.0, 0.1]["count"], bins[0.0, 0.1]["predicted"], bins[0.0, 0.1]["won"]) == (0, None, None)


def test_symbols_and_classes_have_statistics_of_their_own() -> None:
    entries = [
        won(0, "40"),
        lost(1, "-30", symbol="USDJPY=X"),
        won(2, "7", symbol="BTC-USD"),
        record(3, symbol="BTC-USD"),
    ]
    told = statistics_of(entries, lambda symbol: "crypto" if symbol == "BTC-USD" else "fx")
    assert list(told["by_symbol"]) == ["BTC-USD", "EURUSD=X", "USDJPY=X"]
    assert (told["by_symbol"]["BTC-USD"]["total"], told["by_symbol"]["BTC-USD"]["pending"]) == (2, 1)
    assert {name: part["total_pips"] for name, part in told["by_asset_class"].items()} == {"crypto": 7.0, "fx": 10.0}


def test_decimals_are_added_and_not_their_binary_fractions() -> None:
    told = statistics_of([won(number, "0.1") for number in range(30)])
    assert told["total_pips"] == 3.0
    assert told["equity_curve"][2]["equity"] == 0.3


def test_a_long_curve_is_thinned_and_ends_where_the_whole_ends() -> None:
    entries = [won(number, "1") for number in range(3 * MOST_CURVE_POINTS + 7)]
    curve = statistics_of(entries)["equity_curve"]
    assert len(curve) <= MOST_CURVE_POINTS
    assert curve[-1] == {"at": len(entries) * HOUR, "equity": float(len(entries))}
    assert [point["at"] for point in curve] == sorted(point["at"] for point in curve)


PIPS = st.decimals(min_value=-500, max_value=500, places=2)
SETTLED = st.builds(
    lambda number, pips, symbol, probability, is_level: record(
        number,
        str(pips),
        (Status.WIN if pips > 0 else Status.LOSS) if is_level else Status.EXPIRED,
        symbol=symbol,
        probability=probability,
    ),
    st.integers(0, 10**6),
    PIPS,
    st.sampled_from(["EURUSD=X", "GC=F", "BTC-USD"]),
    st.none() | st.decimals(min_value=0, max_value=1, places=4),
    st.booleans(),
)
OTHERS = st.builds(record, st.integers(10**6, 2 * 10**6), st.none(), st.sampled_from([Status.PENDING, None]))
RECORDS = st.lists(SETTLED | OTHERS, max_size=40, unique_by=lambda each: each.id)


@given(RECORDS, st.randoms(use_true_random=False))
def test_the_order_of_records_changes_nothing(records: list[Record], random: Random) -> None:
    shuffled = list(records)
    random.shuffle(shuffled)
    assert statistics_of(shuffled, str.lower) == statistics_of(records, str.lower)


@given(RECORDS)
def test_the_figures_agree_with_each_other_and_with_exact_fractions(records: list[Record]) -> None:
    told = statistics_of(records, str.lower)
    pips = [
        Fraction(each.pips)
        for each in sorted(records, key=lambda r: (r.outcome_at or 0, r.id))
        if each.pips is not None
    ]
    assert (
        told["total"] == len(records) == sum(told[name] for name in ("pending", "wins", "losses", "expired", "holds"))
    )
    assert told["total_pips"] == pytest.approx(float(sum(pips)), abs=1e-9)
    assert told["max_drawdown"] == pytest.approx(float(_deepest(pips)), abs=1e-9)
    assert told["expectancy"] == (pytest.approx(float(sum(pips) / len(pips)), abs=1e-9) if pips else None)
    assert told["win_rate"] is None or 0 <= told["win_rate"] <= 1
    assert told["profit_factor"] is None or 0 <= told["profit_factor"] <= 999
    for name in ("total", "wins", "losses"):
        assert sum(part[name] for part in told["by_symbol"].values()) == told[name]
    assert sum(bin_["count"] for bin_ in told["calibration"]) == sum(r.probability is not None for r in records)


def _deepest(pips: list[Fraction]) -> Fraction:
    """Every pair of moments, the later below the earlier: the definition, in quadratic time."""
    sums = [sum(pips[:end], Fraction(0)) for end in range(len(pips) + 1)]
    return max(early - late for index, early in enumerate(sums) for late in sums[index:])


@given(RECORDS)
def test_turning_every_outcome_around_turns_the_pips_around(records: list[Record]) -> None:
    opposite = {Status.WIN: Status.LOSS, Status.LOSS: Status.WIN}
    turned = [
        each._replace(pips=None if each.pips is None else -each.pips, status=opposite.get(each.status, each.status))
        for each in records
    ]
    one, other = statistics_of(records), statistics_of(turned)
    assert other["total_pips"] == -one["total_pips"]
    assert (other["wins"], other["losses"]) == (one["losses"], one["wins"])


@pytest.mark.parametrize(
    "entry",
    [
        buy(),
        hold(),
        sell(interval="4h").settled(Settlement(Status.LOSS, 1.103, NOON + HOUR)),
        buy(probability=None).settled(Settlement(Status.WIN, 1.104, NOON + HOUR)),
        buy(symbol="BTC-USD").settled(Settlement(Status.EXPIRED, 1.1, NOON + 4 * HOUR)),
    ],
)
def test_a_digest_tells_of_an_entry_what_statistics_need(entry: Entry) -> None:
    (told,) = records_in({**digest_key(entry), mark_name(entry): mark_of(entry), "owner_symbol": "x"})
    assert (told.id, told.opened_at, told.symbol, told.interval) == (
        entry.id, entry.opened_at, entry.symbol, entry.interval,
    )  # fmt: skip
    assert told.status == (None if entry.signal == "HOLD" else entry.status)
    assert (told.outcome_at, told.pips) == (entry.outcome_at, entry.pips)
    assert told.probability == (entry.probability if entry.outcome_at else None)
