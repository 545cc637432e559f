"""Bundles and checkpoints from a repository of a Hugging Face hub.

Always true here: the revision is resolved to a commit first, and every file is of that commit and has the hash that
the hub's own listing gives; nothing is fetched but data of known kinds; the token comes from the caller and goes to no
other host than the hub; a download that was cut off goes on where it stopped, the next time too; what is refused
leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fusiontrade.errors import BundleRefused, Conflict, Forbidden, InvalidInput, NotFound, Unauthenticated, Unavailable
from serving.bringing.advice import importing
from serving.bringing.fetching import LARGEST, LOOPBACK, Answered, Web, parts_of, plain
from serving.bringing.folders import PICKLES, json_object
from serving.bringing.placing import allowed, alone, placed, sha256_of
from serving.bundle import MANIFEST, RUN
from serving.sealed import put_in_place

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

__all__ = ["HUB", "Repository", "pull"]

HUB = "https://huggingface.co"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_TOKEN = re.compile(r"[\x21-\x7e]{1,500}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
_CHECKPOINT = ("config.json", "model.safetensors")
_BESIDE = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
_CREDENTIALS = re.compile(r"//[^/\s]*@")
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
    pause: Callable[[float], None] = time.sleep,
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
    pause
        Waits so many seconds between two tries.

    Raises
    ------
    NotFound, Unauthenticated, Forbidden
        As the hub says.
    Unavailable
        If the hub does not answer, or the connection is cut off again and again; a next call goes on from there. Or
        if another command works in ``out``.
    BundleRefused
        If a file has another hash or length than the hub says, the hub names no commit or another than was asked for,
        or serving would refuse the bundle.
    Conflict
        If something else of the name is there, and ``overwrite`` was not asked for.
    InvalidInput
        If token or endpoint cannot be used, or the repository holds neither a bundle nor a checkpoint.
    """
    _check_token(token)
    _check_endpoint(endpoint, token)
    _say_nothing_else()
    web = Web(direct=urlsplit(endpoint).hostname in LOOPBACK, tell=tell, pause=pause)
    with alone(out), web:
        with _spoken(repository, token):
            info = _info(repository, token, endpoint)
        commit, files = _commit(repository, info), _wanted(repository, info)
        is_bundle = any(file.rfilename == MANIFEST for file in files)
        if not is_bundle and os.path.lexists(out / repository.name) and not overwrite:
            raise Conflict(f"{out / repository.name} is there already: ask with --overwrite to replace it")
        skipped = len(info.siblings or ()) - len(files)
        tell(f"{repository} at {commit}: {len(files)} files" + (f", {skipped} others left there" if skipped else ""))
        fresh = out / f".pull-{repository.owner}--{repository.name}-{commit[:12]}"
        hub = _Hub(repository, commit, token, endpoint)
        with _gone_if_refused(fresh):
            for file in files:
                tell(f"fetching {file.rfilename}")
                with _spoken(repository, token):
                    _fetch(hub, file, fresh, web)
                _check(fresh / file.rfilename, file)
            said = {} if is_bundle else json_object(fresh, _CHECKPOINT[0])
        shutil.rmtree(fresh / _PARTS, ignore_errors=True)
        if is_bundle:
            _note(fresh / RUN, {"repository": str(repository), "revision": commit})
            return placed(fresh, out, overwrite=overwrite)
        put_in_place(fresh, out / repository.name)
        tell(importing(out / repository.name, said, f"{repository}@{commit}"))
        return out / repository.name


@contextmanager
def _gone_if_refused(fresh: Path) -> Iterator[None]:
    try:
        yield
    except (BundleRefused, InvalidInput):
        shutil.rmtree(fresh, ignore_errors=True)
        raise


@dataclass(frozen=True)
class _Hub:
    """A commit of a repository, and how to ask for it."""

    repository: Repository
    commit: str
    token: str | None
    endpoint: str


def _check_endpoint(endpoint: str, token: str | None) -> None:
    parts = parts_of(endpoint, "HF_ENDPOINT")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInput("HF_ENDPOINT", f"{plain(endpoint)!r} is no address of a hub, e.g. {HUB}")
    if parts.scheme == "http" and token and parts.hostname not in LOOPBACK:
        raise InvalidInput("HF_ENDPOINT", f"a token would go to {plain(endpoint)} unencrypted: use https")


def _check_token(token: str | None) -> None:
    """Refuse what no header takes: the libraries would repeat it in their message."""
    if token is not None and not _TOKEN.fullmatch(token):
        raise InvalidInput("HF_TOKEN", "HF_TOKEN holds spaces or characters that no token has")


def _say_nothing_else() -> None:
    """Keep the library from asking the hub which programs to look for in the environment, and from telling it."""
    from huggingface_hub import constants

    constants.HF_HUB_DISABLE_TELEMETRY = True


def _info(repository: Repository, token: str | None, endpoint: str) -> ModelInfo:
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint, token=token or False)
    told = f"what {plain(endpoint)} says of {repository} is no listing of a hub"
    try:
        info = api.model_info(str(repository), revision=repository.revision, files_metadata=True, timeout=_SECONDS)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, OSError):  # an answer that says why
            raise
        raise Unavailable(told) from None
    for file in info.siblings or ():
        if not isinstance(file.rfilename, str) or not isinstance(file.size, int | None):
            raise Unavailable(told)
    return info


def _commit(repository: Repository, info: ModelInfo) -> str:
    """Return the commit that a listing is of; its hashes are told to be hashes, since they become names of files."""
    commit, asked = str(info.sha), str(repository.revision)
    if not _COMMIT.fullmatch(commit):
        raise BundleRefused(f"the hub names no commit of {repository}")
    if _COMMIT.fullmatch(asked) and commit != asked:
        raise BundleRefused(f"the hub answered with commit {commit[:12]}… where {asked[:12]}… was asked for")
    for file in info.siblings or ():
        if not _HASH.fullmatch(_hash_of(file)):
            raise BundleRefused(f"the hub gives no hash of {file.rfilename!r}")
    return commit


def _hash_of(file: RepoSibling) -> str:
    return str(file.blob_id if file.lfs is None else file.lfs.sha256)


def _wanted(repository: Repository, info: ModelInfo) -> list[RepoSibling]:
    """Return what is to be fetched: all data of a bundle, or what an import reads of a checkpoint."""
    found = {file.rfilename: file for file in info.siblings or ()}
    if MANIFEST in found:
        names = [name for name in found if allowed(name)]
    elif all(name in found for name in _CHECKPOINT):
        names = [name for name in (*_CHECKPOINT, *_BESIDE) if name in found]
    else:
        told = f"{repository} holds neither a bundle ({MANIFEST}) nor a checkpoint ({', '.join(_CHECKPOINT)})"
        if f"{_CHECKPOINT[1]}.index.json" in found:
            told += "; its weights come in several files, which an import does not read: see docs/models.md"
        elif pickle := next((name for name in sorted(found) if name.endswith((".bin", ".pt", ".pkl", ".ckpt"))), ""):
            told += f"; {pickle} is a pickle, which is never opened here: {PICKLES}"
        raise InvalidInput("repository", told)
    for name in names:
        if (found[name].size or 0) > LARGEST:
            raise InvalidInput("repository", f"{name} has {found[name].size} bytes, more than {LARGEST}")
    return [found[name] for name in sorted(names)]


def _fetch(hub: _Hub, file: RepoSibling, folder: Path, web: Web) -> None:
    """Let ``folder`` hold a file of the commit; what an earlier call got of it is gone on from.

    The library's own `hf_hub_download` begins each file anew in each call, and its `http_get` writes as much as comes.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # documented, not in __all__

    place, part = folder / file.rfilename, folder / _PARTS / _hash_of(file)
    if place.is_file():
        return
    part.parent.mkdir(parents=True, exist_ok=True)
    url = hf_hub_url(str(hub.repository), file.rfilename, revision=hub.commit, endpoint=hub.endpoint)
    found = get_hf_file_metadata(url, token=hub.token or False, timeout=_SECONDS, endpoint=hub.endpoint)
    token = hub.token if _is_of_the_hub(url, found.location) else None  # else a store, by a signed address
    headers = build_hf_headers(token=token or False)
    web.append(found.location, part, limit=LARGEST if file.size is None else file.size, headers=headers)
    part.rename(place)


def _is_of_the_hub(url: str, location: str) -> bool:
    """Whether a file lies where it was asked for; raises `BundleRefused` where it comes in the clear instead."""
    own, lies = urlsplit(url), urlsplit(location)
    if lies.scheme not in ("https", own.scheme):
        raise BundleRefused(f"the hub keeps a file at {plain(location)}, which is not encrypted")
    return (lies.scheme, lies.netloc) == (own.scheme, own.netloc)


def _check(path: Path, file: RepoSibling) -> None:
    """Refuse a file that is not the one of the hub's listing: by sha256 where it is large, else as git hashes it."""
    if file.lfs is not None:
        kind, wanted, found = "sha256", file.lfs.sha256, sha256_of(path)
    else:
        kind, wanted, found = "git hash", str(file.blob_id), _git_hash_of(path)
    if found != wanted:
        raise BundleRefused(f"{path.name} has {kind} {found[:12]}…, the hub says {str(wanted)[:12]}…")


def _git_hash_of(path: Path) -> str:
    total = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            total.update(chunk)
    return total.hexdigest()


def _note(path: Path, pulled: dict[str, Any]) -> None:
    """Write into ``run.json``, which stands outside the manifest, where a bundle came from."""
    try:
        known = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        known = {}
    known = known if isinstance(known, dict) else {}
    path.write_text(json.dumps({**known, "pulled": pulled}, indent=1, sort_keys=True) + "\n", encoding="utf-8")


@contextmanager
def _spoken(repository: Repository, token: str | None) -> Iterator[None]:
    """Turn what the hub's library raises into the product's errors."""
    import httpx2
    from huggingface_hub import errors

    where = f"{repository}@{repository.revision}" if repository.revision else str(repository)
    try:
        yield
    except errors.GatedRepoError:
        raise Forbidden(f"{where} is gated: ask for access on its page, then set HF_TOKEN") from None
    except errors.HfHubHTTPError as error:
        raise _refused(error, where, token) from None
    except Answered as error:  # of the store: the hub itself had let it pass
        raise Unavailable(f"{error}; what has come stays, run the command again to go on") from None
    except (httpx2.HTTPError, OSError) as error:
        cause = error.__cause__ if isinstance(error, errors.LocalEntryNotFoundError) else error
        if isinstance(cause, errors.HfHubHTTPError):
            raise _refused(cause, where, token) from None
        told = "the hub does not answer for" if isinstance(cause, httpx2.HTTPError) else "cannot fetch"
        told = f"{told} {where}: {_first_line(cause or error)}"
        raise Unavailable(f"{told}; what has come stays, run the command again to go on") from None


def _refused(error: Any, where: str, token: str | None) -> Exception:
    from huggingface_hub.errors import RevisionNotFoundError

    status = error.response.status_code
    if status == 401:
        told = f"the hub shows no {where} without a valid token"
        return Unauthenticated(
            f"{told}: it takes not that of HF_TOKEN" if token else f"{told}: check the name, or set HF_TOKEN"
        )
    if status == 403:
        told = f"the hub does not let {where} be read"
        return Forbidden(f"the token of HF_TOKEN may not read {where}" if token else f"{told}: set HF_TOKEN")
    if isinstance(error, RevisionNotFoundError):
        return NotFound(f"{where}: there is no such revision")
    if status == 404:
        return NotFound(f"the hub knows no {where}, or it is private and HF_TOKEN is not set")
    if status == 429 or status >= 500:
        return Unavailable(f"the hub answered {status} for {where}; run the command again to go on")
    return InvalidInput("repository", f"the hub answered {status} for {where}")


def _first_line(error: BaseException) -> str:
    """Return what an error says first, without the credentials of an address in it."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return _CREDENTIALS.sub("//", line)
