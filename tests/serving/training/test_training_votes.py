"""When a PatchTST may vote: if up against down was forecast better than the base rate, whatever it knows of calm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from training_data import two_series

from fusiontrade.market.timeframes import Timeframe
from serving.card import ModelCard
from serving.training import TrainingConfig, pool_of, prepare
from serving.training.judging.judge import calibrated_patchtst, judged
from serving.training.judging.references import held_out
from serving.training.pipeline import _known
from serving.training.prepared import Prepared

CONFIG = TrainingConfig(bootstrap=5)


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(pool_of(Timeframe.H1, two_series()), CONFIG)


def finished(prepared: Prepared, logits: np.ndarray) -> tuple[ModelCard, dict[str, Any]]:
    """The card and report of a PatchTST that answers these (rows of the pool, 3) logits."""
    known = _known(prepared, "patchtst", CONFIG, {})

    def answer(rows: np.ndarray) -> dict[str, np.ndarray]:
        return {"classes": logits[rows].astype(np.float32)}

    card, found = calibrated_patchtst(known, prepared, answer)
    card, figures = judged(card, prepared, held_out(prepared), answer, CONFIG)
    return card, found | {"figures": figures}


def classes_of(prepared: Prepared) -> np.ndarray:
    return prepared.pool.column(lambda one: one.labels.classes)


def test_a_model_that_knows_nothing_abstains_and_says_why(prepared: Prepared) -> None:
    card, report = finished(prepared, np.random.default_rng(3).normal(0, 0.2, (len(classes_of(prepared)), 3)))
    assert card.abstains
    assert report["direction"]["abstains"] is True
    assert report["direction"]["up_or_down_against_base_rate"]["p_better"] > 0.01


def test_a_model_that_knows_only_when_little_happens_abstains(prepared: Prepared) -> None:
    flat = classes_of(prepared) == 1
    logits = np.zeros((len(flat), 3))
    logits[:, 1] = np.where(flat, 1.0, -1.0)
    card, report = finished(prepared, logits)
    assert report["figures"]["pooled"]["log_loss_skill"]["low"] > 0.1
    assert card.abstains


def test_a_model_that_knows_the_direction_votes(prepared: Prepared) -> None:
    rng, classes = np.random.default_rng(4), classes_of(prepared)
    knows = rng.random(len(classes)) < 0.3
    logits = np.zeros((len(classes), 3))
    logits[knows, classes[knows]] = 1.0
    card, report = finished(prepared, logits)
    assert not card.abstains
    assert report["direction"]["up_or_down_against_base_rate"]["p_better"] < 1e-6
