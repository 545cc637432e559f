"""Bundles from a bucket, by a manifest that names every file with its sha256.

The manifest is JSON, ``{"bundles": {"<model id>": {"<file>": "<sha256>"}}}``, at an address, in a bucket or a file;
each file lies beside it at ``<model id>/<file>``. Always true here: a file is used only if it has its hash; a
connection that is cut off goes on where it stopped, the next time too; a bundle is verified as serving would, then
takes its place in one step; what is refused leaves nothing behind; two do not work in one folder at once.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urljoin, urlsplit

from fusiontrade.errors import BundleRefused, Conflict, InvalidInput, Unavailable
from serving.bringing.fetching import LARGEST, LOOPBACK, Answered, Web, parts_of, plain, written
from serving.bringing.placing import allowed, alone, placed, sha256_of
from serving.bundle import MANIFEST, verified_files

__all__ = ["Bucket", "Buckets", "Synced", "listing_of", "sync"]

Listing = Mapping[str, Mapping[str, str]]
_MODEL_ID = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LONGEST_LISTING = 4 << 20
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_TRIES = 5


class Bucket(Protocol):
    """A bucket of S3; `fusiontrade.cloud.storage.Storage` is one."""

    def stream(self, key: str, first: int) -> Iterator[bytes] | None:
        """Return an object's bytes from ``first`` on, None where there is no such object; raises `Unavailable`."""
        ...


Buckets = Callable[[str], Bucket]


@dataclass
class Synced:
    """What came of it: bundles that were fetched, those that were there already."""

    fetched: list[Path] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)


def sync(
    manifest: str,
    out: Path,
    *,
    overwrite: bool = False,
    tell: Callable[[str], None] = lambda _: None,
    pause: Callable[[float], None] = time.sleep,
    buckets: Buckets | None = None,
) -> Synced:
    """Bring every bundle of ``manifest`` into ``out``.

    Parameters
    ----------
    manifest
        An https address, an http one of this machine, ``s3://BUCKET/KEY``, or a file.
    overwrite
        Whether bundles that are there and differ are replaced.
    tell
        Given a sentence about what is being done.
    pause
        Waits so many seconds between two tries.
    buckets
        Reaches a bucket by its name, for ``s3://``.

    Raises
    ------
    InvalidInput
        If the manifest cannot be used.
    Unavailable
        If a file cannot be fetched, where a next call goes on from there, or another command works in ``out``.
    BundleRefused
        If a file has another hash, or serving would refuse the bundle.
    Conflict
        If a bundle is there already and differs, and ``overwrite`` was not asked for.
    """
    with alone(out), _source(manifest, pause, tell, buckets) as source:
        listing = _listing(source.whole("", _LONGEST_LISTING))
        done = Synced()
        for model_id, files in listing.items():
            folder = out / model_id
            if _is_there(folder, files):
                done.kept.append(folder)
                continue
            if os.path.lexists(folder) and not overwrite:
                raise Conflict(f"{folder} holds another bundle: ask with --overwrite to replace it")
            tell(f"fetching {model_id}: {len(files)} files")
            done.fetched.append(_bundle(source, model_id, files, out))
    return done


def listing_of(folder: Path) -> dict[str, dict[str, str]]:
    """Return what a manifest beside the bundles in ``folder`` says of them; raises `BundleRefused`."""
    found: dict[str, dict[str, str]] = {}
    for place in sorted(path for path in folder.iterdir() if (path / MANIFEST).is_file()):
        if place.name.startswith("."):  # what a command that was killed left
            continue
        files = verified_files(place)
        found[place.name] = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        found[place.name][MANIFEST] = sha256_of(place / MANIFEST)
    if not found:
        raise BundleRefused(f"{folder} holds no bundles")
    return found


def _listing(content: bytes) -> Listing:
    try:
        listing = json.loads(content, object_pairs_hook=_each_once)["bundles"]
        usable = isinstance(listing, dict) and all(isinstance(files, dict) for files in listing.values())
    except (ValueError, RecursionError, KeyError, TypeError):
        usable = False
    if not usable or not listing:
        raise InvalidInput("manifest", 'the manifest is not {"bundles": {"<model id>": {"<file>": "<sha256>"}}}')
    for model_id, files in listing.items():
        if not _MODEL_ID.fullmatch(model_id):
            raise InvalidInput("manifest", f"the manifest names {model_id!r}, which is no model id")
        if MANIFEST not in files:
            raise InvalidInput("manifest", f"the manifest does not name {model_id}/{MANIFEST}")
        for name, checksum in files.items():
            if not allowed(name):
                raise InvalidInput("manifest", f"the manifest names {model_id}/{name}, which is no file of a bundle")
            if not isinstance(checksum, str) or not _SHA256.fullmatch(checksum):
                raise InvalidInput("manifest", f"{model_id}/{name} has no sha256 in the manifest")
    return dict(listing)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of a manifest, which of two files of one name is meant being nobody's guess."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidInput("manifest", f"the manifest names {twice!r} twice")
    return found


def _is_there(folder: Path, files: Mapping[str, str]) -> bool:
    try:
        return all(sha256_of(folder / name) == checksum for name, checksum in files.items())
    except OSError:
        return False


def _bundle(source: _Source, model_id: str, files: Mapping[str, str], out: Path) -> Path:
    """Fetch one bundle beside its place, and put it there."""
    fresh, parts = out / f".sync-{model_id}", out / f".sync-{model_id}.parts"
    shutil.rmtree(fresh, ignore_errors=True)
    parts.mkdir(exist_ok=True)
    try:
        fetched = [source.fetch(f"{model_id}/{name}", files[name], parts) for name in files]
    except (BundleRefused, InvalidInput):
        shutil.rmtree(parts, ignore_errors=True)
        raise
    fresh.mkdir()
    for name, part in zip(files, fetched, strict=True):
        if fetched.count(part) > 1:  # files of one content share it
            shutil.copyfile(part, fresh / name)
        else:
            part.rename(fresh / name)
    shutil.rmtree(parts, ignore_errors=True)
    return placed(fresh, out, overwrite=True, model_id=model_id)


class _Source(ABC):
    """Where the manifest lies; paths are beside it, the empty one is itself."""

    def __enter__(self) -> _Source:
        return self

    def __exit__(self, *_: object) -> None:  # noqa: B027 - a folder holds nothing open
        """Let go of what is open."""

    @abstractmethod
    def whole(self, path: str, limit: int) -> bytes:
        """Return a small file."""

    @abstractmethod
    def append(self, path: str, part: Path) -> None:
        """Write what ``part`` lacks of a file to its end, or all of it."""

    def fetch(self, path: str, checksum: str, folder: Path) -> Path:
        """Return a file of ``folder`` with the content that has ``checksum``."""
        part = folder / checksum
        if not _has(part, checksum):
            self.append(path, part)
        if not _has(part, checksum):
            found = sha256_of(part)
            raise BundleRefused(f"{path} has sha256 {found[:12]}…, the manifest says {checksum[:12]}…")
        return part


def _has(part: Path, checksum: str) -> bool:
    return part.is_file() and sha256_of(part) == checksum


def _source(
    manifest: str, pause: Callable[[float], None], tell: Callable[[str], None], buckets: Buckets | None
) -> _Source:
    if "://" not in manifest:
        return _Folder(Path(manifest))
    parts = parts_of(manifest, "manifest")
    if parts.scheme == "s3":
        return _Objects(manifest, buckets, pause)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise InvalidInput("manifest", f"{plain(manifest)!r} is neither a file nor an https or s3 address")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise InvalidInput("manifest", f"{plain(manifest)} is not encrypted: use https")
    return _Address(manifest, pause, tell)


class _Folder(_Source):
    """A manifest in a file of this machine."""

    def __init__(self, manifest: Path) -> None:
        self._manifest = manifest

    def whole(self, path: str, limit: int) -> bytes:
        place = self._manifest.parent / path if path else self._manifest
        try:
            if place.stat().st_size > limit:
                raise InvalidInput("manifest", f"{place} is longer than {limit} bytes")
            return place.read_bytes()
        except OSError as error:
            raise InvalidInput("manifest", f"{place} cannot be read: {error.strerror}") from None

    def append(self, path: str, part: Path) -> None:
        place = self._manifest.parent / path
        try:
            file = place.open("rb")
        except OSError as error:
            raise InvalidInput("manifest", f"{place} cannot be read: {error.strerror}") from None
        with file, written(part), part.open("wb") as copy:
            shutil.copyfileobj(file, copy)


class _Address(_Source):
    """A manifest at an address."""

    def __init__(self, manifest: str, pause: Callable[[float], None], tell: Callable[[str], None]) -> None:
        self._manifest = manifest
        self._web = Web(direct=urlsplit(manifest).hostname in LOOPBACK, pause=pause, tell=tell)

    def __exit__(self, *_: object) -> None:
        self._web.close()

    def whole(self, path: str, limit: int) -> bytes:
        with _refusals():
            return self._web.whole(self._place(path), limit)

    def append(self, path: str, part: Path) -> None:
        with _refusals():
            self._web.append(self._place(path), part)

    def _place(self, path: str) -> str:
        return urljoin(self._manifest, quote(path)) if path else self._manifest


class _Objects(_Source):
    """A manifest in a bucket that is reached by its owner's credentials."""

    def __init__(self, manifest: str, buckets: Buckets | None, pause: Callable[[float], None]) -> None:
        parts = urlsplit(manifest)
        if not _BUCKET.fullmatch(parts.netloc) or not parts.path.strip("/"):
            raise InvalidInput("manifest", f"{manifest!r} is no s3://BUCKET/KEY of a manifest")
        if buckets is None:
            raise InvalidInput("manifest", f"{manifest} is reached by the command fusiontrade models sync alone")
        self._bucket, self._pause = buckets(parts.netloc), pause
        self._place, self._key = f"s3://{parts.netloc}/", parts.path.removeprefix("/")

    def whole(self, path: str, limit: int) -> bytes:
        content = bytearray()
        for chunk in self._chunks(path, 0):
            content += chunk
            if len(content) > limit:
                raise InvalidInput("manifest", f"{self._place}{self._key_of(path)} is longer than {limit} bytes")
        return bytes(content)

    def append(self, path: str, part: Path) -> None:
        turn = 0
        while True:
            try:
                return self._go_on(path, part)
            except Unavailable as error:
                turn += 1
                if turn >= _TRIES:
                    raise Unavailable(f"{error}; what has come stays, run the command again to go on") from None
            self._pause(0.25 * 2**turn)

    def _go_on(self, path: str, part: Path) -> None:
        with written(part), part.open("ab") as file:
            for chunk in self._chunks(path, file.tell()):
                file.write(chunk)
                file.flush()
                if file.tell() > LARGEST:
                    raise InvalidInput("manifest", f"{self._key_of(path)} is longer than {LARGEST} bytes")

    def _chunks(self, path: str, first: int) -> Iterator[bytes]:
        chunks = self._bucket.stream(self._key_of(path), first)
        if chunks is None:
            raise InvalidInput("manifest", f"{self._place}{self._key_of(path)} is not there")
        return chunks

    def _key_of(self, path: str) -> str:
        return f"{self._key.rpartition('/')[0]}/{path}".lstrip("/") if path else self._key


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except Answered as error:
        raise InvalidInput("manifest", str(error)) from None
