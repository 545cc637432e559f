"""Jobs in a table: made once, moved only forward, shown to their owner alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from fusiontrade.cloud.tables import ConditionFailed, Table
from fusiontrade.errors import NotFound
from fusiontrade.forecasts.jobs import DAYS_KEPT, Job, JobOrder, Jobs

CREATED = 1_753_963_203_000  # 2025-07-31T12:00:03Z
ASKED = {"symbol": "EURUSD=X", "interval": "1h"}


class Now:
    def __init__(self) -> None:
        self.at = CREATED

    def __call__(self) -> int:
        return self.at


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def table(models_table_name: str) -> Table:
    return Table(models_table_name, read_seconds=60.0)


@pytest.fixture
def jobs(table: Table, now: Now) -> Jobs:
    return Jobs(table, now)


@pytest.fixture
def order(jobs: Jobs) -> JobOrder:
    return jobs.order("u1", "predict", ASKED)


def test_a_new_job_is_queued(jobs: Jobs, order: JobOrder) -> None:
    expected = Job(
        id=order.id, kind="predict", status="QUEUED", progress=0, result=None, error=None,
        created_at="2025-07-31T12:00:03Z", finished_at=None,
    )  # fmt: skip
    assert jobs.create(order) == expected
    assert jobs.of(order.id, "u1") == expected


def test_an_order_has_the_id_it_is_given_or_one_of_its_own(jobs: Jobs) -> None:
    assert jobs.order("u1", "predict", ASKED, identity="a" * 32).id == "a" * 32
    assert jobs.order("u1", "predict", ASKED).id != jobs.order("u1", "predict", ASKED).id


def test_a_job_made_again_stays_as_far_as_it_was(jobs: Jobs, order: JobOrder) -> None:
    jobs.begin(order)
    assert jobs.create(order).status == "RUNNING"


def test_a_job_runs_and_succeeds(jobs: Jobs, order: JobOrder, now: Now) -> None:
    jobs.create(order)
    assert jobs.begin(order)
    jobs.advance(order.id, 0.5)
    assert (jobs.of(order.id, "u1").status, jobs.of(order.id, "u1").progress) == ("RUNNING", 0.5)
    now.at += 1_000
    assert jobs.succeed(order.id, {"entry": 1.1, "levels": [1, 2.5], "none": None})
    job = jobs.of(order.id, "u1")
    assert (job.status, job.progress, job.error) == ("SUCCEEDED", 1.0, None)
    assert job.result == {"entry": 1.1, "levels": [1, 2.5], "none": None}
    assert job.finished_at == "2025-07-31T12:00:04Z"


def test_progress_never_goes_back(jobs: Jobs, order: JobOrder) -> None:
    jobs.begin(order)
    for progress in (0.7, 0.3):
        jobs.advance(order.id, progress)
    assert jobs.of(order.id, "u1").progress == 0.7
    jobs.fail(order.id, "no")
    jobs.advance(order.id, 0.9)
    assert jobs.of(order.id, "u1").progress == 0.7


def test_what_is_finished_stays_finished(jobs: Jobs, order: JobOrder) -> None:
    jobs.begin(order)
    assert jobs.fail(order.id, "the market data source has no bars")
    assert not jobs.succeed(order.id, {})
    assert not jobs.fail(order.id, "another reason")
    assert not jobs.begin(order)
    assert (jobs.of(order.id, "u1").status, jobs.of(order.id, "u1").error) == (
        "FAILED",
        "the market data source has no bars",
    )


def test_a_message_that_is_quicker_than_the_request_makes_the_job(jobs: Jobs, order: JobOrder) -> None:
    assert jobs.begin(JobOrder.of(order.message()))
    assert jobs.create(order).status == "RUNNING"


def test_a_job_of_a_worker_that_died_is_begun_again(jobs: Jobs, order: JobOrder) -> None:
    assert jobs.begin(order)
    assert jobs.begin(order)
    assert jobs.succeed(order.id, {})


def test_of_eight_workers_with_one_job_one_finishes_it(jobs: Jobs, order: JobOrder) -> None:
    together = Barrier(8)

    def work(number: int) -> bool:
        together.wait()
        return jobs.begin(order) and jobs.succeed(order.id, {"by": number})

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(work, range(8))) == [False] * 7 + [True]


def test_another_users_job_is_not_there(jobs: Jobs, order: JobOrder) -> None:
    jobs.create(order)
    with pytest.raises(NotFound):
        jobs.of(order.id, "u2")
    with pytest.raises(NotFound):
        jobs.of("0" * 32, "u1")


def test_a_job_is_gone_after_its_days_even_where_the_table_still_has_it(jobs: Jobs, order: JobOrder, now: Now) -> None:
    jobs.create(order)
    now.at += DAYS_KEPT * 86_400_000 - 4_000
    assert jobs.of(order.id, "u1").id == order.id
    now.at += 4_000
    with pytest.raises(NotFound):
        jobs.of(order.id, "u1")


def test_a_job_is_made_in_one_transaction_with_another_write_or_not_at_all(
    jobs: Jobs, order: JobOrder, table: Table
) -> None:
    table.transact(jobs.placed(order))
    assert jobs.of(order.id, "u1").status == "QUEUED"
    with pytest.raises(ConditionFailed):
        table.transact(jobs.placed(order))
