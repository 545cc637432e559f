"""One readable log of every part, and what a person should see on the console.

Always true here: one process, the supervisor, writes the log; the other parts write lines to their standard output.
A line of another part may begin with a mark that names the part it speaks for (the gateway speaks for its functions)
and whether it is a notice for the console; lines without a mark belong to the process they come from.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from datetime import datetime
from pathlib import Path
from typing import TextIO

from rich.console import Console

__all__ = ["LINE", "NOTICE", "READY", "Log", "emit", "readable"]

LINE, NOTICE, READY = "line", "notice", "ready"
_MARK = "\x1f"
_ONLY_FOR_CONSOLES = {"timestamp", "time", "location", "service", "logger", "xray_trace_id", "function_request_id"}
_KEEP_BYTES = 20 * 1024 * 1024


def emit(kind: str, part: str, text: str, output: TextIO | None = None) -> None:
    """Write a marked line for the supervisor: ``kind`` is LINE, NOTICE or READY; safe from any thread.

    Where the supervisor was killed nobody reads any more: the line is lost, and the process gets on with its own end.
    """
    stream = output or sys.stdout
    with contextlib.suppress(BrokenPipeError):
        for line in text.splitlines() or [""]:
            stream.write(f"{_MARK}{kind}{_MARK}{part}{_MARK}{line}\n")
            stream.flush()


def readable(text: str) -> str:
    """Return a structured line as ``LEVEL message name=value ...``; any other line as it is.

    What the log says already (when, which part) and what only a cloud's console has a use for is left out.
    """
    if not text.startswith("{"):
        return text
    try:
        fields = json.loads(text)
    except ValueError:
        return text
    if "message" not in fields:
        return text
    told = [str(fields.pop(name)) for name in ("level", "message") if name in fields]
    rest = [f"{name}={_plain(value)}" for name, value in fields.items() if name not in _ONLY_FOR_CONSOLES]
    return " ".join(told + rest)


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


class Log:
    """The log file and the console.

    Parameters
    ----------
    path : Path
        The file; when it has grown large it is put aside, and the one put aside before is dropped.
    console : Console
        Where notices go.
    verbose : bool
        Whether every line goes to the console as well.
    """

    def __init__(self, path: Path, console: Console, *, verbose: bool) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._file, self._is_lost = path, path.open("ab", buffering=0), False
        self._console, self._verbose, self._lock = console, verbose, threading.Lock()

    def line(self, part: str, text: str) -> None:
        """Write one line of a part."""
        text = readable(text)
        stamp = datetime.now().astimezone().strftime("%H:%M:%S.%f")[:-3]
        with self._lock:
            if not self._file.closed:
                self._write(f"{stamp} {part:<9} | {text}\n")
        if self._verbose:
            self._console.print(f"{stamp} {part:<9} | {text}", markup=False, highlight=False, soft_wrap=True)

    def notice(self, part: str, text: str, style: str = "yellow") -> None:
        """Write one line and show it."""
        self.line(part, text)
        if not self._verbose:
            self._console.print(f"{part}: {text}", markup=False, highlight=False, style=style, soft_wrap=True)

    def take(self, part: str, raw: str) -> tuple[str, str]:
        """Write a line that a process wrote; return its kind (LINE where it has no mark) and its text."""
        if raw.startswith(_MARK) and raw.count(_MARK) >= 3:
            _, kind, part, text = raw.split(_MARK, 3)
        else:
            kind, text = LINE, raw
        if kind == NOTICE:
            self.notice(part, text)
        elif kind == LINE:
            self.line(part, text)
        return kind, text

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()

    def _write(self, line: str) -> None:
        """Append a line; a full disk costs lines, never the parts that wait for theirs to be read."""
        try:
            if self._file.tell() > _KEEP_BYTES:
                self._file.close()
                self._path.replace(self._path.with_suffix(".old.log"))
                self._file = self._path.open("ab", buffering=0)
            self._file.write(line.encode(errors="replace"))
            self._is_lost = False
        except OSError as error:
            if not self._is_lost:
                self._console.print(f"local: lines are missing in the log: {error}", markup=False, style="yellow")
            self._is_lost = True
