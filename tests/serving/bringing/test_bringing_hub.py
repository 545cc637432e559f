"""Pulling from a hub on this machine that behaves and misbehaves; what is refused leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from loopback import COMMIT, Manners, etag, serving
from pulling import NAME, left, pulled
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
from serving.bringing.hub import Repository, _is_of_the_hub, pull
from serving.bringing.placing import alone
from serving.bundle import load_bundle, write_manifest

ROOT = Path(__file__).resolve().parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "shared")])}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_bundle(tmp_path_factory.mktemp("built"), "lstm", "1h")


@pytest.fixture
def source(built: Path, tmp_path: Path) -> Path:
    """A bundle as its repository holds it, with what hubs add."""
    shutil.copytree(built, tmp_path / "source")
    (tmp_path / "source" / "README.md").write_text("a model card")
    (tmp_path / "source" / ".gitattributes").write_text("*.onnx filter=lfs")
    return tmp_path / "source"


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
        (NAME, Manners(status={"some-model": 403}), Forbidden, "does not let Owner/some-model be read"),
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
    strange = (
        "../evil.json",
        "sub/model.json",
        "/etc/evil.json",
        ".hidden.json",
        "a\\b.json",
        "evil\0.json",
        "\x1bevil.txt",
    )
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


def test_what_the_hub_says_never_becomes_a_path(source: Path, out: Path) -> None:
    outside = out.parent / "outside"
    for manners, told in (
        (Manners(said={"sha": "../../outside"}), "names no commit"),
        (Manners(said={"sha": None}), "names no commit"),
        (Manners(said_of={"report.json": {"blobId": "../../../outside"}}), r"no hash of 'report\.json'"),
        (Manners(said_of={"model.onnx": {"lfs": {"sha256": "../x", "size": 1, "pointerSize": 1}}}), "no hash of"),
    ):
        with serving(source, manners, repository=NAME) as hub, pytest.raises(BundleRefused, match=told):
            pulled(hub, out)
        assert (left(out), outside.exists()) == ([], False)


def test_a_commit_that_was_asked_for_is_the_one_that_comes(source: Path, out: Path) -> None:
    other = "f" * 40
    told = "answered with commit 0123456789ab… where ffffffffffff… was asked for"
    with (
        serving(source, Manners(revisions=(other,)), repository=NAME) as hub,
        pytest.raises(BundleRefused, match=told),
    ):
        pulled(hub, out, name=f"{NAME}@{other}")
    with serving(source, repository=NAME) as hub:
        assert load_bundle(pulled(hub, out, name=f"{NAME}@{COMMIT}"))


@pytest.mark.parametrize(
    "content",
    [
        b"<html>busy</html>",
        b"[]",
        b"{}",
        b'{"id": "a/b", "siblings": [{"size": 1}]}',
        b'{"id": "a/b", "siblings": [{"rfilename": 1}]}',
        b'{"id": "a/b", "siblings": [{"rfilename": "a", "size": "x"}]}',
    ],
)
def test_a_listing_that_is_none_is_said(source: Path, out: Path, content: bytes) -> None:
    with (
        serving(source, Manners(listing=content), repository=NAME) as hub,
        pytest.raises((Unavailable, BundleRefused), match=r"no listing of a hub|no commit"),
    ):
        pulled(hub, out)
    assert left(out) == []


def test_a_store_that_the_hub_names_gets_no_token(source: Path, out: Path) -> None:
    (source.parent / "store").mkdir()
    shutil.copyfile(source / "model.onnx", source.parent / "store" / "blob")
    with serving(source.parent / "store") as store:
        moved = {"model.onnx": f"{store.url}/blob?X-Amz-Signature=signed"}
        with serving(source, Manners(token="hf_secret", moved=moved), repository=NAME) as hub:
            told: list[str] = []
            folder = pulled(hub, out, token="hf_secret", tell=told.append)
            assert {one.authorization for one in hub.seen} == {"Bearer hf_secret"}
        assert [(one.path, one.authorization) for one in store.seen] == [("/blob", None)]
    assert load_bundle(folder)
    assert "signed" not in " ".join(told)


def test_a_file_that_would_come_in_the_clear_is_refused_and_a_token_keeps_to_its_scheme() -> None:
    with pytest.raises(BundleRefused, match="not encrypted"):
        _is_of_the_hub("https://hub.example/a", "http://hub.example/a")
    assert _is_of_the_hub("https://hub.example/a", "https://hub.example/b")
    assert not _is_of_the_hub("https://hub.example/a", "https://store.example/a")
    assert not _is_of_the_hub("http://127.0.0.1:1/a", "https://127.0.0.1:1/a")


def test_a_file_without_an_end_is_cut_at_what_the_hub_had_said(source: Path, out: Path) -> None:
    with (
        serving(source, Manners(endless=("model.onnx",)), repository=NAME) as hub,
        pytest.raises(BundleRefused, match=r"model\.onnx is longer than \d+ bytes"),
    ):
        pulled(hub, out)
    assert left(out) == []


@pytest.mark.parametrize("status", [429, 500])
def test_a_busy_store_is_asked_five_times_and_never_slept_on(source: Path, out: Path, status: int) -> None:
    waited: list[float] = []
    with serving(source) as store:
        store.manners.status["blob"] = status
        with (
            serving(source, Manners(moved={"model.onnx": f"{store.url}/blob"}), repository=NAME) as hub,
            pytest.raises(Unavailable, match=f"answered {status}; what has come stays"),
        ):
            pull(Repository.parse(NAME), out, endpoint=hub.url, pause=waited.append)
        assert len(store.seen) == 5
    assert waited == [0.25, 0.5, 1.0, 2.0]


def test_two_do_not_work_in_one_folder(source: Path, out: Path) -> None:
    with serving(source, repository=NAME) as hub:
        with alone(out), pytest.raises(Unavailable, match="another command brings models"):
            pulled(hub, out)
        assert hub.seen == []
        assert load_bundle(pulled(hub, out))


_PULL = """
import sys
from pathlib import Path
from serving.bringing.hub import Repository, pull
pull(Repository.parse("Owner/some-model"), Path(sys.argv[1]), endpoint=sys.argv[2])
"""


def test_a_killed_pull_is_gone_on_from_and_had_told_the_hub_nothing_else(source: Path, out: Path) -> None:
    size = (source / "model.onnx").stat().st_size
    with serving(source, Manners(stuck=("model.onnx",)), repository=NAME) as hub:
        environment = {**ENVIRONMENT, "HF_ENDPOINT": hub.url, "HF_HOME": str(out.parent / "home")}
        process = subprocess.Popen([sys.executable, "-c", _PULL, str(out), hub.url], cwd=ROOT, env=environment)
        part = f".pull-*/.parts/{etag(source / 'model.onnx')}"  # the others are renamed while one looks at them
        while sum(found.stat().st_size for found in out.glob(part)) < size // 2:
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
        process.wait()
        places = (f"/api/models/{NAME}", f"/{NAME}/resolve/{COMMIT}/")
        assert [one.path for one in hub.seen if not one.path.startswith(places)] == []
        assert not [one.agent for one in hub.seen if "torch" in one.agent]
    with serving(source, repository=NAME) as hub:
        folder = pulled(hub, out)
        assert [one.range for one in hub.asked("/model.onnx")] == [f"bytes={size // 2}-"]
    assert (folder / "model.onnx").read_bytes() == (source / "model.onnx").read_bytes()
    assert left(out) == [folder.name]


def test_a_refusal_says_whether_a_token_was_sent(source: Path, out: Path) -> None:
    with serving(source, Manners(status={NAME: 403}), repository=NAME) as hub:
        with pytest.raises(Forbidden, match=r"does not let .* be read: set HF_TOKEN"):
            pulled(hub, out)
        with pytest.raises(Forbidden, match="the token of HF_TOKEN may not read"):
            pulled(hub, out, token="hf_mine")
        hub.manners.status[NAME] = 401
        with pytest.raises(Unauthenticated, match="check the name, or set HF_TOKEN"):
            pulled(hub, out)
        with pytest.raises(Unauthenticated, match="it takes not that of HF_TOKEN"):
            pulled(hub, out, token="hf_mine")


def test_a_hub_that_is_not_there_is_unavailable(source: Path, out: Path) -> None:
    with serving(source, repository=NAME) as hub:
        gone = hub
    with pytest.raises(Unavailable, match="does not answer"):
        pulled(gone, out)


@pytest.mark.parametrize("token", ["hf_secret\n", "hf_secret x", "hf_secret\u20ac", "\0hf_secret"])
def test_a_token_that_is_none_is_refused_without_being_said(source: Path, out: Path, token: str) -> None:
    with serving(source, repository=NAME) as hub, pytest.raises(InvalidInput, match="HF_TOKEN holds") as refused:
        pulled(hub, out, token=token)
    assert "secret" not in str(refused.value)
    assert hub.seen == []


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
