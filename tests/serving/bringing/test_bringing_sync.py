"""Syncing from a bucket on this machine: by sha256, resumable, in one step, or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from loopback import Manners, Server, serving
from tiny_bundles import build_bundle

from fusiontrade.errors import BundleRefused, Conflict, InvalidInput, Unavailable
from serving.bringing.syncing import Synced, listing_of, sync
from serving.bundle import load_bundle, write_manifest


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    for timeframe in ("1h", "4h"):
        build_bundle(folder, "lstm", timeframe)
    return folder


@pytest.fixture
def bucket(built: Path, tmp_path: Path) -> Path:
    shutil.copytree(built, tmp_path / "bucket")
    rewrite(tmp_path / "bucket")
    return tmp_path / "bucket"


def rewrite(bucket: Path, change: dict[str, Any] | None = None) -> None:
    """Write the bucket's manifest, with some of what it says replaced."""
    listing: dict[str, Any] = listing_of(bucket)
    for model_id, files in (change or {}).items():
        listing[model_id] = {**listing.get(model_id, {}), **files}
    (bucket / "bundles.json").write_text(json.dumps({"bundles": listing}))


def synced(server: Server, out: Path, **given: Any) -> Synced:
    return sync(f"{server.url}/bundles.json", out, pause=lambda _: None, **given)


def left(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir() if path.suffix != ".lock") if out.exists() else []


def test_every_bundle_comes_verified_and_a_second_time_nothing_does(bucket: Path, out: Path) -> None:
    with serving(bucket) as server:
        first = synced(server, out)
        before = len(server.seen)
        second = synced(server, out)
        assert [one.path for one in server.seen[before:]] == ["/bundles.json"]
    assert [path.name for path in first.fetched] == left(out) == sorted(path.name for path in second.kept)
    assert (first.kept, second.fetched) == ([], [])
    for folder in first.fetched:
        assert load_bundle(folder).card.model_id == folder.name
        assert (folder / "manifest.json").read_bytes() == (bucket / folder.name / "manifest.json").read_bytes()


def test_two_files_of_the_same_content_both_come(bucket: Path, out: Path) -> None:
    place = bucket / "lstm-1h"
    shutil.copyfile(place / "report.json", place / "outcome.json")
    write_manifest(place)
    rewrite(bucket)
    with serving(bucket) as server:
        synced(server, out)
        assert sum(one.path in ("/lstm-1h/report.json", "/lstm-1h/outcome.json") for one in server.seen) == 1
    assert (out / "lstm-1h" / "outcome.json").read_bytes() == (out / "lstm-1h" / "report.json").read_bytes()


def test_a_manifest_in_a_file_serves_a_folder_beside_it(bucket: Path, out: Path) -> None:
    assert len(sync(str(bucket / "bundles.json"), out).fetched) == 2
    with pytest.raises(InvalidInput, match="cannot be read"):
        sync(str(bucket / "none.json"), out)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_connection_that_is_cut_off_is_made_anew(bucket: Path, out: Path, *, ranges: bool) -> None:
    with serving(bucket, Manners(cut={"lstm-1h/model.onnx": 1}, ranges=ranges)) as server:
        assert len(synced(server, out).fetched) == 2
        first, second = server.asked("/lstm-1h/model.onnx")
    size = (bucket / "lstm-1h" / "model.onnx").stat().st_size
    assert first.range is None
    assert 0 < int(str(second.range).removeprefix("bytes=").removesuffix("-")) < size
    assert (out / "lstm-1h" / "model.onnx").read_bytes() == (bucket / "lstm-1h" / "model.onnx").read_bytes()


def test_the_next_call_goes_on_where_the_last_one_gave_up(bucket: Path, out: Path) -> None:
    manners = Manners(cut={"lstm-1h/model.onnx": 1}, after_cut={"lstm-1h/model.onnx": 503})
    with serving(bucket, manners) as server, pytest.raises(Unavailable, match="answered 503; what has come stays"):
        synced(server, out)
    assert left(out) == [".sync-lstm-1h.parts"]
    with serving(bucket) as server:
        synced(server, out)
        (asked,) = server.asked("/lstm-1h/model.onnx")
    assert asked.range is not None
    assert left(out) == ["lstm-1h", "lstm-4h"]


def test_a_file_of_another_hash_is_refused_and_nothing_stays_of_its_bundle(bucket: Path, out: Path) -> None:
    content = (bucket / "lstm-4h" / "model.onnx").read_bytes()
    with serving(bucket, Manners(swapped={"lstm-4h/model.onnx": content[:-1] + b"!"})) as server:
        with pytest.raises(BundleRefused, match=r"lstm-4h/model\.onnx has sha256"):
            synced(server, out)
        assert left(out) == ["lstm-1h"]
        server.manners.swapped.clear()
        synced(server, out)
    assert left(out) == ["lstm-1h", "lstm-4h"]


def test_a_bundle_that_is_there_and_differs_is_replaced_only_where_that_was_asked_for(bucket: Path, out: Path) -> None:
    with serving(bucket) as server:
        synced(server, out)
        report = bucket / "lstm-1h" / "report.json"
        report.write_text(report.read_text() + " ")
        write_manifest(bucket / "lstm-1h")
        rewrite(bucket)
        mine = (out / "lstm-1h" / "report.json").read_bytes()
        with pytest.raises(Conflict, match="--overwrite"):
            synced(server, out)
        assert (out / "lstm-1h" / "report.json").read_bytes() == mine
        done = synced(server, out, overwrite=True)
    assert [path.name for path in done.fetched] == ["lstm-1h"]
    assert (out / "lstm-1h" / "report.json").read_bytes() == report.read_bytes()
    assert left(out) == ["lstm-1h", "lstm-4h"]


def test_what_serving_would_refuse_leaves_the_old_one(bucket: Path, out: Path) -> None:
    with serving(bucket) as server:
        synced(server, out)
        before = (out / "lstm-1h" / "manifest.json").read_bytes()
        card = bucket / "lstm-1h" / "model.json"
        card.write_text(card.read_text().replace('"horizon_bars": ', '"horizon_bars": -'))
        write_manifest(bucket / "lstm-1h")
        rewrite(bucket)
        with pytest.raises(BundleRefused, match="horizon_bars"):
            synced(server, out, overwrite=True)
    assert (out / "lstm-1h" / "manifest.json").read_bytes() == before
    assert left(out) == ["lstm-1h", "lstm-4h"]


def test_a_bundle_under_another_name_is_refused(bucket: Path, out: Path) -> None:
    (bucket / "lstm-1h").rename(bucket / "other")
    rewrite(bucket)
    with serving(bucket) as server, pytest.raises(BundleRefused, match="the bundle is lstm-1h, where other was to be"):
        synced(server, out)
    assert left(out) == ["lstm-4h"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[]", "the manifest is not"),
        ("{", "the manifest is not"),
        ('{"bundles": {}}', "the manifest is not"),
        ('{"bundles": {"../x": {"manifest.json": "' + "0" * 64 + '"}}}', "no model id"),
        ('{"bundles": {"x": {"model.onnx": "' + "0" * 64 + '"}}}', "does not name x/manifest.json"),
        ('{"bundles": {"x": {"manifest.json": "' + "0" * 64 + '", "../y.json": "0"}}}', "no file of a bundle"),
        ('{"bundles": {"x": {"manifest.json": "' + "0" * 64 + '", "run.sh": "0"}}}', "no file of a bundle"),
        ('{"bundles": {"x": {"manifest.json": "abc"}}}', "has no sha256"),
        ('{"bundles": {"x": {"manifest.json": "0"}, "x": {}}}', "names 'x' twice"),
        ('{"bundles": {"x": {"manifest.json": "0", "manifest.json": "1"}}}', r"names 'manifest\.json' twice"),
    ],
)
def test_a_manifest_that_cannot_be_is_refused(bucket: Path, out: Path, content: str, told: str) -> None:
    (bucket / "bundles.json").write_text(content)
    with serving(bucket) as server, pytest.raises(InvalidInput, match=told):
        synced(server, out)
    assert left(out) == []


def test_addresses_that_cannot_be_trusted_or_found_are_said(bucket: Path, out: Path) -> None:
    for address, told in (
        ("http://bucket.example/bundles.json", "not encrypted"),
        ("ftp://bucket/bundles.json", "neither a file nor an https or s3 address"),
        ("s3://bucket", "no s3://BUCKET/KEY"),
        ("s3://bucket/bundles.json", "by the command fusiontrade models sync alone"),
    ):
        with pytest.raises(InvalidInput, match=told):
            sync(address, out)
    with serving(bucket) as server:
        with pytest.raises(InvalidInput, match="answered 404"):
            sync(f"{server.url}/none.json", out)
        (bucket / "lstm-1h" / "report.json").unlink()
        with pytest.raises(InvalidInput, match=r"report\.json answered 404"):
            synced(server, out)
        assert left(out) == []
    with pytest.raises(InvalidInput, match=r"report\.json cannot be read"):
        sync(str(bucket / "bundles.json"), out)
    assert left(out) == []
    with pytest.raises(Unavailable, match="run the command again"):
        synced(server, out)


def test_what_an_address_is_signed_with_is_never_said(bucket: Path, out: Path) -> None:
    told: list[str] = []
    with serving(bucket, Manners(status={"bundles.json": 403, "model.onnx": 503})) as server:
        signed = f"{server.url.replace('http://', 'http://user:hidden@')}/bundles.json?X-Amz-Signature=hidden"
        with pytest.raises(InvalidInput, match="answered 403") as refused:
            sync(signed, out, pause=lambda _: None, tell=told.append)
        del server.manners.status["bundles.json"]
        with pytest.raises(Unavailable, match="answered 503") as unavailable:
            sync(signed, out, pause=lambda _: None, tell=told.append)
    assert "hidden" not in " ".join([str(refused.value), str(unavailable.value), *told])
    with pytest.raises(InvalidInput, match="not encrypted") as clear:
        sync("http://user:hidden@bucket.example/x?signature=hidden", out)
    assert "hidden" not in str(clear.value)


def test_a_listing_leaves_out_what_a_killed_command_left(bucket: Path) -> None:
    wanted = listing_of(bucket)
    shutil.copytree(bucket / "lstm-1h", bucket / ".lstm-1h.fresh")
    assert listing_of(bucket) == wanted


def test_a_link_to_nowhere_is_something_that_is_there(bucket: Path, out: Path) -> None:
    out.mkdir()
    (out / "lstm-1h").symlink_to(out / "nowhere")
    with pytest.raises(Conflict, match="--overwrite"):
        sync(str(bucket / "bundles.json"), out)
    assert sync(str(bucket / "bundles.json"), out, overwrite=True).fetched == [out / "lstm-1h", out / "lstm-4h"]


def test_a_listing_names_every_file_and_its_hash(bucket: Path, tmp_path: Path) -> None:
    listing = listing_of(bucket)
    assert sorted(listing) == ["lstm-1h", "lstm-4h"]
    for model_id, files in listing.items():
        assert set(files) == {path.name for path in (bucket / model_id).iterdir()} - {"run.json"}
        for name, checksum in files.items():
            assert hashlib.sha256((bucket / model_id / name).read_bytes()).hexdigest() == checksum
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleRefused, match="holds no bundles"):
        listing_of(tmp_path / "empty")
