"""What the system says of a process."""

from __future__ import annotations

from pathlib import Path


def peak_memory(pid: int) -> int:
    """Return the most bytes the process ever held at once, 0 where the system does not say."""
    status = Path(f"/proc/{pid}/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)
