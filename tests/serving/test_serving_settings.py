"""Settings: the environment, what is given on the command line, and refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from serving.server import main
from serving.settings import STARTER_BUNDLES, ServingSettings, default_bundles


def test_defaults_are_loopback_and_the_starters() -> None:
    settings = ServingSettings.from_environment({})
    assert (settings.host, settings.port, settings.device) == ("127.0.0.1", 8080, "auto")
    assert settings.bundles in {STARTER_BUNDLES, Path("/opt/ml/model")}
    assert settings.body_limit == 6 * 1024 * 1024
    assert settings.workers >= 2


def test_there_is_a_process_for_each_core_and_one_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.settings._cores", lambda: 6)
    on_cpu = ServingSettings.from_environment({"SERVING_DEVICE": "cpu"})
    assert (on_cpu.processes, on_cpu.workers, on_cpu.queue_of_a_process) == (6, 2, 171)
    on_gpu = ServingSettings.from_environment({"SERVING_DEVICE": "cuda"})
    assert (on_gpu.processes, on_gpu.workers, on_gpu.queue_of_a_process) == (1, 6, 1024)
    chosen = ServingSettings.from_environment({"SERVING_PROCESSES": "2"}, workers="1")
    assert (chosen.processes, chosen.workers, chosen.queue_of_a_process) == (2, 1, 512)


def test_what_is_given_wins_over_the_environment() -> None:
    environ = {"SERVING_PORT": "9000", "SERVING_BUNDLES": "/models", "SERVING_QUEUE": "3"}
    settings = ServingSettings.from_environment(environ, port="9001", host=None)
    assert (settings.port, settings.bundles, settings.queue, settings.host) == (9001, Path("/models"), 3, "127.0.0.1")


@pytest.mark.parametrize(("name", "text"), [("PORT", "x"), ("PORT", "70000"), ("DEVICE", "tpu"), ("WORKERS", "0")])
def test_a_value_that_cannot_be_used_is_refused(name: str, text: str) -> None:
    with pytest.raises(ValidationError, match=name.lower()):
        ServingSettings.from_environment({f"SERVING_{name}": text})


def test_the_program_names_a_wrong_setting_and_ends_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--port", "http"]) == 2
    assert "serving: port (SERVING_PORT):" in capsys.readouterr().err


def test_an_empty_mounted_folder_leaves_the_starters_and_anything_in_it_wins(tmp_path: Path) -> None:
    assert default_bundles(tmp_path) == STARTER_BUNDLES
    assert default_bundles(tmp_path / "absent") == STARTER_BUNDLES
    (tmp_path / "half-a-bundle").mkdir()
    assert default_bundles(tmp_path) == tmp_path


def test_no_more_processes_than_cores_that_may_be_used_nor_than_there_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {3}, raising=False)
    assert ServingSettings.from_environment({"SERVING_DEVICE": "cpu"}).processes == 1
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(384)), raising=False)
    assert ServingSettings.from_environment({"SERVING_DEVICE": "cpu"}).processes == 256


@pytest.mark.parametrize(("text", "cores"), [("150000 100000", 2), ("50000 100000", 1), ("max 100000", 6)])
def test_a_containers_quota_of_cores_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, cores: int
) -> None:
    (tmp_path / "cpu.max").write_text(text + "\n")
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(6)), raising=False)
    monkeypatch.setattr("serving.settings._CPU_MAX", tmp_path / "cpu.max")
    assert ServingSettings.from_environment({"SERVING_DEVICE": "cpu"}).processes == cores
