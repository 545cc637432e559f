"""Pulling from a hub on this machine that behaves and misbehaves; what is refused leaves nothing behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback import COMMIT, Manners, Server, serving
from tiny_bundles import build_bundle

from fusiontrade.errors import (
    BundleRefused,
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from serving.bringing.hub import Repository, pull
from serving.bundle import load_bundle, write_manifest

NAME = "Owner/some-model"


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """The hub's library waits a second before it asks again: here it need not, and shows no bars."""
    import huggingface_hub.file_download as library
    from huggingface_hub import constants
    from huggingface_hub.utils import disable_progress_bars

    class Clock:
        def __getattr__(self, name: str) -> object:
            import time

            return (lambda _: None) if name == "sleep" else getattr(time, name)

    before = library.time, constants.DOWNLOAD_CHUNK_SIZE
    library.time, constants.DOWNLOAD_CHUNK_SIZE = Clock(), 64  # 10 MiB are kept at a time else
    disable_progress_bars()
    yield
    library.time, constants.DOWNLOAD_CHUNK_SIZE = before


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A bundle as its repository holds it, with what hubs add."""
    built = build_bundle(tmp_path / "built", "lstm", "1h")
    built.rename(tmp_path / "source")
    (tmp_path / "source" / "README.md").write_text("a model card")
    (tmp_path / "source" / ".gitattributes").write_text("*.onnx filter=lfs")
    return tmp_path / "source"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "bundles"


def pulled(server: Server, out: Path, *, name: str = NAME, **given: object) -> Path:
    return pull(Repository.parse(name), out, endpoint=server.url, **given)  # type: ignore[arg-type]


def left(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir()) if out.exists() else []


def test_a_bundle_is_pulled_verified_and_nothing_else_with_it(source: Path, out: Path) -> None:
    (source / "setup.py").write_text("print('never fetched')")
    with serving(source, repository=NAME) as hub:
        folder = pulled(hub, out, name=f"{NAME}@v1")
        assert [one.path for one in hub.seen if one.path.endswith(("setup.py", "README.md"))] == []
        assert all(one.authorization is None for one in hub.seen)
    assert load_bundle(folder).card.model_id == folder.name
    assert left(out) == [folder.name]
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        {*(path.name for path in source.iterdir() if path.suffix in (".json", ".onnx")), "run.json"}
    )
    assert json.loads((folder / "run.json").read_text())["pulled"] == {"repository": NAME, "revision": COMMIT}


def test_a_token_goes_along_and_is_asked_for(source: Path, out: Path) -> None:
    with serving(source, Manners(token="hf_secret"), repository=NAME) as hub:
        with pytest.raises(Unauthenticated, match="set HF_TOKEN"):
            pulled(hub, out)
        with pytest.raises(Unauthenticated, match="without a valid token"):
            pulled(hub, out, token="hf_wrong")
        pulled(hub, out, token="hf_secret")
        assert hub.seen[-1].authorization == "Bearer hf_secret"


@pytest.mark.parametrize(
    ("name", "manners", "error", "told"),
    [
        ("Owner/other", Manners(), NotFound, "knows no Owner/other"),
        (f"{NAME}@v9", Manners(), NotFound, "Owner/some-model@v9: there is no such revision"),
        (NAME, Manners(status={"some-model": 403}), Forbidden, "may not read"),
        (NAME, Manners(status={"some-model": 400}), InvalidInput, "answered 400"),
        (NAME, Manners(status={"model.onnx": 404}), NotFound, "knows no"),
    ],
)
def test_what_the_hub_refuses_is_said(
    source: Path, out: Path, name: str, manners: Manners, error: type[Exception], told: str
) -> None:
    with serving(source, manners, repository=NAME) as hub, pytest.raises(error, match=told):
        pulled(hub, out, name=name)


def test_a_connection_that_is_cut_off_goes_on_where_it_stopped(source: Path, out: Path) -> None:
    with serving(source, Manners(cut={"model.onnx": 2}), repository=NAME) as hub:
        folder = pulled(hub, out)
        asked = [one.range for one in hub.asked("/model.onnx")]
    assert asked[0] is None
    starts = [int(str(one).removeprefix("bytes=").removesuffix("-")) for one in asked[1:]]
    assert 0 < starts[0] < starts[1] < (source / "model.onnx").stat().st_size
    assert (folder / "model.onnx").read_bytes() == (source / "model.onnx").read_bytes()


def test_the_next_call_goes_on_where_the_last_one_gave_up(source: Path, out: Path) -> None:
    manners = Manners(cut={"model.onnx": 1}, after_cut={"model.onnx": 503})
    with serving(source, manners, repository=NAME) as hub, pytest.raises(Unavailable, match="run the command again"):
        pulled(hub, out)
    assert left(out) == [f".pull-Owner--some-model-{COMMIT[:12]}"]
    with serving(source, repository=NAME) as hub:
        folder = pulled(hub, out)
        (asked,) = hub.asked("/model.onnx")
        assert not hub.asked("/manifest.json")
    assert asked.range is not None
    assert (folder / "model.onnx").read_bytes() == (source / "model.onnx").read_bytes()
    assert left(out) == [folder.name]


def test_a_file_of_another_hash_is_refused_and_nothing_stays(source: Path, out: Path) -> None:
    graph = (source / "model.onnx").read_bytes()
    for name, kind in (("model.onnx", "sha256"), ("report.json", "git hash")):
        content = (source / name).read_bytes()
        swapped = content[:-3] + bytes(3)
        assert len(swapped) == len(content)
        with (
            serving(source, Manners(swapped={name: swapped}), repository=NAME) as hub,
            pytest.raises(BundleRefused, match=f"{name} has {kind} .* the hub says"),
        ):
            pulled(hub, out)
        assert left(out) == []
    assert (source / "model.onnx").read_bytes() == graph


def test_a_bundle_that_serving_would_refuse_leaves_nothing(source: Path, out: Path) -> None:
    card = json.loads((source / "model.json").read_text())
    (source / "model.json").write_text(json.dumps(card | {"horizon_bars": 0}))
    write_plain_manifest(source)
    with serving(source, repository=NAME) as hub, pytest.raises(BundleRefused, match="horizon_bars"):
        pulled(hub, out)
    assert left(out) == []


def write_plain_manifest(source: Path) -> None:
    for name in ("README.md", ".gitattributes"):
        (source / name).unlink(missing_ok=True)
    write_manifest(source)


def test_a_manifest_that_names_what_is_never_fetched_is_refused(source: Path, out: Path) -> None:
    write_plain_manifest(source)
    (source / "model.pkl").write_bytes(b"\x80\x04.")
    write_manifest(source)
    with serving(source, repository=NAME) as hub, pytest.raises(BundleRefused, match=r"model\.pkl is in manifest"):
        pulled(hub, out)
    assert left(out) == []


def test_names_that_lead_out_of_the_folder_are_never_asked_for(source: Path, out: Path) -> None:
    strange = ("../evil.json", "sub/model.json", "/etc/evil.json", ".hidden.json", "a\\b.json")
    with serving(source, Manners(extra=strange), repository=NAME) as hub:
        pulled(hub, out)
        assert not [one for one in hub.seen if "evil" in one.path or "hidden" in one.path or "sub/" in one.path]


def test_another_bundle_is_replaced_only_where_that_was_asked_for(source: Path, out: Path) -> None:
    with serving(source, repository=NAME) as hub:
        folder = pulled(hub, out)
        assert pulled(hub, out) == folder
        other = json.loads((folder / "report.json").read_text()) | {"note": "mine"}
        (folder / "report.json").write_text(json.dumps(other))
        write_manifest(folder)
        mine = (folder / "manifest.json").read_bytes()
        with pytest.raises(Conflict, match="--overwrite"):
            pulled(hub, out)
        assert (folder / "manifest.json").read_bytes() == mine
        pulled(hub, out, overwrite=True)
        assert (folder / "manifest.json").read_bytes() == (source / "manifest.json").read_bytes()
        assert left(out) == [folder.name]


def test_a_checkpoint_comes_as_it_is_without_code_or_pickles(tmp_path: Path, out: Path) -> None:
    source = tmp_path / "checkpoint"
    source.mkdir()
    for name in ("config.json", "model.safetensors", "vocab.txt", "pytorch_model.bin", "modeling.py"):
        (source / name).write_bytes(name.encode() * 50)
    with serving(source, repository=NAME) as hub:
        folder = pulled(hub, out)
        assert not hub.asked(".bin") + hub.asked(".py")
        before = len(hub.asked(".safetensors"))
        with pytest.raises(Conflict, match="--overwrite"):
            pulled(hub, out)
        assert len(hub.asked(".safetensors")) == before
        assert pulled(hub, out, overwrite=True) == folder
    assert folder == out / "some-model"
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors", "vocab.txt"]
    shutil.rmtree(source)
    source.mkdir()
    (source / "README.md").write_text("nothing else")
    with serving(source, repository=NAME) as hub, pytest.raises(InvalidInput, match="neither a bundle"):
        pulled(hub, out)


def test_a_hub_that_is_not_there_is_unavailable(source: Path, out: Path) -> None:
    with serving(source, repository=NAME) as hub:
        gone = hub
    with pytest.raises(Unavailable, match="does not answer"):
        pulled(gone, out)


def test_a_token_never_travels_in_the_clear(out: Path) -> None:
    with pytest.raises(InvalidInput, match="unencrypted"):
        pull(Repository.parse(NAME), out, token="hf_secret", endpoint="http://hub.example")
    with pytest.raises(InvalidInput, match="no address of a hub"):
        pull(Repository.parse(NAME), out, endpoint="ftp://hub.example")


@pytest.mark.parametrize("text", ["name", "owner/", "/name", "a/b/c", "a/..", "a/b@", "a/b@../x", "-a/b", "a b/c"])
def test_what_names_no_repository_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="is no"):
        Repository.parse(text)
    assert Repository.parse("ProsusAI/finbert@refs/pr/1").revision == "refs/pr/1"
