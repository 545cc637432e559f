"""Fixtures of the serving tests: tiny valid bundles, and a program that serves them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_bundles import TIMEFRAMES, Program, build_bundle, serving


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both kinds for all four timeframes, and one bundle that was tampered with."""
    folder = tmp_path_factory.mktemp("bundles")
    for timeframe in TIMEFRAMES:
        build_bundle(folder, "lstm", timeframe)
        build_bundle(folder, "patchtst", timeframe)
    spoiled = build_bundle(folder, "lstm", "1d")
    (spoiled / "model.onnx").write_bytes((spoiled / "model.onnx").read_bytes() + b"\0")
    return folder


@pytest.fixture(scope="session")
def program(bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """The program over `bundles`, shared by every test that does not end or load it."""
    with serving(bundles, tmp_path_factory.mktemp("log") / "program.log") as running:
        yield running
