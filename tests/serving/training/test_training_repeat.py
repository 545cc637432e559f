"""The command that trains twice and compares: what it starts, kills, starts again, and says of both bundles."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

import pytest

from infra.proofs import repeat
from serving.bundle import write_manifest

PRETENDED = """
import argparse, hashlib, json, os, sys, time
from pathlib import Path

parser = argparse.ArgumentParser()
for name in ("--data", "--out", "--name", "--fault"):
    parser.add_argument(name)
chosen = parser.parse_args()
out, fault = Path(chosen.out), chosen.fault
if fault == "breaks":
    sys.exit("training stopped: no data")
print(f"reads {len(list(Path(chosen.data).iterdir()))} files", flush=True)
killed = out.name == "killed"
for network in ("left", "right"):
    state = out / f"{network}.txt"
    done = int(state.read_text()) if state.exists() and fault != "forgets" else 0
    for epoch in range(done + 1, 5):
        if killed and done == 0 and epoch == 3 and fault != "short":
            time.sleep(60)  # here the command kills it
        state.write_text(str(epoch))
        print(f"{network} epoch {epoch}/{1 if fault == 'short' else 4}: loss 1.0", flush=True)
files = {"model.json": {"figures": [{"value": 1.5}], "version": "1"}, "report.json": {"zone": ""}}
if fault == "chance" and killed:
    files["model.json"] = {"figures": [{"value": 2.5}], "version": "2"}
if fault == "surroundings":
    files = {"model.json": {"hash": hash("a name")}, "report.json": {"zone": time.strftime("%z")}}
contents = {name: json.dumps(content).encode() for name, content in files.items()}
contents["model.onnx"] = b"graph" + (b"x" if fault == "chance" and killed else b"y")
bundle = out / chosen.name
bundle.mkdir()
for name, content in contents.items():
    (bundle / name).write_bytes(content)
sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
(bundle / "manifest.json").write_text(json.dumps({"files": sums}))
(bundle / "run.json").write_text(json.dumps({"seconds": time.time()}))
"""
"""Trains two networks of four epochs; where it is to be killed, it waits for that."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "instruments.toml").write_text("")
    return folder


@pytest.fixture
def pretended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings of the pretended command in place of those of the repository."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "pretended_training.py").write_text(PRETENDED)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "code"), prepend=":")

    def trainings(chosen: argparse.Namespace) -> list[repeat.Training]:
        faults = chosen.models.split(",")
        return [repeat.Training(fault, "pretended_training", ("--name", fault, "--fault", fault)) for fault in faults]

    monkeypatch.setattr(repeat, "trainings", trainings)


def said(data: Path, out: Path, models: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    status = repeat.main(["--data", str(data), "--out", str(out), "--models", models])
    return status, capsys.readouterr().out.splitlines()


@pytest.mark.usefixtures("pretended")
def test_equal_manifests_of_an_undisturbed_training_and_one_killed_in_each_network(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, (line,) = said(data, tmp_path / "out", "sound", capsys)
    assert status == 0
    assert " bytes equal (3 files); killed after left epoch 2/4, right epoch 2/4; " in line
    out = tmp_path / "out" / "sound"
    log = (out / "elsewhere" / "killed.log").read_text().splitlines()
    assert log == [
        *("reads 1 files", "left epoch 1/4: loss 1.0", "left epoch 2/4: loss 1.0", "--- killed"),
        *("reads 1 files", "left epoch 3/4: loss 1.0", "left epoch 4/4: loss 1.0"),
        *("right epoch 1/4: loss 1.0", "right epoch 2/4: loss 1.0", "--- killed"),
        *("reads 1 files", "right epoch 3/4: loss 1.0", "right epoch 4/4: loss 1.0"),
    ]
    assert "killed" not in (out / "undisturbed.log").read_text()
    status, (line,) = said(data, tmp_path / "out", "sound", capsys)
    assert (status, line) == (1, f"sound FAILED: {out} is there already")


@pytest.mark.usefixtures("pretended")
def test_what_is_not_the_same_is_named_and_ends_with_1(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, lines = said(data, tmp_path / "out", "chance,surroundings", capsys)
    assert status == 1
    chance, surroundings = (line.split(" DIFFERS: ")[1].split(";")[0] for line in lines)
    assert chance == "model.json figures[0].value: 1.5 against 2.5, model.onnx byte 5 of 6 and 6"
    hashes, zones = surroundings.split(", report.json ")
    assert hashes.startswith("model.json hash: ")
    assert zones.startswith('zone: "+0000" against "+1')


@pytest.mark.usefixtures("pretended")
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("breaks", "it ended with 1: training stopped: no data"),
        ("forgets", "killed after left epoch 2/4 it began anew and said 'left epoch 1/4'"),
        ("short", "it was not killed: it has to have two epochs, or twice as many steps as it tells of at once"),
    ],
)
def test_a_training_that_fails_or_does_not_go_on_is_no_proof(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str, expected: str
) -> None:
    status, lines = said(data, tmp_path / "out", fault, capsys)
    assert (status, lines) == (1, [f"{fault} FAILED: {expected}"])


def bundle(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content)
    write_manifest(folder)
    return folder


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        ({"a.json": '{"b": 1}'}, {"a.json": '{"b": 1}'}, ""),
        ({"a.json": '{"b": 1}'}, {"a.json": '{"b":  1}'}, "a.json byte 6 of 8 and 9"),
        ({"a.json": '{"version": 1, "z": [1]}'}, {"a.json": '{"version": 2, "z": [2]}'}, "a.json z[0]: 1 against 2"),
        ({"a.json": '{"version": 1}'}, {"a.json": '{"version": 2}'}, "a.json version: 1 against 2"),
        ({"a.json": '{"b": [1]}'}, {"a.json": '{"b": [1, 2]}'}, "a.json b: [1] against [1, 2]"),
        ({"a.json": '{"b": 1}'}, {"a.json": '{"c": 1}'}, "a.json b: 1 against null"),
        ({"a.txt": "x", "b.txt": "ab"}, {"b.txt": "abc"}, "a.txt is in one of them alone, b.txt byte 2 of 2 and 3"),
    ],
)  # fmt: skip
def test_the_first_field_or_byte_that_differs_is_named(
    tmp_path: Path, one: dict[str, str], two: dict[str, str], expected: str
) -> None:
    assert repeat.difference(bundle(tmp_path / "one", one), bundle(tmp_path / "two", two)) == expected


def test_each_command_takes_what_it_is_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder without data is refused in words, with 2; an option that is not known ends the program instead."""
    from serving.kronos.training.__main__ import main as kronos
    from serving.training.__main__ import main as intraday
    from serving.training.swing.__main__ import main as swing

    mains = {"serving.training": intraday, "serving.training.swing": swing, "serving.kronos.training": kronos}
    chosen = argparse.Namespace(models="patchtst,swing,kronos", timeframe="4h", seed=7, threads=2, encoder=None)
    chosen.embeddings, chosen.intraday = tmp_path / "kept", "--epochs 3"
    chosen.swing, chosen.kronos = "--stride 9 --preset full", "--decoder-steps 100"
    made = repeat.trainings(chosen)
    assert [one.name for one in made] == ["patchtst-4h", "swing-1d", "kronos-compact"]
    assert shlex.join(made[0].options) == "--seed 7 --threads 2 --models patchtst --timeframes 4h --epochs 3"
    for one in made:
        assert mains[one.module](one.arguments(tmp_path, tmp_path / "out")) == 2, one.name
    assert capsys.readouterr().err.count("training stopped: ") == 3
    assert not (tmp_path / "out").exists()
