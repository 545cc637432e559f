"""Datasets: order, purge, embargo, unfinished bars and rollover hours, on rows of our own making and on a pool."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from lookahead_results import outcomes
from training_data import START, two_series

from fusiontrade.clock import parse_iso
from fusiontrade.journal.outcomes import HORIZON_BARS
from fusiontrade.market.timeframes import Timeframe
from serving.lookahead.checks import Check, DatasetRows, Outcome, check_rows
from serving.lookahead.pools import check_known_at_entry, rows_of_pool
from serving.training.config import PURGE_BARS, TrainingConfig
from serving.training.dataset import Pool, Slices, pool_of, split

HOUR = 3_600_000
NOW = parse_iso("2026-01-01T00:00:00Z")
ORDER = ("train", "calibration", "test")
CLEAN = {
    "order of the slices": Outcome.PASS,
    "labels that overlap": Outcome.PASS,
    "embargo": Outcome.PASS,
    "unfinished bars": Outcome.PASS,
    "rollover hours": Outcome.PASS,
}


def dataset(*, purge: int = 10, horizon: int = 4, bars: int = 300) -> DatasetRows:
    """Hourly entries of one coin in three slices of 100 bars, the last ``purge`` of the first two left out."""
    row = np.arange(bars)
    kept = (row % 100 < 100 - purge) | (row >= 200)
    entry = START + HOUR * (row[kept] + 1)
    return DatasetRows(
        ORDER,
        (row[kept] // 100).astype(np.intp),
        entry,
        entry + horizon * HOUR,
        HOUR,
        symbol=np.full(len(entry), "BTC-USD"),
        bar_close=entry,
        rolls_over=np.zeros(len(entry), np.bool_),
    )


def checked(rows: DatasetRows, embargo: int = 6) -> dict[str, Check]:
    return {check.name.partition(": ")[2]: check for check in check_rows(rows, embargo=embargo, as_of=NOW)}


def test_a_purged_dataset_passes() -> None:
    checks = checked(dataset())
    assert {name: check.outcome for name, check in checks.items()} == CLEAN
    assert "the shortest is 7" in checks["embargo"].told


def test_labels_that_end_in_the_next_slice_are_found_and_counted() -> None:
    found = checked(dataset(purge=0))["labels that overlap"]
    assert found.outcome is Outcome.FOUND
    assert [finding.where for finding in found.findings] == ["train and calibration", "calibration and test"]
    # the next slice begins one bar after the last entry: labels of 4 bars end up to 3 bars later
    assert "3 labels of train are only known after 2024-01-05T05:00Z" in found.findings[0].told
    assert found.findings[0].size == 3
    assert "row 97 of BTC-USD" in found.findings[0].row


def test_a_label_that_is_known_when_the_next_slice_begins_does_not_overlap() -> None:
    assert checked(dataset(purge=3))["labels that overlap"].outcome is Outcome.PASS
    assert checked(dataset(purge=2))["labels that overlap"].outcome is Outcome.FOUND


def test_an_embargo_shorter_than_asked_is_found_with_what_is_missing() -> None:
    found = checked(dataset(), embargo=9)["embargo"]
    assert found.outcome is Outcome.FOUND
    assert "7 bars between the last label of train and calibration, 9 were asked for" in found.findings[0].told
    assert "leave out 2 more rows at the end of train" in found.findings[0].remedy
    assert checked(dataset(), embargo=7)["embargo"].outcome is Outcome.PASS


def test_rows_of_slices_shuffled_together_are_found() -> None:
    rows = dataset()
    shuffled = replace(rows, place=np.random.default_rng(1).permutation(rows.place))
    found = checked(shuffled)["order of the slices"]
    assert found.outcome is Outcome.FOUND
    assert "rows of train are entered at or after" in found.findings[0].told


def test_a_row_that_is_in_two_slices_is_found() -> None:
    rows = dataset()
    again = np.concatenate((np.arange(len(rows.entry)), [5]))
    place = np.concatenate((rows.place, [2]))
    doubled = replace(
        rows,
        place=place,
        entry=rows.entry[again],
        label_end=rows.label_end[again],
        symbol=rows.symbol[again],
        bar_close=rows.bar_close[again],
        rolls_over=rows.rolls_over[again],
    )
    told = [finding.told for finding in checked(doubled)["order of the slices"].findings]
    assert "1 rows are there more than once" in told


def test_one_hour_of_two_symbols_is_no_repetition() -> None:
    rows = dataset()
    both = np.concatenate([np.arange(len(rows.entry))] * 2)
    names = np.repeat(["BTC-USD", "SOL-USD"], len(rows.entry))
    pair = DatasetRows(ORDER, rows.place[both], rows.entry[both], rows.label_end[both], HOUR, symbol=names)
    assert checked(pair)["order of the slices"].outcome is Outcome.PASS
    assert checked(replace(pair, symbol=None))["order of the slices"].outcome is Outcome.PASS


def test_a_symbol_whose_slice_reaches_into_anothers_next_slice_is_found() -> None:
    rows = dataset()
    late = np.where(rows.place == 0, rows.entry + 50 * HOUR, rows.entry)
    both = np.concatenate((rows.entry, late[rows.place == 0]))
    place = np.concatenate((rows.place, rows.place[rows.place == 0]))
    symbol = np.repeat(["BTC-USD", "SOL-USD"], [len(rows.entry), (rows.place == 0).sum()])
    mixed = DatasetRows(ORDER, place, both, both + 4 * HOUR, HOUR, symbol=symbol)
    assert checked(mixed)["order of the slices"].outcome is Outcome.FOUND


def test_inputs_from_a_bar_that_is_still_open_at_the_entry_are_found() -> None:
    rows = dataset()
    found = checked(replace(rows, entry=rows.entry - HOUR))["unfinished bars"]
    assert found.outcome is Outcome.FOUND
    assert "280 rows have inputs from a bar that was finished after the row's entry, up to 1 bar later" in (
        found.findings[0].told
    )


def test_a_label_from_a_bar_that_was_open_when_the_data_were_taken_is_found() -> None:
    rows = dataset()
    taken = int(rows.label_end.max()) - HOUR // 2
    checks = check_rows(rows, embargo=6, as_of=taken)
    assert outcomes(checks)["unfinished bars"] is Outcome.FOUND
    assert "labels from a bar that was finished after" in checks[3].findings[0].told


def test_what_is_not_known_is_skipped_and_never_passed() -> None:
    checks = checked(replace(dataset(), bar_close=None, rolls_over=None))
    assert checks["unfinished bars"].outcome is checks["rollover hours"].outcome is Outcome.SKIPPED


def test_one_slice_alone_proves_nothing_about_another() -> None:
    rows = dataset()
    first = rows.place == 0
    alone = checked(
        DatasetRows(
            ("train",),
            rows.place[first],
            rows.entry[first],
            rows.label_end[first],
            HOUR,
            bar_close=rows.entry[first],
        )
    )
    told = {name: check.outcome for name, check in alone.items() if name in list(CLEAN)[:3]}
    assert set(told.values()) == {Outcome.SKIPPED}
    assert alone["embargo"].told.startswith("one slice alone, train")
    assert alone["unfinished bars"].outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("entry", "rests", "outcome"),
    [
        ("2024-01-10T20:59:00Z", True, Outcome.PASS),  # 15:59 New York
        ("2024-01-10T21:00:00Z", True, Outcome.FOUND),
        ("2024-01-10T23:59:00Z", True, Outcome.FOUND),
        ("2024-01-11T00:00:00Z", True, Outcome.PASS),  # 19:00 New York
        ("2024-07-10T20:00:00Z", True, Outcome.FOUND),  # summer time
        ("2024-07-10T23:00:00Z", True, Outcome.PASS),
        ("2024-01-10T22:00:00Z", False, Outcome.PASS),  # a coin
    ],
)
def test_entries_of_fx_in_the_rollover_hours_are_found(entry: str, rests: bool, outcome: Outcome) -> None:
    at = np.asarray([parse_iso(entry)])
    rows = DatasetRows(("all",), np.zeros(1, np.intp), at, at + HOUR, HOUR, bar_close=at, rolls_over=np.array([rests]))
    assert checked(rows)["rollover hours"].outcome is outcome


def test_the_products_own_dataset_is_clean(pool: Pool, slices: Slices) -> None:
    checks = check_rows(rows_of_pool(pool, slices), embargo=PURGE_BARS - HORIZON_BARS, as_of=NOW)
    assert outcomes(checks) == CLEAN
    assert check_known_at_entry("known", pool, slices).outcome is Outcome.PASS


def test_a_pool_that_kept_the_rollover_hours_is_found() -> None:
    kept = pool_of(Timeframe.H1, [(frame, False) for frame, _ in two_series()])
    rows = rows_of_pool(kept, split(kept, TrainingConfig()))
    found = check_rows(rows, embargo=60, as_of=NOW)[-1]
    assert found.outcome is Outcome.FOUND
    assert [finding.where for finding in found.findings] == ["train", "validation", "calibration", "test"]
    assert "of EURUSD=X" in found.findings[0].row


def test_a_pool_that_was_not_purged_is_found(pool: Pool, slices: Slices) -> None:
    usable, entry = pool.usable, pool.entry
    train = usable[entry[usable] < slices.cuts[0]]
    found = outcomes(check_rows(rows_of_pool(pool, replace(slices, train=train)), embargo=60, as_of=NOW))
    assert found["labels that overlap"] is found["embargo"] is Outcome.FOUND


def test_a_pool_entered_while_its_newest_bar_was_open_is_found(pool: Pool, slices: Slices) -> None:
    early = Pool(pool.timeframe, pool.series)
    early.__dict__["entry"] = pool.entry - pool.timeframe.milliseconds // 2
    rows = rows_of_pool(early, slices)
    assert outcomes(check_rows(rows, embargo=60, as_of=NOW))["unfinished bars"] is Outcome.FOUND
    found = check_known_at_entry("known", early, slices)
    assert found.outcome is Outcome.FOUND
    assert "a bar of the inputs was still open" in found.findings[0].told
