"""Settings of the serving program: read once from the environment, checked, then frozen."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["STARTER_BUNDLES", "ServingSettings", "default_bundles"]

STARTER_BUNDLES = Path(__file__).parent / "starter"
"""The bundles that come with the project."""

_SAGEMAKER_BUNDLES = Path("/opt/ml/model")
_PREFIX = "SERVING_"
_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
_MOST_PROCESSES = 256


class ServingSettings(BaseModel):
    """How the program serves; each field ``x`` is the variable ``SERVING_X``.

    Parameters
    ----------
    bundles
        Folder of bundle folders (or one bundle); by default SageMaker's ``/opt/ml/model`` where it holds
        anything, else the starter bundles.
    host, port
        Where to listen; port 0 takes a free one and logs it.
    device
        ``cuda``, ``cpu``, or ``auto``: cuda where ONNX Runtime has it.
    processes
        Interpreters behind the port; by default one a core, or one alone where ``device`` finds a GPU.
    workers
        Threads of a process that run models.
    queue
        Items that may be admitted and unanswered beyond one for each worker, in all processes together; a request
        that finds no place is answered 503 (an idle process admits any request).
    batch
        Items that ride together at most.
    threads
        Threads ONNX Runtime may use inside one call.
    answer_seconds
        Seconds an accepted request may take; an item that is not answered by then carries an error
        (SageMaker gives up after 60).
    model_seconds
        Seconds one run of a model may take before it is ended.
    slow_seconds
        A new bundle that takes longer over one item is refused, and the old one kept.
    watch_seconds
        How often the bundle folder is looked at for changes; 0 leaves that to SIGHUP.
    body_limit
        Bytes of one request body (SageMaker's own cap is 6 MB).
    body_seconds
        Seconds a client may take to send the head of a request, and then its body.
    drain_seconds
        Seconds that accepted requests may still take after SIGTERM.
    log_level
        Least grave level that is logged.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundles: Path = STARTER_BUNDLES
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    device: Literal["cpu", "cuda", "auto"] = "auto"
    processes: Annotated[int, Field(ge=1, le=_MOST_PROCESSES)] = 1
    workers: Annotated[int, Field(ge=1, le=256)] = 2
    queue: Annotated[int, Field(ge=0, le=65536)] = 1024
    batch: Annotated[int, Field(ge=1, le=512)] = 64
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    answer_seconds: Annotated[float, Field(gt=0, le=60)] = 30.0
    model_seconds: Annotated[float, Field(gt=0, le=60)] = 10.0
    slow_seconds: Annotated[float, Field(gt=0, le=60)] = 0.25
    watch_seconds: Annotated[float, Field(ge=0, le=86_400)] = 0.0
    body_limit: Annotated[int, Field(ge=1024)] = 6 * 1024 * 1024
    body_seconds: Annotated[float, Field(gt=0, le=60)] = 20.0
    drain_seconds: Annotated[float, Field(gt=0, le=25)] = 20.0
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], **given: object) -> ServingSettings:
        """Return the settings of ``environ``; what is ``given`` and not None wins.

        Raises
        ------
        pydantic.ValidationError
            If a value cannot be used.
        """
        values: dict[str, object] = {"bundles": default_bundles(_SAGEMAKER_BUNDLES)}
        for name in cls.model_fields:
            if text := environ.get(_PREFIX + name.upper()):
                values[name] = text
        values.update({name: value for name, value in given.items() if value is not None})
        cores = _cores()
        values.setdefault("processes", 1 if _finds_gpu(values.get("device", "auto")) else min(cores, _MOST_PROCESSES))
        settings = cls.model_validate(values)
        workers = settings.workers if "workers" in values else max(2, -(-cores // settings.processes))
        return settings.model_copy(update={"workers": workers})

    @property
    def queue_of_a_process(self) -> int:
        """Its share of ``queue``."""
        return -(-self.queue // self.processes)


def _cores() -> int:
    """Return how many cores this program may use: its affinity and its container's quota may allow it fewer."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _quota(_CPU_MAX)))


def _quota(cpu_max: Path) -> int:
    """Return the whole cores that a cgroup's ``cpu.max`` (quota and period in µs) allows, rounded up."""
    try:
        quota, period = cpu_max.read_text().split()
        return -(-int(quota) // int(period))
    except (OSError, ValueError):  # no cgroup of version 2, or its word for no limit
        return _MOST_PROCESSES


def _finds_gpu(device: object) -> bool:
    """Tell, without importing it, whether ONNX Runtime can compute for ``device`` on a GPU."""
    if device != "auto":
        return device == "cuda"
    found = importlib.util.find_spec("onnxruntime")
    folders = found.submodule_search_locations if found is not None else None
    return any(Path(folder, "capi", "libonnxruntime_providers_cuda.so").exists() for folder in folders or ())


def default_bundles(mounted: Path) -> Path:
    """Return ``mounted`` where it holds anything, else the starters.

    A broken mounted bundle must not be passed over; a model without artifacts of its own is given an empty folder.
    """
    return mounted if mounted.is_dir() and any(mounted.iterdir()) else STARTER_BUNDLES
