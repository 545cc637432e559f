"""Clients that ask a running stack all the time, and what they were answered."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from infra.proofs.laptop import Client, WalkFailure, until

__all__ = ["Seen", "asking"]

_PAUSE = 0.26
"""Seconds between two requests of one client: below the rate limit of an account, 240 forecasts a minute."""


@dataclass
class Seen:
    """What clients were answered: by status (or what was raised), and by the version that answered."""

    statuses: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)

    def judged(self, *versions: str) -> str:
        """Return it in words; raises `WalkFailure` where a request failed, or not just ``versions`` answered."""
        told = f"       clients meanwhile: {dict(self.statuses)}, answered by {dict(self.answered)}"
        if set(self.statuses) != {"200"} or set(self.answered) != set(versions):
            raise WalkFailure(f"requests failed, or others answered than {versions}:{told}")
        return told


@contextmanager
def asking(crowd: Sequence[Client], path: str, model_id: str) -> Iterator[Seen]:
    """Let each of ``crowd`` ask for ``path`` all the time; count which version of ``model_id`` answered."""
    seen, stop = Seen(), threading.Event()

    def ask(client: Client) -> None:
        while not stop.is_set():
            try:
                status, told = client.ask("GET", path)
            except (OSError, ValueError) as error:
                seen.statuses[type(error).__name__] += 1
                continue
            seen.statuses[str(status)] += 1
            seen.answered.update(one["version"] for one in told.get("models", ()) if one["id"] == model_id)
            stop.wait(_PAUSE)

    threads = [threading.Thread(target=ask, args=(each,), daemon=True) for each in crowd]
    for thread in threads:
        thread.start()
    until(lambda: sum(seen.statuses.values()) >= 2 * len(crowd), 60, "the first answers")
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
