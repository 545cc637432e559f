"""What a process does before its first request, done cheaply.

Always true here: nothing that an import makes is garbage, so the collector rests while modules load and then leaves
what they made alone for good. It is on again wherever control returns to others.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["keep_for_good", "uncollected"]


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the collector of reference cycles off inside; a start spends a sixth of its time in it otherwise."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def keep_for_good() -> None:
    """Tell the collector that everything there is now stays: later collections do not look at it again."""
    gc.freeze()
