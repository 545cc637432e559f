"""Fixtures of the training tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from serving.training.precision import cost


@pytest.fixture(scope="session", autouse=True)
def _times_in_a_moment() -> Iterator[None]:
    """Take the timings of run.json from five runs each: what the clock says takes no part in a bundle."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost, "_SECONDS", 0.0)
        yield
