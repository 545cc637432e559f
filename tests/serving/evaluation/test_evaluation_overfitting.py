"""The probability of overfitting, beside the paper's algorithm written out."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from serving.evaluation.cross_section import overfitting


def by_hand(returns: np.ndarray, blocks: int) -> float:
    """The algorithm of the paper, split by split, with the rank and the logit written out."""
    parts = np.split(returns[len(returns) % blocks :], blocks)
    logits = []
    for inside in combinations(range(blocks), blocks // 2):
        train = np.concatenate([parts[one] for one in inside])
        test = np.concatenate([parts[one] for one in range(blocks) if one not in inside])
        ratios = [part.mean(axis=0) / part.std(axis=0) for part in (train, test)]
        best = int(np.argmax(ratios[0]))
        rank = 1 + sum(ratios[1] < ratios[1][best])
        part = rank / (returns.shape[1] + 1)
        logits.append(np.log(part / (1 - part)))
    return float(np.mean(np.asarray(logits) <= 0))


@pytest.mark.parametrize(("seed", "edge"), [(1, 0.0), (2, 0.0), (3, 0.1)])
def test_the_chance_of_overfitting_is_that_of_the_paper(seed: int, edge: float) -> None:
    returns = np.random.default_rng(seed).normal(0, 1, (203, 7))
    returns[:, 2] += edge
    found = overfitting(returns, 8)
    assert found.splits == 70
    assert found.probability == pytest.approx(by_hand(returns, 8))


def test_choosing_among_luck_is_overfitting_and_choosing_skill_is_not() -> None:
    random = np.random.default_rng(7)
    lucky = [overfitting(random.normal(0, 1, (200, 20))).probability for _ in range(30)]
    assert 0.4 < np.mean(lucky) < 0.65
    skilled = random.normal(0, 1, (400, 20))
    skilled[:, 5] += 0.5
    found = overfitting(skilled)
    assert (found.probability, found.loss, found.trials) == (0.0, 0.0, 20)
    assert found.median_rank == pytest.approx(20 / 21)


def test_equal_attempts_are_neither_better_nor_worse_than_each_other() -> None:
    same = np.repeat(np.random.default_rng(8).normal(0, 1, (100, 1)), 3, axis=1)
    assert overfitting(same, 4).median_rank == pytest.approx(0.5)


def test_an_attempt_that_never_varies_is_neither_skilled_nor_ruined_by_rounding() -> None:
    returns = np.random.default_rng(9).normal(0, 0.01, (200, 3))
    idle = [overfitting(np.insert(returns, 1, level, axis=1)) for level in (0.0, 0.3, -0.3)]
    assert idle[0].probability == idle[1].probability == idle[2].probability
    assert idle[0].median_rank == idle[1].median_rank == idle[2].median_rank


@pytest.mark.parametrize(
    ("returns", "blocks", "told"),
    [
        (np.zeros((100, 1)), 10, "two or more attempts"),
        (np.full((100, 2), np.nan), 10, "finite"),
        (np.zeros((100, 2)), 7, "even number"),
        (np.zeros((100, 2)), 18, "even number"),
        (np.zeros((15, 2)), 10, "must have 20 periods"),
    ],
)
def test_what_cannot_be_split_is_refused(returns: np.ndarray, blocks: int, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        overfitting(returns, blocks)
