"""The archive of bundles: ``bundles/{model}/{version}/`` in the bucket, and the sets that endpoints serve.

Always true here: a bundle's manifest is written last and copied last, so that a prefix with a manifest is whole; a
bundle whose files are not those of its manifest is refused and not registered. An archived version never becomes
another one, and none is used whose manifest is not the one that was registered. A set, ``releases/{name}/{model}/``, is
a copy of archived bundles and is never changed once its last object, ``complete``, is there.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from fusiontrade.clock import iso
from fusiontrade.errors import BundleRefused, NotFound
from fusiontrade.registry.versions import ModelVersion, Span

__all__ = ["PLAIN", "Bundles", "Objects", "finite"]

CARD, REPORT, MANIFEST = "model.json", "report.json", "manifest.json"
_OUTSIDE = "run.json"
_COMPLETE = "complete"
PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""What may be a part of a key: nothing that leads elsewhere."""


class Objects(Protocol):
    """The part of `fusiontrade.cloud.storage.Storage` that is needed here; each raises `StateUnavailable`."""

    def get(self, key: str) -> bytes | None:
        """Return the object, None where there is none."""
        ...

    def put(self, key: str, body: bytes) -> None:
        """Write the object."""
        ...

    def keys(self, prefix: str) -> list[str]:
        """Return the keys under a prefix."""
        ...

    def copy(self, source: str, target: str) -> None:
        """Copy an object."""
        ...

    def uri(self, prefix: str) -> str:
        """Return the URI of a key or prefix."""
        ...


class Bundles:
    """The bundles in one bucket."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    @staticmethod
    def prefix(model_id: str, version: str) -> str:
        """Return where the archive keeps a version."""
        return f"bundles/{model_id}/{version}/"

    def uri(self, model_id: str, version: str) -> str:
        """Return the URI of a version's folder."""
        return self._objects.uri(self.prefix(model_id, version))

    def take_in(
        self,
        source: str,
        *,
        created_at: int,
        comparison: Mapping[str, Any] | None = None,
        record: Mapping[str, Any] | None = None,
        check: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> ModelVersion:
        """Archive the bundle under the prefix ``source`` and return it as a candidate; nothing is registered yet.

        Parameters
        ----------
        created_at
            When it was made, ms.
        comparison
            How it did beside the version that served.
        record
            What its votes on held-out bars would have come to.
        check
            Takes the card before anything is archived; raises `BundleRefused` where it is not what is wanted.

        Raises
        ------
        BundleRefused
            If a file differs from the manifest, there is one too few, ``check`` refuses the card, or the archive holds
            another bundle as that version.
        """
        files = self._verified(source)
        card = _object(files[CARD], CARD)
        _object(files[REPORT], REPORT)
        for name in ("model_id", "version", "kind"):
            if not isinstance(card.get(name), str) or not PLAIN.fullmatch(card[name]):
                raise BundleRefused(f"{CARD} has the {name} {card.get(name)!r}")
        if check is not None:
            check(card)
        target = self.prefix(str(card["model_id"]), str(card["version"]))
        if target != source:
            if (self._objects.get(target + MANIFEST) or files[MANIFEST]) != files[MANIFEST]:
                raise BundleRefused(f"the archive holds another bundle as version {card['version']} of the model")
            for name in sorted(files, key=lambda name: name == MANIFEST):
                self._objects.put(target + name, files[name])
        return self._described(card, files, created_at=created_at, comparison=comparison, record=record or {})

    def report(self, model_id: str, version: str) -> dict[str, Any]:
        """Return a version's report; raises `NotFound`, `BundleRefused`."""
        content = self._objects.get(self.prefix(model_id, version) + REPORT)
        if content is None:
            raise NotFound(f"there is no report of version {version!r} of the model {model_id!r}")
        return _object(content, REPORT)

    def has_weights(self, model_id: str, version: str) -> bool:
        """Tell whether a training could begin with a version."""
        return bool(self._objects.keys(self.prefix(model_id, version) + "weights.safetensors"))

    def unchanged(self, version: ModelVersion) -> None:
        """Check that the archive holds the bundle that was registered: its manifest, by which its files are verified.

        Raises
        ------
        NotFound
            If it is not there.
        BundleRefused
            If it is another one.
        """
        named = f"version {version.version} of {version.model_id}"
        manifest = self._objects.get(self.prefix(version.model_id, version.version) + MANIFEST)
        if manifest is None:
            raise NotFound(f"{named} is not in the archive")
        if hashlib.sha256(manifest).hexdigest() != version.sha256:
            raise BundleRefused(f"{named} in the archive is not the bundle that was registered")

    def assemble(self, name: str, versions: Iterable[ModelVersion]) -> str:
        """Copy versions, one of each model, into the set ``name``; return its URI. Done before, it is done.

        Raises as `unchanged` does.
        """
        prefix = f"releases/{name}/"
        if not self._objects.keys(prefix + _COMPLETE):
            chosen = {}
            for version in versions:
                self.unchanged(version)
                chosen[version.model_id] = version.version
            for model_id, known in chosen.items():
                source = self.prefix(model_id, known)
                for key in sorted(self._objects.keys(source), key=lambda key: key.endswith(MANIFEST)):
                    self._objects.copy(key, f"{prefix}{model_id}/{key.removeprefix(source)}")
            self._objects.put(prefix + _COMPLETE, json.dumps(chosen, sort_keys=True).encode())
        return self._objects.uri(prefix)

    def _verified(self, source: str) -> dict[str, bytes]:
        manifest = self._objects.get(source + MANIFEST)
        if manifest is None:
            raise BundleRefused(f"the training left no {MANIFEST}")
        named = _object(manifest, MANIFEST).get("files")
        if not isinstance(named, dict) or not {CARD, REPORT} <= named.keys():
            raise BundleRefused(f"{MANIFEST} does not name {CARD} and {REPORT}")
        files = {MANIFEST: manifest}
        for name, checksum in named.items():
            if not PLAIN.fullmatch(name):
                raise BundleRefused(f"{MANIFEST} names {name!r}, which is no plain file")
            content = self._objects.get(source + name)
            if content is None or hashlib.sha256(content).hexdigest() != checksum:
                raise BundleRefused(f"{name} is not the file that {MANIFEST} names")
            files[name] = content
        if (run := self._objects.get(source + _OUTSIDE)) is not None:
            files[_OUTSIDE] = run
        return files

    def _described(
        self,
        card: Mapping[str, Any],
        files: Mapping[str, bytes],
        *,
        created_at: int,
        comparison: Mapping[str, Any] | None,
        record: Mapping[str, Any],
    ) -> ModelVersion:
        universe = [str(symbol) for symbol in card.get("universe", ())]
        first, last = (card.get("windows") or {}).get("train") or (None, None)
        return ModelVersion(
            model_id=card["model_id"],
            symbol=universe[0] if len(universe) == 1 else None,
            symbols=universe,
            interval=card.get("timeframe"),
            model_type=str(card["kind"]),
            version=card["version"],
            status="CANDIDATE",
            repo_id=_repository(card, files.get(_OUTSIDE)),
            artifact_uri=self.uri(card["model_id"], card["version"]),
            sha256=hashlib.sha256(files[MANIFEST]).hexdigest(),
            win_rate=record.get("win_rate"),
            profit_factor=record.get("profit_factor"),
            track_record=dict(record) or None,
            metrics=dict(card.get("metrics", {})),
            trained_on=Span(since=None if first is None else iso(first), until=None if last is None else iso(last)),
            created_at=iso(created_at),
            comparison=None if comparison is None else dict(comparison),
        )


def _repository(card: Mapping[str, Any], run: bytes | None) -> str | None:
    """Return the hub repository that a bundle was pulled from, or its weights; None where it was trained here."""
    pulled = (_object(run, _OUTSIDE) if run is not None else {}).get("pulled") or card.get("source")
    name = pulled.get("repository") if isinstance(pulled, Mapping) else None
    return str(name) if name else None


def finite(text: str) -> float:
    """Return a number of JSON; raises ValueError for NaN and what is too large: no answer can hold these."""
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is no number of JSON")
    return number


def _object(content: bytes, name: str) -> dict[str, Any]:
    try:
        found = json.loads(content, parse_constant=finite, parse_float=finite)
    except (ValueError, RecursionError) as error:
        raise BundleRefused(f"{name} is no JSON: {str(error)[:100]}") from error
    if not isinstance(found, dict):
        raise BundleRefused(f"{name} is no JSON object")
    return found
