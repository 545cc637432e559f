"""Training as its users start it: killed in the middle of an epoch, moved to other folders, it ends the same."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors import safe_open
from tiny_bundles import ROOT
from training_data import two_series, write_folder

from serving.bundle import load_bundle
from serving.training.__main__ import main

EPOCHS = 3
SMALL = [
    *("--models", "lstm", "--timeframes", "1h", "--epochs", str(EPOCHS), "--batch", "32", "--rows-per-epoch", "480"),
    *("--bootstrap", "10", "--judged-from", "2024-04-25T00:00:00Z"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data") / "mine", *(frame for frame, _ in two_series()))


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a run that nobody stopped, of a copy of the data in another folder."""
    other = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(data, other / "a copy of the data")
    assert main(["--data", str(other / "a copy of the data"), "--out", str(other / "out"), *SMALL]) == 0
    return other / "out" / "lstm-1h"


def started(data: Path, out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "serving.training", "--data", str(data), "--out", str(out), *SMALL],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )


def test_killed_in_an_epoch_and_started_again_it_ends_with_the_manifest_of_an_undisturbed_run(
    data: Path, undisturbed: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    child = started(data, out)
    assert child.stdout is not None
    said = []
    for line in child.stdout:
        said.append(line)
        if "lstm-1h epoch 1/" in line:
            break
    time.sleep(0.05)  # some steps into the second epoch
    child.send_signal(signal.SIGKILL)
    assert child.wait(30) == -signal.SIGKILL, said
    child.stdout.close()
    assert not (out / "lstm-1h").exists()

    checkpoint = out / ".checkpoints" / "lstm-1h.safetensors"
    with safe_open(checkpoint, framework="pt") as stored:
        done = len(json.loads(stored.metadata()["state"])["epochs"])
    assert 1 <= done < EPOCHS
    checkpoint.with_suffix(".fresh").write_bytes(checkpoint.read_bytes()[:1000])  # as if killed while saving, too

    capfd.readouterr()
    assert main(["--data", str(data), "--out", str(out), *SMALL]) == 0
    told = "".join(capfd.readouterr())
    assert f"epoch {done}/{EPOCHS}" not in told
    assert f"epoch {done + 1}/{EPOCHS}" in told
    assert (out / "lstm-1h" / "manifest.json").read_bytes() == (undisturbed / "manifest.json").read_bytes()
    assert load_bundle(out / "lstm-1h").card == load_bundle(undisturbed).card
    assert not checkpoint.exists()


def test_the_untouched_slice_of_the_command_begins_where_it_was_told_to(undisturbed: Path) -> None:
    card = load_bundle(undisturbed).card
    assert card.windows.test[0] == 1_714_003_200_000
    assert card.config["training"]["judged_from"] == "2024-04-25T00:00:00Z"
    assert card.config["training"]["averaging"] == 0.998


def test_a_wrong_instant_is_said_by_its_name(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("yesterday", "1999-01-01T00:00:00Z"):
        assert main(["--data", str(data), "--out", str(tmp_path), *SMALL[:-1], text]) == 2
        assert "judged_from" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
