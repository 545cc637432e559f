"""What SnapStart asks of a process: nothing that two copies of it may not share is in the snapshot, or it is renewed.

Always true here: before a snapshot nothing was fetched, no connection was opened and nothing was drawn from a
generator of random numbers that lives in the process; generators are seeded anew after each restore all the same.
Work that is the same for every copy (imports, service descriptions, the first pass through the application) is done
ahead. Hooks are those of Lambda's runtime; where it is not installed (a laptop's command, a test) nothing is
registered, and the process is simply not restored.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

__all__ = ["after_restore", "before_snapshot"]

Hook = TypeVar("Hook", bound=Callable[[], object])


def _runtime() -> Any:
    """Return the runtime's registry of hooks, None where there is no such runtime."""
    try:
        return import_module("snapshot_restore_py")
    except ImportError:
        return None


def before_snapshot(ahead: Hook) -> Hook:
    """Let ``ahead`` run before a snapshot is taken: work that every copy would do at its first request; return it."""
    if (runtime := _runtime()) is not None:
        runtime.register_before_snapshot(ahead)
    return ahead


def after_restore(renew: Hook) -> Hook:
    """Let ``renew`` run whenever a snapshot was restored, before the first request; return it."""
    if (runtime := _runtime()) is not None:
        runtime.register_after_restore(renew)
    return renew


@after_restore
def _seed_anew() -> None:
    """Give each copy random numbers of its own: waits between tries would otherwise fall together."""
    import random

    random.seed()
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed()
