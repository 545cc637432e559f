"""The last step of whatever comes from elsewhere: verified as serving would, then put in place, or gone.

Always true: a folder that serving would refuse leaves nothing behind, and what it would have replaced stays.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from fusiontrade.errors import BundleRefused, Conflict, Unavailable
from serving.bundle import MANIFEST, kind_of, load_bundle, verified_files
from serving.sealed import put_in_place

__all__ = ["allowed", "alone", "placed", "sha256_of", "verified"]

_LOCK = ".bringing.lock"
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SUFFIXES = (".json", ".onnx", ".safetensors", ".txt")


def allowed(name: str) -> bool:
    """Whether a file of a bundle may have this name: plain, and of a kind that holds data and no code."""
    return _PLAIN.fullmatch(name) is not None and name.endswith(_SUFFIXES)


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Make the folder ``out`` and hold it for one command; who is killed lets go of it.

    Raises
    ------
    Unavailable
        If another command works there.
    """
    from filelock import FileLock, Timeout

    out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out / _LOCK, timeout=0):
            yield
    except Timeout:
        raise Unavailable(f"another command brings models to {out} now; run this one when it is done") from None


def verified(folder: Path) -> str:
    """Return the model id of the bundle in ``folder``, every file of it verified, and its graph run once.

    Raises
    ------
    BundleRefused
        With the first reason why serving would refuse it.
    """
    if not (folder / MANIFEST).is_file():
        raise BundleRefused(f"{folder.name} is no bundle: it has no {MANIFEST}")
    for path in sorted(folder.iterdir()):
        if not allowed(path.name):
            raise BundleRefused(f"{path.name} is no file of a bundle: those end with {', '.join(_SUFFIXES)}")
    kind = kind_of(folder)
    return _OF_KIND.get(kind, _forecaster)(folder)


def placed(fresh: Path, out: Path, *, overwrite: bool, model_id: str = "") -> Path:
    """Verify the bundle in ``fresh``, let it be ``out/<model id>``, and return that folder.

    ``fresh`` lies in ``out`` and is gone afterwards, whatever happens; ``model_id`` is what it has to be, if anything.

    Raises
    ------
    BundleRefused
        If serving would refuse it.
    Conflict
        If another bundle of that name is there, and ``overwrite`` was not asked for.
    """
    try:
        found = verified(fresh)
        if found != (model_id or found):
            raise BundleRefused(f"the bundle is {found}, where {model_id} was to be")
        folder = out / found
        if os.path.lexists(folder) and not overwrite and not _same(fresh, folder):
            raise Conflict(f"{folder} holds another bundle: ask with --overwrite to replace it")
        put_in_place(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _same(one: Path, other: Path) -> bool:
    try:
        return (one / MANIFEST).read_bytes() == (other / MANIFEST).read_bytes() and bool(verified_files(other))
    except (OSError, BundleRefused):
        return False


def _forecaster(folder: Path) -> str:
    return load_bundle(folder).card.model_id


def _encoder(folder: Path) -> str:
    from serving.kronos.encoder import load_encoder

    return load_encoder(folder).card.model_id


def _classifier(folder: Path) -> str:
    from serving.sentiment.scorer import load_classifier

    return load_classifier(folder).card.model_id


def _swing(folder: Path) -> str:
    from serving.swing.bundle import load_swing

    return load_swing(folder).card.model_id


_OF_KIND: Mapping[str, Callable[[Path], str]] = {"kronos": _encoder, "sentiment": _classifier, "swing": _swing}
