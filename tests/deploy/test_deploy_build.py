"""What `make build` makes, run from its folders alone under Lambda's Python and runtime client."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra import build, environment
from infra.local.template import LAYER, Template
from tests.deploy.test_deploy_runtime import FORECAST, NOT_IN_LAMBDA
from tests.support.lambda_runtime import (
    BROUGHT_BY_LAMBDA,
    ROOT,
    function_called,
    lambda_python,
    link_packages,
    request,
    run_python,
)

HERE = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}.get(os.uname().machine.lower(), "")
SOURCES = ("template.yaml", "infra/build.py", "functions", "shared/fusiontrade", "layers")

pytestmark = pytest.mark.timeout(600)


def fingerprint() -> str:
    """Of everything that the build reads."""
    digest = hashlib.sha256()
    for source in SOURCES:
        place = ROOT / source
        for file in [place] if place.is_file() else sorted(place.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def no_package_index(folder: Path) -> bool:
    """Whether not even one small package can be had: then a failed build says nothing about the project."""
    fetch = [environment.interpreter("dev"), "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir"]
    fetch += ["--retries", "1", "--timeout", "10"]
    return subprocess.run([*fetch, "--dest", folder, "six"], capture_output=True, check=False).returncode != 0


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """The build for this machine's processor, made anew only when something it reads has changed."""
    lambda_python()
    if sys.platform != "linux" or not HERE:
        pytest.skip("libraries built for Lambda run on Linux only")
    if not environment.interpreter("sam").exists():
        pytest.skip("the environment 'sam' is absent: run make test")
    folder = ROOT / "build" / "tested" / "build"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another worker may be building: it builds once for both
        mark, wanted = folder.parent / "fingerprint", fingerprint()
        if not (mark.exists() and mark.read_text() == wanted and (folder / "template.yaml").exists()):
            mark.unlink(missing_ok=True)
            build_into(folder, tmp_path_factory.mktemp("index"))
            mark.write_text(wanted)
    return Template(folder / "template.yaml")


def build_into(folder: Path, scratch: Path) -> None:
    """Run what `make build` runs; skip where that needs a network that is not there."""
    command = [environment.interpreter("sam"), "-m", "infra.build", "--arch", HERE]
    told = subprocess.run(
        [*command, "--folder", folder.relative_to(ROOT)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if "Could not satisfy the requirement" in told.stderr and no_package_index(scratch):
        pytest.skip("sam build fetches the layers' packages, and no package index can be reached")
    assert told.returncode == 0, told.stdout + told.stderr


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runtime")
    link_packages(BROUGHT_BY_LAMBDA, folder)
    return folder


def folder_of(built: Template, layer: str) -> Path:
    return built.path.parent / str(built.properties(layer)["ContentUri"]) / "python"


def paths_of(built: Template, title: str, runtime: Path) -> list[Path]:
    function = function_called(title, built)
    return [function.code, *(folder_of(built, layer) for layer in function.layers), runtime]


@pytest.mark.parametrize(
    ("title", "target", "status"),
    [("docs", "/api/health", 200), ("auth", "/api/v1/auth/me", 401), ("fusion", "/api/v1/fusion/GC=F", 401)],
)
def test_built_handler_answers_from_its_own_folders(
    built: Template, runtime: Path, title: str, target: str, status: int
) -> None:
    function = function_called(title, built)
    answer = request(function, "GET", target, paths_of(built, title, runtime), X_Request_Id="built-handler-1")
    assert answer["statusCode"] == status
    assert answer["headers"]["x-request-id"] == "built-handler-1"


def test_built_password_hash_and_signature_work(built: Template, runtime: Path) -> None:
    code = (
        "from fusiontrade.accounts.admission.tokens import SigningKeys\n"
        "from fusiontrade.accounts.credentials.passwords import Passwords\n"
        "from fusiontrade.settings import Settings\n"
        "passwords = Passwords.of(Settings.from_environment({'STAGE': 'local'}))\n"
        "print(passwords.verify('a long password', passwords.hash('a long password')))\n"
        "keys = SigningKeys.generate()\n"
        "print(SigningKeys.from_json(keys.to_json()).public() == keys.public())\n"
    )
    said = run_python(code, function_called("auth", built), paths_of(built, "auth", runtime))
    assert said.split() == ["True", "True"]


def test_built_forecast_runs_from_its_own_folders(built: Template, runtime: Path) -> None:
    said = run_python(
        FORECAST.replace("NOT_IN_LAMBDA", repr(NOT_IN_LAMBDA)),
        function_called("fusion", built),
        paths_of(built, "fusion", runtime),
        AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME="http://127.0.0.1:9",
        ARTIFACTS_BUCKET="",
    )
    answers = [line for line in said.splitlines() if not line.startswith("{")]
    assert answers == ["EURUSD=X was sent to the models", "AAPL was sent to the models", "[]"]


def test_built_layers_hold_nothing_that_is_not_read(built: Template) -> None:
    shared = folder_of(built, "SharedLayer") / "fusiontrade"
    assert (shared / "settings.py").is_file()
    assert not (shared / "cli").exists()
    for layer in built.of_type(LAYER):
        folder = folder_of(built, layer)
        assert not list(folder.rglob("tests"))
        assert not list(folder.rglob("*.pyi"))
        assert not {"boto3", "botocore", "pyarrow", "torch"} & {path.name for path in folder.iterdir()}, layer


def test_built_bytecode_is_used_whatever_the_date_of_its_source(built: Template) -> None:
    checked = 0
    for function in built.functions.values():
        folders = [function.code, *(folder_of(built, layer) for layer in function.layers)]
        for compiled in (path for folder in folders for path in folder.rglob("*.cpython-313.pyc")):
            with compiled.open("rb") as stream:
                flags = int.from_bytes(stream.read(8)[4:], "little")
            assert flags == 0b01, compiled  # by hash, and the hash is not looked at
            checked += 1
    assert checked > 1000


def test_built_function_with_its_layers_is_below_the_limit(built: Template) -> None:
    now = dict(build.bytes_of(built))
    measured = {size.name: size for size in build.sizes(built, now)}
    for name, function in built.functions.items():
        total = measured[name].finished + sum(measured[layer].finished for layer in function.layers)
        assert total < build.LIMIT, name
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "LIMIT", 1_000_000)
        with pytest.raises(build.BuildFailure, match=r"more than 1\.0 MB"):
            build.sizes(built, now)


def test_library_for_another_processor_stops_the_build(tmp_path: Path) -> None:
    for name, machine in {"right.so": 0xB7, "wrong.so": 0x3E}.items():
        (tmp_path / name).write_bytes(b"\x7fELF" + bytes(14) + machine.to_bytes(2, "little") + bytes(40))
    with pytest.raises(build.BuildFailure, match=r"not for arm64: wrong\.so"):
        build.check_and_strip(tmp_path, "arm64", None)


def test_pruning_keeps_code_data_metadata_and_licences(tmp_path: Path) -> None:
    kept = ["python/pkg/__init__.py", "python/pkg/data.csv", "python/pkg/lib.so", "python/pkg-1.dist-info/METADATA",
            "python/pkg-1.dist-info/licenses/LICENSE.md", "python/fusiontrade/web/transport/floor.py"]  # fmt: skip
    pruned = ["python/pkg/tests/test_it.py", "python/pkg/fast.pyx", "python/pkg/types.pyi", "python/bin/tool",
              "python/pkg/__pycache__/__init__.cpython-313.pyc", "python/pkg-1.dist-info/RECORD",
              "python/fusiontrade/cli/app.py", "python/README.md"]  # fmt: skip
    for name in kept + pruned:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps(name))
    build.prune(tmp_path)
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == sorted(kept)
