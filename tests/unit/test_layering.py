"""Who may import whom (the arrows of the architecture), read from the source, not from what happens to be loaded."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT / "shared"

PURE = {
    "fusiontrade.fusion.agreement",
    "fusiontrade.fusion.calibration_states",
    "fusiontrade.fusion.targets",
    "fusiontrade.inference.intervals",
    "fusiontrade.inference.probabilities",
    "fusiontrade.journal.outcomes",
    "fusiontrade.journal.settlement",
    "fusiontrade.journal.statistics",
    "fusiontrade.swing.decisions",
    "fusiontrade.swing.rules",
    "fusiontrade.swing.sizing",
    "fusiontrade.swing.trader",
    "fusiontrade.trading.account",
    "fusiontrade.trading.costs",
    "fusiontrade.trading.outcomes",
    "fusiontrade.trading.performance",
    "fusiontrade.trading.reports",
    "fusiontrade.trading.simulation",
}
HARMLESS = {
    "__future__", "abc", "bisect", "collections", "dataclasses", "decimal", "enum", "fractions", "functools",
    "itertools", "math", "numpy", "operator", "statistics", "typing",
}  # fmt: skip
VALUES = {"fusiontrade.market.timeframes", "fusiontrade.market.candles", "fusiontrade.errors"}
SERVING_MAY = {"fusiontrade.inference", *VALUES}
TORCH = {"torch", "transformers", "safetensors", "sklearn"}
OF_TRAINING = {
    "serving.models", "serving.training", "serving.evaluation", "serving.lookahead", "serving.kronos.network",
    "serving.kronos.training", "serving.bringing",
}  # fmt: skip


def module_name(path: Path, base: Path) -> str:
    parts = list(path.relative_to(base).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> set[str]:
    """Every module the file imports, anywhere in it, except under ``if TYPE_CHECKING``."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import by absolute name"
            found.add(node.module or "")
            if node.module in {"fusiontrade", "serving", "functions"} or (node.module or "").startswith("fusiontrade"):
                found |= {f"{node.module}.{alias.name}" for alias in node.names if _is_module(node.module, alias.name)}
    return found


def _is_module(package: str | None, name: str) -> bool:
    place = ROOT.joinpath(*(package or "").split("."), name)
    inside = SHARED.joinpath(*(package or "").split("."), name)
    return any(candidate.with_suffix(".py").exists() or candidate.is_dir() for candidate in (place, inside))


def sources(base: Path, below: str) -> list[tuple[str, set[str]]]:
    return [(module_name(path, base), imported(path)) for path in sorted((base / below).rglob("*.py"))]


def under(name: str, packages: set[str]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


PRODUCT = sources(SHARED, "fusiontrade")
SERVING = sources(ROOT, "serving")
FUNCTIONS = sources(ROOT, "functions")


@pytest.mark.parametrize(("name", "imports"), PRODUCT, ids=[name for name, _ in PRODUCT])
def test_product_imports_neither_serving_nor_functions_nor_infra(name: str, imports: set[str]) -> None:
    assert not {i for i in imports if under(i, {"serving", "functions", "infra", "torch"})}


@pytest.mark.parametrize(
    ("name", "imports"), PRODUCT + SERVING + FUNCTIONS, ids=lambda v: v if isinstance(v, str) else ""
)
def test_boto_stays_inside_cloud(name: str, imports: set[str]) -> None:
    if not under(name, {"fusiontrade.cloud"}):
        assert not {i for i in imports if under(i, {"boto3", "botocore"})}


@pytest.mark.parametrize(
    ("name", "imports"), [p for p in PRODUCT if p[0] in PURE], ids=lambda v: v if isinstance(v, str) else ""
)
def test_pure_modules_import_no_input_or_output(name: str, imports: set[str]) -> None:
    allowed = HARMLESS | VALUES | PURE | {"fusiontrade.inference.contract", "fusiontrade.inference", "fusiontrade"}
    packages = {name.rpartition(".")[0]}
    assert not {i for i in imports if i.split(".")[0] not in allowed and not under(i, allowed) and i not in packages}


@pytest.mark.parametrize(("name", "imports"), SERVING, ids=[name for name, _ in SERVING])
def test_serving_sees_only_the_contract_and_candles(name: str, imports: set[str]) -> None:
    of_product = {i for i in imports if i.startswith("fusiontrade.")}
    allowed = set(SERVING_MAY)
    if under(name, {"serving.training", "serving.evaluation", "serving.lookahead", "serving.kronos.training"}):
        allowed |= PURE | {"fusiontrade.market"}
    stray = {i for i in of_product if not under(i, allowed)}
    assert not {i for i in stray if not any(under(a, {i}) for a in allowed & of_product)}


@pytest.mark.parametrize(("name", "imports"), SERVING, ids=[name for name, _ in SERVING])
def test_torch_is_only_for_training(name: str, imports: set[str]) -> None:
    if not under(name, OF_TRAINING):
        assert not {i for i in imports if under(i, TORCH | OF_TRAINING)}


@pytest.mark.parametrize(("name", "imports"), FUNCTIONS, ids=[name for name, _ in FUNCTIONS])
def test_functions_import_the_product_and_never_each_other(name: str, imports: set[str]) -> None:
    assert not {i for i in imports if under(i, {"serving", "functions", "infra"})}


@pytest.mark.parametrize(("name", "imports"), PRODUCT, ids=[name for name, _ in PRODUCT])
def test_terminal_libraries_stay_in_the_command(name: str, imports: set[str]) -> None:
    if not under(name, {"fusiontrade.cli"}):
        assert not {i for i in imports if under(i, {"typer", "rich", "fusiontrade.cli"})}
