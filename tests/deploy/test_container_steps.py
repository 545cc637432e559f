"""The steps of the serving image, run as the Dockerfile would but without Docker."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
CONTAINER = ROOT / "serving" / "container"
DOCKERFILE = (ROOT / "serving" / "Dockerfile").read_text()


def _tiny_bundles() -> ModuleType:
    name = "container_tiny_bundles"
    spec = importlib.util.spec_from_file_location(name, ROOT / "tests" / "serving" / "tiny_bundles.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


tiny = _tiny_bundles()


def environ(program: Path, **more: str) -> dict[str, str]:
    """What the image sets, with this interpreter in place of the image's; nothing of the repository."""
    path = f"{program / 'bin'}:{os.environ['PATH']}"
    return {"PATH": path, "PYTHONPATH": str(program), "SERVING_PYTHON": sys.executable, **more}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("image") / "program"
    subprocess.run([CONTAINER / "assemble.sh", ROOT, target, sys.executable], check=True, timeout=60)
    return target


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny.build_bundle(folder, "lstm")
    tiny.build_bundle(folder, "patchtst")
    return folder


def test_only_what_serving_needs_is_copied(program: Path) -> None:
    folders = {path.name for path in (program / "serving").iterdir() if path.is_dir()}
    assert folders <= {"features", "kronos", "sentiment", "starter", "swing", "__pycache__"}
    assert not [path for path in (program / "serving" / "kronos").iterdir() if path.name in ("network", "training")]
    product = {str(path.relative_to(program)) for path in (program / "fusiontrade").rglob("*.py")}
    assert product == {
        "fusiontrade/__init__.py",
        "fusiontrade/errors.py",
        "fusiontrade/inference/__init__.py",
        "fusiontrade/inference/contract.py",
        "fusiontrade/inference/intervals.py",
        "fusiontrade/inference/probabilities.py",
        "fusiontrade/inference/swing.py",
        "fusiontrade/inference/texts.py",
        "fusiontrade/inference/wire.py",
        "fusiontrade/market/__init__.py",
        "fusiontrade/market/candles.py",
        "fusiontrade/market/timeframes.py",
    }


def test_every_copied_module_is_compiled_for_good(program: Path) -> None:
    """Bytes 4 to 8 of bytecode are its flags: 1 is made from a hash of the source and never checked against it."""
    modules = {path.relative_to(program).with_suffix("") for path in program.rglob("*.py")}
    compiled = {path: path.read_bytes()[4:8] for path in program.rglob("*.pyc")}
    assert {(path.parent.parent / path.name.partition(".")[0]).relative_to(program) for path in compiled} == modules
    assert set(compiled.values()) == {b"\x01\0\0\0"}


def test_every_copied_module_imports_from_the_copy_and_without_torch(program: Path) -> None:
    code = (
        "import importlib, json, pathlib, sys\n"
        f"root = pathlib.Path({str(program)!r})\n"
        "names = ['.'.join(p.relative_to(root).with_suffix('').parts) for p in sorted(root.rglob('*.py'))]\n"
        "places = [importlib.import_module(n.removesuffix('.__init__')).__file__ for n in names]\n"
        "print(json.dumps([places, 'torch' in sys.modules]))\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=program,
        env=environ(program, PYTHONDONTWRITEBYTECODE="1"),
        check=False,
    )
    assert told.returncode == 0, told.stderr
    places, torch = json.loads(told.stdout)
    assert len(places) > 15
    assert all(place.startswith(str(program)) for place in places)
    assert not torch


@pytest.mark.parametrize("arguments", [("serve",), ()], ids=["docker run IMAGE serve", "docker run IMAGE"])
def test_the_copy_serves_is_healthy_and_ends_with_zero_at_sigterm(
    program: Path, bundles: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    command = (str(program / "bin" / "serve"), *arguments)
    with tiny.serving(bundles, tmp_path / "log", command=command, environ=environ(program), cwd=tmp_path) as running:
        assert httpx.get(running.url + "/ping").status_code == 200
        health = [program / "bin" / "healthcheck"]
        healthy = environ(program, SERVING_PORT=str(running.port))
        assert subprocess.run(health, env=healthy, timeout=20, check=False).returncode == 0
        answer = httpx.post(running.url + "/invocations", json={"items": [tiny.item(tiny.candles())]}, timeout=30)
        assert answer.status_code == 200
        (item,) = answer.json()["items"]
        assert item["error"] is None
        assert item["lstm"]["model"]["id"] == "lstm-1h"
        assert running.end() == 0
    ended = subprocess.run(health, env=healthy, timeout=20, check=False, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "not healthy" in ended.stderr


def tiny_wheel(folder: Path) -> str:
    """Write a wheel of one empty module and return its sha256."""
    path = folder / "tinywheel-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tinywheel.py", "")
        about = "tinywheel-1.0.dist-info"
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tinywheel\nVersion: 1.0\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "tinywheel.py,,\n")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_installing_takes_only_what_has_its_hash_and_leaves_no_pip_behind(tmp_path: Path) -> None:
    digest, requirements = tiny_wheel(tmp_path), tmp_path / "requirements.txt"
    install = [CONTAINER / "install.sh", sys.executable, tmp_path / "venv", requirements]
    offline = {"PATH": os.environ["PATH"], "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}

    requirements.write_text(f"tinywheel==1.0 --hash=sha256:{'0' * 64}\n")
    refused = subprocess.run(install, env=offline, capture_output=True, text=True, timeout=120, check=False)
    assert refused.returncode != 0
    assert "DO NOT MATCH THE HASHES" in refused.stderr

    requirements.write_text(f"tinywheel==1.0 --hash=sha256:{digest}\n")
    done = subprocess.run(install, env=offline, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    probe = "import importlib.util as u; print([n for n in ('tinywheel', 'pip') if u.find_spec(n)])"
    told = subprocess.run([tmp_path / "venv/bin/python", "-c", probe], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "['tinywheel']"


@pytest.mark.parametrize(("has_python", "installs"), [(True, False), (False, True)])
def test_a_base_image_gets_python_only_where_it_has_none(tmp_path: Path, has_python: bool, installs: bool) -> None:
    if has_python and not Path("/usr/share/zoneinfo/America/New_York").exists():
        pytest.skip("this machine has no time zone data of its own")
    for tool, code in {"apt-get": f'echo "$@" >> {tmp_path}/called', "rm": "", "python3.12": ""}.items():
        if tool != "python3.12" or has_python:
            (tmp_path / tool).write_text(f"#!/bin/sh\n{code}\n")
            (tmp_path / tool).chmod(0o755)
    subprocess.run(["/bin/sh", CONTAINER / "base.sh"], env={"PATH": str(tmp_path)}, check=True, timeout=20)
    assert (tmp_path / "called").exists() == installs
    if installs:
        assert "python3.12 python3.12-venv tzdata" in (tmp_path / "called").read_text()


@pytest.mark.parametrize(
    ("name", "runtime"), [("requirements.txt", "onnxruntime"), ("requirements-cuda.txt", "onnxruntime-gpu")]
)
def test_requirements_are_pinned_with_hashes_and_have_no_training_libraries(name: str, runtime: str) -> None:
    text = (CONTAINER / name).read_text()
    pins = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))
    assert runtime in pins
    assert {"numpy", "pydantic", "starlette", "ta-lib", "uvicorn"} <= set(pins)
    assert not {"torch", "transformers", "pandas", "scikit-learn", "boto3"} & set(pins)
    assert all("--hash=sha256:" in block for block in re.split(r"\n(?=[a-z])", text.strip()))
    assert "://" not in text


def test_both_variants_pin_the_same_versions() -> None:
    def pins(name: str) -> set[tuple[str, str]]:
        found = re.findall(r"^([a-z0-9-]+)==(\S+)", (CONTAINER / name).read_text(), re.MULTILINE)
        return {(package.removesuffix("-gpu"), version) for package, version in found}

    assert pins("requirements.txt") == pins("requirements-cuda.txt")


def test_the_dockerfile_runs_only_scripts_that_exist_and_ends_as_a_user_without_rights() -> None:
    steps = re.findall(r"^RUN (.+)$", DOCKERFILE, re.MULTILINE)
    scripts = [match[1] for step in steps if (match := re.match(r"\W*/(?:build/container|tmp)/([a-z]+\.sh)", step))]
    assert len(scripts) == len(steps) == 4
    for script in (*scripts, "serve", "healthcheck"):
        assert os.access(CONTAINER / script, os.X_OK), script
        subprocess.run(["sh", "-n", CONTAINER / script], check=True)
    users = re.findall(r"^USER (\d+)", DOCKERFILE, re.MULTILINE)
    assert users
    assert int(users[-1]) > 0
    assert 'ENTRYPOINT ["serve"]' in DOCKERFILE
    assert re.search(r"^HEALTHCHECK .*healthcheck", DOCKERFILE, re.MULTILINE)
    assert "ARG BASE_IMAGE=python:3.12-slim" in DOCKERFILE
    for copied in re.findall(r"^COPY (?!--from)(\S+) ", DOCKERFILE, re.MULTILINE):
        assert (ROOT / copied).exists(), copied
