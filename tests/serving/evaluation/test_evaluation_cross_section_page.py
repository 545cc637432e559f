"""Universes in the page and the documentation: a study's block ``cross_sections`` becomes tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from sample_study import sample_study

from serving.evaluation.cross_section import Panel, study_cross_section
from serving.evaluation.markdown import main
from serving.evaluation.page import rendered


def test_a_study_with_universes_shows_their_tables_on_the_page_and_in_the_documentation(tmp_path: Path, capsys) -> None:
    random = np.random.default_rng(1)
    price = 100 * np.exp(np.cumsum(random.normal(0, 0.02, (60, 25)), axis=0))
    panel = Panel(tuple(map(str, range(25))), 86_400_000 * np.arange(60), price, price, np.zeros(price.shape, np.bool_))
    found = study_cross_section({"ensemble": {3: panel.from_open(3)}}, panel, targets={3: (0.035, 0.045)})
    study = sample_study() | {"cross_sections": {"NIFTY <100>": found}}
    (tmp_path / "evaluation.json").write_text(json.dumps(study))
    assert main([str(tmp_path)]) == 0
    text, page = capsys.readouterr().out, rendered(study)
    assert "**NIFTY <100>: targets, the ensemble**" in text
    assert "NIFTY &lt;100&gt;: targets, the ensemble" in page
    assert "NIFTY <100>" not in page
