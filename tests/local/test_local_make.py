"""What `make` says where something it needs was not given."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.mark.parametrize("target", ["train", "evaluate"])
def test_a_target_that_needs_bars_asks_for_them_before_it_makes_an_environment(target: str, tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "MARKET_DATA_DIR"}
    command = ["make", "-C", str(ROOT), target, "PYTHON=false"]
    told = subprocess.run(command, env={**environ, "HOME": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert told.returncode == 2
    assert f"where are your bars? make {target} MARKET_DATA_DIR=folder" in told.stderr
