"""No child outlives its parent: ``python -m infra.local.leash SIGNAL MODULE [ARGUMENT ...]``.

Runs MODULE as a program in this process after making sure that SIGNAL ends it the moment its parent is gone, even if
that parent was killed with -9. Linux does it in the kernel; elsewhere a thread watches who the parent is. The signal
is TERM for programs that have something to save or to drain, KILL for those that have not.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys
import threading
import time

__all__ = ["PARENT", "hold"]

PARENT = "FUSIONTRADE_PARENT"
_PR_SET_PDEATHSIG = 1
_SECONDS = 0.5


def hold(ending: signal.Signals) -> None:
    """Make ``ending`` this process's fate when its parent goes; ends it at once if the parent is gone already."""
    parent = int(os.environ.get(PARENT, os.getppid()))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(ending), 0, 0, 0)
    else:
        threading.Thread(target=_watch, args=(parent, ending), daemon=True).start()
    if os.getppid() != parent:
        os.kill(os.getpid(), ending)


def _watch(parent: int, ending: signal.Signals) -> None:
    while os.getppid() == parent:
        time.sleep(_SECONDS)
    os.kill(os.getpid(), ending)


def main(arguments: list[str]) -> None:
    """Hold the process to its parent, then become MODULE."""
    ending, module, *rest = arguments
    hold(signal.Signals[f"SIG{ending}"])
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
