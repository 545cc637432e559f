"""The AWS emulator on loopback, saving its state all the time.

Runs under the interpreter of the environment ``emulator`` and takes everything from ministack's own variables, which
the supervisor sets. ministack saves on a clean stop only: without the thread below ``kill -9`` would lose every write
since the start; with it, about the last second's. Nothing is saved before what was saved is loaded: on a busy machine
that takes longer than a second, and an emulator that knows nothing yet would write that down. Saves never overlap (two
writers of one file would spoil it) and take at most a twentieth of the time. ministack reads the text of a query's
condition anew for each item, a hundred microseconds each: what was read is remembered. The functions that are touched
are private: its version is pinned.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

SECONDS = 1.0
SHARE_OF_TIME = 0.05


class _QuietSaves(logging.Filter):
    """Drops the line that each save of each service writes."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("Persistence: saved")


def save_forever(save: Callable[[], Any], loaded: threading.Event) -> None:
    """Save now and then, from ``loaded`` until the process ends; a save that fails is logged and tried again."""
    loaded.wait()
    pause = SECONDS
    while True:
        time.sleep(pause)
        started = time.monotonic()
        save()
        pause = max(SECONDS, (time.monotonic() - started) / SHARE_OF_TIME)


def telling(function: Callable[[], Any], done: threading.Event) -> Callable[[], Any]:
    """Return ``function`` so that it sets ``done`` once it has returned."""

    def told() -> Any:
        answer = function()
        done.set()
        return answer

    return told


def one_at_a_time(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``function`` behind a lock."""
    lock = threading.Lock()

    def locked(*arguments: Any) -> Any:
        with lock:
            return function(*arguments)

    return locked


def remember_what_was_read(dynamodb: Any) -> None:
    """Let the module read each condition's text once; what it gives away is a copy, so that nobody changes it."""
    read = functools.lru_cache(maxsize=4096)(dynamodb._tokenize)
    dynamodb._tokenize = lambda text: list(read(text))
    dynamodb._condition_syntax_error = functools.lru_cache(maxsize=4096)(dynamodb._condition_syntax_error)


def main() -> None:
    """Serve until SIGTERM."""
    import ministack.app as emulator
    from ministack.core import persistence
    from ministack.services import dynamodb

    remember_what_was_read(dynamodb)

    logging.getLogger("persistence").addFilter(_QuietSaves())
    persistence.save_state = one_at_a_time(persistence.save_state)

    def save() -> None:
        persistence.save_all(emulator._build_persistence_save_dict())

    loaded = threading.Event()
    emulator._load_persisted_state = telling(emulator._load_persisted_state, loaded)
    threading.Thread(target=save_forever, args=(save, loaded), daemon=True).start()
    emulator.main()


if __name__ == "__main__":
    main()
