"""Write the locks anew: ``make lock`` (needs the network and the pinned ``uv``; nothing else does).

Every lock is universal (one file for Python 3.11 to 3.13) and carries hashes. ``dev`` is resolved first and
constrains all the others, so that a package has one version in the whole project. torch is never locked here:
`environment.py` installs it first and alone.
"""

from __future__ import annotations

import subprocess
import tempfile
import tomllib
from pathlib import Path

from infra import environment

ROOT, LOCKS = environment.ROOT, environment.LOCKS
BASE = ["api", "market", "serving", "cloud", "cli", "local", "build"]
EXTRAS = {
    "dev": [*BASE, "train", "evaluation", "dev"],
    "train": [*BASE, "train", "evaluation"],
    "run": BASE,
    "lambda": [*BASE, "test"],
    "bench": ["serving", "bench"],
}
LAYERS = ["api", "market"]
ALONE = {
    "uv": "uv==0.13.8\n",
    "emulator": "ministack[full]==1.5.33\n",
    "sam": "aws-sam-cli==1.170.0\ncfn-lint==1.58.0\n",
}


def main() -> None:
    """Resolve every lock, every layer's requirements and the serving image's."""
    with tempfile.TemporaryDirectory() as scratch:
        uv = [
            str(environment.ensure("uv").with_name("uv")),
            "pip",
            "compile",
            "--quiet",
            "--generate-hashes",
            "--no-header",
            "--no-annotate",
        ]
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
        _lock_container(uv, Path(scratch))


def _lock_container(uv: list[str], scratch: Path) -> None:
    """Resolve the serving image's requirements: Python 3.12, once with each build of ONNX Runtime."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        serving = tomllib.load(file)["project"]["optional-dependencies"]["serving"]
    for name, runtime in (("requirements", "onnxruntime"), ("requirements-cuda", "onnxruntime-gpu")):
        source = scratch / f"{name}.in"
        source.write_text("\n".join(runtime if one == "onnxruntime" else one for one in serving))
        target = ROOT / "serving" / "container" / f"{name}.txt"
        platform = ["--python-version", "3.12", "--python-platform", "x86_64-manylinux_2_34"]
        _run([*uv, *platform, "-c", str(LOCKS / "dev.txt"), "-o", str(target), str(source)])


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, cwd=ROOT)


if __name__ == "__main__":
    main()
