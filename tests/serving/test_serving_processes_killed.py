"""Processes that are killed before they are ready: tried again, but not for ever where nobody else serves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tiny_bundles import ROOT

KILLED = """
import os, signal, socket, sys, time
from pathlib import Path
from serving import processes

tried, killed, last = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
processes._LAST_PAUSE = last

def serve(number, control):
    with tried.open("a") as file:
        file.write("x")
    if len(tried.read_text()) <= killed:
        os.kill(os.getpid(), signal.SIGKILL)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    control.send(processes.READY)
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(30)

listener = socket.create_server(("127.0.0.1", 0))
sys.exit(processes.supervised(listener, 1, serve))
"""
"""A program of one process, which is killed so many times before it is ready; ready, it has the program end."""


def run(tried: Path, killed: int, last: float) -> int:
    command = [sys.executable, "-c", KILLED, str(tried), str(killed), str(last)]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "shared")])}
    return subprocess.run(command, env=environ, capture_output=True, timeout=60, check=False).returncode


def test_where_all_are_killed_before_they_are_ready_they_are_started_again(tmp_path: Path) -> None:
    tried = tmp_path / "tried"
    assert run(tried, killed=1, last=4.0) == 0
    assert tried.read_text() == "xx"


def test_where_all_are_killed_again_and_again_the_program_ends(tmp_path: Path) -> None:
    tried = tmp_path / "tried"
    assert run(tried, killed=9, last=1.0) == 1
    assert tried.read_text() == "xx"
