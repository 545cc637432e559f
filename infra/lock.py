"""Write the locks anew: ``make lock`` (needs the network and the pinned ``uv``; nothing else does).

Every lock is universal (one file for Python 3.11 to 3.13) and carries hashes. ``dev`` is resolved first and
constrains all the others, so that a package has one version in the whole project. torch is never locked here:
`environment.py` installs it first and alone.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ROOT / "infra" / "locks"
UV = "uv==0.13.8"
BASE = ["api", "market", "serving", "cloud", "cli", "local", "build"]
EXTRAS = {"dev": [*BASE, "train", "dev"], "train": [*BASE, "train"], "run": BASE, "lambda": [*BASE, "test"]}
LAYERS = ["api", "market"]
ALONE = {"emulator": "ministack[full]==1.5.33\n", "sam": "aws-sam-cli==1.170.0\ncfn-lint==1.58.0\n"}


def main() -> None:
    """Resolve every lock into ``infra/locks`` and every layer's requirements into ``layers/``."""
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run([sys.executable, "-m", "venv", scratch], check=True)
        subprocess.run([f"{scratch}/bin/pip", "install", "--quiet", UV], check=True)
        uv = [f"{scratch}/bin/uv", "pip", "compile", "--quiet", "--generate-hashes", "--no-header", "--no-annotate"]
        universal = [*uv, "--universal", "--python-version", "3.11"]
        for name, extras in EXTRAS.items():
            constraint = [] if name == "dev" else ["-c", str(LOCKS / "dev.txt")]
            wanted = [flag for extra in extras for flag in ("--extra", extra)]
            _run([*universal, *wanted, *constraint, "-o", str(LOCKS / f"{name}.txt"), "pyproject.toml"])
        for name, requirement in ALONE.items():
            source = Path(scratch) / f"{name}.in"
            source.write_text(requirement)
            _run([*universal, "-o", str(LOCKS / f"{name}.txt"), str(source)])
        for layer in LAYERS:
            target = ROOT / "layers" / layer / "requirements.txt"
            target.parent.mkdir(parents=True, exist_ok=True)
            platform = ["--python-version", "3.13", "--python-platform", "aarch64-manylinux_2_34"]
            constraint = ["-c", str(LOCKS / "dev.txt"), "--extra", layer]
            _run([*uv, *platform, *constraint, "-o", str(target), "pyproject.toml"])


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, cwd=ROOT)


if __name__ == "__main__":
    main()
