"""Which bundles a laptop serves: an exchange is over when the program says so, and put back where it refuses."""

from __future__ import annotations

import json
import shutil
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


def bundle(folder: Path, version: str, name: str = MODEL) -> Path:
    made = folder / name
    made.mkdir(parents=True, exist_ok=True)
    (made / "model.json").write_text(json.dumps({"model_id": name, "version": version}))
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


def prepare(endpoint: Served, name: str, version: str) -> None:
    bucket: Any = endpoint._bucket
    bucket[f"releases/{name}/{MODEL}/model.json"] = json.dumps({"model_id": MODEL, "version": version}).encode()
    bucket[f"releases/{name}/{MODEL}/manifest.json"] = version.encode()
    source = {"S3DataSource": {"S3Uri": f"s3://bucket/releases/{name}/"}}
    endpoint.create_model({"ModelName": name, "PrimaryContainer": {"ModelDataSource": source}})
    variants = [{"VariantName": "live", "ModelName": name}]
    endpoint.create_configuration({"EndpointConfigName": name, "ProductionVariants": variants})


def begin(endpoint: Served, name: str, version: str) -> None:
    prepare(endpoint, name, version)
    endpoint.update({"EndpointName": "fusiontrade", "EndpointConfigName": name})


def roll_out(endpoint: Served, name: str, version: str) -> dict[str, Any]:
    begin(endpoint, name, version)
    return over(endpoint)


def over(endpoint: Served) -> dict[str, Any]:
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


def test_a_folder_that_cannot_be_moved_is_told_without_its_place(
    endpoint: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: Any) -> None:
        raise OSError(28, "No space left on device", str(given[0]))

    monkeypatch.setattr(module, "_replaced", full)
    told = roll_out(endpoint, "set-1", "new")
    assert told["EndpointConfigName"] == "starter"
    assert told["FailureReason"] == "the bundles could not be put where the program reads them; the log says why"


@pytest.mark.parametrize("moved", ["nothing", "the old one", "both"])
@pytest.mark.parametrize("version", ["new", "bad"])
def test_an_exchange_that_a_kill_interrupts_is_put_back_and_made_again(
    endpoint: Served, tmp_path: Path, program: tuple[Program, int], monkeypatch: pytest.MonkeyPatch,
    moved: str, version: str,
) -> None:  # fmt: skip
    folder, killed = tmp_path / "serving", threading.Event()

    def die(serving: Path, fresh: Path, old: Path) -> None:
        if moved != "nothing":
            serving.rename(old)
        if moved == "both":
            fresh.rename(serving)
        killed.set()
        threading.Event().wait()  # what was killed does nothing more

    monkeypatch.setattr(module, "_replaced", die)
    begin(endpoint, "set-1", version)
    assert killed.wait(10)
    monkeypatch.undo()
    monkeypatch.setattr(module, "_UNREAD_SECONDS", 0.0)
    kept = filled(folder, tmp_path / "starter")  # before the program starts again
    assert json.loads((kept / MODEL / "model.json").read_text())["version"] == "old"
    shutil.copytree(folder, tmp_path / "other")
    asked: list[str] = []

    def never(name: str) -> bool:
        asked.append(name)
        return False

    forgotten = Served(tmp_path / "other", endpoint._bucket, program[1], wanted=never)
    told = forgotten.describe({"EndpointName": "x"})
    assert (asked, told["EndpointStatus"], told["EndpointConfigName"]) == (["set-1"], "InService", "starter")
    assert program[0].serves == "old"
    again = Served(folder, endpoint._bucket, program[1], seconds=10)
    assert again.describe({"EndpointName": "x"})["EndpointStatus"] == "Updating"
    told = over(again)
    expected = ("set-1", "new") if version == "new" else ("starter", "old")
    assert (told["EndpointConfigName"], program[0].serves) == expected
    assert json.loads((kept / MODEL / "model.json").read_text())["version"] == expected[1]


def test_a_configuration_that_was_made_before_a_restart_is_known_after_it(
    endpoint: Served, tmp_path: Path, program: tuple[Program, int]
) -> None:
    roll_out(endpoint, "set-1", "new")
    prepare(endpoint, "set-2", "newer")
    again = Served(tmp_path / "serving", endpoint._bucket, program[1], seconds=10)
    again.update({"EndpointName": "fusiontrade", "EndpointConfigName": "set-2"})
    assert over(again)["EndpointConfigName"] == "set-2"
    assert program[0].serves == "newer"


def test_what_was_promoted_stays_where_another_bundle_to_begin_with_is_new(tmp_path: Path) -> None:
    folder, starter = tmp_path / "serving", tmp_path / "starter"
    for name in ("gru-1h", "cnn-1h"):
        bundle(starter, "first", name)
    bundle(filled(folder, starter), "promoted", "gru-1h")
    bundle(folder / "bundles", "made here", "lstm-1h")
    for name, version in (("cnn-1h", "second"), ("lstm-1h", "first"), ("patchtst-1h", "first")):
        bundle(starter, version, name)
    served = filled(folder, starter)
    found = {path.parent.name: json.loads(path.read_text())["version"] for path in served.glob("*/model.json")}
    assert found == {"gru-1h": "promoted", "cnn-1h": "second", "lstm-1h": "made here", "patchtst-1h": "first"}
    shutil.rmtree(starter / "cnn-1h")
    assert {path.name for path in filled(folder, starter).iterdir()} == {"gru-1h", "lstm-1h", "patchtst-1h"}


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
