"""Importing an older log over HTTP: all rows or none, once, and only into one's own journal."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from fusiontrade.deadline import Deadline
from fusiontrade.errors import StateUnavailable
from fusiontrade.journal.entries import Entry
from fusiontrade.journal.imports import MOST_ROWS, import_log
from fusiontrade.journal.store import Asked, Journal
from tests.contract.journal_calls import *  # noqa: F403 - pytest finds fixtures by name in this module
from tests.contract.journal_calls import Caller
from tests.support.journal_entries import *  # noqa: F403 - pytest finds fixtures by name in this module
from tests.support.journal_entries import ALICE, BOB, NOON, buy, patient

ROOT = Path(__file__).resolve().parents[2]
HEAD = "timestamp,symbol,interval,signal,entry_price,tp1,stop_loss,status,outcome_price,outcome_at"
END = "1.1,1.104,1.097,WIN,1.104,2025-08-02T14:00:00Z"


def log(count: int, *more: str) -> str:
    rows = [f"2025-07-31T{number // 60:02d}:{number % 60:02d}:00Z,EURUSD=X,1h,BUY,{END}" for number in range(count)]
    return "\n".join((HEAD, *rows, *more))


def test_every_row_is_imported_and_told(alice: Caller, bob: Caller) -> None:
    won = END.replace("1.104,1.097", "1.0,1.2").replace("WIN,1.104", "WIN,1.0")
    answer = alice.import_csv(log(120, f"2025-07-31T00:00:00Z,GC=F,4h,SELL,{won}"))
    assert (answer.status, answer.json()) == (
        200,
        {"rows": 121, "imported": 121, "skipped": 0, "failed": 0, "errors": []},
    )
    told = alice("GET", "/stats").json()
    assert (told["total"], told["wins"], told["by_symbol"]["GC=F"]["wins"]) == (121, 121, 1)
    assert bob("GET", "/stats").json()["total"] == 0


def test_one_faulty_row_imports_nothing_and_is_named(alice: Caller) -> None:
    answer = alice.import_csv(log(60, f"2025-07-31T00:00:00Z,NOSUCH1,1h,BUY,{END}", f"never,GC=F,1h,BUY,{END}"))
    report = answer.json()
    assert (answer.status, report["rows"], report["imported"], report["skipped"]) == (200, 62, 0, 0)
    assert [(fault["row"], fault["field"]) for fault in report["errors"]] == [(61, "symbol"), (62, "opened_at")]
    assert alice("GET", "/stats").json()["total"] == 0
    assert alice("GET", "").json()["items"] == []


def test_a_file_of_faults_has_a_report_that_can_be_kept(alice: Caller) -> None:
    body = HEAD + "\n" + f"never,{'x' * 100},1h,BUY,{END}\n" * MOST_ROWS
    answer = alice.import_csv(body, **{"Idempotency-Key": "import-faults"})
    report = answer.json()
    assert (answer.status, report["failed"], len(report["errors"])) == (200, MOST_ROWS, 200)
    assert alice.import_csv(body, **{"Idempotency-Key": "import-faults"}).json() == report


def test_the_same_file_again_skips_every_row(alice: Caller) -> None:
    alice.import_csv(log(50))
    answer = alice.import_csv(log(55, log(1).splitlines()[1]))
    assert answer.json() == {"rows": 56, "imported": 5, "skipped": 51, "failed": 0, "errors": []}
    assert alice("GET", "/stats").json()["total"] == 55


def test_a_row_that_is_settled_already_is_not_written_over(journal: Journal, alice: Caller) -> None:
    pending = HEAD + "\n2025-07-31T00:00:00Z,EURUSD=X,1h,BUY,1.1,1.104,1.097,,,"
    alice.import_csv(log(1))
    assert alice.import_csv(pending).json()["skipped"] == 1
    assert alice("GET", "").json()["items"][0]["status"] == "WIN"


def test_the_same_key_imports_once_and_another_file_under_it_is_refused(alice: Caller) -> None:
    key = {"Idempotency-Key": "import-0001"}
    first, again = alice.import_csv(log(3), **key), alice.import_csv(log(3), **key)
    assert again.json() == first.json() == {"rows": 3, "imported": 3, "skipped": 0, "failed": 0, "errors": []}
    assert alice.import_csv(log(4), **key).status == 422


def test_a_log_says_nothing_about_whose_it_is(alice: Caller, bob: Caller) -> None:
    head, row = HEAD + ",user_id,owner,id", log(1).splitlines()[1] + f",{BOB},PLATFORM,1753963200000-0000000000000000"
    assert alice.import_csv(f"{head}\n{row}").json()["imported"] == 1
    assert (alice("GET", "/stats").json()["total"], bob("GET", "/stats").json()["total"]) == (1, 0)


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 422), (b"a,b\n1,2", 422), (b"\xff\xfe", 422), (log(1).encode() + b"x" * 2**20, 413)],
)
def test_a_body_that_is_no_log_is_refused(alice: Caller, body: bytes, status: int) -> None:
    assert alice.import_csv(body).status == status
    assert alice("GET", "/stats").json()["total"] == 0


def test_more_rows_than_the_cap_are_refused(alice: Caller) -> None:
    body = HEAD + "\n" + "1753963200,EURUSD=X,1h,HOLD\n" * (MOST_ROWS + 1)
    answer = alice.import_csv(body)
    assert answer.status == 422
    assert str(MOST_ROWS) in answer.json()["detail"]


def test_json_and_forms_are_no_logs(alice: Caller) -> None:
    assert alice("POST", "/import", json_body={"rows": []}).status == 415
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    assert alice("POST", "/import", body=b"--x--", headers=form).status == 415


class Failing(Journal):
    """A journal whose database stops answering when the third batch comes."""

    batches = 0

    def add_many(self, entries: Any) -> list[Entry]:
        self.batches += 1
        if self.batches == 3:
            raise StateUnavailable("the database did not answer", retry_after=5)
        return super().add_many(entries)


def test_an_import_that_breaks_off_is_taken_back(journal: Journal, journal_table_name: str) -> None:
    kept = buy(opened_at=NOON + 3_600_000)
    journal.add(kept)
    failing = Failing(patient(journal_table_name), lambda: NOON)
    now = NOON + 10 * 86_400_000
    with pytest.raises(StateUnavailable):
        import_log(failing, ALICE, log(120).encode(), now)
    assert [record.id for record in journal.records(ALICE, Asked())] == [kept.id]
    assert import_log(journal, ALICE, log(120).encode(), now)["imported"] == 120


def test_an_import_that_runs_out_of_time_is_gone_on_with_by_the_same_file(journal: Journal) -> None:
    """A look at the clock before each forty rows: after two of them no time is left."""
    looks = iter([1.0, 2.0, 9.0, 9.0])
    now = NOON + 10 * 86_400_000
    with pytest.raises(StateUnavailable, match="80 of 120 rows"):
        import_log(journal, ALICE, log(120).encode(), now, deadline=Deadline(10.0, lambda: next(looks)))
    assert len(list(journal.records(ALICE, Asked()))) == 80
    told = import_log(journal, ALICE, log(120).encode(), now)
    assert (told["imported"], told["skipped"]) == (40, 80)


def test_an_import_is_taken_back_no_longer_than_there_is_time_and_the_same_file_adds_the_rest(
    journal: Journal, journal_table_name: str
) -> None:
    class Breaking(Journal):
        batches = 0

        def add_many(self, entries: Iterable[Entry]) -> list[Entry]:
            self.batches += 1
            if self.batches == 3:
                raise StateUnavailable("the database does not answer")
            return super().add_many(entries)

    looks = iter([1.0, 2.0, 3.0, 4.0, 9.0])  # before each forty rows, and before each forty that are taken back
    now = NOON + 10 * 86_400_000
    breaking = Breaking(patient(journal_table_name), lambda: NOON)
    with pytest.raises(StateUnavailable):
        import_log(breaking, ALICE, log(120).encode(), now, deadline=Deadline(10.0, lambda: next(looks)))
    assert len(list(journal.records(ALICE, Asked()))) == 40
    told = import_log(journal, ALICE, log(120).encode(), now)
    assert (told["imported"], told["skipped"]) == (80, 40)


DYING = """
import sys, time
from fusiontrade.cloud.tables import Table
from fusiontrade.journal.imports import import_log
from fusiontrade.journal.store import Journal

class Slow(Journal):
    batches = 0
    def add_many(self, entries):
        added = super().add_many(entries)
        self.batches += 1
        if self.batches == 2:
            print("half", flush=True)
            time.sleep(120)
        return added

table, owner, now = sys.argv[1:]
import_log(Slow(Table(table, read_seconds=60.0), lambda: int(now)), owner, sys.stdin.buffer.read(), int(now))
"""


def test_an_import_whose_process_is_killed_is_completed_by_the_same_file(
    journal: Journal, journal_table_name: str, alice: Caller
) -> None:
    """What was written stays: the file again adds the rest, and no row or count is there twice."""
    command = [sys.executable, "-c", DYING, journal_table_name, ALICE, str(NOON + 10 * 86_400_000)]
    path = {"PYTHONPATH": f"{ROOT / 'shared'}"}
    with subprocess.Popen(command, env={**os.environ, **path}, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as dying:
        assert dying.stdin is not None and dying.stdout is not None  # noqa: PT018 - both are pipes
        dying.stdin.write(log(120).encode())
        dying.stdin.close()
        assert dying.stdout.readline() == b"half\n"
        dying.kill()
    assert len(list(journal.records(ALICE, Asked()))) == 80
    assert alice.import_csv(log(120)).json() == {
        "rows": 120, "imported": 40, "skipped": 80, "failed": 0, "errors": [],
    }  # fmt: skip
    told = alice("GET", "/stats").json()
    assert (told["total"], told["wins"], told["total_pips"]) == (120, 120, 120 * 40.0)
    assert alice.import_csv(log(120)).json()["skipped"] == 120
