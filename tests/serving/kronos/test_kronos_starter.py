"""The stand-in that ships: verified, small, said to be one, and blind to everything from 2021 on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from serving.bringing.kronos import proof_windows
from serving.kronos.encoder import Encoder, load_encoder

FOLDER = Path(__file__).resolve().parents[3] / "serving" / "starter" / "kronos-compact"
UNTIL = 1_609_459_200_000

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"{FOLDER.name} was not trained yet")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder(FOLDER)


def test_it_is_a_small_stand_in_that_saw_nothing_after_its_end(encoder: Encoder) -> None:
    card = encoder.card
    assert (card.width, card.sequence, card.stand_in, card.source.how) == (512, 120, True, "trained")
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 4_000_000
    assert card.data is not None
    assert max(series.last for series in card.data.series) < UNTIL
    assert len(card.data.series) > 200


def test_it_foretells_the_next_tokens_better_than_their_frequencies(encoder: Encoder) -> None:
    figures = {name: metric.value for name, metric in encoder.card.metrics.items()}
    assert figures["s1"] < figures["s1_usual"]
    assert figures["s2"] < figures["s2_usual"]
    assert figures["reconstruction"] < figures["reconstruction_coarse"] < 1
    assert json.loads((FOLDER / "report.json").read_text())["agreement"]["largest_difference"] <= 1e-4


def test_its_embeddings_tell_windows_apart(encoder: Encoder) -> None:
    found = encoder.embed(*proof_windows(120))
    assert found.shape == (8, 512)
    apart = np.linalg.norm(found[:, None] - found[None], axis=2)[~np.eye(8, dtype=bool)]
    assert apart.min() > 0.1 * np.linalg.norm(found, axis=1).mean()
