"""Bundles from a bucket, by a manifest that names every file with its sha256.

The manifest is JSON, ``{"bundles": {"<model id>": {"<file>": "<sha256>"}}}``, at an address or in a file; each file
lies beside it at ``<model id>/<file>``. Always true here: a file is used only if it has its hash; a connection that is
cut off goes on where it stopped, the next time too; a bundle is verified as serving would, then takes its place in one
step; what is refused leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin, urlsplit

from fusiontrade.errors import BundleRefused, Conflict, InvalidInput, Unavailable
from serving.bringing.placing import allowed, placed, sha256_of
from serving.bundle import MANIFEST, verified_files

if TYPE_CHECKING:
    import httpx

__all__ = ["Synced", "listing_of", "sync"]

Listing = Mapping[str, Mapping[str, str]]
_MODEL_ID = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LONGEST_LISTING = 4 << 20
_LARGEST = 8 << 30
_CHUNK = 1 << 20
_SECONDS = 30.0
_TRIES = 5
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


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
) -> Synced:
    """Bring every bundle of ``manifest`` into ``out``.

    Parameters
    ----------
    manifest
        An https address, an http one of this machine, or a file.
    overwrite
        Whether bundles that are there and differ are replaced.
    tell
        Given a sentence about what is being done.
    pause
        Waits so many seconds between two tries.

    Raises
    ------
    InvalidInput
        If the manifest cannot be used.
    Unavailable
        If a file cannot be fetched; a next call goes on from there.
    BundleRefused
        If a file has another hash, or serving would refuse the bundle.
    Conflict
        If a bundle is there already and differs, and ``overwrite`` was not asked for.
    """
    with _source(manifest, pause) as source:
        listing = _listing(source.whole("", _LONGEST_LISTING))
        out.mkdir(parents=True, exist_ok=True)
        done = Synced()
        for model_id, files in listing.items():
            folder = out / model_id
            if _is_there(folder, files):
                done.kept.append(folder)
                continue
            if folder.exists() and not overwrite:
                raise Conflict(f"{folder} holds another bundle: ask with --overwrite to replace it")
            tell(f"fetching {model_id}: {len(files)} files")
            done.fetched.append(_bundle(source, model_id, files, out))
    return done


def listing_of(folder: Path) -> dict[str, dict[str, str]]:
    """Return what a manifest beside the bundles in ``folder`` says of them; raises `BundleRefused`."""
    found: dict[str, dict[str, str]] = {}
    for place in sorted(path for path in folder.iterdir() if (path / MANIFEST).is_file()):
        files = verified_files(place)
        found[place.name] = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        found[place.name][MANIFEST] = sha256_of(place / MANIFEST)
    if not found:
        raise BundleRefused(f"{folder} holds no bundles")
    return found


def _listing(content: bytes) -> Listing:
    try:
        listing = json.loads(content)["bundles"]
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
    fetched = [source.fetch(f"{model_id}/{name}", files[name], parts) for name in files]
    fresh.mkdir()
    for name, part in zip(files, fetched, strict=True):
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
            shutil.rmtree(folder, ignore_errors=True)
            raise BundleRefused(f"{path} has sha256 {found[:12]}…, the manifest says {checksum[:12]}…")
        return part


def _has(part: Path, checksum: str) -> bool:
    return part.is_file() and sha256_of(part) == checksum


def _source(manifest: str, pause: Callable[[float], None]) -> _Source:
    if "://" not in manifest:
        return _Folder(Path(manifest))
    parts = urlsplit(manifest)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise InvalidInput("manifest", f"{manifest!r} is neither a file nor an https address")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise InvalidInput("manifest", f"{manifest} is not encrypted: use https")
    return _Web(manifest, pause)


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
        part.write_bytes(self.whole(path, _LARGEST))


class _Web(_Source):
    """A manifest at an address."""

    def __init__(self, manifest: str, pause: Callable[[float], None]) -> None:
        import httpx

        loopback = urlsplit(manifest).hostname in _LOOPBACK
        self._manifest, self._pause = manifest, pause
        self._client = httpx.Client(timeout=_SECONDS, follow_redirects=True, trust_env=not loopback)

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def whole(self, path: str, limit: int) -> bytes:
        content = bytearray()
        self._patiently(path, lambda address: self._read(address, content, limit))
        return bytes(content)

    def append(self, path: str, part: Path) -> None:
        self._patiently(path, lambda address: self._go_on(address, part))

    def _patiently(self, path: str, read: Callable[[str], None]) -> None:
        """Call ``read`` until it comes to its end; a connection that was cut off is made anew."""
        import httpx

        address = urljoin(self._manifest, quote(path)) if path else self._manifest
        for turn in range(_TRIES):
            try:
                return read(address)
            except httpx.HTTPStatusError as error:
                status = error.response.status_code
                if status < 500 and status != 429:
                    raise InvalidInput("manifest", f"{address} answered {status}") from None
                told = f"{address} answered {status}"
            except httpx.HTTPError as error:
                told = f"{address}: {str(error) or type(error).__name__}"
            if turn + 1 < _TRIES:
                self._pause(0.25 * 2**turn)
        raise Unavailable(f"{told}; what has come stays, run the command again to go on")

    def _read(self, address: str, content: bytearray, limit: int) -> None:
        content.clear()
        with self._client.stream("GET", address) as answer:
            answer.raise_for_status()
            for chunk in answer.iter_bytes(_CHUNK):
                content += chunk
                if len(content) > limit:
                    raise InvalidInput("manifest", f"{address} is longer than {limit} bytes")

    def _go_on(self, address: str, part: Path) -> None:
        known = part.stat().st_size if part.is_file() else 0
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={known}-"} if known else {})
        with self._client.stream("GET", address, headers=headers) as answer:
            if answer.status_code == 416:  # nothing follows what is there: its hash decides
                return
            answer.raise_for_status()
            at = known if _goes_on(answer, known) else 0
            with part.open("r+b" if at else "wb") as file:
                file.seek(at)
                for chunk in answer.iter_raw():  # as it comes: what waits for more would be lost with the connection
                    file.write(chunk)
                    if file.tell() > _LARGEST:
                        raise InvalidInput("manifest", f"{address} is longer than {_LARGEST} bytes")


def _goes_on(answer: httpx.Response, known: int) -> bool:
    """Whether an answer is what follows the first ``known`` bytes; a server that knows no ranges sends all of it."""
    return answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {known}-")
