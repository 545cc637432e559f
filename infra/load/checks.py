"""What a scenario has to show: a condition, whether it held, and the figures behind it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from infra.load.bodies import Message

__all__ = ["Check", "Options", "Versions", "alike", "until"]


@dataclass(frozen=True)
class Options:
    """How much a scenario does; None leaves it its own measure."""

    requests: int | None = None
    clients: int | None = None


@dataclass(frozen=True)
class Check:
    """One condition; ``found`` is what was measured, in words."""

    what: str
    held: bool
    found: str

    def __str__(self) -> str:
        return f"  {'ok    ' if self.held else 'FAILED'} {self.what}: {self.found}"


def alike(one: Any, other: Any, tolerance: float) -> bool:
    """Tell whether two parsed answers are the same but for numbers, which may differ by ``tolerance`` of their size."""
    if isinstance(one, float) or isinstance(other, float):
        return (
            isinstance(one, int | float)
            and isinstance(other, int | float)
            and math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance)
        )
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[name], other[name], tolerance) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(alike(a, b, tolerance) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def until(holds: Callable[[], bool], seconds: float) -> bool:
    """Ask ``holds`` again and again; return True as soon as it is, False where it is not in ``seconds``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.05)
    return False


@dataclass
class Versions:
    """Looks at every answer: which bundle versions it names, whether one answer mixes several of a model.

    ``seen`` fits `infra.load.driver.drive`.
    """

    versions: dict[str, set[str]] = field(default_factory=dict)
    mixed: int = 0
    failed: int = 0
    last_error: str = ""

    def seen(self, message: Message, status: int, body: bytes) -> None:  # noqa: ARG002 - the driver passes it
        """Take one answer."""
        if status != 200:
            return
        here: dict[str, set[str]] = {}
        for item in json.loads(body)["items"]:
            if item["error"] is not None:
                self.failed += 1
                self.last_error = str(item["error"])
            for answer in (item["lstm"], item["patchtst"], *item["beside"].values()):
                if answer is not None:
                    model = answer["model"]
                    here.setdefault(model["id"], set()).add(model["version"])
        self.mixed += any(len(versions) > 1 for versions in here.values())
        for name, versions in here.items():
            self.versions.setdefault(name, set()).update(versions)
