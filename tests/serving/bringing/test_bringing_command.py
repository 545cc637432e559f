"""``fusiontrade models`` as a person runs it: folders to stdout, the rest to stderr, and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from classifiers import write_classifier
from loopback import Manners, serving
from safetensors.torch import load_file, save_file
from tiny_bundles import build_bundle
from typer.testing import CliRunner

from serving.bringing.command import app
from serving.kronos.network import DecoderConfig, KronosDecoder, KronosTokenizer, TokenizerConfig, write_checkpoint


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    for name in ("HF_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    return CliRunner()


def test_a_kronos_checkpoint_becomes_a_bundle(runner: CliRunner, tmp_path: Path) -> None:
    tokenizer = KronosTokenizer(
        TokenizerConfig(d_model=8, n_heads=2, ff_dim=8, n_enc_layers=2, n_dec_layers=1, s1_bits=2, s2_bits=2)
    )
    decoder = KronosDecoder(DecoderConfig(s1_bits=2, s2_bits=2, n_layers=1, d_model=8, n_heads=2, ff_dim=8))
    write_checkpoint(tokenizer, tmp_path / "in" / "tokenizer")
    write_checkpoint(decoder, tmp_path / "in" / "model")
    out = tmp_path / "out"
    given = ["import-kronos", str(tmp_path / "in"), "--out", str(out), "--bars", "8", "--from", "Owner/Kronos@v1"]
    result = runner.invoke(app, given)
    assert (result.exit_code, result.stdout.strip()) == (0, str(out / "kronos"))
    assert "ONNX Runtime differs from torch by" in result.stderr
    source = json.loads((out / "kronos" / "model.json").read_text())["source"]
    assert (source["repository"], source["revision"]) == ("Owner/Kronos", "v1")
    weights = tmp_path / "in" / "model" / "model.safetensors"
    save_file({**load_file(weights), "\x1b[2J": torch.ones(1)}, weights)
    result = runner.invoke(app, given)
    assert (result.exit_code, "holds the tensor ?[2J (1), which" in result.stderr) == (2, True)
    weights.unlink()
    result = runner.invoke(app, given)
    assert result.exit_code == 2
    assert "there is no model/model.safetensors" in result.stderr


def test_a_classifier_becomes_a_bundle_or_is_refused(runner: CliRunner, tmp_path: Path) -> None:
    folder = write_classifier(tmp_path / "in")
    result = runner.invoke(app, ["import-finbert", str(folder), "--out", str(tmp_path / "out"), "--name", "mine"])
    assert (result.exit_code, result.stdout.strip()) == (0, str(tmp_path / "out" / "mine"))
    for told in ("sentiment of ", " parameters: ", "columns: positive, negative, neutral; texts are cut at 64 tokens",
                 "ONNX Runtime differs from torch by ", "(limit 1e-04) over 5 texts", "took "):  # fmt: skip
        assert told in result.stderr
    result = runner.invoke(app, ["import-finbert", str(folder), "--out", str(folder / "config.json")])
    assert (result.exit_code, "config.json cannot be used: File exists" in result.stderr) == (5, True)
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {"0": "good", "1": "bad", "2": "neutral"}
    (folder / "config.json").write_text(json.dumps(config))
    result = runner.invoke(app, ["import-finbert", str(folder), "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "'good', 'bad', 'neutral'; a scorer of moods needs" in result.stderr


def test_a_bundle_is_pulled_from_the_hub_of_the_environment(
    runner: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_bundle(tmp_path, "lstm", "1h")
    with serving(tmp_path / "lstm-1h", Manners(token="hf_secret"), repository="Owner/name") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url + "/")
        result = runner.invoke(app, ["pull", "Owner/name", "--out", str(tmp_path / "out")])
        assert result.exit_code == 3
        assert "set HF_TOKEN" in result.stderr
        monkeypatch.setenv("HF_TOKEN", "hf_secret\n")
        result = runner.invoke(app, ["pull", "Owner/name@main", "--out", str(tmp_path / "out")])
        assert (result.exit_code, result.stdout.strip()) == (0, str(tmp_path / "out" / "lstm-1h"))
        assert "hf_secret" not in result.stdout + result.stderr
        result = runner.invoke(app, ["pull", "Owner/other", "--out", str(tmp_path / "out")])
        assert result.exit_code == 4
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert runner.invoke(app, ["pull", "Owner/name", "--out", str(tmp_path / "out")]).exit_code == 5
    assert runner.invoke(app, ["pull", "nonsense", "--out", str(tmp_path / "out")]).exit_code == 2


def test_what_manifest_prints_is_what_sync_takes(runner: CliRunner, tmp_path: Path) -> None:
    (tmp_path / "bucket").mkdir()
    build_bundle(tmp_path / "bucket", "lstm", "1h")
    result = runner.invoke(app, ["manifest", str(tmp_path / "bucket")])
    assert result.exit_code == 0
    (tmp_path / "bucket" / "bundles.json").write_text(result.stdout)
    given = ["sync", str(tmp_path / "bucket" / "bundles.json"), "--out", str(tmp_path / "out")]
    for told in ("fetching lstm-1h", "lstm-1h is here already"):
        result = runner.invoke(app, given)
        assert (result.exit_code, result.stdout.strip()) == (0, str(tmp_path / "out" / "lstm-1h"))
        assert told in result.stderr
    (tmp_path / "out" / "lstm-1h" / "report.json").write_text("{}")
    result = runner.invoke(app, given)
    assert result.exit_code == 1
    assert "--overwrite" in result.stderr
    assert runner.invoke(app, [*given, "--overwrite"]).exit_code == 0


def test_a_library_that_is_not_here_is_said(runner: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "serving.bringing.kronos", None)
    result = runner.invoke(app, ["import-kronos", str(tmp_path), "--out", str(tmp_path / "out")])
    assert result.exit_code == 5
    assert "is not installed here: use an environment" in result.stderr
    assert "infra/environment.py train, then .venv/train/bin/fusiontrade models" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_proxy_that_its_library_cannot_speak_to_is_said(
    runner: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "socksio", None)
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:9")
    for name in ("https://hub.example", "https://bucket.example/bundles.json"):
        monkeypatch.setenv("HF_ENDPOINT", name)
        command = ["sync", name] if name.endswith("json") else ["pull", "Owner/name"]
        result = runner.invoke(app, [*command, "--out", str(tmp_path / "out")])
        assert (result.exit_code, "'socksio' package is not installed" in result.stderr) == (5, True)


def test_help_names_a_revision(runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    for command in ("import-kronos", "import-finbert", "pull"):
        assert "OWNER/NAME[@REVISION]" in runner.invoke(app, [command, "--help"]).stdout


def test_a_decoder_without_its_tokenizer_says_how_to_name_it(runner: CliRunner, tmp_path: Path) -> None:
    (tmp_path / "Kronos-small").mkdir()
    result = runner.invoke(app, ["import-kronos", str(tmp_path / "Kronos-small"), "--out", str(tmp_path / "out")])
    assert (result.exit_code, "name its folder with --tokenizer" in result.stderr) == (2, True)
    result = runner.invoke(app, ["import-kronos", str(tmp_path / "none"), "--out", str(tmp_path / "out")])
    assert (result.exit_code, f"there is no folder {tmp_path / 'none'}" in result.stderr) == (2, True)
    result = runner.invoke(app, ["import-finbert", str(tmp_path / "none"), "--out", str(tmp_path / "out")])
    assert (result.exit_code, f"there is no folder {tmp_path / 'none'}" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    "address", ["https://[::1/bundles.json", "https://me:hidden@bucket.example:99999/bundles.json"]
)
def test_an_address_that_is_none_is_said(
    runner: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    for command, field in ((["sync", address], "manifest"), (["pull", "Owner/name"], "HF_ENDPOINT")):
        result = runner.invoke(app, [*command, "--out", str(tmp_path / "out")])
        assert (result.exit_code, f"the address of {field} is none" in result.stderr) == (2, True)
        assert "hidden" not in result.stderr


def test_credentials_of_the_hubs_address_are_never_said(
    runner: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_ENDPOINT", "http://me:hidden@127.0.0.1:9")
    result = runner.invoke(app, ["pull", "Owner/name", "--out", str(tmp_path / "out")])
    assert (result.exit_code, "hidden" in result.stderr) == (5, False)
    assert "HF_HUB_OFFLINE" in result.stderr
