"""Commands of other packages: found by their entry point, imported only when they are run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

COMMAND = """
import typer
app = typer.Typer(add_completion=False)
@app.command()
def weigh(grams: int, heavy: bool = False) -> None:
    typer.echo(f"weighed {grams} {heavy}")
    raise typer.Exit(1 if heavy else 0)
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path, into which a test installs commands."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def install(folder: Path, entry: str) -> None:
    info = folder / "scales-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: scales\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[fusiontrade.commands]\n{entry}\n")


def test_a_command_of_another_package_gets_its_own_options_and_gives_its_own_exit_code(
    command: Any, package: Path
) -> None:
    (package / "scales_command.py").write_text(COMMAND)
    install(package, "weigh = scales_command:app")
    light, heavy = command.run("weigh", "12"), command.run("weigh", "13", "--heavy")
    assert (light.stdout, light.exit_code) == ("weighed 12 False\n", 0)
    assert (heavy.stdout, heavy.exit_code) == ("weighed 13 True\n", 1)
    assert command.run("weigh", "--lighter").exit_code == 2


def test_help_names_the_command_and_imports_nothing_of_it(command: Any, package: Path) -> None:
    (package / "scales_broken.py").write_text("raise RuntimeError('imported')")
    install(package, "weigh = scales_broken:app")
    told = command.run("--help")
    assert told.exit_code == 0
    assert "weigh" in told.stdout
    assert "scales_broken" not in sys.modules


def test_a_command_whose_library_is_missing_says_which_environment_has_it(command: Any, package: Path) -> None:
    (package / "scales_missing.py").write_text("import no_such_library")
    install(package, "weigh = scales_missing:app")
    result = command.run("weigh", "12")
    assert result.exit_code == 5
    assert "weigh: scales_missing:app cannot be imported: No module named 'no_such_library'" in result.stderr
    assert "environment of the repository" in result.stderr


def test_lookahead_that_is_not_installed_says_where_it_is(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: ())
    result = command.run("lookahead", "--json")
    assert result.exit_code == 5
    assert "lookahead: not installed here. The environments run, train and dev" in result.stderr
    assert "python -m serving.lookahead" in result.stderr


def test_an_unknown_command_is_wrong_usage(command: Any) -> None:
    result = command.run("looka")
    assert result.exit_code == 2
    assert "No such command 'looka'" in result.stderr


def test_the_other_commands_import_neither_serving_nor_numpy() -> None:
    program = (
        "import sys; from typer.testing import CliRunner; from fusiontrade.cli.app import app\n"
        "assert CliRunner().invoke(app, ['doctor', '--help']).exit_code == 0\n"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in ('serving', 'numpy', 'torch', 'pandas')))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
