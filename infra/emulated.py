"""The AWS emulator on loopback for tests and measurements: it saves nothing and ends with its block."""

from __future__ import annotations

import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra import environment

__all__ = ["emulated"]

_HOST = "127.0.0.1"
_SECONDS_TO_START = 30.0
_SECONDS_TO_END = 20.0


@contextmanager
def emulated(folder: Path, port: int) -> Iterator[str]:
    """Run the emulator on ``port`` until the block ends; yield its URL. What it logs lies in ``folder``.

    Raises
    ------
    RuntimeError
        If it ends or does not answer within 30 s; with the end of its log.
    """
    variables = {
        "GATEWAY_PORT": str(port), "BIND_HOST": _HOST, "PERSIST_STATE": "0", "S3_PERSIST": "0",
        "STATE_DIR": str(folder / "state"), "S3_DATA_DIR": str(folder / "s3"), "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0", "LOG_LEVEL": "WARNING",
    }  # fmt: skip
    command = [str(environment.interpreter("emulator")), "-c", "import ministack.app as app; app.main()"]
    path, url = folder / "emulator.log", f"http://{_HOST}:{port}"
    with path.open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, env={**os.environ, **variables}, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + _SECONDS_TO_START
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the emulator does not answer: {path.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(_SECONDS_TO_END)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/_ministack/health", timeout=1):  # noqa: S310
            return True
    except urllib.error.HTTPError:
        return True  # whatever it says to this path
    except OSError:
        return False
