"""Bundles out of a bucket of the emulator, by the command and by the storage that it hands on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fusiontrade.cli.app import app
from fusiontrade.cloud.session import client
from fusiontrade.cloud.storage import Storage
from fusiontrade.errors import BundleRefused, InvalidInput, StateUnavailable, Unavailable
from serving.bringing.syncing import listing_of, sync
from serving.sealed import SealedCard, Source, write_sealed

NAME = "bundles-of-tests"
MANIFEST = f"s3://{NAME}/models/bundles.json"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A folder with files and hashes; what a bundle has to be is not this folder's question."""
    card = SealedCard(model_id="mine", config={}, source=Source(how="trained"), code_version="1", libraries={})
    return write_sealed(tmp_path / "made", card, {"model.onnx": bytes(range(256)) * 300}, {}, {}, load=lambda _: None)


@pytest.fixture
def bucket(aws: None, bundle: Path) -> Storage:
    client("s3").create_bucket(Bucket=NAME)
    storage = Storage(NAME)
    for path in bundle.iterdir():
        storage.put(f"models/mine/{path.name}", path.read_bytes())
    storage.put("models/bundles.json", json.dumps({"bundles": listing_of(bundle.parent)}).encode())
    return storage


@pytest.fixture(autouse=True)
def taken_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    from serving.bringing import placing

    monkeypatch.setitem(placing._OF_KIND, "tiny", lambda _: "mine")  # type: ignore[index]
    monkeypatch.setattr(placing, "kind_of", lambda _: "tiny")


def test_an_object_is_read_from_any_byte_on(bucket: Storage, bundle: Path) -> None:
    content, key = (bundle / "model.onnx").read_bytes(), "models/mine/model.onnx"
    for first in (0, 70_000):
        assert b"".join(bucket.stream(key, first) or ()) == content[first:]
    assert b"".join(bucket.stream(key, len(content)) or (b"none",)) == b""
    assert bucket.stream("models/mine/none", 0) is None
    with pytest.raises(StateUnavailable, match="NoSuchBucket"):
        Storage("no-such-bucket-anywhere").stream("key", 0)


def test_the_command_brings_a_manifest_of_a_bucket(bucket: Storage, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    given = ["models", "sync", MANIFEST, "--out", str(out)]
    result = CliRunner().invoke(app, given)
    assert (result.exit_code, result.stdout.strip()) == (0, str(out / "mine")), result.stderr
    assert (out / "mine" / "model.onnx").read_bytes() == (bundle / "model.onnx").read_bytes()
    again = CliRunner().invoke(app, given)
    assert (again.exit_code, "mine is here already" in again.stderr) == (0, True)


def test_what_a_bucket_lacks_or_holds_wrongly_is_said(bucket: Storage, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InvalidInput, match=r"s3://bundles-of-tests/models/none\.json is not there"):
        sync(f"s3://{NAME}/models/none.json", out, buckets=Storage)
    bucket.put("models/mine/model.onnx", b"other")
    with pytest.raises(BundleRefused, match=r"mine/model\.onnx has sha256"):
        sync(MANIFEST, out, buckets=Storage)
    assert [path.name for path in out.iterdir()] == [".bringing.lock"]


def test_a_bucket_that_breaks_off_is_gone_on_from_in_the_next_call(bucket: Storage, tmp_path: Path) -> None:
    out, asked = tmp_path / "out", list[tuple[str, int]]()

    class Breaking(Storage):
        def stream(self, key: str, first: int = 0) -> Iterator[bytes] | None:
            asked.append((key.rpartition("/")[2], first))
            found = super().stream(key, first)
            return self._broken(found) if found is not None and key.endswith(".onnx") else found

        def _broken(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
            yield next(chunks)[:1000]
            raise StateUnavailable("object storage did not answer: IncompleteRead")

    with pytest.raises(Unavailable, match="IncompleteRead; what has come stays"):
        sync(MANIFEST, out, buckets=Breaking, pause=lambda _: None)
    assert [first for name, first in asked if name == "model.onnx"] == [0, 1000, 2000, 3000, 4000]
    asked.clear()

    class Watched(Storage):
        def stream(self, key: str, first: int = 0) -> Iterator[bytes] | None:
            asked.append((key.rpartition("/")[2], first))
            return super().stream(key, first)

    assert [path.name for path in sync(MANIFEST, out, buckets=Watched).fetched] == ["mine"]
    assert ("model.onnx", 5000) in asked
