"""What a folder from elsewhere holds is said before a library stumbles over it: the file, the reason, the remedy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from fusiontrade.errors import Conflict, InvalidInput
from serving.bringing.folders import json_object, place_of, weights_of

WHOLE = save({"weight": torch.ones(64)})
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 437992753\n"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (POINTER, r"checkpoint/model\.safetensors is git-lfs' pointer to the weights and not they: run git lfs pull"),
        (WHOLE[:-7], rf"has {len(WHOLE) - 7} of {len(WHOLE)} bytes: it was cut off, download it again"),
        (WHOLE[:20], r"is no safetensors file, or only its beginning: download it again"),
        (b"", r"is no safetensors file, or only its beginning"),
        (b"<!doctype html><title>Sign in</title>" + bytes(99), r"is no safetensors file, or only its beginning"),
        (b"\x80\x04 a pickle, perhaps", r"is no safetensors file"),
        ((9).to_bytes(8, "little") + b'["a", 1]x', r"is no safetensors file"),
        ((7).to_bytes(8, "little") + b'{"a":1}', r"is no safetensors file"),
        ((17).to_bytes(8, "little") + b'{"a":{"b":[[[]]]}', r"is no safetensors file"),
        ((40_000).to_bytes(8, "little") + b"[" * 40_000, r"is no safetensors file"),
    ],
)
def test_weights_that_are_not_whole_are_said_with_the_remedy(tmp_path: Path, content: bytes, told: str) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(InvalidInput, match=told) as refusal:
        weights_of(folder)
    assert refusal.value.field == "checkpoint/model.safetensors"


def test_whole_weights_are_taken_with_metadata_or_without_by_a_link_too(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(save({"weight": torch.ones(2)}, {"format": "pt"}))
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "model.safetensors").symlink_to("../blob")
    assert weights_of(tmp_path / "snapshot") == tmp_path / "snapshot" / "model.safetensors"
    (tmp_path / "blob").write_bytes(save({}))
    assert weights_of(tmp_path / "snapshot").is_file()


def test_a_configuration_without_an_end_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(InvalidInput, match=r"config\.json is no JSON"):
        json_object(tmp_path, "config.json")


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"there is no folder .*/none$"):
        json_object(tmp_path / "none", "config.json")


def test_a_bundle_takes_the_place_of_a_bundle_and_of_nothing_else(tmp_path: Path) -> None:
    assert place_of(tmp_path, "finbert") == tmp_path / "finbert"
    (tmp_path / "finbert").mkdir()
    (tmp_path / "finbert" / "config.json").write_text("{}")
    with pytest.raises(Conflict, match=r"finbert is there already and no bundle: choose another --out or --name"):
        place_of(tmp_path, "finbert")
    (tmp_path / "finbert" / "manifest.json").write_text(json.dumps({}))
    assert place_of(tmp_path, "finbert") == tmp_path / "finbert"
    with pytest.raises(InvalidInput, match="is no name of a bundle"):
        place_of(tmp_path, "Fin Bert")
