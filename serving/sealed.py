"""What bundles beside the forecasters (an encoder of bars, a scorer of texts) have in common: card, graph, writing.

As for `serving.bundle.Bundle`, always true of one that was read: every file was the one that ``manifest.json`` names,
the bytes that were hashed are the bytes that run, the card is of its schema and names the content it came with, and
the report is of this model.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from fusiontrade.errors import BundleRefused
from fusiontrade.inference.contract import ModelReference
from serving.bundle import CARD, GRAPH, REPORT, RUN, verified_files, write_manifest
from serving.card import Metric, Precision, Sha256
from serving.graph import EXTERNAL_DATA, precision_of, session_of

__all__ = ["SealedCard", "Source", "opened", "put_in_place", "read_sealed", "write_sealed"]

_Shapes = Mapping[str, tuple[str, tuple[int | None, ...]]]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class Source(_Part):
    """Where the weights came from: a repository of a hub at a revision, a folder, or a training of our own.

    ``files`` are the sha256 of what was read.
    """

    how: Literal["imported", "trained"]
    repository: str = ""
    revision: str = ""
    files: dict[str, Sha256] = {}


class SealedCard(_Part):
    """``model.json``. ``version`` is the first 12 hex digits of `digest`, empty before it is stamped."""

    schema_version: Literal[1] = 1
    model_id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,62}$")]
    version: Annotated[str, Field(pattern=r"^([0-9a-f]{12})?$")] = ""
    precision: Precision = "f32"
    config: dict[str, JsonValue]
    source: Source
    metrics: dict[str, Metric] = {}
    code_version: str
    libraries: dict[str, str]

    @property
    def reference(self) -> ModelReference:
        """What answers name this bundle by."""
        return ModelReference(id=self.model_id, version=self.version)

    def stamped(self, files: Mapping[str, bytes]) -> Self:
        """Return this card with the version that it and the files it came with define."""
        return self.model_copy(update={"version": self.digest(files)[:12]})

    def digest(self, files: Mapping[str, bytes]) -> str:
        """Return sha256 over every file but card and report, by name, and over this card without its version."""
        total = hashlib.sha256()
        for name in sorted(files.keys() - {CARD, REPORT}):
            total.update(name.encode() + b"\0" + hashlib.sha256(files[name]).digest())
        content = self.model_dump(mode="json", exclude={"version"})
        total.update(json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii"))
        return total.hexdigest()


_Card = TypeVar("_Card", bound=SealedCard)


def read_sealed(folder: Path, kind: type[_Card]) -> tuple[_Card, dict[str, bytes]]:
    """Return the card of ``folder``, which is of ``kind``, and the verified files.

    Raises
    ------
    BundleRefused
        With the first reason why this bundle must not serve.
    """
    files = verified_files(folder)
    try:
        card = kind.model_validate_json(files[CARD])
        report = json.loads(files[REPORT])
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleRefused(f"{CARD}: {where + ': ' if where else ''}{first['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise BundleRefused(f"{REPORT} is no JSON: {error}") from None
    if card.version != (expected := card.stamped(files).version):
        raise BundleRefused(f"{CARD} says version {card.version!r}, but its content is version {expected!r}")
    if not isinstance(report, dict) or report.get("model_id") != card.model_id:
        raise BundleRefused(f"{REPORT} is not of {card.model_id}")
    return card, files


def opened(
    content: bytes, card: SealedCard, inputs: _Shapes, outputs: _Shapes, *, device: str = "cpu", threads: int = 1
) -> Any:
    """Return the ONNX Runtime session of a graph that takes and answers what its kind has to.

    Parameters
    ----------
    inputs, outputs
        Type, as ONNX Runtime writes it, and axes of each; None is an axis of any length.
    device, threads
        As for `serving.bundle.load_bundle`.

    Raises
    ------
    BundleRefused
        If ONNX Runtime cannot read it, it names files outside itself, or it is no graph of this kind and precision.
    """
    if EXTERNAL_DATA in content:
        raise BundleRefused("the graph keeps weights in files outside itself")
    session = session_of(content, device, threads)
    if (precision := precision_of(content)) != card.precision:
        raise BundleRefused(f"the graph is {precision}, its card says {card.precision}")
    for what, nodes, expected in (("take", session.get_inputs(), inputs), ("answer", session.get_outputs(), outputs)):
        found = {node.name: node for node in nodes}
        if set(found) != set(expected):
            raise BundleRefused(f"the graph {what}s {sorted(found)}, it has to {what} {sorted(expected)}")
        for name, (kind, axes) in expected.items():
            shape = found[name].shape
            if found[name].type != kind or not _fits(shape, axes):
                raise BundleRefused(f"{name!r} is {found[name].type} {shape}, it has to be {kind} {list(axes)}")
    return session


def write_sealed(
    out: Path,
    card: _Card,
    files: Mapping[str, bytes],
    report: Mapping[str, Any],
    run: Mapping[str, Any],
    *,
    load: Callable[[Path], object],
) -> Path:
    """Write a bundle to ``out/<model id>``, in place of an older one, and return that folder.

    Parameters
    ----------
    files
        The graph, and what else belongs to it, by name.
    run
        Dates and timings, outside the manifest.
    load
        Reads what was written, as serving would; what it refuses leaves nothing behind.

    Raises
    ------
    BundleRefused
        If serving would refuse what was written; the older bundle is then left as it was.
    """
    folder, fresh = out / card.model_id, out / f".{card.model_id}.fresh"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        for name, content in files.items():
            (fresh / name).write_bytes(content)
        _write(fresh / CARD, card.stamped(files).model_dump(mode="json"))
        _write(fresh / REPORT, {"model_id": card.model_id, **report})
        write_manifest(fresh)
        _write(fresh / RUN, run)
        load(fresh)
        if GRAPH not in files:
            raise BundleRefused(f"a bundle needs {GRAPH}")
        put_in_place(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def put_in_place(fresh: Path, folder: Path) -> None:
    """Let the folder ``fresh`` take the place of ``folder``, beside it, which is there until the moment before.

    Where an earlier call was killed at that moment, the older folder is kept until ``fresh`` is in its place. A link
    or a file in that place goes, too; what a link leads to stays as it is.
    """
    old = folder.with_name(f".{folder.name}.old")
    if os.path.lexists(folder):
        _remove(old)
        folder.rename(old)
    try:
        fresh.rename(folder)
    except OSError:
        if os.path.lexists(old):
            old.rename(folder)
        raise
    _remove(old)


def _remove(place: Path) -> None:
    if place.is_symlink() or place.is_file():
        place.unlink()
    else:
        shutil.rmtree(place, ignore_errors=True)


def _fits(shape: list[int | str | None], axes: tuple[int | None, ...]) -> bool:
    if len(shape) != len(axes):
        return False
    return all(
        found == wanted if wanted is not None else not isinstance(found, int)
        for found, wanted in zip(shape, axes, strict=True)
    )


def _write(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
