"""Bundles in the archive: what the registry says of one, and which it refuses."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from fusiontrade.errors import BundleRefused, NotFound
from fusiontrade.registry.bundles import Bundles
from fusiontrade.registry.versions import ModelVersion


class Objects(dict[str, bytes]):
    """A bucket in memory that counts its copies."""

    copies = 0

    def put(self, key: str, body: bytes) -> None:
        self[key] = body

    def keys(self, prefix: str = "") -> list[str]:  # type: ignore[override]
        return sorted(key for key in self if key.startswith(prefix))

    def copy(self, source: str, target: str) -> None:  # type: ignore[override]
        self.copies += 1
        self[target] = self[source]

    def uri(self, prefix: str) -> str:
        return f"s3://bucket/{prefix}"


def laid(objects: Objects, prefix: str, card: dict[str, Any], run: dict[str, Any] | None = None) -> None:
    files = {"model.json": json.dumps(card).encode(), "report.json": b"{}"}
    named = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    files["manifest.json"] = json.dumps({"files": named}).encode()
    if run is not None:
        files["run.json"] = json.dumps(run).encode()
    for name, content in files.items():
        objects[prefix + name] = content


CARD = {
    "model_id": "kronos-compact",
    "version": "aaaaaaaaaaaa",
    "kind": "kronos",
    "metrics": {"x": {"value": 1, "n": 2}},
}


def test_a_bundle_of_another_kind_is_described_as_far_as_its_card_goes() -> None:
    objects = Objects()
    laid(objects, "made/", CARD)
    found = Bundles(objects).take_in("made/", created_at=1_000)
    assert (found.interval, found.symbols, found.symbol, found.repo_id) == (None, [], None, None)
    assert found.trained_on.model_dump() == {"from": None, "to": None}
    assert found.sha256 == hashlib.sha256(objects["made/manifest.json"]).hexdigest()
    assert objects.keys("bundles/") == [
        f"bundles/kronos-compact/aaaaaaaaaaaa/{name}" for name in ("manifest.json", "model.json", "report.json")
    ]


@pytest.mark.parametrize(
    ("card", "run"),
    [
        (CARD, {"pulled": {"repository": "owner/name", "revision": "r"}}),
        (CARD | {"source": {"repository": "owner/name", "revision": "r"}}, None),
    ],
)
def test_a_bundle_from_a_hub_keeps_its_repository(card: dict[str, Any], run: dict[str, Any] | None) -> None:
    objects = Objects()
    laid(objects, "made/", card, run)
    assert Bundles(objects).take_in("made/", created_at=1_000).repo_id == "owner/name"


@pytest.mark.parametrize(
    ("key", "content", "why"),
    [
        ("made/model.json", b"{}", "model.json is not the file"),
        ("made/manifest.json", b"[]", "no JSON object"),
        ("made/manifest.json", b'{"files": {}}', "does not name"),
        ("made/manifest.json", b'{"files": {"../x": "0", "model.json": "0", "report.json": "0"}}', "no plain file"),
    ],
)
def test_a_bundle_that_is_not_whole_is_refused_and_not_archived(key: str, content: bytes, why: str) -> None:
    objects = Objects()
    laid(objects, "made/", CARD)
    objects[key] = content
    with pytest.raises(BundleRefused, match=why):
        Bundles(objects).take_in("made/", created_at=1_000)
    assert objects.keys("bundles/") == []


@pytest.mark.parametrize("changed", [{"model_id": "../other"}, {"version": ""}, {"kind": None}])
def test_a_card_that_names_no_plain_place_is_refused(changed: dict[str, Any]) -> None:
    objects = Objects()
    laid(objects, "made/", CARD | changed)
    with pytest.raises(BundleRefused, match=next(iter(changed))):
        Bundles(objects).take_in("made/", created_at=1_000)
    assert objects.keys("bundles/") == []


def archived(objects: Objects, version: str) -> ModelVersion:
    prefix = f"bundles/kronos-compact/{version}/"
    laid(objects, prefix, CARD | {"version": version})
    return Bundles(objects).take_in(prefix, created_at=1_000)


def test_a_set_is_made_once_and_only_of_what_is_archived() -> None:
    objects = Objects()
    bundles = Bundles(objects)
    one, other = archived(objects, "aaaaaaaaaaaa"), archived(objects, "bbbbbbbbbbbb")
    uri = bundles.assemble("set-1", [one])
    assert uri == "s3://bucket/releases/set-1/"
    assert objects["releases/set-1/kronos-compact/model.json"] == json.dumps(CARD).encode()
    made = objects.copies
    assert (bundles.assemble("set-1", [one]), objects.copies) == (uri, made)
    del objects["bundles/kronos-compact/bbbbbbbbbbbb/manifest.json"]
    with pytest.raises(NotFound):
        bundles.assemble("set-2", [other])


def test_what_was_registered_and_became_another_bundle_since_is_in_no_set() -> None:
    objects = Objects()
    one = archived(objects, "aaaaaaaaaaaa")
    laid(objects, "bundles/kronos-compact/aaaaaaaaaaaa/", CARD | {"metrics": {}})  # whole, and somebody else's
    with pytest.raises(BundleRefused, match="version aaaaaaaaaaaa of kronos-compact in the archive is not the bundle"):
        Bundles(objects).assemble("set-1", [one])
    assert objects.keys("releases/") == []


def test_an_archived_version_never_becomes_another_bundle() -> None:
    objects = Objects()
    archived(objects, "aaaaaaaaaaaa")
    before = dict(objects)
    laid(objects, "made/", CARD | {"metrics": {}})
    with pytest.raises(BundleRefused, match="another bundle as version aaaaaaaaaaaa"):
        Bundles(objects).take_in("made/", created_at=2_000)
    assert {key: objects[key] for key in objects.keys("bundles/")} == before
    laid(objects, "made/", CARD)
    assert Bundles(objects).take_in("made/", created_at=2_000).version == "aaaaaaaaaaaa"  # the same one, made again


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
@pytest.mark.parametrize("place", ["model.json", "report.json"])
def test_a_number_that_no_answer_can_hold_is_refused(number: str, place: str) -> None:
    objects = Objects()
    laid(objects, "made/", CARD)
    whole = json.loads(objects["made/" + place]) | {"metrics": {"x": {"value": 0.5}}}
    objects["made/" + place] = json.dumps(whole).replace("0.5", number).encode()
    named = {name: hashlib.sha256(objects["made/" + name]).hexdigest() for name in ("model.json", "report.json")}
    objects["made/manifest.json"] = json.dumps({"files": named}).encode()
    with pytest.raises(BundleRefused, match=f"{place} is no JSON: {number} is no number"):
        Bundles(objects).take_in("made/", created_at=1_000)
