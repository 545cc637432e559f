"""May a candidate take the place of the version that serves: what is a yes, and what each no says."""

from __future__ import annotations

from typing import Any

import pytest

from fusiontrade.registry.standing import standing_of
from fusiontrade.registry.versions import ModelVersion, Span


def version(name: str = "new", **changed: Any) -> ModelVersion:
    known: dict[str, Any] = {
        "model_id": "lstm-1h",
        "symbol": None,
        "symbols": ["EURUSD=X", "GC=F"],
        "interval": "1h",
        "model_type": "lstm",
        "version": name,
        "status": "CANDIDATE",
        "artifact_uri": "s3://a/",
        "sha256": "0",
        "metrics": {},
        "trained_on": Span(since=None, until=None),
        "created_at": "2025-07-31T12:00:00Z",
    }
    return ModelVersion(**{**known, **changed})


def report(value: float, *, fingerprint: str = "same", pinball: float = 0.95) -> dict[str, Any]:
    figures = {
        "touch_skill_over_climatology": {"value": value, "low": value - 0.01, "high": value + 0.01},
        "pinball_ratio": {"value": pinball, "low": pinball - 0.01, "high": pinball + 0.01},
    }
    test = {"from": "a", "to": "b", "rows": 10}
    return {"data_fingerprint": fingerprint, "slices": {"test": test}, "figures": {"pooled": figures}}


ACTIVE = version("old", status="ACTIVE", activated_at="2025-07-01T00:00:00Z")


def test_the_first_version_of_a_model_may_serve() -> None:
    assert standing_of(version(), None, report(0.05), None).may_serve


@pytest.mark.parametrize(
    ("mine", "theirs", "expected"),
    [
        (report(0.05), report(0.05), True),
        (report(0.041), report(0.05), True),
        (report(0.039), report(0.05), False),
        (report(0.05, pinball=0.959), report(0.05), True),
        (report(0.05, pinball=0.961), report(0.05), False),
    ],
)
def test_published_figures_of_the_same_held_out_bars_decide_within_their_interval(
    mine: dict[str, Any], theirs: dict[str, Any], expected: bool
) -> None:
    assert standing_of(version(), ACTIVE, mine, theirs).may_serve is expected


def test_other_held_out_bars_are_no_comparison() -> None:
    found = standing_of(version(), ACTIVE, report(0.9), report(0.05, fingerprint="other"))
    assert not found.may_serve
    assert "other held-out bars" in found.reason


def test_a_paired_comparison_with_the_version_that_serves_wins_over_figures() -> None:
    losses = {"chances_log_loss": {"candidate": 0.41, "active": 0.40, "not_worse": False}}
    worse = version(comparison={"against": "old", "losses": losses, "not_worse": False})
    found = standing_of(worse, ACTIVE, report(0.9), report(0.05))
    assert not found.may_serve
    assert "chances_log_loss 0.4100 against 0.4000" in found.reason
    losses["chances_log_loss"]["not_worse"] = True
    better = version(comparison={"against": "old", "losses": losses, "not_worse": True})
    assert standing_of(better, ACTIVE, report(0.0, fingerprint="x"), report(0.05)).may_serve


def test_a_comparison_with_a_version_that_no_longer_serves_says_nothing() -> None:
    other = version(comparison={"against": "older", "losses": {}, "not_worse": True})
    assert not standing_of(other, ACTIVE, report(0.9, fingerprint="x"), report(0.05)).may_serve


def test_symbols_that_would_be_served_by_a_model_that_never_saw_them_are_named() -> None:
    found = standing_of(version(symbols=["EURUSD=X"]), ACTIVE, report(0.9), report(0.05))
    assert not found.may_serve
    assert "GC=F" in found.reason


def test_what_served_before_may_serve_again() -> None:
    before = version(status="RETIRED", activated_at="2025-06-01T00:00:00Z", symbols=["EURUSD=X"])
    assert standing_of(before, ACTIVE, report(0.0, fingerprint="x"), report(0.05)).may_serve
    assert not standing_of(version(status="RETIRED"), ACTIVE, report(0.0, fingerprint="x"), report(0.05)).may_serve


@pytest.mark.parametrize(("mine", "theirs"), [(None, 0.05), (0.05, None)])
def test_a_figure_that_is_missing_speaks_for_nobody(mine: float | None, theirs: float | None) -> None:
    one, other = report(0.05), report(0.05)
    for told, value in ((one, mine), (other, theirs)):
        if value is None:
            told["figures"]["pooled"]["touch_skill_over_climatology"] = {"value": None, "low": None, "high": None}
    found = standing_of(version(), ACTIVE, one, other)
    assert not found.may_serve
    assert "touch_skill_over_climatology" in found.reason
