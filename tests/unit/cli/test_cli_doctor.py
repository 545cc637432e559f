"""``fusiontrade doctor``: what it finds in folders and on ports of the test's own."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fusiontrade.cli.api import Api
from fusiontrade.cli.doctor import Finding, Level, Place, examine


def write_bundle(folder: Path, name: str) -> Path:
    bundle = folder / name
    bundle.mkdir(parents=True)
    (bundle / "model.json").write_text(json.dumps({"model_id": name, "version": "0123456789ab"}))
    (bundle / "model.onnx").write_bytes(b"graph")
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in bundle.iterdir()}
    (bundle / "manifest.json").write_text(json.dumps({"files": files}))
    return bundle


@contextmanager
def a_free_port() -> Iterator[int]:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture
def place(tmp_path: Path, platform: Any) -> Iterator[Place]:
    for name in ("run", "emulator"):
        (tmp_path / ".venv" / name).mkdir(parents=True)
        (tmp_path / ".venv" / name / ".locked").write_text("x")
    write_bundle(tmp_path / "bundles", "lstm-1h")
    port = int(platform.url.rpartition(":")[2])
    with a_free_port() as free, a_free_port() as other:
        yield Place(
            root=tmp_path,
            bundles=tmp_path / "bundles",
            environments=tmp_path / ".venv",
            port=port,
            serving_port=free,
            emulator_port=other,
            provider=("127.0.0.1", port),
        )


def findings(place: Place, platform: Any) -> dict[str, Finding]:
    platform.tokens["good"] = "trader@example.com"
    return {finding.check: finding for finding in examine(place, Api(platform.url), lambda: "good")}


def test_everything_in_order_is_ok_throughout(place: Place, platform: Any) -> None:
    found = findings(place, platform)
    assert {finding.level for finding in found.values()} == {Level.OK}
    assert found["bundle lstm-1h"].told == "lstm-1h 0123456789ab"
    assert found["port of the API"].told.endswith("is the platform's")
    assert found["port of the models"].told.endswith("is free")
    assert found["account"].told == "trader@example.com (pro)"
    assert found["forecast of EURUSD=X"].told == "MODERATE BUY, data from yahoo, as of 2025-07-31T12:00:00Z"


def test_a_changed_bundle_file_is_named(place: Place, platform: Any, tmp_path: Path) -> None:
    (tmp_path / "bundles" / "lstm-1h" / "model.onnx").write_bytes(b"another graph")
    finding = findings(place, platform)["bundle lstm-1h"]
    assert (finding.level, finding.told) == (Level.FAIL, "model.onnx changed")


def test_an_unreadable_bundle_is_named(place: Place, platform: Any, tmp_path: Path) -> None:
    (tmp_path / "bundles" / "lstm-1h" / "manifest.json").write_text("[]")
    assert findings(place, platform)["bundle lstm-1h"].level is Level.FAIL


def test_no_bundles_at_all_is_a_failure_with_a_remedy(place: Place, platform: Any, tmp_path: Path) -> None:
    (tmp_path / "bundles" / "lstm-1h" / "manifest.json").unlink()
    finding = findings(place, platform)["bundles"]
    assert (finding.level, finding.remedy) == (Level.FAIL, "check the clone, or make train")


def test_an_absent_environment_is_a_warning(place: Place, platform: Any, tmp_path: Path) -> None:
    (tmp_path / ".venv" / "run" / ".locked").unlink()
    assert findings(place, platform)["environment run"].level is Level.WARN


def test_a_port_used_by_another_program_is_a_failure_with_a_remedy(place: Place, platform: Any) -> None:
    taken = Place(**{**vars(place), "serving_port": place.port})  # the API lists no models
    finding = findings(taken, platform)["port of the models"]
    assert finding.level is Level.FAIL
    assert finding.remedy == "stop that program, or choose another port: make run FUSIONTRADE_SERVING_PORT=..."


def test_models_that_answer_and_bundles_refused_are_listed(place: Place, platform: Any) -> None:
    platform.models = {
        "models": [{"id": "lstm-1h", "version": "0123456789ab"}],
        "refused": [{"folder": "lstm-4h", "reason": "model.onnx has another sha256"}],
    }
    serving = Place(**{**vars(place), "serving_port": place.port})
    found = findings(serving, platform)
    assert found["port of the models"].level is Level.OK
    assert found["models that answer"].told == "lstm-1h 0123456789ab"
    assert found["refused bundle"].level is Level.FAIL
    assert found["refused bundle"].told == "lstm-4h: model.onnx has another sha256"


def test_a_serving_program_without_models_is_a_failure(place: Place, platform: Any) -> None:
    platform.models = {"models": [], "refused": []}
    serving = Place(**{**vars(place), "serving_port": place.port})
    assert findings(serving, platform)["models that answer"].level is Level.FAIL


def test_an_unreachable_provider_is_a_warning(place: Place, platform: Any) -> None:
    with a_free_port() as closed:
        cut_off = Place(**{**vars(place), "provider": ("127.0.0.1", closed)})
        finding = findings(cut_off, platform)["market data"]
    assert finding.level is Level.WARN
    assert "MARKET_DATA=simulated" in finding.remedy


def test_a_forecast_with_gaps_is_a_warning_that_names_them(place: Place, platform: Any) -> None:
    platform.forecast["timeframes"]["4h"]["lstm"] = "N/A"
    finding = findings(place, platform)["forecast of EURUSD=X"]
    assert (finding.level, finding.remedy) == (Level.WARN, "no full answer on 4h")


def test_a_refused_forecast_is_a_failure(place: Place, platform: Any) -> None:
    platform.refusal = (503, {"detail": "the forecasting models do not answer now"}, {})
    finding = findings(place, platform)["forecast of EURUSD=X"]
    assert (finding.level, finding.told) == (Level.FAIL, "the forecasting models do not answer now")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusiontrade.cli.doctor._listens", lambda host, port: False)


@pytest.mark.usefixtures("no_network")
def test_command_exits_with_one_where_something_has_to_be_put_right(command: Any, tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundles", "lstm-1h")
    ports = {f"FUSIONTRADE_{name}": "9" for name in ("PORT", "SERVING_PORT", "EMULATOR_PORT")}
    result = command.run("doctor", "--json", FUSIONTRADE_BUNDLES=str(tmp_path / "none"), **ports)
    found = {finding["check"]: finding for finding in json.loads(result.stdout)}
    assert result.exit_code == 1
    assert found["bundles"]["level"] == "FAIL"
    assert found["platform"]["level"] == "OK"  # FUSIONTRADE_API points at the loopback API


@pytest.mark.usefixtures("no_network")
def test_command_exits_with_zero_where_nothing_has(command: Any, tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundles", "lstm-1h")
    ports = {f"FUSIONTRADE_{name}": "9" for name in ("PORT", "SERVING_PORT", "EMULATOR_PORT")}
    result = command.run("doctor", FUSIONTRADE_BUNDLES=str(tmp_path / "bundles"), **ports)
    assert result.exit_code == 0
    assert "OK    bundle lstm-1h: lstm-1h 0123456789ab" in result.stdout


@pytest.mark.parametrize("port", ["http", "0", "65536", "-1", "²"])
def test_a_port_that_is_none_is_named_with_its_variable(command: Any, port: str) -> None:
    result = command.run("doctor", FUSIONTRADE_SERVING_PORT=port)
    assert result.exit_code == 2
    assert f"FUSIONTRADE_SERVING_PORT is '{port}': set it to a port between 1 and 65535" in result.stderr
