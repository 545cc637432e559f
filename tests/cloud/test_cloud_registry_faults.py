"""The registry's jobs where a worker dies after any of its writes, or a training leaves what it was not asked for.

A death is an exception that nothing catches, raised once the write is done; the message then comes again, as from SQS.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from fusiontrade.cloud.sagemaker import SageMaker
from fusiontrade.cloud.tables import Table
from fusiontrade.errors import Conflict
from fusiontrade.forecasts.jobs import Job, JobOrder
from fusiontrade.registry.rollout import Rollout
from fusiontrade.registry.versions import ModelVersion, Registry
from tests.cloud.test_cloud_registry import LOAD, NEW, OLD, comparison
from tests.support import emulator
from tests.support.registry_desk import *  # noqa: F403 - pytest finds fixtures by name in this module
from tests.support.registry_desk import MODEL, OWNER, TRAINING, MemoryObjects, RegistryDesk, bundle_files
from tests.support.sagemaker_server import SageMakerStub

THIRD = "cccccccccccc"
_WRITES = {
    Table: ("put", "update", "transact"),
    SageMaker: ("start_training", "stop_training", "roll_out"),
}


class Killed(BaseException):
    """The process is gone."""


class Deaths:
    """Kills the worker after its write number ``after``, once; counts them all."""

    def __init__(self, patch: pytest.MonkeyPatch, desk: RegistryDesk, after: int) -> None:
        self.after, self.count, self.worker = after, 0, threading.current_thread()
        for kind, names in _WRITES.items():
            for name in names:
                patch.setattr(kind, name, self.dying(getattr(kind, name)))
        patch.setattr(desk.storage, "put", self.dying(desk.storage.put))
        patch.setattr(desk.storage, "copy", self.dying(desk.storage.copy))
        patch.setattr(desk.messages, "send", self.dying(desk.messages.send))

    def dying(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def done(*given: Any, **named: Any) -> Any:
            answer = write(*given, **named)
            if threading.current_thread() is self.worker:
                self.count += 1
                if self.count == self.after:
                    raise Killed
            return answer

        return done


def worked(desk: RegistryDesk, order: JobOrder, most: int = 40) -> Job:
    """Work messages off as a queue gives them: one whose worker died comes again, after what waits."""
    for _ in range(most):
        if not desk.messages.waiting:
            break
        message = desk.messages.waiting.pop(0)
        try:
            desk.deliver(message)
        except Killed:
            desk.messages.waiting.append(message)
    return desk.jobs.of(order.id, OWNER)


@pytest.fixture
def desks(aws: SageMakerStub) -> Callable[[], RegistryDesk]:
    """Make desks with a version that serves and one that is not worse."""

    def make() -> RegistryDesk:
        aws.__init__(port=aws.port)  # type: ignore[misc] # as new
        name = f"Models-{uuid.uuid4().hex[:8]}"
        emulator.make_table("ModelsTable", name)
        desk = RegistryDesk(Table(name), MemoryObjects(), aws)
        desk.outcome["comparison"] = comparison(not_worse=True)
        desk.serving(OLD)
        return desk

    return make


@pytest.mark.parametrize(("kind", "step"), [("train", 1), ("load", 2), ("finetune", 7)])
def test_a_worker_that_dies_after_any_write_costs_nothing_and_repeats_nothing(
    desks: Callable[[], RegistryDesk], kind: str, step: int
) -> None:
    """Each death is a job of its own: ``step`` leaves some out, for the time that they take."""
    after, count = 1 - step, 1
    while (after := after + step) <= count:
        desk = desks()
        if kind == "load":
            desk.archived(NEW, comparison=comparison(not_worse=True))
        order = desk.ask(kind, LOAD if kind == "load" else TRAINING)
        with pytest.MonkeyPatch.context() as patch:
            deaths = Deaths(patch, desk, after)
            job = worked(desk, order)
        count = deaths.count
        assert job.status == "SUCCEEDED", (after, job.error)
        expected = {OLD: "ACTIVE", NEW: "CANDIDATE"} if kind == "train" else {OLD: "RETIRED", NEW: "ACTIVE"}
        assert desk.statuses() == expected, after
        made = len(desk.sagemaker.jobs), len(desk.sagemaker.models)
        assert made == {"train": (1, 0), "load": (0, 1), "finetune": (1, 1)}[kind], after
        rollout = desk.table.get({"pk": "REGISTRY", "sk": "ROLLOUT"}) or {}
        assert "job" not in rollout, after
    assert after > 10


# --- exchanges that meet ----------------------------------------------------------------------------------------------


def test_a_version_is_judged_by_the_one_that_serves_when_its_turn_has_come(
    desk: RegistryDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.serving(OLD)
    desk.archived(NEW, comparison=comparison(not_worse=True))
    desk.archived(THIRD, symbols=("EURUSD=X", "GC=F"))
    claim = Rollout._claim

    def late(self: Rollout, job: str) -> bool:
        desk.registry.promote(MODEL, THIRD)  # by another worker, which lets go only now
        return claim(self, job)

    monkeypatch.setattr(Rollout, "_claim", late)
    job = desk.work(desk.ask("load", LOAD))
    assert job.status == "FAILED"
    assert f"nor was judged on GC=F, which version {THIRD} serves" in str(job.error)
    assert desk.statuses() == {OLD: "RETIRED", NEW: "CANDIDATE", THIRD: "ACTIVE"}


def test_a_version_that_another_exchange_promoted_meanwhile_is_told_as_what_it_is(
    desk: RegistryDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.serving(OLD)
    desk.archived(NEW, comparison=comparison(not_worse=True))
    claim = Rollout._claim

    def late(self: Rollout, job: str) -> bool:
        desk.registry.promote(MODEL, NEW)
        return claim(self, job)

    monkeypatch.setattr(Rollout, "_claim", late)
    job = desk.work(desk.ask("load", LOAD))
    assert job.result is not None
    assert (job.result["status"], job.result["reason"]) == ("ACTIVE", "it serves already")


def test_what_the_endpoint_serves_already_is_promoted_however_often_others_are_in_the_way(
    desk: RegistryDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.serving(OLD)
    desk.archived(NEW, comparison=comparison(not_worse=True))
    promote, times = Registry.promote, iter(range(9))

    def held(self: Registry, model_id: str, version: str) -> ModelVersion:
        if next(times) < 2:
            raise Conflict("another request is changing the same thing; try again")
        return promote(self, model_id, version)

    monkeypatch.setattr(Registry, "promote", held)
    job = desk.work(desk.ask("load", LOAD))
    assert (job.status, job.error) == ("SUCCEEDED", None)
    assert desk.statuses() == {OLD: "RETIRED", NEW: "ACTIVE"}


def test_a_bundle_that_was_changed_in_the_archive_serves_nobody(desk: RegistryDesk) -> None:
    desk.serving(OLD)
    desk.archived(NEW, comparison=comparison(not_worse=True))
    for name, content in bundle_files(NEW, kind="gru").items():  # whole by its own manifest, and not what was judged
        desk.storage.put(desk.bundles.prefix(MODEL, NEW) + name, content)
    job = desk.work(desk.ask("load", LOAD))
    assert (job.status, desk.sagemaker.models) == ("FAILED", {})
    assert "is not the bundle that was registered" in str(job.error)
    for name, content in bundle_files(OLD, kind="gru").items():
        desk.storage.put(desk.bundles.prefix(MODEL, OLD) + name, content)
    job = desk.work(desk.ask("train", TRAINING))
    assert (job.status, desk.sagemaker.jobs) == ("FAILED", {})
    assert "is not the bundle that was registered" in str(job.error)


def test_an_exchange_that_was_over_before_its_last_message_came_again_stays_done(desk: RegistryDesk) -> None:
    desk.serving(OLD)
    desk.archived(NEW, comparison=comparison(not_worse=True))
    desk.archived(THIRD)
    order = desk.ask("load", LOAD)
    before, message = {}, {}
    while desk.messages.waiting:
        before, message = desk.turns.item(order.id) or {}, dict(desk.messages.waiting[0])
        desk.step()
    desk.work(desk.ask("load", {**LOAD, "version": THIRD, "force": True}))
    desk.table.put(before)  # the worker had died just before it said that the job is done
    desk.deliver(message)
    job = desk.work(order)
    assert (job.status, job.error) == ("SUCCEEDED", None)
    assert desk.statuses() == {OLD: "RETIRED", NEW: "RETIRED", THIRD: "ACTIVE"}
    assert desk.registry.of(MODEL, NEW).reason is None


def test_a_promotion_that_meets_a_rollback_comes_after_it_and_is_judged_then(desk: RegistryDesk) -> None:
    desk.serving(OLD)
    desk.archived(NEW, comparison=comparison(not_worse=True))
    desk.archived(THIRD, comparison=comparison(not_worse=True, against=NEW))
    desk.work(desk.ask("load", LOAD))
    back = desk.ask("load", {**LOAD, "version": OLD})
    onward = desk.ask("load", {**LOAD, "version": THIRD})
    desk.step()
    desk.step()
    assert desk.work(back).status == "SUCCEEDED"
    job = desk.work(onward)
    assert job.result is not None
    assert "lie within the interval" in job.result["reason"]  # its comparison is with a version that serves no more
    assert desk.statuses() == {OLD: "RETIRED", NEW: "RETIRED", THIRD: "ACTIVE"}


def test_two_trainings_of_one_model_at_once_are_two_candidates(desk: RegistryDesk) -> None:
    first, second = desk.ask("train", TRAINING), desk.ask("train", {**TRAINING, "seed": 1})
    desk.step()
    desk.step()
    leave = desk.sagemaker.train

    def by_name(request: Any) -> None:
        desk.files = bundle_files(NEW if second.id in request["TrainingJobName"] else THIRD)
        leave(request)

    desk.sagemaker.train = by_name
    results = [desk.work(order).result or {} for order in (first, second)]
    assert [told["version"] for told in results] == [THIRD, NEW]
    assert desk.statuses() == {NEW: "CANDIDATE", THIRD: "CANDIDATE"}


# --- what a training leaves -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "files", "why"),
    [
        (b"", {}, "the training ended without a bundle"),
        (b"not JSON", {}, "the training ended without a bundle"),
        (b"[]", {}, "the training ended without a bundle"),
        (b'{"bundle": "../../../bundles/lstm-1h/aaaaaaaaaaaa"}', {}, "which is no plain name"),
        (b'{"bundle": 7}', {}, "which is no plain name"),
        (b'{"bundle": "lstm-1h", "comparison": {"x": NaN}}', {}, "the training ended without a bundle"),
        (b'{"bundle": "lstm-1h", "record": {"profit_factor": 1e999}}', {}, "the training ended without a bundle"),
        (b'{"bundle": "gru-1h"}', {}, "the training left no manifest.json"),
        (None, {"symbols": ("GC=F",)}, "learned from GC=F, which it was not given"),
        (None, {"model_id": "gru-1h"}, "is of gru-1h, and lstm-1h was asked for"),
        (None, {"kind": "gru"}, "is of the kind gru, not lstm"),
    ],
)
def test_what_is_not_what_was_asked_for_is_refused_and_archived_nowhere(
    desk: RegistryDesk, outcome: bytes | None, files: dict[str, Any], why: str
) -> None:
    desk.serving(OLD)
    desk.files = bundle_files(NEW, **files)
    leave = desk.sagemaker.train

    def left(request: Any) -> None:
        leave(request)
        if outcome is not None:
            (place,) = [key for key in desk.storage.keys("training/") if key.endswith("/outcome.json")]
            desk.storage.put(place, outcome)

    desk.sagemaker.train = left
    job = desk.work(desk.ask("train", TRAINING))
    assert job.status == "FAILED"
    assert why in str(job.error)
    assert desk.statuses() == {OLD: "ACTIVE"}
    assert {key.split("/")[2] for key in desk.storage.keys("bundles/")} == {OLD}
