"""Bundles and checkpoints from a repository of a Hugging Face hub.

Always true here: the revision is resolved to a commit first, and every file is of that commit and has the hash that
the hub's own listing gives; nothing is fetched but data of known kinds; the token comes from the caller and goes to no
other host than the hub; a download that was cut off goes on where it stopped, the next time too; what is refused
leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fusiontrade.errors import BundleRefused, Conflict, Forbidden, InvalidInput, NotFound, Unauthenticated, Unavailable
from serving.bringing.placing import allowed, placed, sha256_of
from serving.bundle import MANIFEST, RUN
from serving.sealed import put_in_place

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

__all__ = ["HUB", "Repository", "pull"]

HUB = "https://huggingface.co"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
_CHECKPOINT = ("config.json", "model.safetensors")
_BESIDE = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
_LARGEST = 8 << 30  # bytes of a file
_SECONDS = 20.0
_PARTS = ".parts"


@dataclass(frozen=True)
class Repository:
    """``OWNER/NAME[@REVISION]``; without a revision it is the newest of the main branch."""

    owner: str
    name: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> Repository:
        """Return what ``text`` names; raises `InvalidInput`."""
        path, at, revision = text.partition("@")
        owner, _, name = path.partition("/")
        if not _NAME.fullmatch(owner) or not _NAME.fullmatch(name) or ".." in path:
            raise InvalidInput("repository", f"{text!r} is no OWNER/NAME[@REVISION], e.g. ProsusAI/finbert@main")
        if at and (not _REVISION.fullmatch(revision) or ".." in revision):
            raise InvalidInput("repository", f"{revision!r} is no revision: use a branch, a tag or a commit")
        return cls(owner, name, revision or None)

    def __str__(self) -> str:
        return f"{self.owner}/{self.name}"


def pull(
    repository: Repository,
    out: Path,
    *,
    token: str | None = None,
    endpoint: str = HUB,
    overwrite: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> Path:
    """Fetch a repository, verify it, and return its folder: ``out/<model id>`` of a bundle, ``out/<name>`` else.

    Parameters
    ----------
    token
        Of the hub, for private and gated repositories.
    endpoint
        Root of the hub.
    overwrite
        Whether another bundle of the same name may be replaced.
    tell
        Given a sentence about what is being done.

    Raises
    ------
    NotFound, Unauthenticated, Forbidden
        As the hub says.
    Unavailable
        If the hub does not answer, or the connection is cut off again and again; a next call goes on from there.
    BundleRefused
        If a file has another hash than the hub says, or serving would refuse the bundle.
    Conflict
        If something else of the name is there, and ``overwrite`` was not asked for.
    InvalidInput
        If the endpoint cannot be used, or the repository holds neither a bundle nor a checkpoint.
    """
    _check_endpoint(endpoint, token)
    out.mkdir(parents=True, exist_ok=True)
    with _spoken(repository):
        info = _info(repository, token, endpoint)
    files = _wanted(repository, info)
    is_bundle = any(file.rfilename == MANIFEST for file in files)
    if not is_bundle and (out / repository.name).exists() and not overwrite:
        raise Conflict(f"{out / repository.name} is there already: ask with --overwrite to replace it")
    skipped = len(info.siblings or ()) - len(files)
    tell(f"{repository} at {info.sha}: {len(files)} files" + (f", {skipped} others left there" if skipped else ""))
    fresh = out / f".pull-{repository.owner}--{repository.name}-{str(info.sha)[:12]}"
    for file in files:
        tell(f"fetching {file.rfilename}")
        with _spoken(repository):
            _fetch(repository, str(info.sha), file, fresh, token=token, endpoint=endpoint)
    try:
        for file in files:
            _check(fresh / file.rfilename, file)
    except BundleRefused:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    shutil.rmtree(fresh / _PARTS, ignore_errors=True)
    if is_bundle:
        _note(fresh / RUN, {"repository": str(repository), "revision": info.sha})
        return placed(fresh, out, overwrite=overwrite)
    put_in_place(fresh, out / repository.name)
    return out / repository.name


def _check_endpoint(endpoint: str, token: str | None) -> None:
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInput("HF_ENDPOINT", f"{endpoint!r} is no address of a hub, e.g. {HUB}")
    if parts.scheme == "http" and token and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise InvalidInput("HF_ENDPOINT", f"a token would go to {endpoint} unencrypted: use https")


def _info(repository: Repository, token: str | None, endpoint: str) -> ModelInfo:
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint, token=token or False)
    return api.model_info(str(repository), revision=repository.revision, files_metadata=True, timeout=_SECONDS)


def _wanted(repository: Repository, info: ModelInfo) -> list[RepoSibling]:
    """Return what is to be fetched: all data of a bundle, or what an import reads of a checkpoint."""
    found = {file.rfilename: file for file in info.siblings or ()}
    if MANIFEST in found:
        names = [name for name in found if allowed(name)]
    elif all(name in found for name in _CHECKPOINT):
        names = [name for name in (*_CHECKPOINT, *_BESIDE) if name in found]
    else:
        told = f"{repository} holds neither a bundle ({MANIFEST}) nor a checkpoint ({', '.join(_CHECKPOINT)})"
        raise InvalidInput("repository", told)
    for name in names:
        if (found[name].size or 0) > _LARGEST:
            raise InvalidInput("repository", f"{name} has {found[name].size} bytes, more than {_LARGEST}")
    return [found[name] for name in sorted(names)]


def _fetch(
    repository: Repository, commit: str, file: RepoSibling, folder: Path, *, token: str | None, endpoint: str
) -> None:
    """Let ``folder`` hold a file of a commit; what an earlier call got of it is gone on from.

    The library's own `hf_hub_download` begins each file anew in each call.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # documented, not in __all__

    place, part = folder / file.rfilename, folder / _PARTS / str(file.blob_id)
    if place.is_file():
        return
    part.parent.mkdir(parents=True, exist_ok=True)
    url = hf_hub_url(str(repository), file.rfilename, revision=commit, endpoint=endpoint)
    found = get_hf_file_metadata(url, token=token or False, timeout=_SECONDS, endpoint=endpoint)
    is_hub = urlsplit(found.location).netloc == urlsplit(url).netloc  # else a store, by a signed address
    known = part.stat().st_size if part.is_file() else 0
    known = known if found.size is not None and known <= found.size else 0
    with part.open("r+b" if known else "wb") as content:
        content.seek(known)
        http_get(
            found.location,
            content,
            resume_size=known,
            headers=build_hf_headers(token=(token if is_hub else None) or False),
            expected_size=found.size,
            displayed_filename=file.rfilename,
        )
    part.rename(place)


def _check(path: Path, file: RepoSibling) -> None:
    """Refuse a file that is not the one of the hub's listing: by sha256 where it is large, else as git hashes it."""
    if file.lfs is not None:
        kind, wanted, found = "sha256", file.lfs.sha256, sha256_of(path)
    else:
        content = path.read_bytes()
        blob = b"blob %d\0" % len(content) + content
        kind, wanted, found = "git hash", str(file.blob_id), hashlib.sha1(blob, usedforsecurity=False).hexdigest()
    if found != wanted:
        raise BundleRefused(f"{path.name} has {kind} {found[:12]}…, the hub says {str(wanted)[:12]}…")


def _note(path: Path, pulled: dict[str, Any]) -> None:
    """Write into ``run.json``, which stands outside the manifest, where a bundle came from."""
    try:
        known = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        known = {}
    known = known if isinstance(known, dict) else {}
    path.write_text(json.dumps({**known, "pulled": pulled}, indent=1, sort_keys=True) + "\n", encoding="utf-8")


@contextmanager
def _spoken(repository: Repository) -> Iterator[None]:
    """Turn what the hub's library raises into the product's errors."""
    import httpx2
    from huggingface_hub import errors

    where = f"{repository}@{repository.revision}" if repository.revision else str(repository)
    try:
        yield
    except errors.GatedRepoError:
        raise Forbidden(f"{where} is gated: ask for access on its page, then set HF_TOKEN") from None
    except errors.HfHubHTTPError as error:
        raise _refused(error, where) from None
    except (httpx2.HTTPError, OSError) as error:
        cause = error.__cause__ if isinstance(error, errors.LocalEntryNotFoundError) else error
        if isinstance(cause, errors.HfHubHTTPError):
            raise _refused(cause, where) from None
        told = "the hub does not answer for" if isinstance(cause, httpx2.HTTPError) else "cannot fetch"
        told = f"{told} {where}: {_first_line(cause or error)}"
        raise Unavailable(f"{told}; what has come stays, run the command again to go on") from None


def _refused(error: Any, where: str) -> Exception:
    from huggingface_hub.errors import RevisionNotFoundError

    status = error.response.status_code
    if status == 401:
        return Unauthenticated(f"the hub does not show {where} without a valid token: set HF_TOKEN")
    if status == 403:
        return Forbidden(f"the token of HF_TOKEN may not read {where}")
    if isinstance(error, RevisionNotFoundError):
        return NotFound(f"{where}: there is no such revision")
    if status == 404:
        return NotFound(f"the hub knows no {where}, or it is private and HF_TOKEN is not set")
    if status == 429 or status >= 500:
        return Unavailable(f"the hub answered {status} for {where}; run the command again to go on")
    return InvalidInput("repository", f"the hub answered {status} for {where}")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
