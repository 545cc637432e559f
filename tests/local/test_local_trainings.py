"""Training jobs on a laptop: SageMaker's states over child processes, and what a kill leaves to the next start.

The training program is played by a script, so that only its process and its files matter.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fusiontrade.errors import StateUnavailable
from infra.local.trainings import Refusal, Trainings

NAME = "fusiontrade-1"
SCRIPT = """#!/bin/sh
# called as: python -m infra.local.leash KILL serving.training.job --root FOLDER
root="$6"
echo "epoch of $root"
mkdir -p "$root/checkpoints" "$root/model/lstm-1h" "$root/output"
echo $$ >> "$root/checkpoints/starts"
printf '{"progress": 0.5}' > "$root/checkpoints/progress.json"
%s
printf 'card' > "$root/model/lstm-1h/model.json"
cp "$root/input/data/candles/EURUSD=X.npz" "$root/model/outcome.json"
"""


class Bucket(dict[str, bytes]):
    """Objects in memory; the next ``away`` calls find nobody there."""

    away = 0

    def put(self, key: str, body: bytes) -> None:
        self._answer()
        self[key] = body

    def keys(self, prefix: str = "") -> list[str]:  # type: ignore[override]
        self._answer()
        return sorted(key for key in self if key.startswith(prefix))

    def _answer(self) -> None:
        if self.away:
            self.away -= 1
            raise StateUnavailable("S3 does not answer")


def request(name: str = NAME, seconds: int = 60, retries: int = 0) -> dict[str, Any]:
    prefix = "s3://bucket/training/1"
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"{prefix}/candles/"}}
    return {
        "TrainingJobName": name,
        "AlgorithmSpecification": {"TrainingImage": "laptop", "TrainingInputMode": "File"},
        "InputDataConfig": [{"ChannelName": "candles", "DataSource": source}],
        "OutputDataConfig": {"S3OutputPath": f"{prefix}/output"},
        "CheckpointConfig": {"S3Uri": f"{prefix}/checkpoints/"},
        "ResourceConfig": {"InstanceType": "ml.c7i.xlarge"},
        "StoppingCondition": {"MaxRuntimeInSeconds": seconds},
        "RetryStrategy": {"MaximumRetryAttempts": retries},
        "HyperParameters": {"kind": "lstm"},
    }


@pytest.fixture
def bucket() -> Bucket:
    return Bucket({"training/1/candles/EURUSD=X.npz": b"bars"})


@pytest.fixture
def made(tmp_path: Path, bucket: Bucket) -> Iterator[Callable[..., Trainings]]:
    running: list[Trainings] = []

    def make(middle: str = "") -> Trainings:
        program = tmp_path / "python"
        program.write_text(SCRIPT % middle)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        running.append(Trainings(tmp_path / "jobs", bucket, say=lambda line: None, python=program))
        return running[-1]

    yield make
    for each in running:
        each.close()


def until(trainings: Trainings, *statuses: str, name: str = NAME) -> dict[str, Any]:
    end = time.monotonic() + 30
    while (told := trainings.describe({"TrainingJobName": name}))["TrainingJobStatus"] not in statuses:
        assert time.monotonic() < end, told
        time.sleep(0.02)
    return told


def wait_for(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, f"waited a minute for {what}"
        time.sleep(0.02)


def test_a_job_gets_its_channels_shows_its_progress_and_leaves_its_bundle(
    made: Callable[..., Trainings], bucket: Bucket
) -> None:
    trainings = made("sleep 1")
    trainings.create(request())
    told = until(trainings, "Completed", "Failed")
    assert told["TrainingJobStatus"] == "Completed"
    assert told["ModelArtifacts"]["S3ModelArtifacts"] == f"s3://bucket/training/1/output/{NAME}/output/model/"
    assert json.loads(bucket["training/1/checkpoints/progress.json"]) == {"progress": 0.5}
    assert bucket[f"training/1/output/{NAME}/output/model/outcome.json"] == b"bars"
    assert bucket[f"training/1/output/{NAME}/output/model/lstm-1h/model.json"] == b"card"
    with pytest.raises(Refusal, match="unique") as refused:
        trainings.create(request())
    assert refused.value.code == "ResourceInUse"


def test_a_job_that_fails_says_why_in_its_own_words(made: Callable[..., Trainings]) -> None:
    trainings = made('printf "too few bars" > "$root/output/failure"; exit 1')
    trainings.create(request())
    assert until(trainings, "Failed")["FailureReason"] == "AlgorithmError: too few bars"


def test_a_job_that_is_stopped_ends_with_its_process(made: Callable[..., Trainings], tmp_path: Path) -> None:
    trainings, said = made("sleep 60"), []
    trainings._say = said.append
    trainings.create(request(retries=1))
    starts = tmp_path / "jobs" / NAME / "ml" / "checkpoints" / "starts"
    wait_for(lambda: starts.exists() and starts.read_text().strip(), "the job to begin")
    trainings.stop({"TrainingJobName": NAME})
    assert "FailureReason" not in until(trainings, "Stopped")
    assert not [line for line in said if "goes on" in line]
    with pytest.raises(ProcessLookupError):
        os.kill(int(starts.read_text()), 0)
    with pytest.raises(Refusal, match="not running"):
        trainings.stop({"TrainingJobName": NAME})


def test_a_job_that_takes_too_long_is_stopped(made: Callable[..., Trainings]) -> None:
    trainings = made("sleep 60")
    trainings.create(request(seconds=0))
    assert until(trainings, "Stopped")["TrainingJobStatus"] == "Stopped"


def test_what_was_interrupted_goes_on_with_its_checkpoints_at_the_next_start(
    made: Callable[..., Trainings], tmp_path: Path, bucket: Bucket
) -> None:
    first = made("sleep 60")
    first.create(request())
    starts = tmp_path / "jobs" / NAME / "ml" / "checkpoints" / "starts"
    wait_for(lambda: starts.exists() and starts.read_text().strip(), "the job to begin")
    first.close()
    assert first.describe({"TrainingJobName": NAME})["TrainingJobStatus"] == "InProgress"
    del bucket["training/1/candles/EURUSD=X.npz"]  # its input lies beside it already
    second = made('wc -l < "$root/checkpoints/starts" > "$root/model/lstm-1h/starts"')
    second.resume()
    until(second, "Completed")
    assert bucket[f"training/1/output/{NAME}/output/model/lstm-1h/starts"].strip() == b"2"


def test_a_program_that_was_killed_goes_on_in_the_same_folder(made: Callable[..., Trainings], bucket: Bucket) -> None:
    starts = '$(wc -l < "$root/checkpoints/starts")'
    trainings = made(f'[ {starts} -ge 3 ] || kill -9 $$; echo {starts} > "$root/model/lstm-1h/starts"')
    trainings.create(request(retries=2))
    assert until(trainings, "Completed", "Failed")["TrainingJobStatus"] == "Completed"
    assert bucket[f"training/1/output/{NAME}/output/model/lstm-1h/starts"].strip() == b"3"


def test_a_program_that_is_killed_too_often_fails_in_words(made: Callable[..., Trainings]) -> None:
    trainings = made("kill -9 $$")
    trainings.create(request(retries=1))
    why = "the training program was killed by signal SIGKILL; is this machine's memory too small for it?"
    assert until(trainings, "Failed")["FailureReason"] == f"AlgorithmError: {why}"
    starts = trainings._folder / NAME / "ml" / "checkpoints" / "starts"
    assert len(starts.read_text().split()) == 2


def test_a_job_that_waits_for_another_is_stopped_at_once_and_never_begun(
    made: Callable[..., Trainings], tmp_path: Path
) -> None:
    trainings = made("sleep 60")
    trainings.create(request())
    until(trainings, "InProgress")
    wait_for((tmp_path / "jobs" / NAME / "ml" / "checkpoints").exists, "the job to begin")
    trainings.create(request("fusiontrade-2"))
    trainings.stop({"TrainingJobName": "fusiontrade-2"})
    assert trainings.describe({"TrainingJobName": "fusiontrade-2"})["TrainingJobStatus"] == "Stopped"
    trainings.stop({"TrainingJobName": NAME})
    until(trainings, "Stopped")
    trainings.create(request("fusiontrade-3"))
    wait_for((tmp_path / "jobs" / "fusiontrade-3" / "ml").exists, "the third job to begin")
    assert not (tmp_path / "jobs" / "fusiontrade-2" / "ml").exists()


def test_a_bucket_that_is_away_for_a_while_costs_a_job_nothing(made: Callable[..., Trainings], bucket: Bucket) -> None:
    bucket.away = 1
    trainings = made("sleep 0.7")
    trainings.create(request())
    while "training/1/checkpoints/progress.json" not in bucket:
        time.sleep(0.02)
    bucket.away = 2
    assert until(trainings, "Completed", "Failed")["TrainingJobStatus"] == "Completed"
    assert bucket[f"training/1/output/{NAME}/output/model/lstm-1h/model.json"] == b"card"


def test_what_goes_wrong_here_is_told_without_our_folders(
    made: Callable[..., Trainings], bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trainings = made()

    def full(*given: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path))

    monkeypatch.setattr(trainings, "_fetch", full)
    trainings.create(request())
    assert until(trainings, "Failed")["FailureReason"] == "InternalServerError: the log says why"


def test_a_job_that_there_is_not_is_told_as_sagemaker_tells_it(made: Callable[..., Trainings]) -> None:
    with pytest.raises(Refusal, match="Requested resource not found") as refused:
        made().describe({"TrainingJobName": "none"})
    assert refused.value.code == "ValidationException"
