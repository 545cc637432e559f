"""Importing without the collector of cycles, and what it leaves behind."""

from __future__ import annotations

import gc

import pytest

from fusiontrade.startup import keep_for_good, uncollected


def test_the_collector_rests_inside_and_is_on_again_after_an_error() -> None:
    seen: list[bool] = []

    def fails() -> None:
        with uncollected():
            seen.append(gc.isenabled())
            raise KeyError("an import failed")

    with pytest.raises(KeyError):
        fails()
    assert [*seen, gc.isenabled()] == [False, True]


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with uncollected(), uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_was_there_is_not_looked_at_again() -> None:
    gc.unfreeze()
    mine: list[object] = [object()]
    keep_for_good()
    try:
        assert gc.get_freeze_count() > 0
        assert not any(one is mine for one in gc.get_objects())
    finally:
        gc.unfreeze()
