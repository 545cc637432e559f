"""What scenarios judge by: answers alike, versions mixed, bundles that must not serve."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusiontrade.errors import BundleRefused
from fusiontrade.inference.contract import ForecastRequest
from infra.load.__main__ import SCENARIOS, main
from infra.load.bodies import Message
from infra.load.bundles import SPOILED, changed, copied
from infra.load.checks import Check, Options, Versions, alike, until
from serving.bundle import load_bundle, read_bundle

ASKED = Message(ForecastRequest.model_construct(items=[]), b"", 0)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"a": [1.0, None]}, {"a": [1.000001, None]}, True),
        ({"a": [1.0, None]}, {"a": [1.001, None]}, False),
        ({"a": 1.0}, {"a": 1.0, "b": None}, False),
        ([0.0], [1e-7], True),
        ([1.0], [1.0, 1.0], False),
        ("x", "y", False),
        (True, True, True),
        (1.0, None, False),
        (2, 2, True),
        (2, 3, False),
    ],
)
def test_answers_are_alike_where_only_numbers_differ_and_little(one: object, other: object, same: bool) -> None:
    assert alike(one, other, 1e-5) is same
    assert alike(other, one, 1e-5) is same


def answer(*versions: str, error: object = None, beside: str = "") -> bytes:
    other = {"gru": {"model": {"id": "g", "version": beside}}} if beside else {}
    items = [
        {"error": error, "lstm": {"model": {"id": "m", "version": one}}, "patchtst": None, "beside": other}
        for one in versions
    ]
    return json.dumps({"items": items}).encode()


def test_one_answer_of_two_versions_is_mixed_and_two_answers_of_one_each_are_not() -> None:
    watched = Versions()
    watched.seen(ASKED, 200, answer("1", "1"))
    watched.seen(ASKED, 200, answer("2"))
    watched.seen(ASKED, 503, b"no")
    assert (watched.mixed, watched.versions, watched.failed) == (0, {"m": {"1", "2"}}, 0)
    watched.seen(ASKED, 200, answer("1", "2"))
    watched.seen(ASKED, 200, answer("1", error={"code": "model_failed"}))
    assert (watched.mixed, watched.failed) == (1, 1)
    assert "model_failed" in watched.last_error


def test_versions_of_kinds_beside_the_fused_ones_are_watched_too() -> None:
    watched = Versions()
    for version in ("1", "2"):
        watched.seen(ASKED, 200, answer("1", beside=version))
    assert watched.versions == {"m": {"1"}, "g": {"1", "2"}}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return copied(tmp_path / "bundles") / "lstm-1h"


def test_a_changed_bundle_may_serve_and_has_another_version(bundle: Path) -> None:
    before = read_bundle(bundle).card.version
    said = changed(bundle, {"trial": 1})
    assert load_bundle(bundle).card.version == said != before


@pytest.mark.parametrize("what", SPOILED)
def test_a_spoiled_bundle_is_one_that_must_not_serve(what: str, bundle: Path) -> None:
    pytest.importorskip("onnx")
    SPOILED[what](bundle)
    with pytest.raises(BundleRefused):
        load_bundle(bundle)


@pytest.mark.parametrize(("held", "status", "last"), [(True, 0, "every condition held"), (False, 1, "1 conditions")])
def test_a_condition_that_does_not_hold_is_the_exit_status(
    held: bool, status: int, last: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def scenario(options: Options) -> Iterator[Check]:
        """Show one condition."""
        yield Check("this", held, f"{options.clients} clients")

    monkeypatch.setitem(SCENARIOS, "slow", scenario)
    assert main(["slow", "--clients", "3"]) == status
    told = capsys.readouterr().out
    assert f"{'ok    ' if held else 'FAILED'} this: 3 clients" in told
    assert told.splitlines()[-1].startswith(last)


def test_an_unknown_scenario_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["earthquake"])
    assert ended.value.code == 2
    assert "no such scenario: earthquake" in capsys.readouterr().err


def test_a_condition_is_asked_again_until_it_holds_or_the_time_is_over() -> None:
    said = iter([False, False, True])
    assert until(lambda: next(said), 60.0)
    assert next(said, None) is None
    assert not until(lambda: False, 0.01)
