"""Training jobs as child processes: SageMaker's layout, states and words, one job at a time.

Always true here: a job's request and state are files in its folder, so that a program that was killed takes up its jobs
again, and a child that was killed is started again on the same folder, as often as the request allows (SageMaker does
so with an instance that it loses); what is under ``checkpoints/`` is copied to the bucket as it changes; a child does
not outlive this process; a bucket that is away for a while costs no job its work.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from fusiontrade.errors import FusionTradeError, Unavailable
from infra import environment
from infra.local import leash
from infra.local.children import cause_of

__all__ = ["Bucket", "Refusal", "Trainings", "written"]

_LOOK_SECONDS = 0.5
_SECONDS_FOR_THE_BUCKET = 60.0
"""It is started again within seconds where it died."""
_FINAL = ("Completed", "Failed", "Stopped")
_PROGRAM = "serving.training.job"


class Refusal(Exception):
    """The operation is refused as SageMaker would, with its error code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Bucket(Protocol):
    """The part of `fusiontrade.cloud.storage.Storage` that is needed here."""

    def get(self, key: str) -> bytes | None: ...

    def put(self, key: str, body: bytes) -> None: ...

    def keys(self, prefix: str) -> list[str]: ...


class Trainings:
    """The jobs in ``folder``.

    Parameters
    ----------
    folder
        One folder for each job.
    bucket
        Where channels come from and bundles go.
    say
        Takes a line for the log.
    python
        What runs the training program; None: this interpreter where it has torch, else the environment ``train``,
        made when it is first needed.
    """

    def __init__(
        self, folder: Path, bucket: Bucket, *, say: Callable[[str], object] = print, python: Path | None = None
    ) -> None:
        self._folder, self._bucket, self._say, self._python = folder, bucket, say, python
        self._waiting: queue.Queue[str] = queue.Queue()
        self._lock = threading.RLock()
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._current = ""
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work_forever, daemon=True)
        self._thread.start()

    # --- SageMaker's operations -----------------------------------------------------------------------------------

    def create(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Take a job on: ``CreateTrainingJob``."""
        name = str(request["TrainingJobName"])
        with self._lock:
            if (self._folder / name / "request.json").exists():
                raise Refusal("ResourceInUse", f"Training job names must be unique; {name} exists")
            (self._folder / name).mkdir(parents=True, exist_ok=True)
            written(self._folder / name / "state.json", {"status": "InProgress", "step": "Pending", "reason": ""})
            written(self._folder / name / "request.json", request)
        self._waiting.put(name)
        return {"TrainingJobArn": _arn("training-job", name)}

    def describe(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Tell of a job: ``DescribeTrainingJob``."""
        name = str(request["TrainingJobName"])
        state, asked = self._state(name), _read(self._folder / name / "request.json")
        told = {
            "TrainingJobName": name,
            "TrainingJobArn": _arn("training-job", name),
            "TrainingJobStatus": state["status"],
            "SecondaryStatus": state["step"],
            "AlgorithmSpecification": asked["AlgorithmSpecification"],
            "ResourceConfig": asked["ResourceConfig"],
            "StoppingCondition": asked["StoppingCondition"],
            "CreationTime": state.get("at", 0),
            "ModelArtifacts": {"S3ModelArtifacts": _output(asked)},
        }
        return told | ({"FailureReason": state["reason"]} if state["reason"] else {})

    def stop(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """End a job: ``StopTrainingJob``."""
        name = str(request["TrainingJobName"])
        with self._lock:
            if self._state(name)["status"] in _FINAL:
                raise Refusal("ValidationException", f"The request was rejected because {name} is not running")
            if name != self._current:  # it waits for another one: there is nothing to end
                self._set(name, "Stopped", "Stopped")
                return {}
            self._set(name, "Stopping", "Stopping")
            if (child := self._running.get(name)) is not None:
                _end(child)
        return {}

    # --- life -----------------------------------------------------------------------------------------------------

    def resume(self) -> None:
        """Take up what an earlier run of this program left unfinished."""
        for path in sorted(self._folder.glob("*/request.json")):
            if self._state(path.parent.name)["status"] not in _FINAL:
                self._say(f"training {path.parent.name} goes on")
                self._waiting.put(path.parent.name)

    def close(self) -> None:
        """End the child that runs; its job goes on at the next start."""
        self._closed.set()
        with self._lock:
            for child in self._running.values():
                _end(child)
        self._thread.join(5)

    def _work_forever(self) -> None:
        while not self._closed.is_set():
            with contextlib.suppress(queue.Empty):
                name = self._waiting.get(timeout=_LOOK_SECONDS)
                with self._lock:
                    if self._state(name)["status"] in _FINAL:
                        continue
                    self._current = name
                try:
                    self._work(name)
                except environment.EnvironmentFailure as failure:
                    self._say(str(failure))
                    told = "torch could not be installed on this machine; the log says why"
                    self._set(name, "Failed", "Failed", f"AlgorithmError: {told}")
                except Exception as error:  # a job's end is told, whatever it is: this thread serves the next one
                    if not self._closed.is_set():
                        self._say(f"training {name} failed: {error}")
                        told = str(error) if isinstance(error, FusionTradeError) else "the log says why"
                        self._set(name, "Failed", "Failed", f"InternalServerError: {told}")
                self._current = ""

    def _work(self, name: str) -> None:
        request = _read(self._folder / name / "request.json")
        root = self._folder / name / "ml"
        code = 0
        if self._goes_on(name, "Downloading"):
            self._patiently(lambda: self._fetch(request, root))
            self._goes_on(name, "Starting")
            code = self._run_again(name, self._interpreter(), root, request)
        if self._closed.is_set():
            return  # interrupted by our own end: the next start goes on
        if not self._goes_on(name, "Uploading"):
            self._set(name, "Stopped", "Stopped")
        elif code != 0:
            self._set(name, "Failed", "Failed", f"AlgorithmError: {_failure(root, code)}")
        else:
            self._patiently(lambda: self._upload(root / "model", _output(request)))
            self._set(name, "Completed", "Completed")
            shutil.rmtree(root, ignore_errors=True)
        self._say(f"training {name}: {self._state(name)['status']}")

    def _goes_on(self, name: str, step: str) -> bool:
        """Write down that a job is at ``step``; False where it is to stop."""
        with self._lock:
            if self._state(name)["status"] == "Stopping":
                return False
            self._set(name, "InProgress", step)
            return True

    def _run_again(self, name: str, python: Path, root: Path, request: Mapping[str, Any]) -> int:
        """Run the program, again where it was killed; return its exit code."""
        most = int(request.get("RetryStrategy", {}).get("MaximumRetryAttempts", 0))
        code, attempt = 0, 0
        while self._goes_on(name, "Training"):
            code, attempt = self._run(name, python, root, request), attempt + 1
            if code >= 0 or attempt > most or self._closed.is_set() or self._state(name)["status"] == "Stopping":
                break
            told = f"it goes on from its last epoch ({attempt} of {most})"
            self._say(f"training {name} {cause_of(code)}; {told}")
        return code

    def _patiently(self, work: Callable[[], object]) -> None:
        """Do ``work``; where the bucket is away, do it again until it is back, for a minute."""
        until = time.monotonic() + _SECONDS_FOR_THE_BUCKET
        while True:
            try:
                work()
            except Unavailable:
                if self._closed.wait(_LOOK_SECONDS) or time.monotonic() > until:
                    raise
            else:
                return

    def _run(self, name: str, python: Path, root: Path, request: Mapping[str, Any]) -> int:
        command = [str(python), "-m", "infra.local.leash", "KILL", _PROGRAM, "--root", str(root)]
        paths = os.pathsep.join([str(environment.ROOT), str(environment.ROOT / "shared")])
        threads = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        with self._lock:
            if self._state(name)["status"] == "Stopping":
                return 0
            child = subprocess.Popen(
                command,
                cwd=environment.ROOT,
                env={**os.environ, leash.PARENT: str(os.getpid()), "PYTHONPATH": paths, **threads},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
                preexec_fn=_politely,  # noqa: PLW1509 - nothing but nice is called between fork and exec
            )
            self._running[name] = child
        reader = threading.Thread(target=self._read_lines, args=(name, child), daemon=True)
        reader.start()
        kept: dict[Path, int] = {}
        most = time.monotonic() + int(request["StoppingCondition"]["MaxRuntimeInSeconds"])
        try:
            while child.poll() is None:
                time.sleep(_LOOK_SECONDS)
                self._keep_checkpoints(root, request, kept)
                if time.monotonic() > most:
                    self._set(name, "Stopping", "MaxRuntimeExceeded")
                    _end(child)
            self._keep_checkpoints(root, request, kept)
        finally:
            if child.poll() is None:
                _end(child)
        reader.join(2)
        if child.stdout is not None:
            child.stdout.close()
        with self._lock:
            self._running.pop(name, None)
        return child.wait()

    def _read_lines(self, name: str, child: subprocess.Popen[str]) -> None:
        with contextlib.suppress(ValueError):
            for line in child.stdout or ():
                self._say(f"{name[:24]}: {line.rstrip()}")

    def _interpreter(self) -> Path:
        if self._python is not None:
            return self._python
        if find_spec("torch") is not None:
            return Path(sys.executable)
        if not environment.interpreter("train").exists():
            self._say("training needs torch: making the environment 'train' (once; a minute or more)")
        return environment.ensure("train")

    # --- files ----------------------------------------------------------------------------------------------------

    def _fetch(self, request: Mapping[str, Any], root: Path) -> None:
        """Lay out the input; what was interrupted has it already."""
        done = root / "input" / "complete"
        if done.exists():
            return
        for channel in request["InputDataConfig"]:
            prefix = _key(channel["DataSource"]["S3DataSource"]["S3Uri"])
            for key in self._bucket.keys(prefix):
                content = self._bucket.get(key)
                path = root / "input" / "data" / channel["ChannelName"] / key.removeprefix(prefix).lstrip("/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content or b"")
        configuration = root / "input" / "config" / "hyperparameters.json"
        configuration.parent.mkdir(parents=True, exist_ok=True)
        written(configuration, request.get("HyperParameters", {}))
        done.write_text("")

    def _keep_checkpoints(self, root: Path, request: Mapping[str, Any], kept: dict[Path, int]) -> None:
        """Copy what has changed under ``checkpoints/`` to the bucket: how far it is, and what a resumption needs."""
        target = _key(request["CheckpointConfig"]["S3Uri"])
        for path in sorted((root / "checkpoints").glob("*.json")):
            with contextlib.suppress(OSError, Unavailable):  # what is not copied now is copied at the next look
                changed = path.stat().st_mtime_ns
                if kept.get(path) != changed:
                    self._bucket.put(target + path.name, path.read_bytes())
                    kept[path] = changed

    def _upload(self, model: Path, uri: str) -> None:
        prefix = _key(uri)
        for path in sorted(path for path in model.rglob("*") if path.is_file()):
            self._bucket.put(prefix + path.relative_to(model).as_posix(), path.read_bytes())

    def _state(self, name: str) -> dict[str, Any]:
        try:
            return _read(self._folder / name / "state.json")
        except OSError:
            raise Refusal("ValidationException", "Requested resource not found.") from None

    def _set(self, name: str, status: str, step: str, reason: str = "") -> None:
        told = {"status": status, "step": step, "reason": reason, "at": round(time.time())}
        with self._lock:  # whoever looks at a state before changing it holds it, too
            written(self._folder / name / "state.json", told)


def _end(child: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGTERM)


def _politely() -> None:
    os.nice(10)


def _failure(root: Path, code: int) -> str:
    path = root / "output" / "failure"
    if path.exists():
        return path.read_text("utf-8")
    short = "; is this machine's memory too small for it?" if code == -signal.SIGKILL else ""
    return f"the training program {cause_of(code)}{short}"


def _output(request: Mapping[str, Any]) -> str:
    return f"{request['OutputDataConfig']['S3OutputPath']}/{request['TrainingJobName']}/output/model/"


def _key(uri: str) -> str:
    return uri.removeprefix("s3://").partition("/")[2]


def _arn(kind: str, name: str) -> str:
    return f"arn:aws:sagemaker:us-east-1:000000000000:{kind}/{name}"


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def written(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON: whole or not at all."""
    fresh = path.with_name(f".{path.name}.fresh")
    fresh.write_text(json.dumps(content), encoding="utf-8")
    fresh.replace(path)
