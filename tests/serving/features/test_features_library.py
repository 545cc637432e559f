"""Our smart-money events beside those of ``smartmoneyconcepts``, where its environment was made (``make bench``)."""

from __future__ import annotations

import json
import subprocess

import pytest

from infra.bench.rows import ROOT
from infra.environment import interpreter

PYTHON = interpreter("bench")
COMPARE = (
    "import json; from infra.bench.opponents import walk; from infra.bench.smart_money_sides import compared; "
    "print(json.dumps(compared(walk(1200))))"
)


@pytest.mark.skipif(not PYTHON.is_file(), reason="no environment with smartmoneyconcepts: make bench creates it")
def test_every_event_of_the_library_is_ours_where_the_definitions_coincide() -> None:
    told = subprocess.run(
        [str(PYTHON), "-c", COMPARE],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'shared'}", "SMC_CREDIT": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(told.stdout)
    for kind in ("gaps", "swings", "swings as they come", "blocks", "breaks"):
        assert found[kind]["both"] > 5, kind
        assert found[kind]["theirs alone"] == 0, kind
    for kind in ("gaps", "swings"):
        assert found[kind]["ours alone"] == 0, kind
    assert found["their kind"]["both"] >= 0.9 * found["breaks"]["both"]
