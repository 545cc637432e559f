"""``make build``: validate, `sam build`, and the finishing steps that SAM leaves out.

Always true here: what is measured is what is deployed (the folders under the build folder, after every step); a file
for another processor than the functions' stops the build; so does a function that is larger than `LIMIT` together
with its layers. Runs on the environment ``sam`` (its PyYAML) and needs Python 3.13, found at run time. Credentials are
dummies: nothing here talks to AWS.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra import environment
from infra.local.template import LAYER, Template

__all__ = ["LIMIT", "BuildFailure", "Size", "build", "bytes_of", "check_and_strip", "main", "prune", "sizes", "table"]

ROOT = environment.ROOT
PYTHON = (3, 13)
LIMIT = 200_000_000
"""Most bytes that a function may have unzipped with its layers; Lambda itself takes 262,144,000."""

ELF_MACHINES = {"arm64": 0xB7, "x86_64": 0x3E}
_PRUNED_FOLDERS = {"tests", "test", "__pycache__", "bin", "include"}
_PRUNED_SUFFIXES = {
    ".pyc", ".pyi", ".pyx", ".pxd", ".pxi", ".c", ".cc", ".cpp", ".h", ".hpp", ".a", ".lib", ".md", ".rst",
}  # fmt: skip
_PRUNED_NAMES = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "py.typed"}
_COMMAND = Path("python", "fusiontrade", "cli")


class BuildFailure(Exception):
    """The build is no good; the message says why and what to do."""


@dataclass(frozen=True)
class Size:
    """One function or layer: bytes as SAM built it, and as it is deployed."""

    name: str
    raw: int
    finished: int
    layers: tuple[str, ...] = ()


def build(arch: str, folder: Path, *, cached: bool) -> list[Size]:
    """Build every function and layer for ``arch`` into ``folder`` and finish them; return their sizes.

    Raises
    ------
    BuildFailure
        If Python 3.13 is missing, a command fails, or a result is not fit to be deployed.
    """
    python = environment.find_python(PYTHON)
    if python is None:
        raise BuildFailure("sam build needs Python 3.13: install it, or put python3.13 on PATH")
    flags = ["--parallel", "--cached", "--cache-dir", str(folder.parent / "cache")] if cached else ["--no-cached"]
    _call([_tool("sam"), "build", *flags, "--build-dir", str(folder), "--parameter-overrides", f"Arch={arch}"], python)
    template = Template(folder / "template.yaml")
    raw = dict(bytes_of(template))
    strip = _strip_command(arch)
    for layer in _folders(template).values():
        prune(layer)
        check_and_strip(layer, arch, strip)
    _compile(template, python)
    if strip is None:
        print("libraries were not stripped: install llvm-strip (LLVM) to make the layers smaller")
    return sizes(template, raw)


def prune(folder: Path) -> None:
    """Remove what no function reads at run time: tests, stubs, sources, records of the installer, the command."""
    shutil.rmtree(folder / _COMMAND, ignore_errors=True)
    for place, inner, names in os.walk(folder):
        here = Path(place)
        for name in _PRUNED_FOLDERS.intersection(inner):
            shutil.rmtree(here / name)
            inner.remove(name)
        for name in names:
            if name in _PRUNED_NAMES or (Path(name).suffix in _PRUNED_SUFFIXES and "LICEN" not in name.upper()):
                (here / name).unlink()


def sizes(template: Template, raw: dict[str, int]) -> list[Size]:
    """Return the size of every layer and function of a built template; raises `BuildFailure` over `LIMIT`."""
    finished = dict(bytes_of(template))
    layers = [Size(name, raw[name], finished[name]) for name in template.of_type(LAYER)]
    functions = [Size(name, raw[name], finished[name], made.layers) for name, made in template.functions.items()]
    for function in functions:
        if (total := _total(function, finished)) > LIMIT:
            raise BuildFailure(f"{function.name} has {_mb(total)} MB with its layers, more than {_mb(LIMIT)} MB")
    return layers + functions


def _environment(python: Path) -> dict[str, str]:
    """Return the environment for SAM: Python 3.13 first on PATH, credentials that open nothing."""
    return {
        **os.environ,
        "PATH": os.pathsep.join([str(python.resolve().parent), os.environ.get("PATH", "")]),
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "SAM_CLI_TELEMETRY": "0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


def _folders(template: Template) -> dict[str, Path]:
    """The folders of a built template's layers and functions, by logical id."""
    layers = {name: template.path.parent / template.properties(name)["ContentUri"] for name in template.of_type(LAYER)}
    return {**layers, **{name: function.code for name, function in template.functions.items()}}


def bytes_of(template: Template) -> Iterator[tuple[str, int]]:
    """Give every layer and function of a built template with its unzipped bytes as they are now."""
    for name, folder in _folders(template).items():
        yield name, sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _libraries(folder: Path) -> Iterator[tuple[Path, int]]:
    """Every ELF file and the machine its header names (e_machine, two bytes little-endian at offset 18)."""
    for file in folder.rglob("*"):
        if file.is_file() and not file.is_symlink():
            with file.open("rb") as stream:
                header = stream.read(20)
            if header[:4] == b"\x7fELF":
                yield file, int.from_bytes(header[18:20], "little")


def check_and_strip(folder: Path, arch: str, strip: list[str] | None) -> None:
    """Make sure that every library is for ``arch``, then strip them; raises `BuildFailure`."""
    libraries = dict(_libraries(folder))
    wrong = [file for file, machine in libraries.items() if machine != ELF_MACHINES[arch]]
    if wrong:
        names = ", ".join(str(file.relative_to(folder)) for file in wrong[:5])
        raise BuildFailure(f"{folder.name} holds libraries that are not for {arch}: {names}")
    if strip and libraries:
        _call([*strip, *map(str, libraries)])


def _strip_command(arch: str) -> list[str] | None:
    """Return a command that strips libraries of ``arch``, or None: LLVM's knows every processor, GNU's only its own."""
    native = {"aarch64": "arm64", "arm64": "arm64", "x86_64": "x86_64"}.get(os.uname().machine)
    gnu = {"arm64": "aarch64-linux-gnu-strip", "x86_64": "x86_64-linux-gnu-strip"}[arch]
    candidates = ["llvm-strip", *(f"llvm-strip-{version}" for version in range(22, 12, -1)), gnu]
    candidates += ["strip"] if native == arch and sys.platform == "linux" else []
    found = next(filter(None, map(shutil.which, candidates)), None)
    return [found, "--strip-unneeded"] if found else None


def _compile(template: Template, python: Path) -> None:
    """Compile everything to bytecode that is used whatever the files' dates: SAM's archives set them all to 1980."""
    how = ["-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash"]
    for name, folder in _folders(template).items():
        root = "/var/task" if name in template.functions else "/opt"
        _call([str(python), *how, "-s", str(folder), "-p", root, str(folder)])


def _tool(name: str) -> str:
    return str(environment.folder("sam") / "bin" / name)


def _call(command: Sequence[str], python: Path | None = None) -> None:
    variables = _environment(python) if python else None
    told = subprocess.run(
        command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if told.returncode:
        raise BuildFailure(f"{' '.join(command[:3])} ended with {told.returncode}:\n{told.stdout.strip()[-6000:]}")


def _total(function: Size, finished: dict[str, int]) -> int:
    return function.finished + sum(finished[layer] for layer in function.layers)


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f}"


def table(rows: Iterable[Size]) -> str:
    """Return the sizes as text, one line for each; MB are 10⁶ bytes, unzipped."""
    rows = list(rows)
    finished = {row.name: row.finished for row in rows}
    lines = [f"{'unzipped, MB':<16}{'built':>9}{'finished':>10}{'with layers':>13}"]
    for row in rows:
        total = _mb(_total(row, finished)) if row.layers else ""
        lines.append(f"{row.name:<16}{_mb(row.raw):>9}{_mb(row.finished):>10}{total:>13}  {' '.join(row.layers)}")
    return "\n".join([*lines, f"limit of a function with its layers: {_mb(LIMIT)} MB"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Validate, build and finish; print the sizes; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m infra.build", description="Functions and layers, ready to deploy.")
    parser.add_argument("--arch", choices=sorted(ELF_MACHINES), default="arm64", help="processor (default: arm64)")
    parser.add_argument("--folder", type=Path, help="where to (default: .aws-sam/build; x86_64: build/x86_64/build)")
    options = parser.parse_args(arguments)
    default = {"arm64": Path(".aws-sam/build"), "x86_64": Path("build/x86_64/build")}[options.arch]
    folder = ROOT / (options.folder or default)
    try:
        python = environment.find_python(PYTHON) or Path(sys.executable)
        nested = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "infra").glob("*.yaml"))
        _call([_tool("sam"), "validate", "--lint"], python)
        _call([_tool("cfn-lint"), "template.yaml", *nested], python)
        print(f"template.yaml and {', '.join(nested)} are valid and lint-clean", flush=True)
        rows = build(options.arch, folder, cached=options.arch == "arm64")
    except BuildFailure as failure:
        print(failure, file=sys.stderr)
        return 1
    print(f"built for {options.arch} in {folder.relative_to(ROOT)}")
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
