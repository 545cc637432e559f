"""Trainings and exchanges over the emulated cloud and a SageMaker that also throttles, refuses, fails and stops."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fusiontrade.cloud.session import client
from fusiontrade.cloud.storage import Storage
from fusiontrade.errors import FusionTradeError, NotFound
from fusiontrade.registry.degraded import Degraded
from fusiontrade.registry.turns import CANCELLED
from tests.support.registry_desk import *  # noqa: F403 - pytest finds fixtures by name in this module
from tests.support.registry_desk import MODEL, NOW, OWNER, TRAINING, RegistryDesk, bundle_files

OLD, NEW = "aaaaaaaaaaaa", "bbbbbbbbbbbb"
LOAD = {"model_id": MODEL, "version": NEW, "force": False}


def comparison(*, not_worse: bool, against: str = OLD) -> dict[str, Any]:
    losses = {"chances_log_loss": {"candidate": 0.4, "active": 0.4, "not_worse": not_worse}}
    return {"against": against, "losses": losses, "not_worse": not_worse}


# --- training ---------------------------------------------------------------------------------------------------------


def test_a_training_gets_its_candles_as_a_channel_and_ends_as_a_candidate_with_its_report(desk: RegistryDesk) -> None:
    desk.serving(OLD)
    record = {"source": "held_out", "wins": 4, "losses": 5, "expired": 1, "win_rate": 0.44, "profit_factor": None}
    desk.outcome |= {"comparison": comparison(not_worse=True), "record": record}
    order = desk.ask("train", TRAINING)
    desk.step()
    (request,) = [asked for operation, asked in desk.sagemaker.asked if operation == "CreateTrainingJob"]
    bucket = request["OutputDataConfig"]["S3OutputPath"].split("/")[2]
    channels = {each["ChannelName"]: each["DataSource"]["S3DataSource"]["S3Uri"] for each in request["InputDataConfig"]}
    assert channels == {
        "candles": f"s3://{bucket}/training/{order.id}/candles/",
        "active": f"s3://{bucket}/bundles/{MODEL}/{OLD}/",
    }
    assert desk.storage.keys(f"training/{order.id}/candles/") == [f"training/{order.id}/candles/EURUSD=X.npz"]
    assert request["HyperParameters"] == {"kind": "lstm", "timeframe": "1h", "epochs": "2"}
    assert request["EnableNetworkIsolation"] is True
    job = desk.work(order)
    assert (job.status, job.progress) == ("SUCCEEDED", 1.0)
    assert job.result is not None
    assert (job.result["version"], job.result["status"]) == (NEW, "CANDIDATE")
    assert desk.statuses() == {OLD: "ACTIVE", NEW: "CANDIDATE"}
    kept = desk.registry.of(MODEL, NEW)
    assert kept.comparison == comparison(not_worse=True)
    assert (kept.win_rate, kept.profit_factor, kept.track_record) == (0.44, None, record)
    desk.registry.recorded(MODEL, NEW, {**record, "source": "journal", "win_rate": 0.5, "profit_factor": 1.2})
    kept = desk.registry.of(MODEL, NEW)
    assert (kept.win_rate, kept.profit_factor, (kept.track_record or {})["source"]) == (0.5, 1.2, "journal")
    with pytest.raises(NotFound):
        desk.registry.recorded(MODEL, "cccccccccccc", record)
    assert kept.trained_on.model_dump() == {"from": "2025-06-15T15:06:30Z", "to": "2025-06-15T15:06:35Z"}
    assert desk.bundles.report(MODEL, NEW)["data_fingerprint"] == "f"


def test_the_job_shows_how_far_the_training_is(desk: RegistryDesk) -> None:
    desk.sagemaker.looks = 100
    order = desk.ask("train", TRAINING)
    desk.step()
    desk.step()
    assert desk.jobs.of(order.id, OWNER).step == "the training program is starting"
    shown = []
    for progress, epoch in ((0.3, 2), (0.3, 3), (0.2, 1), (0.9, 6)):  # it never goes back
        told = {"progress": progress, "epoch": epoch, "epochs": 6, "step": "fitting", "validation_loss": 3.14159}
        desk.storage.put(f"training/{order.id}/checkpoints/progress.json", json.dumps(told).encode())
        desk.step()
        job = desk.jobs.of(order.id, OWNER)
        shown.append((job.progress, job.step))
    third = (0.3, "epoch 3 of 6, validation loss 3.142")
    assert shown == [(0.3, "epoch 2 of 6, validation loss 3.142"), third, third, (0.9, "calibrating and judging")]
    desk.storage.put(f"training/{order.id}/checkpoints/progress.json", b'{"progress": 1.0, "step": "done"}')
    desk.step()
    assert desk.jobs.of(order.id, OWNER).step == "the bundle is being stored"
    desk.sagemaker.looks = 0
    assert desk.work(order).step is None


def test_a_turn_that_is_delivered_twice_is_one_training_and_one_candidate(desk: RegistryDesk) -> None:
    order = desk.ask("train", TRAINING)
    first = dict(desk.messages.waiting[0])
    desk.step()
    desk.deliver(first)  # its worker died after sending the next turn
    assert desk.work(order).status == "SUCCEEDED"
    desk.deliver(first)
    assert [operation for operation, _ in desk.sagemaker.asked].count("CreateTrainingJob") == 1
    assert desk.statuses() == {NEW: "CANDIDATE"}


def test_a_worker_that_died_before_it_wrote_down_the_turn_does_it_again(desk: RegistryDesk) -> None:
    order = desk.ask("train", TRAINING)
    first = dict(desk.messages.waiting[0])
    desk.step()
    desk.table.put({**_document(desk, order.id), "turn": 0, "kept": {}})
    desk.deliver(first)
    assert desk.work(order).status == "SUCCEEDED"
    assert len(desk.sagemaker.jobs) == 1


def _document(desk: RegistryDesk, identity: str) -> dict[str, Any]:
    return desk.turns.item(identity) or {}


@pytest.mark.parametrize(
    ("code", "status"),
    [("ThrottlingException", 400), ("ResourceLimitExceeded", 400), ("InternalFailure", 500)],
)
def test_what_may_pass_is_waited_for(desk: RegistryDesk, code: str, status: int) -> None:
    desk.sagemaker.fail("CreateTrainingJob", code, "not now", status=status, times=2)
    order = desk.ask("train", TRAINING)
    desk.step()
    assert desk.jobs.of(order.id, OWNER).status == "RUNNING"
    assert desk.messages.delays[-1] >= 5
    assert desk.work(order).status == "SUCCEEDED"


def test_no_instance_for_an_hour_ends_the_job_in_words(desk: RegistryDesk) -> None:
    desk.sagemaker.fail("CreateTrainingJob", "ResourceLimitExceeded", "the limit of ml.c7i.xlarge is 0", times=9)
    order = desk.ask("train", TRAINING)
    desk.step()
    desk.now = NOW + 3_600_001
    job = desk.work(order)
    assert job.status == "FAILED"
    assert job.error == "there is no instance to train on now: the limit of ml.c7i.xlarge is 0"


def test_a_service_that_is_away_for_an_hour_is_not_told_by_its_name(desk: RegistryDesk) -> None:
    desk.sagemaker.fail("CreateTrainingJob", "InternalFailure", "no", status=500, times=9)
    order = desk.ask("train", TRAINING)
    desk.now = NOW + 3_600_001
    job = desk.work(order)
    assert (job.status, job.error) == ("FAILED", "what this needs did not answer for an hour; ask again later")


def test_a_refused_training_fails_with_what_the_service_said(desk: RegistryDesk) -> None:
    desk.sagemaker.fail("CreateTrainingJob", "ValidationException", "the role cannot be assumed")
    job = desk.work(desk.ask("train", TRAINING))
    assert (job.status, job.error) == ("FAILED", "SageMaker refused: the role cannot be assumed")


def test_no_name_of_a_role_an_account_or_an_object_reaches_whoever_asked(desk: RegistryDesk) -> None:
    said = "User arn:aws:sts::123456789012:assumed-role/worker may not read s3://bucket/key, account 123456789012"
    desk.sagemaker.fail("CreateTrainingJob", "AccessDeniedException", said)
    job = desk.work(desk.ask("train", TRAINING))
    assert job.error == "SageMaker refused: User … may not read …, account …"


@pytest.mark.parametrize(
    ("reason", "why"),
    [
        ("AlgorithmError: 900 bars of 1h are too few", "900 bars of 1h are too few"),
        ("AlgorithmError: 900 bars: too few, exit code: 1", "900 bars: too few"),
        ("InternalServerError: We encountered an internal error.", "We encountered an internal error."),
        ("", "it did not say why"),
    ],
)
def test_a_training_that_failed_says_why_in_the_programs_words(desk: RegistryDesk, reason: str, why: str) -> None:
    desk.sagemaker.ends, desk.sagemaker.reason = "Failed", reason
    job = desk.work(desk.ask("train", TRAINING))
    assert (job.status, job.error) == ("FAILED", f"the training came to nothing: {why}")
    assert desk.statuses() == {}


def test_a_training_that_was_stopped_by_its_time_says_so(desk: RegistryDesk) -> None:
    desk.sagemaker.ends = "Stopped"
    assert desk.work(desk.ask("train", TRAINING)).error == "the training took too long and was stopped"


def test_a_cancelled_training_is_stopped(desk: RegistryDesk) -> None:
    desk.sagemaker.looks = 100
    order = desk.ask("train", TRAINING)
    desk.step()
    desk.turns.cancel(desk.jobs, order.id, OWNER)
    job = desk.work(order)
    assert (job.status, job.error) == ("FAILED", CANCELLED)
    assert [one["status"] for one in desk.sagemaker.jobs.values()] == ["Stopped"]
    assert desk.turns.cancel(desk.jobs, order.id, OWNER) == job


def test_a_bundle_that_is_not_what_its_manifest_names_is_not_registered(desk: RegistryDesk) -> None:
    desk.files = {**bundle_files(NEW), "model.onnx": b"other"}
    job = desk.work(desk.ask("train", TRAINING))
    assert (job.status, job.error) == ("FAILED", "model.onnx is not the file that manifest.json names")
    assert (desk.statuses(), desk.storage.keys("bundles/")) == ({}, [])


def test_a_symbol_beside_the_asked_one_may_be_missing_and_the_asked_one_may_not(desk: RegistryDesk) -> None:
    job = desk.work(desk.ask("train", {**TRAINING, "symbols": ["XXXYYY=X"]}))
    assert job.result is not None
    assert list(job.result["left_out"]) == ["XXXYYY=X"]
    job = desk.work(desk.ask("train", {**TRAINING, "symbol": "XXXYYY=X"}))
    assert job.status == "FAILED"
    assert "XXXYYY=X" in str(job.error)


def test_without_an_image_no_training_is_begun(desk: RegistryDesk) -> None:
    desk.image = ""
    job = desk.work(desk.ask("train", TRAINING))
    assert (job.status, desk.sagemaker.asked) == ("FAILED", [])


# --- exchange ---------------------------------------------------------------------------------------------------------


def test_a_version_that_is_not_worse_serves_once_the_endpoint_has_taken_it(desk: RegistryDesk) -> None:
    desk.serving(OLD)
    desk.archived(NEW, comparison=comparison(not_worse=True))
    order = desk.ask("load", LOAD)
    desk.step()
    assert desk.statuses() == {OLD: "ACTIVE", NEW: "CANDIDATE"}  # the endpoint has not said so yet
    job = desk.work(order)
    assert job.result is not None
    assert (job.result["status"], job.result["previous"]) == ("ACTIVE", OLD)
    assert desk.statuses() == {OLD: "RETIRED", NEW: "ACTIVE"}
    model = desk.sagemaker.models[desk.sagemaker.endpoint["configuration"]]
    uri = model["PrimaryContainer"]["ModelDataSource"]["S3DataSource"]["S3Uri"]
    prefix = uri.partition("//")[2].partition("/")[2]
    assert desk.storage.get(f"{prefix}{MODEL}/model.json") == bundle_files(NEW)["model.json"]
    assert model["ExecutionRoleArn"].endswith("role/serving")


@pytest.mark.parametrize(
    ("made", "why"),
    [
        ({"comparison": comparison(not_worse=False)}, "it may be worse than version aaaaaaaaaaaa"),
        ({"comparison": comparison(not_worse=True), "symbols": ("GC=F",)}, "nor was judged on EURUSD=X"),
    ],
)
def test_a_version_that_nothing_speaks_for_is_not_promoted_unless_forced(
    desk: RegistryDesk, made: dict[str, Any], why: str
) -> None:
    desk.serving(OLD)
    desk.archived(NEW, **made)
    job = desk.work(desk.ask("load", LOAD))
    assert job.status == "FAILED"
    assert why in str(job.error)
    assert (desk.statuses(), desk.sagemaker.asked) == ({OLD: "ACTIVE", NEW: "CANDIDATE"}, [])
    assert why in str(desk.registry.of(MODEL, NEW).reason)
    job = desk.work(desk.ask("load", {**LOAD, "force": True}))
    assert job.result is not None
    assert job.result["reason"].startswith("it was forced, although ")
    assert why in job.result["reason"]
    assert desk.statuses() == {OLD: "RETIRED", NEW: "ACTIVE"}


def test_a_version_whose_self_test_fails_leaves_everything_as_it_was(desk: RegistryDesk) -> None:
    desk.serving(OLD)
    desk.archived(NEW, comparison=comparison(not_worse=True))
    desk.sagemaker.refuses = "lstm-1h answered its self-test with NaN"
    job = desk.work(desk.ask("load", {**LOAD, "force": True}))
    assert job.status == "FAILED"
    assert "answered its self-test with NaN" in str(job.error)
    assert desk.statuses() == {OLD: "ACTIVE", NEW: "CANDIDATE"}
    desk.sagemaker.refuses = ""
    assert desk.work(desk.ask("load", LOAD)).status == "SUCCEEDED"  # the turn to exchange was let go


def test_the_version_before_serves_again_without_a_comparison(desk: RegistryDesk) -> None:
    desk.serving(OLD)
    desk.archived(NEW, comparison=comparison(not_worse=True))
    desk.work(desk.ask("load", LOAD))
    job = desk.work(desk.ask("load", {"model_id": MODEL, "version": OLD, "force": False}))
    assert job.result is not None
    assert job.result["reason"] == "it served before"
    assert desk.statuses() == {OLD: "ACTIVE", NEW: "RETIRED"}


def test_a_worker_that_died_after_the_exchange_promotes_at_the_next_delivery(desk: RegistryDesk) -> None:
    desk.serving(OLD)
    desk.archived(NEW, comparison=comparison(not_worse=True))
    order = desk.ask("load", LOAD)
    first = dict(desk.messages.waiting[0])
    desk.step()
    desk.table.put({**_document(desk, order.id), "turn": 0, "kept": {}})
    desk.messages.waiting.clear()
    desk.deliver(first)
    job = desk.work(order)
    assert (job.status, desk.statuses()) == ("SUCCEEDED", {OLD: "RETIRED", NEW: "ACTIVE"})
    assert [operation for operation, _ in desk.sagemaker.asked].count("UpdateEndpoint") == 1


def test_an_endpoint_that_changes_for_another_reason_is_waited_for(desk: RegistryDesk) -> None:
    desk.serving(OLD)
    desk.archived(NEW, comparison=comparison(not_worse=True))
    desk.sagemaker.endpoint |= {"waiting": "a-deployment"}
    order = desk.ask("load", LOAD)
    desk.step()
    assert desk.sagemaker.models == {}
    assert desk.work(order).status == "SUCCEEDED"
    assert desk.statuses() == {OLD: "RETIRED", NEW: "ACTIVE"}


def test_of_two_exchanges_one_waits_for_the_other(desk: RegistryDesk) -> None:
    desk.serving(OLD)
    desk.archived(NEW, comparison=comparison(not_worse=True))
    third = "cccccccccccc"
    desk.archived(third, comparison=comparison(not_worse=True, against=NEW))
    first, second = desk.ask("load", LOAD), desk.ask("load", {**LOAD, "version": third, "force": True})
    desk.step()
    desk.step()
    assert len(desk.sagemaker.models) == 1
    assert desk.work(first).status == "SUCCEEDED"
    assert desk.work(second).status == "SUCCEEDED"
    assert desk.statuses() == {OLD: "RETIRED", NEW: "RETIRED", third: "ACTIVE"}


def test_at_most_one_version_is_active_whoever_promotes_at_once(desk: RegistryDesk) -> None:
    versions = [f"{number:012x}" for number in range(6)]
    for version in versions:
        desk.archived(version)

    def promote(version: str) -> bool:
        try:
            desk.registry.promote(MODEL, version)
        except FusionTradeError:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert any(pool.map(promote, versions))
    active = [version for version, status in desk.statuses().items() if status == "ACTIVE"]
    assert active == [desk.registry.active()[MODEL]]


def test_a_degraded_version_is_said_to_be_and_gets_well_again(desk: RegistryDesk) -> None:
    desk.serving(OLD)
    seconds = [0.0]
    degraded = Degraded(desk.table, now=lambda: seconds[0])
    assert degraded.notes([(MODEL, OLD)]) == ()
    assert desk.registry.degrade(MODEL, OLD, "its chances came true less well", retraining="a-job")
    assert desk.statuses() == {OLD: "DEGRADED"}
    assert degraded.notes([(MODEL, OLD)]) == ()  # a minute is not over
    seconds[0] = 60.0
    told = f"{MODEL} (version {OLD}) is DEGRADED: its chances came true less well"
    assert degraded.notes([(MODEL, NEW), (MODEL, OLD), (MODEL, OLD)]) == (told,)
    assert (known := desk.registry.of(MODEL, OLD)).reason == "its chances came true less well"
    assert known.retraining == "a-job"
    assert not desk.registry.degrade(MODEL, OLD, "again")
    assert desk.registry.restore(MODEL, OLD)
    assert desk.registry.of(MODEL, OLD).retraining is None
    assert Degraded(desk.table).notes([(MODEL, OLD)]) == ()
    desk.archived(NEW)
    assert not desk.registry.degrade(MODEL, NEW, "it does not serve")
    desk.registry.degrade(MODEL, OLD, "again")
    desk.registry.promote(MODEL, NEW)
    assert Degraded(desk.table).notes([(MODEL, OLD), (MODEL, NEW)]) == ()
    assert desk.statuses() == {OLD: "RETIRED", NEW: "ACTIVE"}


def test_objects_are_listed_and_copied_within_their_bucket(aws: Any) -> None:
    client("s3").create_bucket(Bucket="artifacts-of-the-registry")
    storage = Storage("artifacts-of-the-registry")
    storage.put("a/1", b"one")
    storage.copy("a/1", "b/x/2")
    assert (storage.keys(""), storage.keys("b/"), storage.get("b/x/2")) == (["a/1", "b/x/2"], ["b/x/2"], b"one")
    assert storage.uri("b/") == "s3://artifacts-of-the-registry/b/"


# --- fine-tuning ------------------------------------------------------------------------------------------------------


def test_a_fine_tuned_version_begins_with_the_active_one_and_takes_over_where_it_is_not_worse(
    desk: RegistryDesk,
) -> None:
    desk.serving(OLD)
    desk.outcome["comparison"] = comparison(not_worse=True)
    job = desk.work(desk.ask("finetune", {**TRAINING, "learning_rate": 3e-4}))
    assert job.result is not None
    (request,) = [asked for operation, asked in desk.sagemaker.asked if operation == "CreateTrainingJob"]
    assert request["HyperParameters"]["begin_with_active"] == "true"
    assert desk.jobs.of(job.result["promotion"], OWNER).status == "SUCCEEDED"
    assert desk.statuses() == {OLD: "RETIRED", NEW: "ACTIVE"}


def test_a_fine_tuned_version_that_is_worse_stays_a_candidate(desk: RegistryDesk) -> None:
    desk.serving(OLD)
    desk.outcome["comparison"] = comparison(not_worse=False)
    job = desk.work(desk.ask("finetune", TRAINING))
    assert job.result is not None
    assert desk.jobs.of(job.result["promotion"], OWNER).status == "FAILED"
    assert desk.statuses() == {OLD: "ACTIVE", NEW: "CANDIDATE"}


@pytest.mark.parametrize("there", [False, True])
def test_without_weights_there_is_nothing_to_begin_with(desk: RegistryDesk, there: bool) -> None:
    if there:
        desk.serving(OLD, weights=False)
    job = desk.work(desk.ask("finetune", TRAINING))
    assert job.status == "FAILED"
    assert "train one first" in str(job.error)
