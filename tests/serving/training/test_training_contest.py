"""The new bundle against the one that serves: figures that stand beside each other are of the same means."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from serving.training.job import contest


def test_the_losses_differ_by_the_difference_that_is_told_however_many_symbols_an_instant_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hour, rng = 3_600_000, np.random.default_rng(7)
    entry = np.repeat(np.arange(300), rng.integers(1, 4, 300)).astype(np.int64) * hour
    losses = {name: rng.uniform(0.3, 0.4, len(entry)) + shift for name, shift in (("new", 0.01), ("old", 0.0))}
    pool: Any = SimpleNamespace(entry=entry, starts=[0], series=[SimpleNamespace(symbol="BTC-USD")])
    pool.series_of = np.zeros_like
    bundle = SimpleNamespace(card=SimpleNamespace(version="aaaaaaaaaaaa"))
    which = iter(["new", "old"])
    monkeypatch.setattr(contest, "load_bundle", lambda folder: bundle)
    monkeypatch.setattr(contest, "came_of", lambda pool, rows: {})
    monkeypatch.setattr(contest, "_losses", lambda *given: {"chances_log_loss": losses[next(which)]})
    told = contest.contest(Path("new"), Path("old"), pool, np.arange(len(entry)))["losses"]["chances_log_loss"]
    assert told["candidate"] - told["active"] == pytest.approx(told["difference"], abs=2e-6)
    assert abs(losses["new"].mean() - losses["old"].mean() - told["difference"]) > 1e-5  # a mean of rows is another one
    assert told["not_worse"] is False
