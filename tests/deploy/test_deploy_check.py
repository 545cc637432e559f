"""How `make test` shares the tests out, and how its environments are made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from infra import environment
from infra.check import PARALLEL


def test_tests_of_one_file_run_in_one_worker_and_files_side_by_side(tmp_path: Path) -> None:
    source = """
        import os, time
        from pathlib import Path
        import pytest

        @pytest.mark.parametrize("number", range(6))
        def test_one(number):
            time.sleep(0.05)
            with Path(__file__).with_suffix(".workers").open("a") as told:
                print(os.environ["PYTEST_XDIST_WORKER"], file=told)
    """
    for name in ("a", "b"):
        (tmp_path / f"test_{name}.py").write_text(dedent(source))
    command = [sys.executable, "-m", "pytest", *PARALLEL, "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    subprocess.run([*command, "-c", "/dev/null", str(tmp_path)], cwd=tmp_path, check=True, capture_output=True)
    workers = [(tmp_path / f"test_{name}.workers").read_text().split() for name in ("a", "b")]
    assert [len(told) for told in workers] == [6, 6]
    assert sorted(set(workers[0])) + sorted(set(workers[1])) in (["gw0", "gw1"], ["gw1", "gw0"])


@pytest.mark.parametrize("uv", [None, Path("/bin/false")], ids=["no uv", "uv fails"])
def test_pip_installs_the_same_lock_where_uv_cannot(uv: Path | None, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(environment, "_uv", lambda: uv)
    monkeypatch.setattr(environment, "_call", calls.append)
    environment._install_locked("sam", environment.ENVIRONMENTS["sam"])
    pinned = ["--no-deps", "--require-hashes", "-r", str(environment.LOCKS / "sam.txt")]
    assert calls == [[*environment._pip("sam"), *pinned]]


def test_torch_is_installed_first_alone_and_by_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(environment, "_uv", lambda: Path("/bin/true"))
    monkeypatch.setattr(environment, "_call", calls.append)
    environment._install_locked("dev", environment.ENVIRONMENTS["dev"])
    assert calls == [[*environment._pip("dev"), "--no-compile", "torch==2.13.0"]]
