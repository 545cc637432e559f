"""Pulling checkpoints: data alone, the command that imports them, and what is said of those that cannot be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from loopback import COMMIT, serving
from pulling import NAME, left, pulled

from fusiontrade.errors import Conflict, InvalidInput


def test_a_checkpoint_comes_as_it_is_without_code_or_pickles(tmp_path: Path, out: Path) -> None:
    source = tmp_path / "checkpoint"
    source.mkdir()
    for name in ("config.json", "model.safetensors", "vocab.txt", "pytorch_model.bin", "modeling.py"):
        (source / name).write_bytes(b'{"model_type": "bert"}' if name == "config.json" else name.encode() * 50)
    told: list[str] = []
    with serving(source, repository=NAME) as hub:
        folder = pulled(hub, out, tell=told.append)
        assert told[-1].endswith(f": fusiontrade models import-finbert {folder} --from {NAME}@{COMMIT} --out BUNDLES")
        assert not hub.asked(".bin") + hub.asked(".py")
        before = len(hub.asked(".safetensors"))
        with pytest.raises(Conflict, match="--overwrite"):
            pulled(hub, out)
        assert len(hub.asked(".safetensors")) == before
        assert pulled(hub, out, overwrite=True) == folder
    assert folder == out / "some-model"
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors", "vocab.txt"]
    (source / "config.json").write_text("[")
    with serving(source, repository=NAME) as hub, pytest.raises(InvalidInput, match="is no JSON"):
        pulled(hub, out, overwrite=True)
    assert left(out) == ["some-model"]
    shutil.rmtree(source)
    source.mkdir()
    (source / "README.md").write_text("nothing else")
    with serving(source, repository=NAME) as hub, pytest.raises(InvalidInput, match="neither a bundle"):
        pulled(hub, out)


def checkpoint(folder: Path, **said: object) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(said))
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_the_command_that_imports_a_checkpoint_can_be_typed(tmp_path: Path) -> None:
    out, told = tmp_path / "of mine", list[str]()
    decoder = checkpoint(tmp_path / "decoder", s1_bits=10, s2_bits=10, n_layers=8)
    tokenizer = checkpoint(tmp_path / "tokenizer", s1_bits=10, s2_bits=10, d_in=6)
    smaller = checkpoint(tmp_path / "smaller", s1_bits=5, s2_bits=5, n_layers=8)
    names = ("Neo/Kronos-mini", "Neo/Kronos-Tokenizer", "Neo/Kronos-small", "Neo/Kronos-Tokenizer")
    for source, name in zip((smaller, tokenizer, decoder, tokenizer), names, strict=True):
        with serving(source, repository=name) as hub:
            pulled(hub, out, name=name, tell=told.append, overwrite=True)
    said = [one.partition(": fusiontrade ")[2] for one in told if "fusiontrade models" in one]
    mini, small = (f"import-kronos '{out}/Kronos-{size}' --tokenizer" for size in ("mini", "small"))
    assert said == [
        f"models {mini} '{out}/TOKENIZER' --from Neo/Kronos-mini@{COMMIT} --out BUNDLES",
        f"models import-kronos '{out}/DECODER' --tokenizer '{out}/Kronos-Tokenizer' --out BUNDLES",
        f"models {small} '{out}/Kronos-Tokenizer' --from Neo/Kronos-small@{COMMIT} --out BUNDLES",
        f"models {small} '{out}/Kronos-Tokenizer' --out BUNDLES",
    ]


def test_a_repository_of_pickles_says_what_to_do(tmp_path: Path, out: Path) -> None:
    source = tmp_path / "checkpoint"
    source.mkdir()
    for name in ("config.json", "pytorch_model.bin", "vocab.txt"):
        (source / name).write_bytes(b"x")
    with serving(source, repository=NAME) as hub:
        with pytest.raises(InvalidInput, match=r"pytorch_model\.bin is a pickle, .* a revision with safetensors"):
            pulled(hub, out)
        assert not hub.asked(".bin")


def test_weights_in_several_files_are_said(tmp_path: Path, out: Path) -> None:
    source = checkpoint(tmp_path / "checkpoint", model_type="bert")
    (source / "model.safetensors").rename(source / "model-00001-of-00002.safetensors")
    (source / "model.safetensors.index.json").write_text("{}")
    with (
        serving(source, repository=NAME) as hub,
        pytest.raises(InvalidInput, match=r"its weights come in several files, .*: see docs/models\.md"),
    ):
        pulled(hub, out)
