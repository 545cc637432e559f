"""Which bundles a laptop serves: an exchange is over when the program says so, and put back where it refuses."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import infra.local.served as module
from infra.local.served import Served, filled
from infra.local.trainings import Refusal
from tests.local.test_local_trainings import Bucket

MODEL = "lstm-1h"


def bundle(folder: Path, version: str) -> Path:
    made = folder / MODEL
    made.mkdir(parents=True, exist_ok=True)
    (made / "model.json").write_text(json.dumps({"model_id": MODEL, "version": version}))
    (made / "manifest.json").write_text(version)
    return folder


class Program:
    """Plays the models' program: serves what lies in its folder but for versions that begin with ``bad``."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.serves = folder, "old"

    def told(self) -> dict[str, Any]:
        found = json.loads((self.folder / MODEL / "model.json").read_text())["version"]
        refused = []
        if found.startswith("bad"):
            refused = [{"folder": MODEL, "reason": "its self-test answered NaN"}]
        else:
            self.serves = found
        return {"models": [{"id": MODEL, "version": self.serves}], "refused": [], "not_exchanged": refused}


@pytest.fixture
def program(tmp_path: Path) -> Iterator[tuple[Program, int]]:
    playing = Program(tmp_path / "serving" / "bundles")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(playing.told()).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield playing, server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture
def endpoint(tmp_path: Path, program: tuple[Program, int], monkeypatch: pytest.MonkeyPatch) -> Served:
    monkeypatch.setattr(module, "_UNREAD_SECONDS", 0.0)
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.02)
    filled(tmp_path / "serving", bundle(tmp_path / "starter", "old"))
    return Served(tmp_path / "serving", Bucket(), program[1], seconds=10)


def roll_out(endpoint: Served, name: str, version: str) -> dict[str, Any]:
    bucket: Any = endpoint._bucket
    bucket[f"releases/{name}/{MODEL}/model.json"] = json.dumps({"model_id": MODEL, "version": version}).encode()
    bucket[f"releases/{name}/{MODEL}/manifest.json"] = version.encode()
    source = {"S3DataSource": {"S3Uri": f"s3://bucket/releases/{name}/"}}
    endpoint.create_model({"ModelName": name, "PrimaryContainer": {"ModelDataSource": source}})
    variants = [{"VariantName": "live", "ModelName": name}]
    endpoint.create_configuration({"EndpointConfigName": name, "ProductionVariants": variants})
    endpoint.update({"EndpointName": "fusiontrade", "EndpointConfigName": name})
    end = time.monotonic() + 20
    while (told := endpoint.describe({"EndpointName": "fusiontrade"}))["EndpointStatus"] != "InService":
        assert time.monotonic() < end
        time.sleep(0.01)
    return told


def test_a_new_version_is_served_and_stays_after_a_restart(
    endpoint: Served, tmp_path: Path, program: tuple[Program, int]
) -> None:
    told = roll_out(endpoint, "set-1", "new")
    assert (told["EndpointConfigName"], told.get("FailureReason")) == ("set-1", None)
    assert program[0].serves == "new"
    again = Served(tmp_path / "serving", Bucket(), program[1])
    assert again.describe({"EndpointName": "x"})["EndpointConfigName"] == "set-1"
    kept = filled(tmp_path / "serving", tmp_path / "starter")
    assert json.loads((kept / MODEL / "model.json").read_text())["version"] == "new"


def test_a_version_that_the_program_refuses_is_put_back_with_its_reason(
    endpoint: Served, tmp_path: Path, program: tuple[Program, int]
) -> None:
    told = roll_out(endpoint, "set-1", "bad")
    assert (told["EndpointConfigName"], told["FailureReason"]) == ("starter", "its self-test answered NaN")
    assert json.loads((tmp_path / "serving" / "bundles" / MODEL / "model.json").read_text())["version"] == "old"
    assert program[0].serves == "old"
    assert roll_out(endpoint, "set-2", "new")["EndpointConfigName"] == "set-2"


def test_other_bundles_that_are_chosen_take_the_place_of_what_was_exchanged(
    endpoint: Served, tmp_path: Path, program: tuple[Program, int]
) -> None:
    roll_out(endpoint, "set-1", "new")
    served = filled(tmp_path / "serving", bundle(tmp_path / "others", "other"))
    assert json.loads((served / MODEL / "model.json").read_text())["version"] == "other"
    assert Served(tmp_path / "serving", Bucket(), 1).describe({"EndpointName": "x"})["EndpointConfigName"] == "starter"


def test_a_folder_that_is_one_bundle_is_known_by_its_manifest(tmp_path: Path) -> None:
    first, second = (bundle(tmp_path / name, name) / MODEL for name in ("first", "second"))
    for folder in (first, second):
        served = filled(tmp_path / "serving", folder)
    assert json.loads((served / "model.json").read_text())["version"] == "second"


def test_a_configuration_that_there_is_not_is_refused(endpoint: Served) -> None:
    with pytest.raises(Refusal, match="Could not find"):
        endpoint.update({"EndpointName": "fusiontrade", "EndpointConfigName": "none"})
