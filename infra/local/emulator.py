"""The AWS emulator on loopback, saving its state all the time.

Runs under the interpreter of the environment ``emulator`` and takes everything from ministack's own variables, which
the supervisor sets. ministack saves on a clean stop only: without the thread below ``kill -9`` would lose every write
since the start; with it, about the last second's. Saves never overlap (two writers of one file would spoil it) and
take at most a twentieth of the time. The snapshot function is private: ministack's version is pinned.
"""

from __future__ import annotations

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


def save_forever(save: Callable[[], Any]) -> None:
    """Save now and then until the process ends; a save that fails is logged by the emulator and tried again."""
    pause = SECONDS
    while True:
        time.sleep(pause)
        started = time.monotonic()
        save()
        pause = max(SECONDS, (time.monotonic() - started) / SHARE_OF_TIME)


def one_at_a_time(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``function`` behind a lock."""
    lock = threading.Lock()

    def locked(*arguments: Any) -> Any:
        with lock:
            return function(*arguments)

    return locked


def main() -> None:
    """Serve until SIGTERM."""
    import ministack.app as emulator
    from ministack.core import persistence

    logging.getLogger("persistence").addFilter(_QuietSaves())
    persistence.save_state = one_at_a_time(persistence.save_state)

    def save() -> None:
        persistence.save_all(emulator._build_persistence_save_dict())

    threading.Thread(target=save_forever, args=(save,), daemon=True).start()
    emulator.main()


if __name__ == "__main__":
    main()
