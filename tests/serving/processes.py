"""What the system says of a process."""

from __future__ import annotations

import contextlib
from pathlib import Path


def peak_memory(pid: int) -> int:
    """Return the most bytes the process ever held at once, 0 where the system does not say."""
    status = Path(f"/proc/{pid}/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def open_files(pid: int) -> int:
    """Return how many files and connections the process holds, 0 where the system does not say."""
    folder = Path(f"/proc/{pid}/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


def is_alive(pid: int) -> bool:
    """Tell whether there is such a process and it has not ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False
